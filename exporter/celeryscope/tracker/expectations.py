"""What queues and tasks are expected to do, as gauges of those that are known now."""

from collections.abc import Callable, Iterable

from celeryscope.metrics import catalog
from celeryscope.metrics.catalog import NO_NAMES, Spec
from celeryscope.metrics.store import Store
from celeryscope.tracker.labels import Labels
from celeryscope.tracker.settings import TrackerSettings


class Expectations:
    """How long a queue may let tasks wait, and how often a task is to run: configured, or the beat schedule's."""

    def __init__(self, store: Store, settings: TrackerSettings, tasks: Labels, queues: Labels) -> None:
        self._store = store
        self._settings = settings
        self._queue_labels = queues
        objectives = settings.objectives
        self._named_queues = frozenset(objectives.queues.exact)
        self._beat: dict[str, float] = {}
        for name, interval in settings.beat_intervals.items():
            label = tasks.of(name)
            if label not in NO_NAMES:
                self._beat[label] = min(interval, self._beat.get(label, interval))
        self._named_tasks = self._beat.keys() | objectives.tasks.exact.keys()
        self._queues: dict[str, float | None] = {}
        self._tasks: dict[str, float | None] = {}

    def refresh(self, pairs: Iterable[tuple[str, str]], known: Iterable[str]) -> None:
        """Set the gauges. `pairs` are labels of tasks in queues, `known` names of queues from wherever."""
        pairs = list(pairs)
        seen = {queue for _, queue in pairs} | {self._queue_labels.of(name) for name in known}
        queues = self._named_queues | (seen - NO_NAMES)
        self._queues = self._set(catalog.QUEUE_WAIT_OBJECTIVE, queues, self._queues, self._allowed_wait)
        tasks = self._named_tasks | ({task for task, _ in pairs} - NO_NAMES)
        self._tasks = self._set(catalog.TASK_EXPECTED_INTERVAL, tasks, self._tasks, self._interval)

    def _set(
        self, spec: Spec, labels: Iterable[str], known: dict[str, float | None], find: Callable[[str], float | None]
    ) -> dict[str, float | None]:
        # Found once for as long as a label stays: there may be many labels, and many globs to hold against each.
        values = {label: known[label] if label in known else find(label) for label in sorted(labels)}
        self._store.clear(spec)
        for label, value in values.items():
            if value is not None:
                self._store.set(spec, (label,), value)
        return values

    def _allowed_wait(self, queue: str) -> float:
        objectives = self._settings.objectives.queues.get(queue)
        configured = objectives.allowed_wait if objectives is not None else None
        return self._settings.queue_wait_objective if configured is None else configured

    def _interval(self, task: str) -> float | None:
        objectives = self._settings.objectives.tasks.get(task)
        configured = objectives.expected_interval if objectives is not None else None
        return self._beat.get(task) if configured is None else configured
