"""All tasks in flight, and those that ended within the last minute: begun, moved, closed, cut where a bound is reached.

Two tiers: what was published and not yet taken by a worker is kept compactly, since a deep backlog is when waits
matter; the rest are attempts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count, islice
from typing import NamedTuple

from celeryscope.clock import Moment
from celeryscope.metrics import catalog
from celeryscope.metrics.store import Store
from celeryscope.tracker.attempts import ON_DISCARDED, Attempt, State, Step
from celeryscope.tracker.pairs import SENT, Pair
from celeryscope.tracker.settings import TrackerSettings
from celeryscope.tracker.workers import Worker

ENDED_RETENTION = 60.0  # seconds that an ended attempt is remembered
EVICTION_SHARE = 100  # a full tier gives up this fraction at once: finding its oldest entries costs a walk

SentTask = tuple[Pair, float, int]  # pair, due (Unix seconds), retries
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
        self.sent: dict[str, SentTask] = {}
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
        return sent[0] if sent is not None else None

    def oldest(self) -> tuple[Oldest, Oldest]:
        """Return since when the oldest due task lies in a worker, and since when the oldest one runs."""
        received: Oldest = {}
        started: Oldest = {}
        for attempt in self.attempts.values():
            if attempt.state is State.STARTED:
                oldest, since = started, attempt.started_at
            elif attempt.state is State.RECEIVED:
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

    def publish(self, uuid: str, pair: Pair, due: float, retries: int) -> None:
        """Remember a published task until a worker takes it."""
        earlier = self.sent.pop(uuid, None)
        if earlier is not None:
            earlier[0].in_flight[SENT].value -= 1
        elif len(self.sent) >= self._settings.max_sent_tasks:
            wanted = max(1, self._settings.max_sent_tasks // EVICTION_SHARE)
            for oldest in list(islice(self.sent, wanted)):
                self.drop_sent(oldest, "capacity")
        self.sent[uuid] = (pair, due, retries)
        pair.in_flight[SENT].value += 1

    def begin_sent(self, uuid: str, sent: SentTask, name: str | None, now: float) -> Attempt:
        """Make the attempt of a published task that a worker has taken."""
        del self.sent[uuid]
        pair, due, retries = sent
        pair.in_flight[SENT].value -= 1
        return self.begin(uuid, pair, name=name, retries=retries, due=due, now=now)

    def begin(
        self, uuid: str, pair: Pair, *, name: str | None, retries: int, now: float, due: float | None = None
    ) -> Attempt:
        """Make a new attempt; the one before of the same life stays open until its retry is told."""
        attempt = Attempt(uuid, pair, name=name, retries=retries, due=due, now=now)
        earlier = self.attempts.pop(uuid, None)
        if earlier is not None:
            if earlier.previous is not None:
                self.close_unended(earlier.previous, now)
            if earlier.is_open:
                if retries > earlier.retries and pair.labels[0] == earlier.pair.labels[0]:
                    attempt.previous = earlier
                else:  # replaced, or sent anew: of the life before no end will be told
                    self.close_unended(earlier, now)
        elif len(self.attempts) >= self._settings.max_tracked_tasks:
            self._make_room()
        self.attempts[uuid] = attempt
        pair.in_flight[SENT].value += 1
        return attempt

    # Moves.

    def move(self, attempt: Attempt, step: Step) -> None:
        """Bring an attempt into its next state."""
        if step.disorder is not None:
            self._disorder(step.disorder)
        before, after = attempt.state, step.state
        if before is not after:
            in_flight = attempt.pair.in_flight
            if before is not State.ENDED:
                in_flight[before].value -= 1
            if after is not State.ENDED:
                in_flight[after].value += 1
            attempt.state = after

    def schedule(self, attempt: Attempt, eta: float) -> None:
        """Keep an attempt as scheduled until its ETA (Unix seconds)."""
        self.move(attempt, Step(State.SCHEDULED))
        heappush(self._etas, (eta, next(self._sequence), attempt))

    def leave(self, attempt: Attempt, table: tuple[Step, ...], now: float) -> None:
        """Take an attempt from the worker that ran it; where an earlier start still runs, it stays started there."""
        uuid = attempt.uuid
        if attempt.worker is not None:
            attempt.worker.running.pop(uuid, None)
        if attempt.others is not None:
            still = [other for other in attempt.others if other.running.get(uuid) is attempt]
            if still:
                attempt.worker = still.pop()
                attempt.others = still or None
                return
            attempt.others = None
        attempt.received_again = False
        attempt.seen_at = now
        self.move(attempt, table[attempt.state])
        if attempt.state is State.ENDED:
            current = self.attempts.get(uuid)
            if current is not None and current.previous is attempt:
                current.previous = None
            self._ended.append((now, attempt))

    def close_unended(self, attempt: Attempt, now: float) -> None:
        """Close an attempt that provably runs no more and never ended: Ignore, replace, or its end was lost."""
        self._store.increment(catalog.EXPORTER_EVICTED, ("no_end",))
        self._close(attempt, now)

    # What no event says.

    def abandon(self, worker: Worker, now: float) -> None:
        """Suspect what a worker runs that left, was lost, or came back as another process."""
        deadline = now + self._settings.orphan_timeout
        for attempt in list(worker.running.values()):
            if attempt.worker is not worker:
                del worker.running[attempt.uuid]  # it was started again elsewhere
            elif attempt.ends:
                self._close(attempt, now)  # another run of it came to its end
            else:
                self._suspects.append(Suspect(deadline, attempt, attempt.started_at, worker, worker.incarnation))

    def tick(self, now: Moment) -> None:
        """Let ETAs fall due, ended attempts go, and suspects be judged."""
        while self._etas and self._etas[0][0] <= now.wall:
            attempt = heappop(self._etas)[2]
            if attempt.state is State.SCHEDULED:
                self.move(attempt, Step(State.RECEIVED))
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
            and attempt.state is not State.SCHEDULED
            and not (attempt.state is State.STARTED and attempt.worker is not None and attempt.worker.up)
        ]
        for attempt in stale:
            self._evict(attempt, "ttl")
        for uuid in [uuid for uuid, (_, due, _) in self.sent.items() if now.wall - due > ttl]:
            self.drop_sent(uuid, "ttl")

    def drop_silent(self, tasks: frozenset[str]) -> None:
        """Forget published tasks of these names: their workers send no events of them."""
        for uuid in [uuid for uuid, (pair, _, _) in self.sent.items() if pair.labels[0] in tasks]:
            self.drop_sent(uuid, None)

    def drop_sent(self, uuid: str, reason: str | None) -> None:
        """Forget a published task; without a reason where it was taken unseen."""
        self.sent.pop(uuid)[0].in_flight[SENT].value -= 1
        if reason is not None:
            self._store.increment(catalog.EXPORTER_EVICTED, (reason,))

    def _judge(self, suspect: Suspect, now: float) -> None:
        attempt, worker = suspect.attempt, suspect.worker
        came_back = worker.up and worker.incarnation == suspect.incarnation
        elsewhere = attempt.worker is not worker or attempt.started_at != suspect.started_at
        if attempt.state is State.STARTED and not came_back and not elsewhere:
            attempt.pair.orphaned.value += 1
            self._close(attempt, now)

    def _close(self, attempt: Attempt, now: float) -> None:
        attempt.unended += 1
        attempt.others = None
        self.leave(attempt, ON_DISCARDED, now)

    def _forget(self, attempt: Attempt) -> None:
        if attempt.state is State.ENDED and self.attempts.get(attempt.uuid) is attempt:
            del self.attempts[attempt.uuid]

    def _make_room(self) -> None:
        wanted = max(1, self._settings.max_tracked_tasks // EVICTION_SHARE)
        for _ in range(min(wanted, len(self._ended))):
            self._forget(self._ended.popleft()[1])
        missing = len(self.attempts) + wanted - self._settings.max_tracked_tasks
        for attempt in list(islice(self.attempts.values(), max(0, missing))):
            self._evict(attempt, "capacity")

    def _evict(self, attempt: Attempt, reason: str) -> None:
        if attempt.is_open:
            self._store.increment(catalog.EXPORTER_EVICTED, (reason,))
            for worker in (attempt.worker, *(attempt.others or ())):
                if worker is not None:
                    worker.running.pop(attempt.uuid, None)
            self.move(attempt, ON_DISCARDED[attempt.state])
        if attempt.previous is not None:
            self._evict(attempt.previous, reason)
            attempt.previous = None
        if self.attempts.get(attempt.uuid) is attempt:
            del self.attempts[attempt.uuid]
