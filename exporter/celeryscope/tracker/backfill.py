"""Tasks that workers took before we listened, from what they say they hold.

What happened before we listened is not counted: such a task is in flight from now on, and its end is counted under its
name and queue. Labels that events have told are never changed (docs/adr/0012).
"""

from __future__ import annotations

from celeryscope.clock import Moment
from celeryscope.readings import HeldTask, Stage, WorkerReading
from celeryscope.tracker.attempts import RECEIVED, STARTED, UNHEARD, Attempt, Step
from celeryscope.tracker.hearing import Hearing
from celeryscope.tracker.inspection import UPTIME_SLACK
from celeryscope.tracker.pairs import Pair, Pairs
from celeryscope.tracker.table import TaskTable
from celeryscope.tracker.worker import Worker


class Backfill:
    """Takes over what workers hold, once for each time that the stream was opened."""

    def __init__(self, pairs: Pairs, table: TaskTable, hearing: Hearing) -> None:
        self._pairs = pairs
        self._table = table
        self._hearing = hearing

    def take(self, worker: Worker, reading: WorkerReading, now: Moment) -> None:
        """Take what a worker told of the tasks that it holds."""
        since, asked_at = self._hearing.since, reading.asked_at
        if since is None or asked_at is None or asked_at < since or worker.up is False:
            return
        self._forget_gone(worker, reading, now.elapsed)
        # Of a worker that sends no events no end would be told, and one that started later has told everything.
        untold = worker.uptime_ends is None or worker.uptime_ends < since + UPTIME_SLACK
        if worker.backfilled_since != since and worker.events_enabled is not False and untold:
            for held in reading.held:
                if held.task not in worker.silent_tasks:
                    self._take(worker, held, now)
        worker.backfilled_since = since

    def _take(self, worker: Worker, held: HeldTask, now: Moment) -> None:
        attempt = self._table.attempts.get(held.uuid)
        if attempt is None:
            attempt = self._begin(worker, held, now)
        elif attempt.is_open and attempt.task is None:
            self._table.relabel(attempt, self._pair(worker, held), held.task, held.name)
        if attempt is None or not attempt.is_open or attempt.state is STARTED or held.stage is not Stage.ACTIVE:
            return
        its_now = now.wall - worker.correction
        attempt.find_started(worker, its_now if held.at is None else min(held.at, its_now))
        self._table.move(attempt, Step(STARTED))

    def _begin(self, worker: Worker, held: HeldTask, now: Moment) -> Attempt | None:
        """Make the attempt of a task that is not known; None where its events are on their way."""
        uuid = held.uuid
        sent = self._table.sent.get(uuid)
        if sent is not None:
            if held.stage is not Stage.ACTIVE or sent.earlier is not None or sent.task != held.task:
                return None
            self._table.waiting.take(uuid)
            attempt = self._table.begin_sent(uuid, sent, held.name, now.elapsed)
        else:
            pair = self._pair(worker, held)
            attempt = self._table.begin(uuid, pair, task=held.task, name=held.name, retries=0, now=now.elapsed)
        attempt.found, attempt.worker = UNHEARD, worker
        worker.found[attempt] = False
        if held.stage is Stage.SCHEDULED and held.at is not None and held.at > now.wall - worker.correction:
            attempt.due = attempt.due_there = held.at  # an ETA that is still ahead is later than any sending
            self._table.schedule(attempt, held.at + worker.correction)
        elif held.stage is not Stage.ACTIVE:
            self._table.move(attempt, Step(RECEIVED))
            attempt.due_there = now.wall - worker.correction  # a bound: it was there before
        return attempt

    def _pair(self, worker: Worker, held: HeldTask) -> Pair:
        return self._pairs.get(held.task, held.queue or worker.only_queue)

    def _forget_gone(self, worker: Worker, reading: WorkerReading, now: float) -> None:
        """Close what inspection alone told of, and two answers in a row do not."""
        if not worker.found or not reading.holds_listed:
            return
        listed = {held.uuid for held in reading.held}
        for attempt, missed in list(worker.found.items()):
            if not attempt.found & UNHEARD or not attempt.is_open or attempt.state is STARTED:
                del worker.found[attempt]  # its events tell the rest, or what its worker runs
            elif attempt.uuid in listed:
                worker.found[attempt] = False
            elif not self._may_be_in_a_bucket(attempt, worker):
                worker.found[attempt] = True
                if missed:
                    del worker.found[attempt]
                    self._table.close_unended(attempt, now)

    def _may_be_in_a_bucket(self, attempt: Attempt, worker: Worker) -> bool:
        # What waits for a token once its ETA has come is in no list.
        return attempt.task in worker.rate_limits and worker.events_enabled is not False
