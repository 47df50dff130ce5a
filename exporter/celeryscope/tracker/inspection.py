"""What workers told when they were asked: their gauges, the tasks they accepted, the processes they replaced."""

from __future__ import annotations

from collections.abc import Callable

from celeryscope.clock import Moment
from celeryscope.metrics import catalog
from celeryscope.metrics.catalog import CPU_MODES, OVERFLOW
from celeryscope.metrics.store import Cell, Store
from celeryscope.readings import WorkerReading
from celeryscope.tracker.labels import Labels
from celeryscope.tracker.worker import Worker

UPTIME_SLACK = 5.0  # seconds: uptime is whole seconds, asked for over a network
PREFETCH_MULTIPLIER = 4  # Celery's own default of `worker_prefetch_multiplier`

#: Gauges that a worker which is gone has no more.
FLEETING = (
    catalog.WORKER_CONCURRENCY, catalog.WORKER_PROCESSES, catalog.WORKER_PREFETCH_LIMIT,
    catalog.WORKER_TASKS_RESERVED, catalog.WORKER_TASKS_SCHEDULED,
)  # fmt: skip


class Inspection:
    """Takes the answers of workers, and takes away what became too old.

    `restarted(worker, now)` is called where an answer shows that a worker is another process than before.
    """

    def __init__(self, store: Store, task_labels: Labels, restarted: Callable[[Worker, Moment], None]) -> None:
        self._store = store
        self._task_labels = task_labels
        self._restarted = restarted
        self._accepted: dict[str, Cell] = {}
        self._born = float("inf")  # elapsed seconds of the first tick

    def tick(self, now: float) -> None:
        """Remember since when this process has been there."""
        self._born = min(self._born, now)

    def apply(self, worker: Worker, reading: WorkerReading, now: Moment) -> None:
        """Take what inspection told of one worker."""
        worker.answered_at = now.elapsed
        if worker.up is None:
            worker.seen_at = now.elapsed  # without heartbeats, its answer is its only sign of life
        if reading.uptime is not None:
            self._check_uptime(worker, reading, reading.uptime, now)
        worker.solo = reading.solo
        if reading.concurrency is not None:
            worker.concurrency = reading.concurrency
        if reading.queues is not None:
            worker.queues = reading.queues
            worker.only_queue = reading.queues[0] if len(reading.queues) == 1 else None
        if reading.rate_limits is not None:
            worker.rate_limits = reading.rate_limits
        self._set_gauges(worker, reading)
        self._count_replacements(worker, reading)
        if reading.silent_tasks is not None:
            self._count_silent(worker, reading)
        self._count_accepted(worker, reading, now.elapsed)

    def forget(self, worker: Worker) -> None:
        """A worker has not answered for too long: what it told is not known any more."""
        worker.answered_at = None
        worker.rate_limits = {}
        for spec in (*FLEETING, catalog.WORKER_MEMORY_MAX):
            self._store.remove(spec, worker.label)
        for mode in CPU_MODES:
            self._store.remove(catalog.WORKER_CPU, (*worker.label, mode))
        if worker.up is None:
            self._store.remove(catalog.WORKER_TASKS_ACTIVE, worker.label)

    def _set_gauges(self, worker: Worker, reading: WorkerReading) -> None:
        gauges = [
            (catalog.WORKER_CONCURRENCY, reading.concurrency),
            (catalog.WORKER_PROCESSES, reading.processes),
            (catalog.WORKER_PREFETCH_LIMIT, reading.prefetch),
            (catalog.WORKER_MEMORY_MAX, reading.memory_max_bytes),
            (catalog.WORKER_TASKS_RESERVED, reading.reserved),
            (catalog.WORKER_TASKS_SCHEDULED, self._scheduled(worker, reading)),
        ]
        if worker.up is None and reading.running is not None:
            gauges.append((catalog.WORKER_TASKS_ACTIVE, len(reading.running)))
        for spec, value in gauges:
            # An answer may come after the farewell, which has taken these away.
            if value is not None and not (worker.up is False and spec in FLEETING):
                self._store.set(spec, worker.label, value)
        if reading.running is not None and reading.reserved is None:
            self._store.remove(catalog.WORKER_TASKS_RESERVED, worker.label)  # too many to be asked for
        for mode, seconds in zip(CPU_MODES, (reading.cpu_user, reading.cpu_system), strict=True):
            if seconds is not None:
                self._store.set(catalog.WORKER_CPU, (*worker.label, mode), seconds)

    def _scheduled(self, worker: Worker, reading: WorkerReading) -> int | None:
        """Return how many tasks wait for their ETA; where they were too many to list, what they add to the prefetch."""
        if reading.scheduled is not None:
            # The two are told one after the other: while tasks come or go they do not belong together.
            listed = (reading.prefetch, reading.scheduled)
            if reading.prefetch and (not reading.scheduled or listed == worker.listed):
                worker.usual_prefetch = max(0, reading.prefetch - reading.scheduled)
            worker.listed = listed
            return reading.scheduled
        if reading.running is None or not reading.prefetch or reading.concurrency is None:
            return None
        usual = worker.usual_prefetch
        if usual is None:
            usual = reading.concurrency * PREFETCH_MULTIPLIER
        return max(0, reading.prefetch - usual)

    def _count_replacements(self, worker: Worker, reading: WorkerReading) -> None:
        # A pool grows and shrinks too, and a process may come and go between two questions: a lower bound.
        if reading.pids is None:
            return
        known, worker.pool_pids = worker.pool_pids, reading.pids
        replaced = 0 if known is None else len(reading.pids - known) - max(0, len(reading.pids) - len(known))
        self._store.increment(catalog.WORKER_CHILD_REPLACEMENTS, worker.label, max(0, replaced))

    def _count_silent(self, worker: Worker, reading: WorkerReading) -> None:
        worker.silent_tasks = reading.silent_tasks or frozenset()
        if not worker.silent_tasks:
            worker.silent_growth = 0
            return
        silent = sum(reading.accepted.get(task, 0) for task in worker.silent_tasks)
        if worker.silent_baseline is None:
            # The count of what was processed starts after this one: silent tasks in between are no lost events.
            worker.silent_baseline = silent
            worker.lost_events.reset()
        worker.silent_growth = silent - worker.silent_baseline

    def _count_accepted(self, worker: Worker, reading: WorkerReading, now: float) -> None:
        # What a worker accepted before this process was there is no news; all that one which started later has, is.
        known = worker.accepted
        if known is None:
            started_later = worker.incarnation > 0 or (reading.uptime is not None and now - reading.uptime > self._born)
            known = {} if started_later else reading.accepted
        for task, total in reading.accepted.items():
            self._accepted_cell(task).value += max(0, total - known.get(task, 0))
        worker.accepted = reading.accepted

    def _accepted_cell(self, task: str) -> Cell:
        label = self._task_labels.of(task)
        cell = self._accepted.get(label)
        if cell is None:
            if not self._store.has_room_for_new(1):
                self._store.increment(catalog.EXPORTER_SERIES_DROPPED, (catalog.TASK_ACCEPTED.name,))
                return self._store.cell(catalog.TASK_ACCEPTED, (OVERFLOW,))
            cell = self._accepted[label] = self._store.cell(catalog.TASK_ACCEPTED, (label,))
        return cell

    def _check_uptime(self, worker: Worker, reading: WorkerReading, uptime: float, now: Moment) -> None:
        started = now.elapsed - uptime
        if worker.uptime_ends is not None and started - worker.uptime_ends > UPTIME_SLACK:
            known, told = worker.accepted or {}, reading.accepted
            if known and all(told.get(task, 0) >= total for task, total in known.items()):
                worker.uptime_ends = started  # it goes on counting: its clock was set back, or its answer came late
            else:
                self._restarted(worker, now)
        if worker.uptime_ends is None:
            worker.uptime_ends = started
            self._store.set(catalog.WORKER_START_TIME, worker.label, now.wall - uptime)
