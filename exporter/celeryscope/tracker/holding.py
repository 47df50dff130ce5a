"""Events that may have overtaken the task-sent event of their task, held until it comes or hardly will."""

from collections.abc import Callable
from itertools import takewhile
from typing import NamedTuple

from celeryscope.clock import Moment
from celeryscope.events import (
    TaskCancelled,
    TaskFailed,
    TaskReceived,
    TaskRejected,
    TaskRetried,
    TaskRevoked,
    TaskStarted,
    TaskSucceeded,
)

SENT_HOLD = 0.25  # seconds that a received event waits for the task-sent event that it may have overtaken
SENT_EXPECTED = 60.0  # seconds after a task-sent event, or after listening began, in which others are waited for
MAX_HELD = 10_000

WorkerTaskEvent = (
    TaskReceived | TaskStarted | TaskSucceeded | TaskFailed | TaskRetried | TaskRejected | TaskRevoked | TaskCancelled
)


class Hold(NamedTuple):
    """Events of one uuid that wait for its task-sent event."""

    deadline: float  # elapsed seconds
    events: list[WorkerTaskEvent]


class Holds:
    """What is held, by uuid. `replay` takes an event that is let go, as if it came now."""

    def __init__(self, replay: Callable[[WorkerTaskEvent, Moment], None]) -> None:
        self.held: dict[str, Hold] = {}
        #: Elapsed seconds of the last task-sent event, or of when the stream was opened: it may have missed the last.
        self.sent_expected_since: float | None = None
        self._replay = replay
        self._releasing = False

    def hold(self, event: WorkerTaskEvent, now: Moment) -> bool:
        """Hold the first event of an uuid; return whether it is held."""
        awaits_sent = (
            not self._releasing
            and self.sent_expected_since is not None
            and now.elapsed - self.sent_expected_since < SENT_EXPECTED
            and len(self.held) < MAX_HELD
        )
        if awaits_sent:
            self.held[event.uuid] = Hold(now.elapsed + SENT_HOLD, [event])
        return awaits_sent

    def release(self, uuid: str, now: Moment) -> None:
        """Let go of what is held of an uuid."""
        events = self.held.pop(uuid).events
        self._releasing = True
        try:
            for event in events:
                self._replay(event, now)
        finally:
            self._releasing = False

    def tick(self, now: Moment) -> None:
        """Let go of what was held for a task-sent event that did not come."""
        overdue = list(takewhile(lambda uuid: self.held[uuid].deadline <= now.elapsed, self.held))
        for uuid in overdue:
            self.release(uuid, now)
