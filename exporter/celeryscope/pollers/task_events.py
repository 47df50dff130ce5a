"""Task events of workers, switched on by Celery's remote control where they are off."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol

from celeryscope.pollers.mailbox import Commands, Replies
from celeryscope.readings import EventSender

COMMAND = "enable_events"
SWITCHED_ON = "task events enabled"  # the answer of a worker that sent none before
FIRST_PAUSE = 2.0  # seconds until a worker that did not answer is asked again: it may just be starting
LONGEST_PAUSE = 60.0  # seconds between two requests to one worker
TIME_TO_ANSWER = 1.0  # seconds: a heartbeat that came later is that of a worker that could have answered
GIVEN_UP = 5  # requests without an answer after which a person should know


class Asker(Protocol):
    """Who carries requests: a mailbox."""

    def ask(self, commands: Commands, destination: Sequence[str] | None) -> Replies:
        """Send commands to workers; return what they answered. Raises PollError."""
        ...

    def close(self) -> None:
        """Close the connection, where there is one."""
        ...


class Outcome(NamedTuple):
    """What came of one round, as node names."""

    switched_on: tuple[str, ...] = ()  # they sent none before
    unmoved: tuple[str, ...] = ()  # up, and asked so often in vain that they hardly ever will


class _Asked:
    """What one worker was asked in its present life."""

    def __init__(self, life: int) -> None:
        self.life = life
        self.at: float | None = None  # elapsed seconds of the last request
        self.processed = 0  # tasks, at the last request
        self.answered = False  # whether it did what the last request asked for
        self.in_vain = 0  # requests since it last did


class TaskEventsSwitch:
    """Switches task events on: once in each life of a worker, and again where it is proven to send none."""

    def __init__(self, mailbox: Asker) -> None:
        self._mailbox = mailbox
        self._asked: dict[str, _Asked] = {}

    def switch_on(self, senders: Collection[EventSender], now: float) -> Outcome:
        """Ask those of all workers that are up which need it. `now` is elapsed seconds. Raises PollError."""
        self._forget_all_but({sender.worker for sender in senders})
        due = {sender.worker: self._asked[sender.worker] for sender in senders if self._is_due(sender, now)}
        if not due:
            return Outcome()
        try:
            replies = self._mailbox.ask({COMMAND: {}}, list(due))
        finally:
            # Requests are rare: an idle connection would only be one more to lose.
            self._mailbox.close()
        answers = {worker: replies.get(worker, {}).get(COMMAND) for worker in due}
        for worker, asked in due.items():
            asked.answered = is_success(answers[worker])
            asked.in_vain = 0 if asked.answered else asked.in_vain + 1
        return Outcome(
            switched_on=tuple(worker for worker, answer in answers.items() if answer == {"ok": SWITCHED_ON}),
            unmoved=tuple(worker for worker, asked in due.items() if asked.in_vain == GIVEN_UP),
        )

    def _is_due(self, sender: EventSender, now: float) -> bool:
        """Whether to ask a worker; what was asked is noted at once, since a request that fails may have arrived."""
        asked = self._asked.get(sender.worker)
        if asked is None or asked.life != sender.life:
            asked = self._asked[sender.worker] = _Asked(sender.life)
        if sender.sends or not sender.can_answer:
            return False
        if asked.at is not None:
            # A worker that has been silent since is busy, and reads the request when it is not.
            could_answer = sender.beat_at >= asked.at + TIME_TO_ANSWER
            pause = LONGEST_PAUSE if asked.answered else min(LONGEST_PAUSE, FIRST_PAUSE * 2**asked.in_vain / 2)
            if not could_answer or now - asked.at < pause:
                return False
            if asked.answered and (sender.sends is None or sender.processed <= asked.processed):
                return False
        asked.at, asked.processed, asked.answered = now, sender.processed, False
        return True

    def _forget_all_but(self, workers: Collection[str]) -> None:
        self._asked = {worker: asked for worker, asked in self._asked.items() if worker in workers}


def is_success(answer: Any) -> bool:
    """Whether an answer says that task events are on, now or before."""
    return isinstance(answer, dict) and isinstance(answer.get("ok"), str)
