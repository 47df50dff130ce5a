"""All tasks in flight, and those that ended within the last minute: begun, moved, closed, cut where a bound is reached.

Two tiers: what was published and not yet taken by a worker is kept compactly, since a deep backlog is when waits
matter; the rest are attempts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count, islice
from typing import NamedTuple

from celeryscope.clock import Moment
from celeryscope.metrics import catalog
from celeryscope.metrics.store import Store
from celeryscope.tracker.attempts import ENDED, ON_DISCARDED, RECEIVED, SCHEDULED, SENT, STARTED, Attempt, Step
from celeryscope.tracker.pairs import Pair
from celeryscope.tracker.sent_tasks import EVICTION_SHARE, SentTask, SentTasks
from celeryscope.tracker.settings import TrackerSettings
from celeryscope.tracker.worker import Worker

ENDED_RETENTION = 60.0  # seconds that an ended attempt is remembered

Oldest = dict[tuple[str, str], float]  # Unix seconds by (task, queue)


class Suspect(NamedTuple):
    """A started attempt whose worker is gone: an orphan unless something happens before the deadline."""

    deadline: float  # elapsed seconds
    attempt: Attempt
    started_at: float
    worker: Worker
    incarnation: int


class TaskTable:
    """Attempts by uuid, with the counts of what is in flight kept true."""

    def __init__(self, store: Store, settings: TrackerSettings, disorder: Callable[[str], None]) -> None:
        self._store = store
        self._settings = settings
        self._disorder = disorder
        self.waiting = SentTasks(store, settings.max_sent_tasks)
        self.sent = self.waiting.by_uuid
        self.attempts: dict[str, Attempt] = {}
        self._ended: deque[tuple[float, Attempt]] = deque()
        self._etas: list[tuple[float, int, Attempt]] = []
        self._suspects: deque[Suspect] = deque()
        self._sequence = count()

    def __len__(self) -> int:
        return len(self.sent) + len(self.attempts)

    def pair_of(self, uuid: str) -> Pair | None:
        """Return the labels of the current attempt of a task; None for a task that is not known."""
        attempt = self.attempts.get(uuid)
        if attempt is not None:
            return attempt.pair
        sent = self.sent.get(uuid)
        return sent.pair if sent is not None else None

    def due(self, uuid: str) -> float | None:
        """Return when a task that lies in a queue was, or will be, due (Unix seconds); None where that is not known.

        Where several wait under one uuid it is the one due last.
        """
        sent = self.sent.get(uuid)
        if sent is not None:
            return None if sent.eta_open else max(waiting.due for waiting in sent.line())
        attempt = self.attempts.get(uuid)
        # Of one that has started, what lies in the queue may be another attempt.
        return attempt.due if attempt is not None and attempt.state not in (STARTED, ENDED) else None

    def oldest(self) -> tuple[Oldest, Oldest]:
        """Return since when the oldest due task lies in a worker, and since when the oldest one runs."""
        received: Oldest = {}
        started: Oldest = {}
        for attempt in self.attempts.values():
            if attempt.state is STARTED:
                oldest, since = started, attempt.started_at
            elif attempt.state is RECEIVED:
                oldest, since = received, attempt.due_there
            else:
                continue
            if attempt.worker is not None:
                since += attempt.worker.correction
            labels = attempt.pair.labels
            if since < oldest.get(labels, float("inf")):
                oldest[labels] = since
        return received, started

    # Beginnings.

    def begin_sent(self, uuid: str, sent: SentTask, name: str | None, now: float) -> Attempt:
        """Make the attempt of a published task that a worker has taken."""
        attempt = self.begin(uuid, sent.pair, task=sent.task, name=name, retries=sent.retries, due=sent.due, now=now)
        attempt.eta_open = sent.eta_open
        return attempt

    def begin(
        self,
        uuid: str,
        pair: Pair,
        *,
        task: str | None,
        name: str | None,
        retries: int,
        now: float,
        due: float | None = None,
    ) -> Attempt:
        """Make a new attempt, beside the one before of which more may be told."""
        attempt = Attempt(uuid, pair, task, name, retries, due, due is not None, now)
        pair.in_flight[SENT].value += 1
        current = self.attempts.get(uuid)
        if current is None:
            if len(self.attempts) >= self._settings.max_tracked_tasks:
                self._make_room()
            self.attempts[uuid] = attempt
            return attempt
        if current.previous is not None:
            self.close_unended(current.previous, now)
            if uuid not in self.attempts:  # one that ended more makes the oldest that ended leave, and it was that
                self.attempts[uuid] = attempt
                return attempt
        same_task = task == current.task
        if same_task and retries < current.retries:
            current.previous = attempt  # another worker's, whose events come late
            return attempt
        del self.attempts[uuid]
        self.attempts[uuid] = attempt
        if current.is_open:
            if current.starts == 0 or (same_task and retries > current.retries):
                attempt.previous = current
            else:  # replaced, or sent anew while it ran: of that life no end will be told
                self.close_unended(current, now)
        return attempt

    def relabel(self, attempt: Attempt, pair: Pair, task: str, name: str) -> None:
        """Name an attempt of which events told nothing but its uuid: what was counted stays where it is."""
        attempt.task, attempt.name = task, name
        if attempt.is_open:
            attempt.pair.in_flight[attempt.state].value -= 1
            pair.in_flight[attempt.state].value += 1
        attempt.pair = pair

    # Moves.

    def move(self, attempt: Attempt, step: Step) -> None:
        """Bring an attempt into its next state."""
        if step.disorder is not None:
            self._disorder(step.disorder)
        before, after = attempt.state, step.state
        if before is not after:
            in_flight = attempt.pair.in_flight
            if before is not ENDED:
                in_flight[before].value -= 1
            if after is not ENDED:
                in_flight[after].value += 1
            attempt.state = after

    def schedule(self, attempt: Attempt, eta: float) -> None:
        """Keep an attempt as scheduled until its ETA (Unix seconds)."""
        if attempt.state is not SCHEDULED:  # delivered again, an attempt keeps its ETA
            self.move(attempt, Step(SCHEDULED))
            heappush(self._etas, (eta, next(self._sequence), attempt))

    def leave(self, attempt: Attempt, worker: Worker | None, table: tuple[Step, ...], now: float) -> None:
        """End the run of an attempt on a worker; where another start of it still runs, it stays started there.

        What is told by a worker that does not run it is of the latest run.
        """
        others = attempt.others
        if others is not None:
            if worker is not None and worker in others:
                others.remove(worker)
                worker.running.pop(attempt, None)
            else:
                assert attempt.worker is not None
                attempt.worker.running.pop(attempt, None)
                attempt.worker = others.pop()
                attempt.started_at = attempt.worker.running[attempt]
            attempt.others = others or None
            return
        if attempt.worker is not None:
            attempt.worker.running.pop(attempt, None)
        attempt.received_again = False
        attempt.seen_at = now
        was_open = attempt.is_open
        self.move(attempt, table[attempt.state])
        if attempt.state is ENDED and was_open:
            current = self.attempts.get(attempt.uuid)
            if current is not None and current.previous is attempt:
                current.previous = None
            self._ended.append((now, attempt))
            if len(self._ended) > self._settings.max_tracked_tasks:  # many ends of few tasks: retries without end
                self._forget(self._ended.popleft()[1])

    def close_run(self, attempt: Attempt, worker: Worker, now: float) -> None:
        """End a run that is provably over and never was told to have ended: Ignore, or its end was lost."""
        self._store.increment(catalog.EXPORTER_EVICTED, ("no_end",))
        self._end_untold(attempt, worker, now)

    def close_unended(self, attempt: Attempt, now: float) -> None:
        """Close an attempt of which no end will be told: it was replaced, or a later one has ended."""
        self._store.increment(catalog.EXPORTER_EVICTED, ("no_end",))
        for other in attempt.others or ():
            other.running.pop(attempt, None)
        attempt.others = None
        self._end_untold(attempt, attempt.worker, now)

    # What no event says.

    def abandon(self, worker: Worker, now: float) -> None:
        """Suspect what a worker runs that left, was lost, or came back as another process."""
        for attempt in list(worker.running):
            if attempt.others is not None or attempt.ends:
                self._end_untold(attempt, worker, now)  # another run of it goes on, or came to its end
            else:
                self.suspect(attempt, worker, now)

    def suspect(self, attempt: Attempt, worker: Worker, now: float) -> None:
        """Take an attempt for an orphan unless more is heard of it, or its worker comes back."""
        deadline = now + self._settings.orphan_timeout
        self._suspects.append(Suspect(deadline, attempt, attempt.started_at, worker, worker.incarnation))

    def tick(self, now: Moment) -> None:
        """Let ETAs fall due, ended attempts go, and suspects be judged."""
        while self._etas and self._etas[0][0] <= now.wall:
            attempt = heappop(self._etas)[2]
            if attempt.state is SCHEDULED:
                self.move(attempt, Step(RECEIVED))
                attempt.seen_at = now.elapsed
        while self._ended and now.elapsed - self._ended[0][0] > ENDED_RETENTION:
            self._forget(self._ended.popleft()[1])
        while self._suspects and self._suspects[0].deadline <= now.elapsed:
            self._judge(self._suspects.popleft(), now.elapsed)

    def expire(self, now: Moment) -> None:
        """Give up tasks of which nothing was heard for the time to live, except what a live worker still runs."""
        ttl = self._settings.task_ttl
        stale = [
            attempt
            for attempt in self.attempts.values()
            if now.elapsed - attempt.seen_at > ttl
            and attempt.state is not SCHEDULED
            and not (attempt.state is STARTED and attempt.worker is not None and attempt.worker.up)
        ]
        for attempt in stale:
            self._evict(attempt, "ttl")
        self._drop_past_etas()
        self.waiting.expire(now.wall - ttl)

    def _judge(self, suspect: Suspect, now: float) -> None:
        attempt, worker = suspect.attempt, suspect.worker
        came_back = worker.up and worker.incarnation == suspect.incarnation
        elsewhere = attempt.worker is not worker or attempt.started_at != suspect.started_at
        if attempt.state is STARTED and not came_back and not elsewhere:
            if not attempt.ends:  # else another run of it came to its end
                attempt.pair.orphaned.value += 1
            self._end_untold(attempt, worker, now)

    def _end_untold(self, attempt: Attempt, worker: Worker | None, now: float) -> None:
        attempt.unended += attempt.starts > 0
        self.leave(attempt, worker, ON_DISCARDED, now)

    def _drop_past_etas(self) -> None:
        self._etas = [entry for entry in self._etas if entry[2].state is SCHEDULED]
        heapify(self._etas)

    def _forget(self, attempt: Attempt) -> None:
        if attempt.state is ENDED and self.attempts.get(attempt.uuid) is attempt:
            del self.attempts[attempt.uuid]
            if attempt.previous is not None:
                self.close_unended(attempt.previous, attempt.seen_at)

    def _make_room(self) -> None:
        most = self._settings.max_tracked_tasks
        room = most - max(1, most // EVICTION_SHARE)
        while self._ended and len(self.attempts) > room:
            self._forget(self._ended.popleft()[1])
        for attempt in list(islice(self.attempts.values(), max(0, len(self.attempts) - room))):
            self._evict(attempt, "capacity")

    def _evict(self, attempt: Attempt, reason: str) -> None:
        if attempt.is_open:
            self._store.increment(catalog.EXPORTER_EVICTED, (reason,))
            for worker in (attempt.worker, *(attempt.others or ())):
                if worker is not None:
                    worker.running.pop(attempt, None)
            attempt.others = None
            self.move(attempt, ON_DISCARDED[attempt.state])
        if attempt.previous is not None:
            self._evict(attempt.previous, reason)
            attempt.previous = None
        if self.attempts.get(attempt.uuid) is attempt:
            del self.attempts[attempt.uuid]
