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

    def look(self) -> None:
        """Say what has not been said."""
        with self._core.store.lock:
            facts = self._core.tracker.facts(self._core.clock.now())
        for line in advice(facts, events_switched=self._events_switched):
            if line not in self._said and len(self._said) < MOST_ADVICE:
                self._said.add(line)
                logger.warning("%s", line)
