"""From events to numbers: the lives of tasks and workers, told apart from disorder, duplicates and loss.

The tracker knows no wire format, broker, thread or clock: the present moment is passed in, so a recorded stream replays
to the same numbers. Its caller holds the store's lock.
"""

from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from typing import Any

from celeryscope.advice import Facts
from celeryscope.clock import Moment
from celeryscope.errors import InvalidEvent
from celeryscope.events import (
    TYPE_OF,
    Canary,
    CustomEvent,
    Decoded,
    TaskRateLimited,
    TaskSent,
    WorkerEvent,
    WorkerHeartbeat,
    WorkerOffline,
    WorkerOnline,
)
from celeryscope.metrics import catalog
from celeryscope.metrics.catalog import OTHER
from celeryscope.metrics.store import Cell, Store
from celeryscope.readings import EventSender, WorkerReading
from celeryscope.tracker.expectations import Expectations
from celeryscope.tracker.hearing import Hearing
from celeryscope.tracker.holding import WorkerTaskEvent
from celeryscope.tracker.labels import Labels, clean_label
from celeryscope.tracker.pairs import Pairs
from celeryscope.tracker.settings import TrackerSettings
from celeryscope.tracker.table import TaskTable
from celeryscope.tracker.tasks import Tasks
from celeryscope.tracker.witness import WitnessedHearing
from celeryscope.tracker.workers import Workers

__all__ = ["Tracker", "TrackerSettings"]

MAX_CUSTOM_TYPES = 50
DEAF_AFTER_CANARIES = 2.5  # intervals without a canary heard
THROTTLE_HOLD = 0.25  # seconds that an announced rate limit waits for its task to be known
MAX_THROTTLES_HELD = 10_000
CLEANUP_INTERVAL = 60.0  # seconds

Handler = Callable[[Any, Moment], None]


class Tracker:
    """Follows the tasks and workers of one broker and moves the store's series."""

    def __init__(self, store: Store, settings: TrackerSettings | None = None) -> None:
        settings = settings or TrackerSettings()
        self._store = store
        self._settings = settings
        self._witness = WitnessedHearing() if settings.canary_interval == inf else None
        self.hearing = self._witness or Hearing(DEAF_AFTER_CANARIES * settings.canary_interval)
        task_labels, queue_labels = Labels(settings.task_names), Labels(settings.queue_names)
        self._pairs = Pairs(store, settings, task_labels, queue_labels)
        self._expectations = Expectations(store, settings, task_labels, queue_labels)
        self._table = TaskTable(store, settings, self._disorder)
        self._workers = Workers(store, self.hearing, settings, task_labels, self._table.abandon, self._table.close_run)
        self._tasks = Tasks(
            store,
            pairs=self._pairs,
            table=self._table,
            workers=self._workers,
            settings=settings,
            disorder=self._disorder,
        )
        self._throttles: deque[tuple[float, TaskRateLimited]] = deque()
        self._custom_types: dict[str, Cell] = {}
        self._cleaned_at: float | None = None
        handlers: dict[type, Handler] = {
            **self._tasks.handlers,
            WorkerOnline: self._sign_of_life,
            WorkerHeartbeat: self._sign_of_life,
            WorkerOffline: self._sign_of_life,
            TaskRateLimited: self._rate_limited,
            Canary: self._canary,
        }
        self._handlers: dict[type, tuple[Cell, Handler]] = {
            cls: (store.cell(catalog.EXPORTER_EVENTS, (TYPE_OF[cls],)), handler) for cls, handler in handlers.items()
        }
        self._handlers[CustomEvent] = Cell(), self._custom
        self._handlers[InvalidEvent] = Cell(), self._invalid
        for spec, values in (
            (catalog.EXPORTER_DISORDER, catalog.DISORDER_KINDS),
            (catalog.EXPORTER_INVALID_EVENTS, catalog.INVALID_REASONS),
            (catalog.EXPORTER_EVICTED, catalog.EVICTION_REASONS),
        ):
            for value in values:
                store.cell(spec, (value,))

    def listening(self, now: Moment) -> None:
        """The event stream was opened."""
        self.hearing.opened(now.elapsed)
        self._tasks.expect_sent(now.elapsed)

    def listened(self, now: Moment) -> None:
        """The event stream was read without an error, whether something came or not."""
        if self._witness is not None:
            self._witness.read(now.elapsed)

    def handle(self, events: Iterable[Decoded], now: Moment) -> None:
        """Take the events of one batch, in the order in which they arrived."""
        handlers, held = self._handlers, self._tasks.held
        event: Decoded | None = None
        for event in events:
            cell, handler = handlers[type(event)]
            cell.value += 1
            if held and type(event) is not TaskSent:
                hold = held.get(getattr(event, "uuid", ""))
                if hold is not None and isinstance(event, WorkerTaskEvent):
                    hold.events.append(event)
                    continue
            handler(event, now)
        if event is not None:
            self._store.set(catalog.EXPORTER_LAST_EVENT, (), now.wall)

    def apply(self, readings: Iterable[WorkerReading], now: Moment) -> None:
        """Take what inspection told of workers."""
        known = self._workers.silent_tasks
        for reading in readings:
            self._workers.apply(reading, now)
        if self._workers.silent_tasks != known:
            self._table.drop_silent(self._workers.silent_tasks - known)

    def tick(self, now: Moment) -> None:
        """Let time pass: what was held, due, gone or given up. To be called a few times a second."""
        self._tasks.tick(now)
        self._table.tick(now)
        self._workers.tick(now.elapsed)
        while self._throttles and self._throttles[0][0] <= now.elapsed:
            self._throttle(self._throttles.popleft()[1])
        if self._cleaned_at is None or now.elapsed - self._cleaned_at >= CLEANUP_INTERVAL:
            self._cleaned_at = now.elapsed
            self._table.expire(now)
            self._pairs.forget_idle(now.elapsed, self._settings.pair_retention)

    def refresh(self, now: Moment) -> None:
        """Set the gauges that are computed rather than counted."""
        store = self._store
        received, started = self._table.oldest()
        for spec, oldest in ((catalog.TASK_OLDEST_RECEIVED, received), (catalog.TASK_OLDEST_STARTED, started)):
            store.clear(spec)
            for labels, since in oldest.items():
                store.set(spec, labels, since)
        self._expectations.refresh(self._pairs.labels(), self._workers.queues())
        store.set(catalog.EXPORTER_TRACKED_TASKS, (), len(self._table))
        store.cell(catalog.EXPORTER_DEAF_SECONDS).value = self.hearing.deaf_seconds(now.elapsed)

    def askable_workers(self, now: Moment) -> list[str]:
        """Return the node names of the workers that are up and not known to be unable to answer."""
        return self._workers.askable(now.elapsed)

    def event_senders(self, now: Moment) -> list[EventSender]:
        """Return what is known of the task events of the workers that are up."""
        return self._workers.event_senders(now.elapsed)

    def switched_on(self, workers: Iterable[str]) -> None:
        """Workers have begun to send task events, by their node names."""
        self._workers.switched_on(workers)

    def worker_system(self, name: str) -> str | None:
        """Return the operating system that a worker says it runs on."""
        return self._workers.system(name)

    def facts(self, now: Moment) -> Facts:
        """Return what advice to a person rests on."""
        since = self.hearing.since
        sent, started = self._pairs.totals()
        return Facts(
            listening_seconds=0.0 if since is None else now.elapsed - since,
            workers_up=self._workers.names(),
            workers_without_events=self._workers.names(without_events=True),
            tasks_sent=sent,
            tasks_started=started,
        )

    def _sign_of_life(self, event: WorkerEvent, now: Moment) -> None:
        disorder = self._workers.sign_of_life(event, now)
        if disorder is not None:
            self._disorder(disorder)
        lag = self._workers.lag(event, now)
        if lag is not None:
            self._store.set(catalog.EXPORTER_EVENT_LAG, (), lag)
            if self._witness is not None:
                self._witness.heard(now.elapsed - lag)

    def _rate_limited(self, event: TaskRateLimited, now: Moment) -> None:
        # The pool child that sends it has its own connection, so it may overtake the events that say which task it is.
        if self._table.pair_of(event.uuid) is None and len(self._throttles) < MAX_THROTTLES_HELD:
            self._throttles.append((now.elapsed + THROTTLE_HOLD, event))
        else:
            self._throttle(event)

    def _throttle(self, event: TaskRateLimited) -> None:
        pair = self._table.pair_of(event.uuid) or self._pairs.get(None, None)
        limiter = self._pairs.limiter(event.limiter)
        self._store.increment(catalog.TASK_RATE_LIMITED, (*pair.labels, limiter))
        if event.delay is not None:
            self._store.histogram(catalog.TASK_RATE_LIMIT_DELAY, (*pair.labels, limiter)).observe(event.delay)
        for spec, value in (
            (catalog.RATE_LIMITER_LIMIT, event.limit),
            (catalog.RATE_LIMITER_REMAINING, event.remaining),
        ):
            if value is not None:
                self._store.set(spec, (limiter,), value)

    def _canary(self, event: Canary, now: Moment) -> None:
        round_trip = self.hearing.canary_heard(event.id, now.elapsed)
        if round_trip is not None:
            self._store.set(catalog.EXPORTER_CANARY_ROUND_TRIP, (), round_trip)
            self._store.set(catalog.EXPORTER_CANARY_LAST_SUCCESS, (), now.wall)

    def _custom(self, event: CustomEvent, now: Moment) -> None:
        cell = self._custom_types.get(event.type)
        if cell is None:
            label = clean_label(event.type) if len(self._custom_types) < MAX_CUSTOM_TYPES else OTHER
            cell = self._store.cell(catalog.EXPORTER_EVENTS, (label,))
            if label != OTHER:
                self._custom_types[event.type] = cell
        cell.value += 1

    def _invalid(self, event: InvalidEvent, now: Moment) -> None:
        self._store.increment(catalog.EXPORTER_INVALID_EVENTS, (event.reason,))

    def _disorder(self, kind: str) -> None:
        self._store.increment(catalog.EXPORTER_DISORDER, (kind,))
