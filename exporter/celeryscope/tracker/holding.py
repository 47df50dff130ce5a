"""Events of tasks of which something else will tell more, held until it has or hardly will.

A received event may have overtaken the task-sent event; any other may be of a task that a worker took before we
listened, which inspection is about to name.
"""

from collections.abc import Callable
from typing import NamedTuple

from celeryscope.clock import Moment
from celeryscope.events import WorkerTaskEvent

SENT_HOLD = 1.0  # seconds that a received event waits for the task-sent event that it may have overtaken
SENT_EXPECTED = 60.0  # seconds after a task-sent event, or after listening began, in which others are waited for
LONGEST_LAG = 10.0  # seconds that a stream of which more waits to be read than was read yet keeps what is held
MAX_HELD = 10_000


class Hold(NamedTuple):
    """Events of one uuid that wait."""

    deadline: float  # elapsed seconds
    events: list[WorkerTaskEvent]


class Holds:
    """What is held, by uuid. `replay` takes an event that is let go, as if it came now."""

    def __init__(self, replay: Callable[[WorkerTaskEvent, Moment], None]) -> None:
        self.held: dict[str, Hold] = {}
        #: Elapsed seconds of the last task-sent event, or of when the stream was opened: it may have missed the last.
        self.sent_expected_since: float | None = None
        #: Elapsed seconds until which inspection may tell what workers held before we listened; None where it has.
        self.lists_expected_until: float | None = None
        #: Elapsed seconds of the last moment of which all that had come by then is read; None where nobody tells.
        self.heard_until: float | None = None
        self._for_lists: set[str] = set()
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

    def hold_for_lists(self, event: WorkerTaskEvent) -> bool:
        """Hold the first event of an uuid until inspection has told; return whether it is held."""
        until = self.lists_expected_until
        if until is None or len(self.held) >= MAX_HELD:
            return False
        self.held[event.uuid] = Hold(until, [event])
        self._for_lists.add(event.uuid)
        return True

    def release_for_lists(self, now: Moment) -> None:
        """Let go of what was held until inspection has told."""
        self.lists_expected_until = None
        waiting, self._for_lists = self._for_lists, set()
        for uuid in [uuid for uuid in self.held if uuid in waiting]:
            self.release(uuid, now)

    def release(self, uuid: str, now: Moment) -> None:
        """Let go of what is held of an uuid."""
        events = self.held.pop(uuid).events
        self._releasing = True
        try:
            for event in events:
                self._replay(event, now)
        finally:
            self._releasing = False

    def patience(self, now: float) -> float:
        """Until when what was to come must have: what waits to be read while we are busy has come in time."""
        return now if self.heard_until is None else max(self.heard_until, now - LONGEST_LAG)

    def tick(self, now: Moment) -> None:
        """Let go of what was held for something that did not come."""
        if self.lists_expected_until is not None and self.lists_expected_until <= now.elapsed:
            self.release_for_lists(now)
        until = self.patience(now.elapsed)
        for uuid in [uuid for uuid, hold in self.held.items() if hold.deadline <= until]:
            self.release(uuid, now)
