"""Which attempt an event of a worker belongs to.

An event names an uuid and hardly more. Names are compared as events tell them, never as labels show them: several tasks
may share one label.
"""

from __future__ import annotations

from celeryscope.clock import Moment
from celeryscope.events import TaskReceived, WorkerTaskEvent
from celeryscope.tracker.attempts import STARTED, Attempt, End
from celeryscope.tracker.holding import Holds
from celeryscope.tracker.pairs import Pairs
from celeryscope.tracker.table import TaskTable
from celeryscope.tracker.worker import Worker
from celeryscope.tracker.workers import Workers


class Matching:
    """Finds the attempt of an event in the table, and begins it there where it is new."""

    def __init__(self, pairs: Pairs, table: TaskTable, workers: Workers, holds: Holds) -> None:
        self._pairs = pairs
        self._table = table
        self._waiting = table.waiting
        self._sent = table.sent
        self._attempts = table.attempts
        self._workers = workers
        self._holds = holds

    def received(self, event: TaskReceived, now: Moment) -> Attempt | None:
        """Return the attempt that a worker took; None where the event is held."""
        uuid = event.uuid
        retries = event.retries or 0
        attempt = self._attempts.get(uuid)
        while attempt is not None and (attempt.retries != retries or attempt.name not in (None, event.name)):
            if attempt.takes_late_receipt(event.name, event.hostname, event.timestamp):
                attempt.retries = retries
                break
            attempt = attempt.previous
        # Of a known attempt a task published anew is told by its name; else the name may be a shadow's.
        task = event.name if attempt is None else attempt.task
        sent = self._waiting.take(uuid, retries, task, only_named=attempt is not None)
        if sent is not None:
            return self._table.begin_sent(uuid, sent, event.name, now.elapsed)
        if attempt is not None:
            return attempt
        return None if self._holds.hold(event, now) else self._begin_unsent(event, retries, now)

    def started(self, uuid: str, worker: Worker, now: Moment) -> Attempt:
        """Return the attempt that a worker started."""
        attempt = self._attempts.get(uuid)
        if attempt is not None and attempt.previous is not None and attempt.previous.awaits_start_on(worker):
            return attempt.previous
        if attempt is None or (attempt.starts and attempt.state >= STARTED and not attempt.received_again):
            # Not a start that this attempt waits for: that of a published one, if there is any.
            sent = self._waiting.take(uuid)
            if sent is not None:
                return self._table.begin_sent(uuid, sent, None, now.elapsed)
            if attempt is None:
                return self._begin_unknown(uuid, None, worker, now)
        return attempt

    def ended(
        self, uuid: str, worker: Worker, now: Moment, end: End = End.OTHER, unregistered: str | None = None
    ) -> Attempt:
        """Return the attempt whose end a worker tells of; `unregistered` is the name that it does not know."""
        attempt = self._attempts.get(uuid)
        if attempt is not None:
            attempt = attempt.told_of_by(worker, end)
            if end is End.DROPPED and attempt.state is STARTED and unregistered in (None, attempt.name, attempt.task):
                return self._begin_retry(attempt, worker, now)  # or a copy of its message: what runs goes on
            if attempt.is_open or attempt.unended:
                return attempt
        sent = self._waiting.take(uuid)
        if sent is not None:
            return self._table.begin_sent(uuid, sent, None, now.elapsed)
        if attempt is None:
            return self._begin_unknown(uuid, unregistered, worker, now)
        if attempt.retried and end is not End.RETRY:
            return self._begin_retry(attempt, worker, now)  # dropped without being received
        return attempt

    def held_unknown(self, event: WorkerTaskEvent, now: Moment) -> bool:
        """Hold an event that drops a task, where nothing is known of it; return whether it is held."""
        # A task may be dropped by the first event that a worker sends of it, which may overtake its task-sent event.
        return event.uuid not in self._attempts and event.uuid not in self._sent and self._holds.hold(event, now)

    def _begin_unsent(self, event: TaskReceived, retries: int, now: Moment) -> Attempt:
        uuid, name = event.uuid, event.name
        queue = self._workers.get(event.hostname).only_queue
        task: str | None = name
        earlier = self._attempts.get(uuid)
        if earlier is not None and earlier.name == name:
            task = earlier.task  # the name in task-sent wins for the whole life
        sent = self._sent.get(uuid)
        if sent is not None and sent.retries < retries:
            task = sent.task
            self._waiting.drop(uuid, None)  # a later attempt was received, so that one was too
        pair = self._pairs.get(task, queue)
        return self._table.begin(uuid, pair, task=task, name=name, retries=retries, now=now.elapsed)

    def _begin_unknown(self, uuid: str, task: str | None, worker: Worker, now: Moment) -> Attempt:
        pair = self._pairs.get(task, worker.only_queue)
        return self._table.begin(uuid, pair, task=task, name=None, retries=0, now=now.elapsed)

    def _begin_retry(self, attempt: Attempt, worker: Worker, now: Moment) -> Attempt:
        uuid, retries = attempt.uuid, attempt.retries + 1
        sent = self._waiting.take(uuid, retries)
        if sent is not None:
            return self._table.begin_sent(uuid, sent, attempt.name, now.elapsed)
        pair = self._pairs.get(attempt.task, worker.only_queue)
        return self._table.begin(uuid, pair, task=attempt.task, name=attempt.name, retries=retries, now=now.elapsed)
