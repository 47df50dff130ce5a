"""The series of one (task, queue): label sets resolved once, cells kept for every event that follows."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from celeryscope.metrics import catalog
from celeryscope.metrics.catalog import NO_NAMES, OTHER, OVERFLOW, RUNTIME_BUCKETS, WAIT_BUCKETS
from celeryscope.metrics.store import Cell, HistogramCell, Store
from celeryscope.objectives import TaskObjectives
from celeryscope.tracker.labels import MAX_LABEL_LENGTH, Labels, clean_label
from celeryscope.tracker.settings import TrackerSettings
from celeryscope.tracker.slo import PairSlos, slo_samples

MAX_EXCEPTION_CLASSES = 20  # per (task, queue)
MAX_LIMITERS = 50
MAX_CACHED_NAMES = 20_000
MAX_QUEUE_NAMES = 1_000  # of queues that events name
#: What a pair that only succeeds in the end costs, in samples: the room that must be free for a new one.
PAIR_SAMPLES = 60

SENT, RECEIVED, SCHEDULED, STARTED = range(4)  # indices into Pair.in_flight, in the order of IN_FLIGHT_STATES

_LIFECYCLE = (
    catalog.TASK_SENT, catalog.TASK_RECEIVED, catalog.TASK_STARTED, catalog.TASK_SUCCEEDED, catalog.TASK_FAILED,
    catalog.TASK_RETRIED, catalog.TASK_CANCELLED, catalog.TASK_REDELIVERED, catalog.TASK_ORPHANED,
    catalog.TASK_WAIT_UNKNOWN,
)  # fmt: skip


class Buckets(NamedTuple):
    """Upper bounds of the histograms of a task."""

    runtime: tuple[float, ...]
    wait: tuple[float, ...]


class Pair:
    """All series of one task in one queue. They appear together at 0; histograms with their first observation."""

    __slots__ = (
        "_buckets", "_exceptions", "_store", "activity", "active_at", "cancelled", "failed", "in_flight", "labels",
        "last_sent", "last_succeeded", "orphaned", "received", "redelivered", "rejected", "retried", "revoked",
        "runtime", "sent", "slos", "started", "succeeded", "wait", "wait_unknown",
    )  # fmt: skip

    def __init__(
        self, store: Store, labels: tuple[str, str], buckets: Buckets, objectives: TaskObjectives | None = None
    ) -> None:
        self._store = store
        self._buckets = buckets
        self.labels: Final = labels
        self.slos = PairSlos(store, labels, objectives) if objectives is not None and slo_samples(objectives) else None
        (
            self.sent, self.received, self.started, self.succeeded, self.failed, self.retried, self.cancelled,
            self.redelivered, self.orphaned, self.wait_unknown,
        ) = (store.cell(spec, labels) for spec in _LIFECYCLE)  # fmt: skip
        self.rejected = {value: store.cell(catalog.TASK_REJECTED, (*labels, value)) for value in catalog.REQUEUE_VALUES}
        self.revoked = {
            reason: store.cell(catalog.TASK_REVOKED, (*labels, reason)) for reason in catalog.REVOKED_REASONS
        }
        self.in_flight = [store.cell(catalog.TASKS_IN_FLIGHT, (*labels, state)) for state in catalog.IN_FLIGHT_STATES]
        self.last_sent: Cell | None = None
        self.last_succeeded: Cell | None = None
        self.wait: HistogramCell | None = None
        self.runtime: dict[str, HistogramCell] = {}
        self._exceptions: dict[tuple[str, str], Cell] = {}
        #: What the lifecycle counters added up to when the pair was last looked at, and when that last changed.
        self.activity = -1.0
        self.active_at = 0.0

    def saw_sent(self, timestamp: float) -> None:
        """Remember the latest time of publication."""
        cell = self.last_sent
        if cell is None:
            cell = self.last_sent = self._store.cell(catalog.TASK_LAST_SENT, self.labels)
        if timestamp > cell.value:
            cell.value = timestamp

    def saw_success(self, timestamp: float) -> None:
        """Remember the latest success."""
        cell = self.last_succeeded
        if cell is None:
            cell = self.last_succeeded = self._store.cell(catalog.TASK_LAST_SUCCEEDED, self.labels)
        if timestamp > cell.value:
            cell.value = timestamp

    def saw_wait(self, seconds: float) -> None:
        """Count the wait of a task that was started."""
        histogram = self.wait
        if histogram is None:
            histogram = self.wait = self._store.histogram(catalog.TASK_WAIT, self.labels, self._buckets.wait)
        histogram.observe(seconds)
        if self.slos is not None:
            self.slos.waited(seconds)

    def saw_prefetch(self, seconds: float) -> None:
        """Count the time that a due task lay in a worker before it was started."""
        self._store.histogram(catalog.TASK_PREFETCH, self.labels, self._buckets.wait).observe(seconds)

    def saw_runtime(self, outcome: str, seconds: float, task_id: str, timestamp: float) -> None:
        """Count the runtime of an attempt that ended."""
        histogram = self.runtime.get(outcome)
        if histogram is None:
            histogram = self.runtime[outcome] = self._store.histogram(
                catalog.TASK_RUNTIME, (*self.labels, outcome), self._buckets.runtime
            )
        histogram.observe_with_exemplar(seconds, task_id, timestamp)

    def saw_exception(self, name: str, outcome: str, task_id: str, timestamp: float) -> None:
        """Count an exception by class; classes beyond the bound are `other`."""
        cell = self._exceptions.get((name, outcome))
        if cell is None:
            known = {known_name for known_name, _ in self._exceptions}
            if name not in known and len(known) >= MAX_EXCEPTION_CLASSES:
                name = OTHER
            cell = self._store.cell(catalog.TASK_EXCEPTIONS, (*self.labels, clean_label(name), outcome))
            self._exceptions[name, outcome] = cell
        cell.value += 1
        cell.exemplar = (task_id, 1.0, timestamp)

    def total(self) -> float:
        """What the lifecycle counters add up to: it moves with every event of the pair."""
        counters = (
            self.sent, self.received, self.started, self.succeeded, self.failed, self.retried, self.cancelled,
            *self.rejected.values(), *self.revoked.values(),
        )  # fmt: skip
        return sum(counter.value for counter in counters)

    def is_idle(self) -> bool:
        """Whether no task of the pair is tracked."""
        return not any(state.value for state in self.in_flight)


class Pairs:
    """Every pair, by its labels; what finds no room in the series budget shares one.

    Several names may have one label: a pair is found by the names of an event, and made by their labels.
    """

    def __init__(self, store: Store, settings: TrackerSettings, tasks: Labels, queues: Labels) -> None:
        self._store = store
        self._objectives = settings.objectives.tasks
        self._buckets = Buckets(settings.runtime_buckets, settings.wait_buckets)
        self._tasks = tasks
        self._queues = queues
        self._pairs: dict[tuple[str, str], Pair] = {}
        self._by_names: dict[tuple[str | None, str | None], Pair] = {}
        #: Names of queues as events tell them, for as long as a pair has their label.
        self.queue_names: set[str] = set()
        self._overflow: Pair | None = None
        self._folded: set[int] = set()
        self._limiters: set[str] = set()

    def get(self, task: str | None, queue: str | None) -> Pair:
        """Return the pair of a task in a queue as events name them; None is `unknown`."""
        pair = self._by_names.get((task, queue))
        return pair if pair is not None else self._find(task, queue)

    def limiter(self, name: str) -> str:
        """Return the label of a limiter: its name, or `other` where too many are known."""
        name = clean_label(name)
        if name not in self._limiters:
            if len(self._limiters) >= MAX_LIMITERS:
                return OTHER
            self._limiters.add(name)
        return name

    def totals(self) -> tuple[float, float]:
        """Return how many tasks were sent and how many were started, of all pairs."""
        pairs = self._pairs.values()
        return sum(pair.sent.value for pair in pairs), sum(pair.started.value for pair in pairs)

    def labels(self) -> Iterable[tuple[str, str]]:
        """Return the labels of every pair."""
        return self._pairs.keys()

    def forget_idle(self, now: float, retention: float) -> None:
        """Forget pairs that moved no counter for `retention` seconds and have no task in flight."""
        idle: set[tuple[str, ...]] = set()
        for key, pair in list(self._pairs.items()):
            total = pair.total()
            if total != pair.activity or not pair.is_idle():
                pair.activity, pair.active_at = total, now
            elif now - pair.active_at >= retention:
                del self._pairs[key]
                idle.add(key)
        if idle:
            self._by_names = {names: pair for names, pair in self._by_names.items() if pair.labels not in idle}
            shown = {queue for _, queue in self._pairs}
            self.queue_names = {name for name in self.queue_names if self._queues.of(name) in shown}
            self._store.purge_each(("task", "queue"), idle)

    def _find(self, task: str | None, queue: str | None) -> Pair:
        labels = (self._tasks.of(task), self._queues.of(queue))
        cut = len(task or "") > MAX_LABEL_LENGTH or len(queue or "") > MAX_LABEL_LENGTH
        if cut:
            self._store.increment(catalog.EXPORTER_INVALID_EVENTS, ("name_cut",))
        elif queue and len(self.queue_names) < MAX_QUEUE_NAMES:
            self.queue_names.add(queue)
        pair = self._pairs.get(labels)
        if pair is None:
            pair = self._new(labels)
            if pair is None:
                return self._fold(labels)
        # What was cut is counted each time, and what was folded may find room later: neither is remembered.
        if not cut:
            if len(self._by_names) >= MAX_CACHED_NAMES + 2 * len(self._pairs):
                self._by_names.clear()
            self._by_names[task, queue] = pair
        return pair

    def _new(self, labels: tuple[str, str]) -> Pair | None:
        task = labels[0]
        # A glob is about names, and these are none.
        objectives = self._objectives.exact.get(task) if task in NO_NAMES else self._objectives.get(task)
        buckets, samples = self._buckets, PAIR_SAMPLES
        if objectives is not None:
            buckets = Buckets(objectives.runtime_buckets or buckets.runtime, objectives.wait_buckets or buckets.wait)
            samples += slo_samples(objectives)
        samples += len(buckets.runtime) + len(buckets.wait) - len(RUNTIME_BUCKETS) - len(WAIT_BUCKETS)
        if not self._store.has_room_for_new(samples):
            return None
        pair = self._pairs[labels] = Pair(self._store, labels, buckets, objectives)
        return pair

    def _fold(self, labels: tuple[str, str]) -> Pair:
        if self._overflow is None:
            self._overflow = Pair(self._store, (OVERFLOW, OVERFLOW), self._buckets)
        if hash(labels) not in self._folded:
            if len(self._folded) >= self._store.series_limit:
                self._folded.clear()
            self._folded.add(hash(labels))
            for spec in _LIFECYCLE:
                self._store.increment(catalog.EXPORTER_SERIES_DROPPED, (spec.name,))
        return self._overflow
