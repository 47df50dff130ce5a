"""Workers that send no task events, asked for them."""

import logging
from collections.abc import Sequence

from celeryscope.loops.core import Core
from celeryscope.pollers.task_events import TaskEventsSwitch

MOST_SAID = 1000  # workers of which the log says, once, that their events were switched on
MOST_NAMES = 10  # of workers in one line

logger = logging.getLogger(__name__)


class EventSwitching:
    """Switches on the task events of workers that send none."""

    def __init__(self, core: Core, switch: TaskEventsSwitch) -> None:
        self._core = core
        self._switch = switch
        self._said: set[tuple[str, str]] = set()

    def look(self) -> None:
        """Ask the workers that need it; raise PollError where the broker fails."""
        now = self._core.clock.now()
        with self._core.store.lock:
            senders = self._core.tracker.event_senders(now)
        switched_on, unmoved = self._switch.switch_on(senders, now.elapsed)
        with self._core.store.lock:
            self._core.tracker.switched_on(switched_on)
        self._say(logging.INFO, "switched on the task events of", switched_on)
        self._say(
            logging.WARNING, "no answer to the request for task events (start with -E where they are off):", unmoved
        )

    def _say(self, level: int, text: str, workers: Sequence[str]) -> None:
        new = [worker for worker in workers if (text, worker) not in self._said][: MOST_SAID - len(self._said)]
        self._said.update((text, worker) for worker in new)
        if new:
            more = f" and {len(new) - MOST_NAMES} more" if len(new) > MOST_NAMES else ""
            logger.log(level, "%s %s%s", text, ", ".join(new[:MOST_NAMES]), more)
