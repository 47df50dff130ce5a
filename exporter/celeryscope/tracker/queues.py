"""Queues and their broker, from polls: what lies in each queue, since when, and who is there to take it.

Names are as the broker, workers and events tell them; gauges go by label. Several queues may share one: what can be
added is added, of what is oldest or largest that one shows.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from celeryscope.clock import Moment
from celeryscope.metrics import catalog
from celeryscope.metrics.catalog import Spec
from celeryscope.metrics.store import Store
from celeryscope.readings import BrokerReading, Head, QueueReading
from celeryscope.tracker.labels import Labels, clean_label
from celeryscope.tracker.worker import Worker

_OF_QUEUES = (
    catalog.QUEUE_LENGTH, catalog.QUEUE_PRIORITY_LENGTH, catalog.QUEUE_UNACKED, catalog.QUEUE_DELAYED,
    catalog.QUEUE_CONSUMERS, catalog.QUEUE_BYTES, catalog.QUEUE_OLDEST, catalog.QUEUE_HEAD_BYTES,
)  # fmt: skip
_OF_BROKER = (
    catalog.BROKER_MEMORY_USED, catalog.BROKER_MEMORY_MAX, catalog.BROKER_EVICTED_KEYS, catalog.BROKER_EVICTION_POLICY,
    catalog.BROKER_ALARM, catalog.BROKER_OLDEST_UNACKED, catalog.BROKER_VISIBILITY_TIMEOUT,
)  # fmt: skip

# Seconds that a worker beats and tells of no queues, after which it may consume any. One that just came may soon end.
UNTOLD_AFTER = 10.0

Series = dict[tuple[Spec, tuple[str, ...]], float]


class SeenHead(NamedTuple):
    """A task that is the next of its queue."""

    task_id: str
    since: float  # Unix seconds: when it was due, else when it was first seen to be next


class Queues:
    """The gauges of every queue and of the broker. Facts older than `stale_after` seconds are not shown."""

    def __init__(self, store: Store, labels: Labels, due: Callable[[str], float | None], stale_after: float) -> None:
        """`due` returns when a task that waits was, or will be, due (Unix seconds); None where nothing is known."""
        self._store = store
        self._labels = labels
        self._due = due
        self._stale_after = stale_after
        self._heads: dict[str, SeenHead] = {}
        self._polled_at: float | None = None  # elapsed seconds of the last poll of the broker that succeeded
        self._workers_asked_at: float | None = None  # the same of the workers
        #: Names of the queues of which the last poll told; none where that is too old.
        self.polled: frozenset[str] = frozenset()
        #: Names of the queues that held messages at the last poll that succeeded, however long ago that was.
        self.filled: frozenset[str] = frozenset()

    def apply(self, reading: BrokerReading, now: Moment) -> None:
        """Take what a poll of the broker told: all that there is now."""
        self._polled_at = now.elapsed
        self.polled = frozenset(queue.queue for queue in reading.queues)
        self.filled = frozenset(queue.queue for queue in reading.queues if queue.length)
        series = _of_broker(reading)
        heads, self._heads = self._heads, {}
        for queue in reading.queues:
            self._add(series, queue, heads.get(queue.queue), now)
        self._clear()
        for (spec, labels), value in series.items():
            self._store.set(spec, labels, value)

    def workers_asked(self, now: float) -> None:
        """A poll of the workers succeeded, whoever answered. `now` is elapsed seconds."""
        self._workers_asked_at = now

    def refresh(self, known: Iterable[str], workers: Iterable[Worker], now: float) -> None:
        """Take away what is too old, and set who consumes each of the known queues. `now` is elapsed seconds."""
        if not self._is_fresh(self._polled_at, now):
            self.polled = frozenset()
            self._clear()
        self._store.clear(catalog.QUEUE_WORKERS)
        self._store.clear(catalog.QUEUE_CONCURRENCY)
        self._store.clear(catalog.QUEUE_WORKER_INFO)
        if self._is_fresh(self._workers_asked_at, now):
            self._set_capacity({self._labels.of(name) for name in known}, workers)

    def _is_fresh(self, at: float | None, now: float) -> bool:
        return at is not None and now - at <= self._stale_after

    def _clear(self) -> None:
        for spec in (*_OF_QUEUES, *_OF_BROKER):
            self._store.clear(spec)

    def _add(self, series: Series, queue: QueueReading, seen: SeenHead | None, now: Moment) -> None:
        label = (self._labels.of(queue.queue),)
        for spec, value in (
            (catalog.QUEUE_LENGTH, queue.length),
            (catalog.QUEUE_UNACKED, queue.unacked),
            (catalog.QUEUE_DELAYED, queue.delayed),
            (catalog.QUEUE_CONSUMERS, queue.consumers),
            (catalog.QUEUE_BYTES, queue.bytes),
        ):
            if value is not None:
                series[spec, label] = series.get((spec, label), 0.0) + value
        for priority, length in queue.by_priority.items():
            key = catalog.QUEUE_PRIORITY_LENGTH, (*label, str(priority))
            series[key] = series.get(key, 0.0) + length
        # A message may have been put in, or the last one taken, between two questions of one poll.
        if queue.head is None or queue.length == 0:
            return
        size = catalog.QUEUE_HEAD_BYTES, label
        series[size] = max(series.get(size, 0.0), queue.head.bytes)
        since = self._since(queue.queue, queue.head, seen, now)
        if since is not None:
            oldest = catalog.QUEUE_OLDEST, label
            series[oldest] = min(series.get(oldest, since), since)

    def _since(self, queue: str, head: Head, seen: SeenHead | None, now: Moment) -> float | None:
        task_id = head.task_id
        if task_id is None:
            return None  # nothing tells whether it is the same that was there before
        since = self._due(task_id)
        if since is None and seen is not None and seen.task_id == task_id:
            since = seen.since
        if since is None:
            since = now.wall if head.eta is None else head.eta
        self._heads[queue] = SeenHead(task_id, since)
        return since

    def _set_capacity(self, labels: Iterable[str], workers: Iterable[Worker]) -> None:
        count = dict.fromkeys(labels, 0)
        slots: dict[str, int | None] = dict.fromkeys(count, 0)
        untold = False
        for worker in workers:
            if worker.up is False:
                continue
            if worker.queues is None:
                untold = untold or (worker.up is True and worker.heard_at - worker.up_since >= UNTOLD_AFTER)
                continue
            for label in {self._labels.of(name) for name in worker.queues}:
                count[label] = count.get(label, 0) + 1
                self._store.set(catalog.QUEUE_WORKER_INFO, (label, *worker.label), 1)
                before = slots.get(label, 0)
                slots[label] = None if before is None or worker.concurrency is None else before + worker.concurrency
        for label, number in count.items():
            if untold and not number:
                continue
            self._store.set(catalog.QUEUE_WORKERS, (label,), number)
            total = slots[label]
            if total is not None:
                self._store.set(catalog.QUEUE_CONCURRENCY, (label,), total)


def _of_broker(reading: BrokerReading) -> Series:
    told = {
        catalog.BROKER_MEMORY_USED: reading.memory_used,
        catalog.BROKER_MEMORY_MAX: reading.memory_max,
        catalog.BROKER_EVICTED_KEYS: reading.evicted_keys,
        catalog.BROKER_OLDEST_UNACKED: reading.oldest_unacked,
        catalog.BROKER_VISIBILITY_TIMEOUT: reading.visibility_timeout,
    }
    series: Series = {(spec, ()): value for spec, value in told.items() if value is not None}
    if reading.eviction_policy is not None:
        series[catalog.BROKER_EVICTION_POLICY, (clean_label(reading.eviction_policy),)] = 1
    for alarm, raised in reading.alarms.items():
        series[catalog.BROKER_ALARM, (clean_label(alarm),)] = float(raised)
    return series
