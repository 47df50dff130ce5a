"""What a person should change, said in the log."""

import logging

from celeryscope.advice import advice
from celeryscope.loops.core import Core

MOST_ADVICE = 20  # lines in the life of a process: names of workers come and go

logger = logging.getLogger(__name__)


class Adviser:
    """Logs what a person should change, each line once."""

    def __init__(self, core: Core, *, events_switched: bool = False) -> None:
        """`events_switched` says that workers are asked for task events: nobody need be told."""
        self._core = core
        self._events_switched = events_switched
        self._said: set[str] = set()

    def found(self) -> list[str]:
        """Return what should be changed now, said before or not. The caller holds the store's lock."""
        return advice(self._core.tracker.facts(self._core.clock.now()), events_switched=self._events_switched)

    def look(self) -> None:
        """Say what has not been said."""
        with self._core.store.lock:
            found = self.found()
        for line in found:
            if line not in self._said and len(self._said) < MOST_ADVICE:
                self._said.add(line)
                logger.warning("%s", line)
