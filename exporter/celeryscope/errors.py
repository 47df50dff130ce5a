"""Every error that celeryscope raises on purpose. The text of an error is the line its reader sees."""


class CeleryscopeError(Exception):
    """Base of all errors below: catch this to catch what is foreseen, and nothing else."""


class ConfigError(CeleryscopeError):
    """A setting is impossible: names the setting, the value, where it came from and what is allowed."""


class StreamError(CeleryscopeError):
    """The event stream could not be opened, or was lost. The supervisor reconnects; credentials are masked."""


class PollError(CeleryscopeError):
    """A poller got no answer, or one it cannot read. Its facts go stale; the next poll may succeed."""


class InvalidEvent(CeleryscopeError):
    """A message, or one event of it, that is not what Celery sends.

    `reason` is one of a fixed, small set of words, fit for a label; the message never leaves this process.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
