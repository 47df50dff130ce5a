"""From events to numbers: the lives of tasks and workers, told apart from disorder, duplicates and loss.

The tracker knows no wire format, broker, thread or clock: the present moment is passed in, so a recorded stream replays
to the same numbers. Its caller holds the store's lock.
"""

from collections.abc import Callable, Iterable, Iterator
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
    WorkerTaskEvent,
)
from celeryscope.metrics import catalog
from celeryscope.metrics.catalog import OTHER
from celeryscope.metrics.store import Cell, Store
from celeryscope.readings import BrokerReading, EventSender, RunningReading, WorkerReading
from celeryscope.tracker.backfill import Backfill
from celeryscope.tracker.expectations import Expectations
from celeryscope.tracker.hearing import Hearing
from celeryscope.tracker.labels import Labels, clean_label
from celeryscope.tracker.pairs import Pairs
from celeryscope.tracker.queues import Queues
from celeryscope.tracker.rate_limits import RateLimits
from celeryscope.tracker.settings import TrackerSettings
from celeryscope.tracker.table import TaskTable
from celeryscope.tracker.tasks import Tasks
from celeryscope.tracker.throttles import Throttles
from celeryscope.tracker.witness import WitnessedHearing
from celeryscope.tracker.workers import Workers

__all__ = ["Tracker", "TrackerSettings"]

MAX_CUSTOM_TYPES = 50
DEAF_AFTER_CANARIES = 2.5  # intervals without a canary heard
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
        self._backfill = Backfill(self._pairs, self._table, self.hearing)
        self._rate_limits = RateLimits(store, task_labels)
        self._queues = Queues(store, queue_labels, self._table.due, settings.poll_stale_after)
        self._throttles = Throttles(store, self._pairs, self._table, self._tasks.holds)
        self._custom_types: dict[str, Cell] = {}
        self._cleaned_at: float | None = None
        handlers: dict[type, Handler] = {
            **self._tasks.handlers,
            WorkerOnline: self._sign_of_life,
            WorkerHeartbeat: self._sign_of_life,
            WorkerOffline: self._sign_of_life,
            TaskRateLimited: self._throttles.announced,
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
        if self._settings.backfill_patience and self._witness is None:  # where nobody is asked, nothing will be told
            self._tasks.expect_lists(now.elapsed + self._settings.backfill_patience)

    def listened(self, now: Moment, heard_until: float | None = None) -> None:
        """The event stream was read without an error, whether something came or not.

        `heard_until`, in elapsed seconds: all that had come by then is read. None: more may wait.
        """
        if heard_until is not None:
            self._tasks.holds.heard_until = heard_until
        if self._witness is not None:
            self._witness.read(now.elapsed)

    def handle(self, events: Iterable[Decoded], now: Moment) -> None:
        """Take the events of one batch, in the order in which they arrived."""
        if self._tasks.holds.lists_expected_until is not None:
            events = self._hold_unknown(events)
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
        """Take what a poll of the workers told."""
        self._queues.workers_asked(now.elapsed)
        known = self._workers.silent_tasks
        lists_taken = False
        since = self.hearing.since
        for reading in readings:
            worker = self._workers.apply(reading, now)
            self._backfill.take(worker, reading, now)
            if reading.running is not None and reading.asked_at is not None:
                self.apply_running([RunningReading(reading.worker, reading.asked_at, reading.running)], now)
                if since is not None and reading.asked_at >= since:
                    lists_taken = True
        if lists_taken:
            self._tasks.lists_taken(now)
        if self._workers.silent_tasks != known:
            self._table.waiting.drop_named(self._workers.silent_tasks - known)

    def apply_running(self, readings: Iterable[RunningReading], now: Moment) -> None:
        """Take what workers told of the tasks that they run."""
        for reading in readings:
            self._workers.apply_running(reading, now.elapsed)

    def apply_broker(self, reading: BrokerReading, now: Moment) -> None:
        """Take what a poll of the broker told."""
        self._queues.apply(reading, now)

    def known_queues(self) -> set[str]:
        """Return the names of queues that configuration, workers or events tell of, or that held messages of late."""
        return self._named_queues() | self._queues.filled

    def tick(self, now: Moment) -> None:
        """Let time pass: what was held, due, gone or given up. To be called a few times a second."""
        self._tasks.tick(now)
        self._table.tick(now)
        self._workers.tick(now.elapsed)
        self._throttles.tick(now)
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
        self._rate_limits.refresh(self._workers, self._table.attempts.values(), now.elapsed)
        known = self._named_queues() | self._queues.polled
        self._queues.refresh(known, self._workers, now.elapsed)
        self._expectations.refresh(self._pairs.labels(), known)
        store.set(catalog.EXPORTER_TRACKED_TASKS, (), len(self._table))
        if self._settings.hears:
            store.cell(catalog.EXPORTER_DEAF_SECONDS).value = self.hearing.deaf_seconds(now.elapsed)

    def askable_workers(self, now: Moment) -> list[str]:
        """Return the node names of the workers that are up, or answered of late, and are able to answer."""
        return self._workers.askable(now.elapsed)

    def workers_to_look_at(self, now: Moment) -> list[str]:
        """Return the node names of the workers to be asked now for what they run; they are taken to be asked."""
        return self._workers.to_look_at(now.elapsed)

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

    def _named_queues(self) -> set[str]:
        settings = self._settings
        return {*settings.queues, *settings.objectives.queues.exact, *self._workers.queues(), *self._pairs.queue_names}

    def _hold_unknown(self, events: Iterable[Decoded]) -> Iterator[Decoded]:
        """Hold the events of tasks that inspection is about to name; return the others, one after the other."""
        held = self._tasks.held
        for event in events:
            if isinstance(event, WorkerTaskEvent) and event.uuid not in held and self._tasks.hold_unknown(event):
                self._handlers[type(event)][0].value += 1
            else:
                yield event

    def _sign_of_life(self, event: WorkerEvent, now: Moment) -> None:
        disorder = self._workers.sign_of_life(event, now)
        if disorder is not None:
            self._disorder(disorder)
        lag = self._workers.lag(event, now)
        if lag is not None:
            self._store.set(catalog.EXPORTER_EVENT_LAG, (), lag)
            if self._witness is not None:
                self._witness.heard(now.elapsed - lag)

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
