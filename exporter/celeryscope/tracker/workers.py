"""Workers, from their heartbeats and from inspection: up, left or lost; restarts, clock skew, lost events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from heapq import nsmallest
from typing import TYPE_CHECKING

from celeryscope.clock import Moment
from celeryscope.events import WorkerEvent, WorkerOffline, WorkerOnline
from celeryscope.metrics import catalog
from celeryscope.metrics.store import Store
from celeryscope.readings import EventSender, RunningReading, WorkerReading
from celeryscope.tracker.hearing import Hearing
from celeryscope.tracker.inspection import FLEETING, Inspection
from celeryscope.tracker.labels import Labels, clean_label
from celeryscope.tracker.reconciling import Reconciler
from celeryscope.tracker.worker import Worker

if TYPE_CHECKING:
    from celeryscope.tracker.attempts import Attempt
    from celeryscope.tracker.settings import TrackerSettings

__all__ = ["Worker", "Workers"]

MAX_WORKERS = 10_000
EVICTION_SHARE = 100  # where they are too many, this fraction is forgotten
HEARTBEATS_TO_TRUST_DELAY = 3  # a single late heartbeat looks like a clock that is behind
SKEW_WORTH_CORRECTING = 1.0  # seconds
HEARTBEATS_TO_DISABLED = 3

_TOLD_BY_HEARTBEATS = (
    catalog.WORKER_TASKS_ACTIVE, catalog.WORKER_LOAD1, catalog.WORKER_LOAD5, catalog.WORKER_LOAD15,
)  # fmt: skip


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
        self._inspection = Inspection(store, task_labels, self._restarted)
        self._reconciler = Reconciler(close_run)
        self._abandon = abandon
        self._workers: dict[str, Worker] = {}
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
        if not worker.up:
            worker.up_since = now.elapsed
        worker.up, worker.gone_at, worker.heard_at = True, None, now.elapsed
        self._store.set(catalog.WORKER_UP, worker.label, 1)
        self._store.set(catalog.WORKER_LAST_HEARTBEAT, worker.label, now.wall)
        self._measure_skew(worker, now.wall - event.timestamp)
        if event.processed is not None and event.freq:
            worker.frequency = event.freq
        if event.processed is not None and disorder is None:
            self._judge_processed(worker, event.timestamp, event.processed)
        if event.active is not None:
            worker.active = event.active
            self._store.set(catalog.WORKER_TASKS_ACTIVE, worker.label, event.active)
            if disorder is None:
                self._reconciler.heartbeat(worker, event.timestamp, event.active, now.elapsed)
        loads = (catalog.WORKER_LOAD1, catalog.WORKER_LOAD5, catalog.WORKER_LOAD15)
        for spec, load in zip(loads, event.loadavg or (), strict=False):
            self._store.set(spec, worker.label, load)
        if event.sw_ver is not None:
            self._describe(worker, (event.sw_ver, event.sw_ident or "", event.sw_sys or ""), None)
        return disorder

    def apply(self, reading: WorkerReading, now: Moment) -> Worker:
        """Take what inspection told of one worker; return that worker."""
        worker = self.get(reading.worker)
        self._inspection.apply(worker, reading, now)
        self.silent_tasks |= worker.silent_tasks
        if reading.pool is not None:
            self._describe(worker, worker.info[:3] or ("", "", ""), reading.pool)
        return worker

    def apply_running(self, reading: RunningReading, now: float) -> None:
        """Take what one worker told of the tasks that it runs. `now` is elapsed seconds."""
        worker = self._workers.get(reading.worker)
        if worker is not None:
            self._reconciler.listed(worker, reading.tasks, reading.asked_at, now)

    def tick(self, now: float) -> None:
        """Notice losses, and forget workers that were gone for long. `now` is elapsed seconds."""
        settings = self._settings
        self._inspection.tick(now)
        forgotten: list[Worker] = []
        for worker in list(self._workers.values()):
            if worker.task_events != worker.task_events_at_tick:
                worker.seen_at = now
                worker.task_events_at_tick = worker.task_events
            if worker.answered_at is not None and now - worker.answered_at > settings.poll_stale_after:
                self._notice_no_answer(worker, now)
            if worker.doubts:
                self._reconciler.tick(worker, now)
            if worker.up:
                patience = settings.solo_worker_timeout if worker.solo else settings.worker_timeout
                if self._hearing.silence(worker.seen_at) > patience:
                    worker.lost.value += 1
                    self._gone(worker, now)
                elif worker.is_mute(now):
                    # The last it said was that it runs nothing, and it says nothing because it runs something.
                    self._store.remove(catalog.WORKER_TASKS_ACTIVE, worker.label)
            elif not worker.running and now - (worker.gone_at or worker.seen_at) > settings.worker_retention:
                forgotten.append(worker)
        if forgotten:
            self._forget(forgotten)

    def askable(self, now: float) -> list[str]:
        """Return the node names of the workers that can answer: those that beat, or have answered of late."""
        return [
            worker.name
            for worker in self._workers.values()
            if (worker.up or (worker.up is None and worker.answered_at is not None)) and not worker.is_mute(now)
        ]

    def to_look_at(self, now: float) -> list[str]:
        """Return the node names of the workers to be asked now for what they run; they are taken to be asked."""
        return self._reconciler.to_look_at(self._workers.values(), now)

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
        return {queue for worker in self._workers.values() for queue in worker.queues or ()}

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

    def _notice_no_answer(self, worker: Worker, now: float) -> None:
        if worker.up and worker.is_mute(now):
            worker.answered_at = now  # it was not asked: what it told last holds until it is
        else:
            self._inspection.forget(worker)

    def _gone(self, worker: Worker, now: float) -> None:
        if worker.up is not False:
            self._abandon(worker, now)
        worker.up, worker.gone_at = False, now
        worker.idle_since = None
        self._store.set(catalog.WORKER_UP, worker.label, 0)
        for spec in (*_TOLD_BY_HEARTBEATS, *FLEETING):
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
        worker.up_since = now.elapsed
        worker.restarts.value += 1
        worker.incarnation += 1
        worker.processed = worker.uptime_ends = None
        worker.events_enabled = None
        worker.silent_heartbeats = 0
        worker.silent_baseline, worker.silent_growth = None, 0
        worker.accepted = worker.pool_pids = worker.usual_prefetch = None
        worker.lost_events.reset()
        worker.idle_since = None
        worker.fewer_active = worker.in_doubt = False
        worker.doubts.clear()
        worker.found.clear()
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

    def _describe(self, worker: Worker, software: tuple[str, ...], pool: str | None) -> None:
        if pool is None:
            pool = worker.info[3] if worker.info else ""
        info = tuple(clean_label(text) for text in (*software, pool))
        if info != worker.info:
            if worker.info:
                self._store.remove(catalog.WORKER_INFO, (*worker.label, *worker.info))
            worker.info = info
            self._store.set(catalog.WORKER_INFO, (*worker.label, *info), 1)
