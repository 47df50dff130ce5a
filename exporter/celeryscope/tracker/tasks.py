"""The lives of tasks: which attempt an event belongs to, and what it moves.

An event names an uuid and hardly more, while a task is retried, replaced, shadowed and delivered twice under the same
uuid, and events of different processes overtake each other. Every event counts once, under the labels of its attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Any, NamedTuple

from celeryscope.clock import Moment
from celeryscope.events import (
    TaskCancelled,
    TaskFailed,
    TaskReceived,
    TaskRejected,
    TaskRetried,
    TaskRevoked,
    TaskSent,
    TaskStarted,
    TaskSucceeded,
    exception_class,
    parse_eta,
    retry_class,
    unregistered_task,
)
from celeryscope.metrics import catalog
from celeryscope.metrics.store import Store
from celeryscope.tracker.attempts import (
    ON_DISCARDED,
    ON_DROPPED,
    ON_OUTCOME,
    ON_RECEIVED,
    ON_REQUEUED,
    ON_STARTED,
    Attempt,
    End,
    State,
    Step,
)
from celeryscope.tracker.pairs import Pair, Pairs
from celeryscope.tracker.settings import TrackerSettings
from celeryscope.tracker.table import TaskTable
from celeryscope.tracker.workers import Worker, Workers

SENT_HOLD = 0.25  # seconds that a received event waits for the task-sent event that it may have overtaken
SENT_EXPECTED = 60.0  # seconds after a task-sent event, or after listening began, in which others are waited for
MAX_HELD = 10_000

WorkerTaskEvent = (
    TaskReceived | TaskStarted | TaskSucceeded | TaskFailed | TaskRetried | TaskRejected | TaskRevoked | TaskCancelled
)


class Hold(NamedTuple):
    """Events of one uuid that wait for its task-sent event."""

    deadline: float  # elapsed seconds
    events: list[WorkerTaskEvent]


class Tasks:
    """Takes the events of tasks, by way of the table of those that are known."""

    def __init__(
        self,
        store: Store,
        *,
        pairs: Pairs,
        table: TaskTable,
        workers: Workers,
        settings: TrackerSettings,
        disorder: Callable[[str], None],
    ) -> None:
        self._store = store
        self._pairs = pairs
        self._table = table
        self._sent = table.sent
        self._attempts = table.attempts
        self._workers = workers
        self._settings = settings
        self._disorder = disorder
        self.held: dict[str, Hold] = {}
        self._sent_event_at: float | None = None
        self._releasing = False
        self.handlers: dict[type, Callable[[Any, Moment], None]] = {
            TaskSent: self.sent,
            TaskReceived: self.received,
            TaskStarted: self.started,
            TaskSucceeded: self.succeeded,
            TaskFailed: self.failed,
            TaskRetried: self.retried,
            TaskRevoked: self.revoked,
            TaskCancelled: self.cancelled,
            TaskRejected: self.rejected,
        }

    def expect_sent(self, now: float) -> None:
        """Take task-sent events for likely from `now` on: a stream that was just opened may have missed the last."""
        self._sent_event_at = now

    # Events, in the order of a task's life.

    def sent(self, event: TaskSent, now: Moment) -> None:
        """A producer published a task, or an attempt its retry."""
        uuid = event.uuid
        pair = self._pairs.get(event.name, event.queue_name)
        pair.sent.value += 1
        pair.saw_sent(event.timestamp)
        self._sent_event_at = now.elapsed
        due = event.timestamp
        eta_open = False
        if event.eta is not None:
            eta = parse_eta(event.eta)
            eta_open = eta is None
            due = max(due, eta or due)
        retries = event.retries or 0
        attempt = self._attempts.get(uuid)
        if self._workers.any_corrected:
            due += self._sender_correction(event, attempt)
        if (
            attempt is not None
            and attempt.retries == retries
            and not attempt.sent_seen
            and (attempt.starts == 0 or (attempt.is_open and attempt.name == event.name))
        ):
            # A worker told of it long before: too late for the labels, in time for the wait.
            attempt.sent_seen = True
            if attempt.starts == 0:
                attempt.due = max(due, attempt.due or due)
            return
        if event.name in self._workers.silent_tasks:
            return  # no worker will ever tell what became of it
        self._table.publish(uuid, pair, due, retries, eta_open=eta_open)
        if uuid in self.held:
            self._release(uuid, now)

    def received(self, event: TaskReceived, now: Moment) -> None:
        """A worker took a task's message."""
        uuid = event.uuid
        retries = event.retries or 0
        attempt = self._known(uuid, retries, event.name)
        # Of a known attempt a task published anew is told by its name; else the name may be a shadow's.
        task = event.name if attempt is None else attempt.pair.labels[0]
        sent = self._table.take_sent(uuid, retries, task, only_named=attempt is not None)
        if sent is not None:
            attempt = self._table.begin_sent(uuid, sent, event.name, now.elapsed)
        elif attempt is None:
            if self._hold(event, now):
                return
            attempt = self._begin_unsent(event, retries, now)
        worker = self._worker(event)
        attempt.pair.received.value += 1
        attempt.name = event.name
        attempt.seen_at = now.elapsed
        step = ON_RECEIVED[attempt.state]
        if step.state is State.STARTED:
            attempt.received_again = True
            return
        if attempt.state is State.ENDED and attempt.started_since(event.timestamp + worker.correction):
            return  # it was handed on, and has run elsewhere
        attempt.worker = worker
        attempt.due_there = event.timestamp
        if event.eta is not None and self._schedule(attempt, event, worker):
            return
        self._table.move(attempt, step)

    def started(self, event: TaskStarted, now: Moment) -> None:
        """A worker started to run a task."""
        uuid = event.uuid
        worker = self._worker(event)
        worker.lost_events.started(event.timestamp)
        attempt = self._attempts.get(uuid)
        if attempt is not None and attempt.previous is not None and attempt.previous.awaits_start_on(worker):
            attempt = attempt.previous
        elif attempt is None or (attempt.starts and attempt.state >= State.STARTED and not attempt.received_again):
            # Not a start that this attempt waits for: that of a published one, if there is any.
            sent = self._table.take_sent(uuid)
            if sent is not None:
                attempt = self._table.begin_sent(uuid, sent, None, now.elapsed)
            elif attempt is None:
                attempt = self._begin_unknown(uuid, None, worker, now)
        pair = attempt.pair
        pair.started.value += 1
        attempt.starts += 1
        attempt.seen_at = now.elapsed
        if attempt.starts == 1:
            self._measure_wait(attempt, event.timestamp, worker)
        else:
            pair.redelivered.value += 1
        step = ON_STARTED[attempt.state]
        if attempt.state is State.ENDED and attempt.starts <= attempt.ends:
            self._disorder("start_after_end")  # its end overtook it
            return
        attempt.start_on(worker, event.timestamp)
        self._table.move(attempt, step)
        if worker.up is False:
            self._table.suspect(attempt, worker, now.elapsed)  # it left before we hear of the start

    def succeeded(self, event: TaskSucceeded, now: Moment) -> None:
        """A task returned."""
        attempt = self._attempt_that_ends(event, now)
        runtime = event.runtime if event.runtime is not None else self._runtime(attempt, event)
        if self._end(attempt, event, ON_OUTCOME, now):
            pair = attempt.pair
            pair.succeeded.value += 1
            pair.saw_success(event.timestamp)
            if runtime is not None:
                pair.saw_runtime("succeeded", runtime, event.uuid, event.timestamp)

    def failed(self, event: TaskFailed, now: Moment) -> None:
        """A task raised, lost its process, ran into its hard time limit, or is not registered."""
        unregistered = unregistered_task(event.exception)
        if unregistered is not None and self._held_unknown(event, now):
            return
        attempt = self._attempt_that_ends(event, now, End.OTHER if unregistered is None else End.DROPPED, unregistered)
        runtime = self._runtime(attempt, event)
        if self._end(attempt, event, ON_OUTCOME if unregistered is None else ON_DROPPED, now):
            pair = attempt.pair
            pair.failed.value += 1
            self._saw_exception(pair, exception_class(event.exception, event.traceback), "failed", event)
            if runtime is not None:
                pair.saw_runtime("failed", runtime, event.uuid, event.timestamp)

    def retried(self, event: TaskRetried, now: Moment) -> None:
        """An attempt ended in a retry, which may have been received and started before we hear of it."""
        attempt = self._attempt_that_ends(event, now, End.RETRY)
        runtime = self._runtime(attempt, event)
        if self._end(attempt, event, ON_OUTCOME, now):
            attempt.retried = True
            pair = attempt.pair
            pair.retried.value += 1
            self._saw_exception(pair, retry_class(event.exception, event.traceback), "retried", event)
            if runtime is not None:
                pair.saw_runtime("retried", runtime, event.uuid, event.timestamp)

    def revoked(self, event: TaskRevoked, now: Moment) -> None:
        """A task was dropped before it ran, or stopped while it ran; more than one worker may say so."""
        if self._held_unknown(event, now):
            return
        attempt = self._attempt_that_ends(event, now, End.OTHER if event.terminated else End.DROPPED)
        if self._end(attempt, event, ON_DROPPED, now):
            reason = "expired" if event.expired else "terminated" if event.terminated else "revoked"
            attempt.pair.revoked[reason].value += 1

    def cancelled(self, event: TaskCancelled, now: Moment) -> None:
        """A worker that lost its broker stopped a task that will be delivered again."""
        attempt = self._attempt_that_ends(event, now)
        if self._end(attempt, event, ON_DROPPED, now):
            attempt.pair.cancelled.value += 1

    def rejected(self, event: TaskRejected, now: Moment) -> None:
        """A worker rejected a task's message: no end, but it does not run there any more."""
        attempt = self._attempt_that_ends(event, now)
        attempt.pair.rejected["true" if event.requeue else "false"].value += 1
        if attempt.state is State.STARTED:
            attempt.unended += 1
        worker = self._workers.get(event.hostname)
        self._table.leave(attempt, worker, ON_REQUEUED if event.requeue else ON_DISCARDED, now.elapsed)

    def tick(self, now: Moment) -> None:
        """Let go of what was held for a task-sent event that did not come."""
        overdue = list(takewhile(lambda uuid: self.held[uuid].deadline <= now.elapsed, self.held))
        for uuid in overdue:
            self._release(uuid, now)

    # Which attempt.

    def _known(self, uuid: str, retries: int, name: str) -> Attempt | None:
        attempt = self._attempts.get(uuid)
        while attempt is not None and (attempt.retries != retries or attempt.name not in (None, name)):
            attempt = attempt.previous
        return attempt

    def _attempt_that_ends(
        self, event: WorkerTaskEvent, now: Moment, end: End = End.OTHER, unregistered: str | None = None
    ) -> Attempt:
        worker = self._worker(event)
        uuid = event.uuid
        attempt = self._attempts.get(uuid)
        if attempt is not None:
            attempt = attempt.told_of_by(worker, end)
            if (
                end is End.DROPPED
                and attempt.state is State.STARTED
                and unregistered in (None, attempt.name, attempt.pair.labels[0])
            ):
                return self._begin_retry(attempt, worker, now)  # or a copy of its message: what runs goes on
            if attempt.is_open or attempt.unended:
                return attempt
        sent = self._table.take_sent(uuid)
        if sent is not None:
            return self._table.begin_sent(uuid, sent, None, now.elapsed)
        if attempt is None:
            return self._begin_unknown(uuid, unregistered, worker, now)
        if attempt.retried and end is not End.RETRY:
            return self._begin_retry(attempt, worker, now)  # dropped without being received
        return attempt

    def _begin_unsent(self, event: TaskReceived, retries: int, now: Moment) -> Attempt:
        uuid, task = event.uuid, event.name
        queue = self._workers.get(event.hostname).only_queue
        earlier = self._attempts.get(uuid)
        if earlier is not None and earlier.name == event.name:
            task = earlier.pair.labels[0]  # the name in task-sent wins for the whole life
        sent = self._sent.get(uuid)
        if sent is not None and sent.retries < retries:
            task = sent.pair.labels[0]
            self._table.drop_sent(uuid, None)  # a later attempt was received, so that one was too
        pair = self._pairs.get(task, queue)
        return self._table.begin(uuid, pair, name=event.name, retries=retries, now=now.elapsed)

    def _begin_unknown(self, uuid: str, task: str | None, worker: Worker, now: Moment) -> Attempt:
        return self._table.begin(uuid, self._pairs.get(task, worker.only_queue), name=None, retries=0, now=now.elapsed)

    def _begin_retry(self, attempt: Attempt, worker: Worker, now: Moment) -> Attempt:
        uuid, retries = attempt.uuid, attempt.retries + 1
        sent = self._table.take_sent(uuid, retries)
        if sent is not None:
            return self._table.begin_sent(uuid, sent, attempt.name, now.elapsed)
        pair = self._pairs.get(attempt.pair.labels[0], worker.only_queue)
        return self._table.begin(uuid, pair, name=attempt.name, retries=retries, now=now.elapsed)

    def _hold(self, event: WorkerTaskEvent, now: Moment) -> bool:
        awaits_sent = (
            not self._releasing
            and self._sent_event_at is not None
            and now.elapsed - self._sent_event_at < SENT_EXPECTED
            and len(self.held) < MAX_HELD
        )
        if awaits_sent:
            self.held[event.uuid] = Hold(now.elapsed + SENT_HOLD, [event])
        return awaits_sent

    def _held_unknown(self, event: WorkerTaskEvent, now: Moment) -> bool:
        # A task may be dropped by the first event that a worker sends of it, which may overtake its task-sent event.
        return event.uuid not in self._attempts and event.uuid not in self._sent and self._hold(event, now)

    def _release(self, uuid: str, now: Moment) -> None:
        events = self.held.pop(uuid).events
        self._releasing = True
        try:
            for event in events:
                self.handlers[type(event)](event, now)
        finally:
            self._releasing = False

    # What an event moves.

    def _worker(self, event: WorkerTaskEvent) -> Worker:
        worker = self._workers.get(event.hostname)
        worker.task_events += 1
        if not worker.events_enabled:
            self._workers.enable_events(worker)
        return worker

    def _schedule(self, attempt: Attempt, event: TaskReceived, worker: Worker) -> bool:
        eta = parse_eta(event.eta)
        if eta is None:
            return False
        if attempt.due is None:
            # Sent before received, received before the ETA: the ETA is the later one. Whoever retries is a worker.
            due = eta + (worker.correction if attempt.retries else 0.0)
            attempt.due = due if due > event.timestamp + worker.correction else None
        elif attempt.eta_open:
            attempt.due = max(attempt.due, eta)
        if eta <= event.timestamp:
            return False
        attempt.due_there = eta
        self._table.schedule(attempt, eta + worker.correction)  # it starts by the worker's clock
        return True

    def _sender_correction(self, event: TaskSent, attempt: Attempt | None) -> float:
        # Producers are never corrected. But what a task publishes (a retry, a replacement, a task of its own) bears the
        # time of the worker that runs it.
        if attempt is None and event.parent_id is not None:
            attempt = self._attempts.get(event.parent_id)
        if attempt is None or attempt.worker is None:
            return 0.0
        return attempt.worker.correction

    def _measure_wait(self, attempt: Attempt, timestamp: float, worker: Worker) -> None:
        pair = attempt.pair
        if attempt.due is None:
            pair.wait_unknown.value += 1
        else:
            wait = timestamp + worker.correction - attempt.due
            if wait < 0.0:
                self._disorder("negative_wait")
                wait = 0.0
            pair.saw_wait(wait)
        if self._settings.prefetch_histogram and attempt.due_there:
            pair.saw_prefetch(max(0.0, timestamp - attempt.due_there))

    def _runtime(self, attempt: Attempt, event: WorkerTaskEvent) -> float | None:
        started_at = self._workers.get(event.hostname).running.get(attempt)
        return None if started_at is None else max(0.0, event.timestamp - started_at)

    def _saw_exception(self, pair: Pair, name: str, outcome: str, event: TaskFailed | TaskRetried) -> None:
        pair.saw_exception(name, outcome, event.uuid, event.timestamp)
        if name in self._settings.rate_limit_exceptions:
            limiter = self._pairs.limiter(name)
            self._store.increment(catalog.TASK_RATE_LIMITED, (*pair.labels, limiter))

    def _end(self, attempt: Attempt, event: WorkerTaskEvent, table: tuple[Step, ...], now: Moment) -> bool:
        """Close the run that ended; return whether its end is the first that was told of it."""
        worker = self._workers.get(event.hostname)
        if not attempt.is_open or (attempt.unended and attempt.runs_elsewhere_than(worker)):
            if not attempt.unended:
                self._disorder("duplicate_end")
                return False
            attempt.unended -= 1
            attempt.ends += 1
            return True
        attempt.ends += 1
        self._table.leave(attempt, worker, table, now.elapsed)
        return True
