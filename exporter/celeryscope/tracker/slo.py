"""Objectives of one (task, queue), counted exactly: each task against the threshold itself, not against a bucket."""

from celeryscope.metrics import catalog
from celeryscope.metrics.store import Cell, Store
from celeryscope.objectives import TaskObjectives


class Slo:
    """One objective: how many tasks were judged by it, and how many were good."""

    __slots__ = ("_good", "_tasks", "_threshold")

    def __init__(
        self, store: Store, labels: tuple[str, str], name: str, ratio: float, threshold: float | None = None
    ) -> None:
        series = (*labels, name)
        self._tasks: Cell = store.cell(catalog.SLO_TASKS, series)
        self._good: Cell = store.cell(catalog.SLO_GOOD_TASKS, series)
        store.set(catalog.SLO_OBJECTIVE_RATIO, series, ratio)
        self._threshold = 0.0 if threshold is None else threshold
        if threshold is not None:
            store.set(catalog.SLO_THRESHOLD, series, threshold)

    def count(self, good: bool) -> None:
        """Judge a task by what became of it."""
        self._tasks.value += 1
        self._good.value += good

    def measure(self, seconds: float) -> None:
        """Judge a task by a duration: good up to the threshold itself."""
        self.count(seconds <= self._threshold)


class PairSlos:
    """The objectives of a task in a queue; their series are born together."""

    __slots__ = ("runtime", "success", "wait")

    def __init__(self, store: Store, labels: tuple[str, str], objectives: TaskObjectives) -> None:
        asked = objectives
        self.success = self.wait = self.runtime = None
        if asked.success_ratio is not None:
            self.success = Slo(store, labels, "success", asked.success_ratio)
        if asked.wait is not None:
            self.wait = Slo(store, labels, "wait", asked.wait_ratio, asked.wait)
        if asked.runtime is not None:
            self.runtime = Slo(store, labels, "runtime", asked.runtime_ratio, asked.runtime)

    def succeeded(self, runtime: float | None) -> None:
        """A task returned, after `runtime` seconds where that is known."""
        if self.success is not None:
            self.success.count(True)
        if self.runtime is not None and runtime is not None:
            self.runtime.measure(runtime)

    def failed(self) -> None:
        """A task failed for good, or expired before it ran."""
        if self.success is not None:
            self.success.count(False)

    def waited(self, seconds: float) -> None:
        """A task was started, `seconds` after it was due."""
        if self.wait is not None:
            self.wait.measure(seconds)


def slo_samples(objectives: TaskObjectives) -> int:
    """Return how many samples the objectives of one pair cost."""
    return (
        3 * (objectives.success_ratio is not None)
        + 4 * (objectives.wait is not None)
        + 4 * (objectives.runtime is not None)
    )
