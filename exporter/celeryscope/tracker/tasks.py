"""The lives of tasks: what each event moves.

An event names an uuid and hardly more, while a task is retried, replaced, shadowed and delivered twice under the same
uuid, and events of different processes overtake each other. Every event counts once, under the labels of its attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    WorkerTaskEvent,
    exception_class,
    parse_eta,
    retry_class,
    unregistered_task,
)
from celeryscope.metrics import catalog
from celeryscope.metrics.store import Store
from celeryscope.tracker.attempts import (
    ENDED,
    ON_DISCARDED,
    ON_DROPPED,
    ON_OUTCOME,
    ON_RECEIVED,
    ON_REQUEUED,
    ON_STARTED,
    RECEIVED,
    SENT,
    START_UNHEARD,
    STARTED,
    Attempt,
    End,
    Step,
)
from celeryscope.tracker.holding import Holds
from celeryscope.tracker.matching import Matching
from celeryscope.tracker.pairs import Pair, Pairs
from celeryscope.tracker.settings import TrackerSettings
from celeryscope.tracker.table import TaskTable
from celeryscope.tracker.worker import Worker
from celeryscope.tracker.workers import Workers

# Seconds by which a task may seem to start before it was due: a producer stamps its event after the message is out, and
# a worker's timer is early by a few milliseconds.
EARLY = 0.25


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
        self._waiting = table.waiting
        self._attempts = table.attempts
        self._workers = workers
        self._settings = settings
        self._disorder = disorder
        self.holds = Holds(lambda event, now: self.handlers[type(event)](event, now))
        self._matching = Matching(pairs, table, workers, self.holds)
        #: Events that wait for a task-sent event: those that follow them must wait as well.
        self.held = self.holds.held
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
        self.holds.sent_expected_since = now

    # Events, in the order of a task's life.

    def sent(self, event: TaskSent, now: Moment) -> None:
        """A producer published a task, or an attempt its retry."""
        uuid = event.uuid
        pair = self._pairs.get(event.name, event.queue_name)
        pair.sent.value += 1
        pair.saw_sent(event.timestamp)
        self.holds.sent_expected_since = now.elapsed
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
        hold = self.held.get(uuid)
        if retries and hold is not None and not isinstance(hold.events[0], TaskReceived):
            # What is held is of the attempt that is retried, which was taken before we listened.
            retried = self._table.begin(
                uuid, pair, task=event.name, name=event.name, retries=retries - 1, now=now.elapsed
            )
            self._table.move(retried, Step(RECEIVED))
            self.holds.release(uuid, now)
        if event.name in self._workers.silent_tasks:
            return  # no worker will ever tell what became of it
        # The label's own text where it is the same: a deep backlog then holds one text per task, not per message.
        task = pair.labels[0] if pair.labels[0] == event.name else event.name
        self._waiting.publish(uuid, pair, task, due, retries, eta_open=eta_open)
        hold = self.held.get(uuid)
        if hold is not None and not _is_of_an_earlier_attempt(hold.events[0], retries):
            self.holds.release(uuid, now)

    def received(self, event: TaskReceived, now: Moment) -> None:
        """A worker took a task's message."""
        attempt = self._matching.received(event, now)
        if attempt is None:
            return
        worker = self._worker(event)
        attempt.pair.received.value += 1
        attempt.name = event.name
        if attempt.found:
            attempt.found &= START_UNHEARD
        attempt.seen_at = now.elapsed
        step = ON_RECEIVED[attempt.state]
        if step.state is STARTED:
            attempt.received_again = True
            return
        if attempt.state is ENDED and attempt.started_since(event.timestamp + worker.correction):
            return  # it was handed on, and has run elsewhere
        attempt.worker = worker
        attempt.due_there = event.timestamp
        if event.eta is not None and self._schedule(attempt, event, worker):
            return
        self._table.move(attempt, step)

    def started(self, event: TaskStarted, now: Moment) -> None:
        """A worker started to run a task."""
        worker = self._worker(event)
        worker.lost_events.started(event.timestamp)
        attempt = self._matching.started(event.uuid, worker, now)
        pair = attempt.pair
        pair.started.value += 1
        attempt.seen_at = now.elapsed
        if attempt.found and attempt.takes_late_start(worker, event.timestamp):
            if attempt.runs_on(worker):
                attempt.start_on(worker, event.timestamp)
            attempt.received_again = False
            self._measure_wait(attempt, event.timestamp, worker)
            return
        attempt.starts += 1
        if attempt.starts == 1:
            self._measure_wait(attempt, event.timestamp, worker)
        else:
            pair.redelivered.value += 1
        step = ON_STARTED[attempt.state]
        if attempt.state is ENDED and attempt.starts <= attempt.ends:
            self._disorder("start_after_end")  # its end overtook it
            return
        attempt.start_on(worker, event.timestamp)
        self._table.move(attempt, step)
        if worker.up is False:
            self._table.suspect(attempt, worker, now.elapsed)  # it left before we hear of the start

    def succeeded(self, event: TaskSucceeded, now: Moment) -> None:
        """A task returned."""
        worker = self._worker(event)
        attempt = self._matching.ended(event.uuid, worker, now)
        runtime = event.runtime if event.runtime is not None else self._runtime(attempt, event, worker)
        if self._end(attempt, worker, ON_OUTCOME, now):
            pair = attempt.pair
            pair.succeeded.value += 1
            pair.saw_success(event.timestamp)
            if runtime is not None:
                pair.saw_runtime("succeeded", runtime, event.uuid, event.timestamp)
            if pair.slos is not None:
                pair.slos.succeeded(runtime)

    def failed(self, event: TaskFailed, now: Moment) -> None:
        """A task raised, lost its process, ran into its hard time limit, or is not registered."""
        unregistered = unregistered_task(event.exception)
        if unregistered is not None and self._matching.held_unknown(event, now):
            return
        end = End.OTHER if unregistered is None else End.DROPPED
        worker = self._worker(event)
        attempt = self._matching.ended(event.uuid, worker, now, end, unregistered)
        runtime = self._runtime(attempt, event, worker)
        if self._end(attempt, worker, ON_OUTCOME if unregistered is None else ON_DROPPED, now):
            pair = attempt.pair
            pair.failed.value += 1
            if pair.slos is not None:
                pair.slos.failed()
            self._saw_exception(pair, exception_class(event.exception, event.traceback), "failed", event)
            if runtime is not None:
                pair.saw_runtime("failed", runtime, event.uuid, event.timestamp)

    def retried(self, event: TaskRetried, now: Moment) -> None:
        """An attempt ended in a retry, which may have been received and started before we hear of it."""
        worker = self._worker(event)
        attempt = self._matching.ended(event.uuid, worker, now, End.RETRY)
        runtime = self._runtime(attempt, event, worker)
        if self._end(attempt, worker, ON_OUTCOME, now):
            attempt.retried = True
            pair = attempt.pair
            pair.retried.value += 1
            self._saw_exception(pair, retry_class(event.exception, event.traceback), "retried", event)
            if runtime is not None:
                pair.saw_runtime("retried", runtime, event.uuid, event.timestamp)

    def revoked(self, event: TaskRevoked, now: Moment) -> None:
        """A task was dropped before it ran, or stopped while it ran; more than one worker may say so."""
        if self._matching.held_unknown(event, now):
            return
        end = End.OTHER if event.terminated else End.DROPPED
        worker = self._worker(event)
        attempt = self._matching.ended(event.uuid, worker, now, end)
        if self._end(attempt, worker, ON_DROPPED, now):
            reason = "expired" if event.expired else "terminated" if event.terminated else "revoked"
            pair = attempt.pair
            pair.revoked[reason].value += 1
            if event.expired and pair.slos is not None:
                pair.slos.failed()

    def cancelled(self, event: TaskCancelled, now: Moment) -> None:
        """A worker that lost its broker stopped a task that will be delivered again."""
        worker = self._worker(event)
        attempt = self._matching.ended(event.uuid, worker, now)
        if self._end(attempt, worker, ON_DROPPED, now):
            attempt.pair.cancelled.value += 1

    def rejected(self, event: TaskRejected, now: Moment) -> None:
        """A worker rejected a task's message: no end, but it does not run there any more."""
        worker = self._worker(event)
        attempt = self._matching.ended(event.uuid, worker, now)
        attempt.pair.rejected["true" if event.requeue else "false"].value += 1
        if attempt.state is STARTED:
            attempt.unended += 1
        self._table.leave(attempt, worker, ON_REQUEUED if event.requeue else ON_DISCARDED, now.elapsed)

    def expect_lists(self, until: float) -> None:
        """Inspection will tell, until then at the latest, which tasks workers held before we listened."""
        self.holds.lists_expected_until = until

    def hold_unknown(self, event: WorkerTaskEvent) -> bool:
        """Hold an event of a task that inspection may name; return whether it is held."""
        known = isinstance(event, TaskReceived) or event.uuid in self._attempts or event.uuid in self._table.sent
        return not known and self.holds.hold_for_lists(event)

    def lists_taken(self, now: Moment) -> None:
        """Inspection has told what workers hold."""
        self.holds.release_for_lists(now)

    def tick(self, now: Moment) -> None:
        """Let go of what was held for a task-sent event that did not come."""
        self.holds.tick(now)

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
            if wait < -EARLY:
                self._disorder("negative_wait")
            pair.saw_wait(max(wait, 0.0))
        if self._settings.prefetch_histogram and attempt.due_there:
            pair.saw_prefetch(max(0.0, timestamp - attempt.due_there))

    def _runtime(self, attempt: Attempt, event: WorkerTaskEvent, worker: Worker) -> float | None:
        started_at = worker.running.get(attempt)
        return None if started_at is None else max(0.0, event.timestamp - started_at)

    def _saw_exception(self, pair: Pair, name: str, outcome: str, event: TaskFailed | TaskRetried) -> None:
        pair.saw_exception(name, outcome, event.uuid, event.timestamp)
        if name in self._settings.rate_limit_exceptions:
            limiter = self._pairs.limiter(name)
            self._store.increment(catalog.TASK_RATE_LIMITED, (*pair.labels, limiter))

    def _end(self, attempt: Attempt, worker: Worker, table: tuple[Step, ...], now: Moment) -> bool:
        """Close the run that ended; return whether its end is the first that was told of it."""
        if not attempt.is_open or (attempt.unended and attempt.runs_elsewhere_than(worker)):
            if not attempt.unended:
                self._disorder("duplicate_end")
                return False
            attempt.unended -= 1
            attempt.ends += 1
            return True
        if table is ON_OUTCOME and attempt.state is SENT and attempt.was_given_back_by(worker):
            self._disorder("duplicate_end")
            return False
        attempt.ends += 1
        self._table.leave(attempt, worker, table, now.elapsed)
        return True


def _is_of_an_earlier_attempt(event: WorkerTaskEvent, retries: int) -> bool:
    """Whether a received event still waits for its own task-sent event, which that of a retry has overtaken."""
    return isinstance(event, TaskReceived) and (event.retries or 0) < retries
