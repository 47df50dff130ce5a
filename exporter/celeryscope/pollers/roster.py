"""Which queues a poll asks for, where the broker tells of a queue only when it is named."""

from collections.abc import Callable, Collection

from celeryscope.pollers.queue_names import is_work

LONGEST_PAUSE = 8  # polls


class Roster:
    """Queues that are known and kept. One that is missing is left out of 1, then 2, 4 and at most 8 polls."""

    def __init__(self, known: Callable[[], Collection[str]], keeps: Callable[[str], bool]) -> None:
        """`known` returns the names that events, workers and the configuration tell; `keeps` says which to show."""
        self._known = known
        self._keeps = keeps
        self._pauses: dict[str, tuple[int, int]] = {}  # name of a missing queue -> polls left, polls in all

    def names(self) -> list[str]:
        """Return the queues of work that are known and kept, sorted, missing ones included."""
        return sorted(name for name in set(self._known()) if is_work(name) and self._keeps(name))

    def due(self) -> list[str]:
        """Return those to ask for in this poll. Missing ones that nobody knows any more are forgotten."""
        due, pauses = [], {}
        for name in self.names():
            left, length = self._pauses.get(name, (0, 0))
            if left <= 0:
                due.append(name)
            if length:
                pauses[name] = (left - 1, length)
        self._pauses = pauses
        return due

    def missing(self, name: str) -> None:
        """Say that a queue that was asked for is not there."""
        _, length = self._pauses.get(name, (0, 0))
        length = min(2 * length, LONGEST_PAUSE) or 1
        self._pauses[name] = (length, length)

    def found(self, name: str) -> None:
        """Say that a queue that was asked for is there."""
        self._pauses.pop(name, None)

    def keeps(self, name: str) -> bool:
        """Whether a queue of this name is shown."""
        return self._keeps(name)
