"""Workers, from their heartbeats and from inspection: up, left or lost; restarts, clock skew, lost events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from heapq import nsmallest
from typing import TYPE_CHECKING

from celeryscope.clock import Moment
from celeryscope.events import WorkerEvent, WorkerOffline, WorkerOnline
from celeryscope.metrics import catalog
from celeryscope.metrics.catalog import OVERFLOW
from celeryscope.metrics.store import Cell, Store
from celeryscope.readings import EventSender, WorkerReading
from celeryscope.tracker.hearing import Hearing
from celeryscope.tracker.labels import Labels, clean_label
from celeryscope.tracker.lost_events import LostEvents

if TYPE_CHECKING:
    from celeryscope.tracker.attempts import Attempt
    from celeryscope.tracker.settings import TrackerSettings

MAX_WORKERS = 10_000
EVICTION_SHARE = 100  # where they are too many, this fraction is forgotten
HEARTBEATS_FOR_SKEW = 10
HEARTBEATS_TO_TRUST_DELAY = 3  # a single late heartbeat looks like a clock that is behind
SKEW_WORTH_CORRECTING = 1.0  # seconds
HEARTBEATS_TO_DISABLED = 3
REMEMBERED_PIDS = 8
DEFAULT_FREQUENCY = 2.0  # seconds between heartbeats
UPTIME_SLACK = 5.0  # seconds: uptime is whole seconds, asked for over a network

_FLEETING = (
    catalog.WORKER_TASKS_ACTIVE, catalog.WORKER_LOAD1, catalog.WORKER_LOAD5, catalog.WORKER_LOAD15,
    catalog.WORKER_CONCURRENCY, catalog.WORKER_PROCESSES, catalog.WORKER_PREFETCH_LIMIT,
)  # fmt: skip


class Worker:
    """What is known of one worker, by its node name."""

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self.label = (clean_label(name),)
        self.up: bool | None = None  # None: no heartbeat yet
        self.gone_at: float | None = None  # elapsed seconds
        self.seen_at = 0.0  # elapsed seconds of its last event of any kind
        self.heard_at = 0.0  # elapsed seconds of its last heartbeat
        self.frequency = DEFAULT_FREQUENCY
        self.pids: deque[int] = deque(maxlen=REMEMBERED_PIDS)
        self.incarnation = 0
        self.latest = 0.0  # latest timestamp of its worker events, on its own clock
        self.processed: int | None = None
        self.uptime_ends: float | None = None  # elapsed seconds at which it was started
        self.skews: deque[float] = deque(maxlen=HEARTBEATS_FOR_SKEW)
        self.skew: float | None = None
        self.correction = 0.0  # seconds to add to its timestamps
        self.queues: tuple[str, ...] = ()  # that it consumes, as it last told
        self.only_queue: str | None = None
        self.solo = False
        self.task_events = 0
        self.task_events_at_heartbeat = 0
        self.task_events_at_tick = 0
        self.silent_heartbeats = 0
        self.events_enabled: bool | None = None
        self.silent_tasks: frozenset[str] = frozenset()
        self.silent_baseline: int | None = None
        self.silent_growth: int | None = 0  # None: not asked since the last heartbeat
        self.lost_events = LostEvents()
        self.running: dict[Attempt, float] = {}  # when each was started, on its own clock
        self.idle_since: float | None = None  # timestamp of its latest heartbeat, where nothing was active
        self.info: tuple[str, ...] = ()  # version, software, system, pool
        self.accepted: Mapping[str, int] | None = None  # as of the last inspection
        self.restarts = store.cell(catalog.WORKER_RESTARTS, self.label)
        self.lost = store.cell(catalog.WORKER_LOST, self.label)
        self.events_lost = store.cell(catalog.WORKER_EVENTS_LOST, self.label)


class Workers:
    """All workers of one broker.

    `abandon(worker, now)` is called when tasks that it runs will hardly come to an end, `close_run(attempt, worker,
    now)` for one that it provably no longer runs.
    """

    def __init__(
        self,
        store: Store,
        hearing: Hearing,
        settings: TrackerSettings,
        task_labels: Labels,
        abandon: Callable[[Worker, float], None],
        close_run: Callable[[Attempt, Worker, float], None],
    ) -> None:
        self._store = store
        self._hearing = hearing
        self._settings = settings
        self._task_labels = task_labels
        self._accepted: dict[str, Cell] = {}
        self._abandon = abandon
        self._close_run = close_run
        self._workers: dict[str, Worker] = {}
        self._born = float("inf")  # elapsed seconds of the first tick
        self.any_corrected = False  # whether a worker's clock ever was wrong
        #: Names of tasks that send no events: what is known of all workers.
        self.silent_tasks: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def get(self, name: str) -> Worker:
        """Return the worker of that node name, made where it is new."""
        worker = self._workers.get(name)
        if worker is None:
            if len(self._workers) >= MAX_WORKERS:
                self._make_room()
            worker = self._workers[name] = Worker(name, self._store)
        return worker

    def sign_of_life(self, event: WorkerEvent, now: Moment) -> str | None:
        """Take an online, heartbeat or offline event; return a kind of disorder, or None."""
        worker = self.get(event.hostname)
        if isinstance(event, WorkerOffline) and event.timestamp < worker.latest:
            return "stale_offline"  # a broker that restarts delivers the farewell of a worker that has come back
        worker.seen_at = now.elapsed
        disorder = self._identify(worker, event, now)
        worker.latest = max(worker.latest, event.timestamp)
        if isinstance(event, WorkerOffline):
            self._gone(worker, now.elapsed)
            return disorder
        worker.up, worker.gone_at, worker.heard_at = True, None, now.elapsed
        self._store.set(catalog.WORKER_UP, worker.label, 1)
        self._store.set(catalog.WORKER_LAST_HEARTBEAT, worker.label, now.wall)
        self._measure_skew(worker, now.wall - event.timestamp)
        if event.processed is not None and event.freq:
            worker.frequency = event.freq
        if event.processed is not None and disorder is None:
            self._judge_processed(worker, event.timestamp, event.processed)
        if event.active is not None:
            self._store.set(catalog.WORKER_TASKS_ACTIVE, worker.label, event.active)
            if disorder is None:
                self._reconcile(worker, event.timestamp, event.active, now.elapsed)
        loads = (catalog.WORKER_LOAD1, catalog.WORKER_LOAD5, catalog.WORKER_LOAD15)
        for spec, load in zip(loads, event.loadavg or (), strict=False):
            self._store.set(spec, worker.label, load)
        if event.sw_ver is not None:
            self._describe(worker, (event.sw_ver, event.sw_ident or "", event.sw_sys or ""), None)
        return disorder

    def apply(self, reading: WorkerReading, now: Moment) -> None:
        """Take what inspection told of one worker."""
        worker = self.get(reading.worker)
        if worker.up is None:
            worker.seen_at = now.elapsed  # without heartbeats, its answer is its only sign of life
        gauges = (
            (catalog.WORKER_CONCURRENCY, reading.concurrency),
            (catalog.WORKER_PROCESSES, reading.processes),
            (catalog.WORKER_PREFETCH_LIMIT, reading.prefetch),
            (catalog.WORKER_MEMORY_MAX, reading.memory_max_bytes),
        )
        for spec, value in gauges:
            # An answer may come after the farewell, which has taken these away.
            if value is not None and not (worker.up is False and spec in _FLEETING):
                self._store.set(spec, worker.label, value)
        for mode, seconds in (("user", reading.cpu_user), ("system", reading.cpu_system)):
            if seconds is not None:
                self._store.set(catalog.WORKER_CPU, (*worker.label, mode), seconds)
        worker.solo = reading.solo
        if reading.pool is not None:
            self._describe(worker, worker.info[:3] or ("", "", ""), reading.pool)
        if reading.queues is not None:
            worker.queues = reading.queues
            worker.only_queue = reading.queues[0] if len(reading.queues) == 1 else None
        if reading.uptime is not None:
            self._check_uptime(worker, reading.uptime, now)
        if reading.silent_tasks is not None:
            self._count_silent(worker, reading)
        self._count_accepted(worker, reading, now.elapsed)

    def tick(self, now: float) -> None:
        """Notice losses, and forget workers that were gone for long. `now` is elapsed seconds."""
        settings = self._settings
        self._born = min(self._born, now)
        forgotten: list[Worker] = []
        for worker in list(self._workers.values()):
            if worker.task_events != worker.task_events_at_tick:
                worker.seen_at = now
                worker.task_events_at_tick = worker.task_events
            if worker.up:
                patience = settings.solo_worker_timeout if worker.solo else settings.worker_timeout
                if self._hearing.silence(worker.seen_at) > patience:
                    worker.lost.value += 1
                    self._gone(worker, now)
            elif not worker.running and now - (worker.gone_at or worker.seen_at) > settings.worker_retention:
                forgotten.append(worker)
        if forgotten:
            self._forget(forgotten)

    def askable(self, now: float) -> list[str]:
        """Return the node names of the workers that are up and can answer: a busy solo worker is mute."""
        return [
            worker.name
            for worker in self._workers.values()
            if worker.up and not (worker.solo and now - worker.heard_at > 2 * worker.frequency)
        ]

    def event_senders(self, now: float) -> list[EventSender]:
        """Return what is known of the task events of the workers that are up."""
        able = set(self.askable(now))
        return [
            EventSender(
                worker=worker.name,
                life=worker.incarnation,
                sends=worker.events_enabled,
                processed=worker.processed or 0,
                beat_at=worker.heard_at,
                can_answer=worker.name in able,
            )
            for worker in self._workers.values()
            if worker.up
        ]

    def switched_on(self, names: Iterable[str]) -> None:
        """Workers have begun to send task events: what came before and was not heard is no loss."""
        for name in names:
            worker = self._workers.get(name)
            if worker is not None:
                worker.lost_events.reset()

    def names(self, *, without_events: bool = False) -> tuple[str, ...]:
        """Return the node names of the workers that are up, or of those among them that send no task events."""
        return tuple(
            worker.name
            for worker in self._workers.values()
            if worker.up and (worker.events_enabled is False or not without_events)
        )

    def queues(self) -> set[str]:
        """Return the names of the queues that workers consume, or did when they were last asked."""
        return {queue for worker in self._workers.values() for queue in worker.queues}

    def system(self, name: str) -> str | None:
        """Return the operating system that a worker says it runs on."""
        worker = self._workers.get(name)
        return worker.info[2] or None if worker is not None and worker.info else None

    def lag(self, event: WorkerEvent, now: Moment) -> float | None:
        """Return how much later than usual, in seconds, a worker's event arrived; None where the usual is not known."""
        worker = self._workers.get(event.hostname)
        if worker is None or worker.skew is None:
            return None
        return max(0.0, now.wall - event.timestamp - worker.skew)

    def enable_events(self, worker: Worker) -> None:
        """One of a worker's own task events arrived: its events are on."""
        worker.events_enabled = True
        self._store.set(catalog.WORKER_TASK_EVENTS_ENABLED, worker.label, 1)

    def _gone(self, worker: Worker, now: float) -> None:
        if worker.up is not False:
            self._abandon(worker, now)
        worker.up, worker.gone_at = False, now
        worker.idle_since = None
        self._store.set(catalog.WORKER_UP, worker.label, 0)
        for spec in _FLEETING:
            self._store.remove(spec, worker.label)

    def _make_room(self) -> None:
        # Those that are gone go first. Several at once: to find them costs a walk.
        known = self._workers.values()
        share = max(1, MAX_WORKERS // EVICTION_SHARE)
        self._forget(
            nsmallest(share, known, key=lambda worker: (bool(worker.up), bool(worker.running), worker.seen_at))
        )

    def _forget(self, workers: Collection[Worker]) -> None:
        for worker in workers:
            worker.up = False
            del self._workers[worker.name]
        self._store.purge_each(("worker",), {worker.label for worker in workers})

    def _identify(self, worker: Worker, event: WorkerEvent, now: Moment) -> str | None:
        if event.pid is None:
            return None
        if not worker.pids:
            worker.pids.append(event.pid)
        elif event.pid != worker.pids[-1]:
            if event.pid in worker.pids and not isinstance(event, WorkerOnline):
                return "duplicate_node_name"  # two processes under one name take turns: neither of them restarted
            worker.pids.append(event.pid)
            self._restarted(worker, now)
        elif event.processed is not None and worker.processed is not None and event.processed < worker.processed:
            self._restarted(worker, now)  # containers give every process the same pid
        return None

    def _restarted(self, worker: Worker, now: Moment) -> None:
        if worker.up is not False:
            self._abandon(worker, now.elapsed)
        worker.running.clear()
        worker.restarts.value += 1
        worker.incarnation += 1
        worker.processed = worker.uptime_ends = None
        worker.events_enabled = None
        worker.silent_heartbeats = 0
        worker.silent_baseline, worker.silent_growth = None, 0
        worker.accepted = None
        worker.lost_events.reset()
        worker.idle_since = None
        self._store.remove(catalog.WORKER_TASK_EVENTS_ENABLED, worker.label)
        self._store.remove(catalog.WORKER_START_TIME, worker.label)

    def _measure_skew(self, worker: Worker, delay: float) -> None:
        worker.skews.append(delay)
        worker.skew = skew = min(worker.skews)
        self._store.set(catalog.WORKER_CLOCK_SKEW, worker.label, skew)
        trusted = skew < 0 or len(worker.skews) >= HEARTBEATS_TO_TRUST_DELAY
        worker.correction = skew if trusted and abs(skew) > SKEW_WORTH_CORRECTING else 0.0
        self.any_corrected = self.any_corrected or worker.correction != 0.0

    def _judge_processed(self, worker: Worker, timestamp: float, processed: int) -> None:
        sent_events = worker.task_events != worker.task_events_at_heartbeat
        worker.task_events_at_heartbeat = worker.task_events
        if sent_events or processed == (worker.processed or 0):
            worker.silent_heartbeats = 0
        elif worker.processed is not None and not worker.silent_tasks:
            worker.silent_heartbeats += 1
            if worker.silent_heartbeats >= HEARTBEATS_TO_DISABLED:
                worker.events_enabled = False
                worker.lost_events.reset()
                self._store.set(catalog.WORKER_TASK_EVENTS_ENABLED, worker.label, 0)
        worker.processed = processed
        self._store.set(catalog.WORKER_TASKS_PROCESSED, worker.label, processed)
        if worker.events_enabled is False:
            return
        # Losses are judged only beside events that did arrive: where none does, events may have been switched off.
        judged = worker.silent_growth if sent_events and worker.events_enabled else None
        worker.events_lost.value += worker.lost_events.heartbeat(timestamp, processed, judged)
        if worker.silent_tasks:
            worker.silent_growth = None

    def _count_silent(self, worker: Worker, reading: WorkerReading) -> None:
        worker.silent_tasks = reading.silent_tasks or frozenset()
        self.silent_tasks |= worker.silent_tasks
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

    def _check_uptime(self, worker: Worker, uptime: float, now: Moment) -> None:
        started = now.elapsed - uptime
        if worker.uptime_ends is not None and started - worker.uptime_ends > UPTIME_SLACK:
            self._restarted(worker, now)
        if worker.uptime_ends is None:
            worker.uptime_ends = started
            self._store.set(catalog.WORKER_START_TIME, worker.label, now.wall - uptime)

    def _reconcile(self, worker: Worker, timestamp: float, active: int, now: float) -> None:
        if active or not worker.running:
            worker.idle_since = None
            return
        # Ends may still be on their way: what one heartbeat shows to be over, the next one closes.
        idle_since, worker.idle_since = worker.idle_since, timestamp
        if idle_since is not None:
            for attempt, started_at in list(worker.running.items()):
                if started_at <= idle_since:
                    self._close_run(attempt, worker, now)

    def _describe(self, worker: Worker, software: tuple[str, ...], pool: str | None) -> None:
        if pool is None:
            pool = worker.info[3] if worker.info else ""
        info = tuple(clean_label(text) for text in (*software, pool))
        if info != worker.info:
            if worker.info:
                self._store.remove(catalog.WORKER_INFO, (*worker.label, *worker.info))
            worker.info = info
            self._store.set(catalog.WORKER_INFO, (*worker.label, *info), 1)
