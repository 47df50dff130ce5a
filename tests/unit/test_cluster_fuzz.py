"""Random clusters: whatever comes late, twice or never, what is exported agrees with what is held, and nothing stays.

A cluster is told by its lives: generators that put events on wires, as producers, workers and the children of pools
have one connection each. What is on one wire arrives in order; wires overtake each other.
"""

import random
from collections import Counter, deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from celeryscope.metrics import catalog
from celeryscope.metrics.catalog import Kind
from celeryscope.metrics.store import Cell, HistogramCell
from celeryscope.readings import HeldTask, Stage
from celeryscope.tracker.attempts import Attempt, State
from celeryscope.tracker.pairs import Pair
from support.story import EPOCH, PRODUCER, Story

WORKERS = ("celery@one", "celery@two", "celery@three")
TASKS = ("app.work", "app.mail", "app.sum")
QUEUES = ("fast", "slow")
HARD_LIMIT = '  File "pool.py", line 1, in f\nbilliard.exceptions.TimeLimitExceeded: TimeLimitExceeded(1,)\n'
FATES = (
    *(["succeeds"] * 6), *(["retries"] * 4), *(["delivered twice"] * 2), "fails", "hard limit", "expires", "revoked",
    "revoked everywhere", "terminated", "requeued", "rejected", "ignored", "replaced", "cancelled", "unregistered",
    "handed on", "worker dies",
)  # fmt: skip
#: No event tells that these are over.
WITHOUT_END = frozenset({"ignored", "replaced", "worker dies"})
BOUNDS: dict[str, Any] = {"max_tracked_tasks": 50_000, "max_sent_tasks": 50_000}


class Cluster:
    """Tells a story of many lives at once. `truth` counts what was put on the wires."""

    def __init__(self, seed: int, *, fates: tuple[str, ...] = FATES, **settings: Any) -> None:
        self.random = random.Random(seed)
        self.story = Story(**settings)
        self.story.listen()
        self.fates = fates
        self.wires: dict[str, deque[dict[str, Any]]] = {}
        self.lives: list[Iterator[None]] = []
        self.truth: Counter[str] = Counter()
        self.processed = dict.fromkeys(WORKERS, 0)
        self.pids = dict.fromkeys(WORKERS, 1)
        self.uuids = 0
        self.shown = 0  # runs that only inspection showed

    def emit(self, wire: str, kind: str, *, hostname: str | None = None, **fields: Any) -> None:
        """Put an event on a wire."""
        event = self.story.event(kind, hostname=hostname or wire, **fields)
        self.wires.setdefault(wire, deque()).append(event)
        self.truth[kind] += 1

    def start(self, worker: str, uuid: str) -> None:
        self.processed[worker] += 1
        self.emit(worker, "task-started", uuid=uuid)

    def begin(self) -> None:
        """Let a new task live."""
        self.uuids += 1
        announced = self.random.random() < 0.7
        name = self.random.choice(TASKS)
        shadow = "nickname" if self.random.random() < 0.1 else name
        self.lives.append(self.attempt(f"uuid-{self.uuids}", name, shadow, 0, PRODUCER if announced else None))

    def attempt(self, uuid: str, name: str, shadow: str, retries: int, publisher: str | None) -> Iterator[None]:
        """One attempt, from its publication; every yield lets others go first."""
        chance = self.random
        fate = chance.choice(self.fates)
        announced = publisher is not None
        worker, other = chance.sample(WORKERS, 2)
        eta, due = None, 0.0
        if chance.random() < 0.15:
            due = EPOCH + self.story.seconds + chance.choice((-5, 1, 30))
            eta = datetime.fromtimestamp(due, UTC).isoformat()
        task: dict[str, Any] = {"uuid": uuid, "retries": retries, "eta": eta}
        if publisher is not None:
            queue = chance.choice(QUEUES)
            hostname = f"gen@{publisher}"
            self.emit(
                publisher,
                "task-sent",
                hostname=hostname,
                name=name,
                queue=queue,
                exchange="",
                routing_key=queue,
                **task,
            )
            yield
        if fate == "unregistered" and shadow != name:
            fate = "expires"  # nothing would tell that the two names are one task's
        if fate in ("expires", "unregistered"):
            fields = {"expired": True} if fate == "expires" else {"exception": f"NotRegistered({name!r})"}
            self.emit(worker, "task-revoked" if fate == "expires" else "task-failed", uuid=uuid, **fields)
            return
        self.emit(worker, "task-received", name=shadow, **task)
        yield
        if fate.startswith("revoked"):
            for place in (worker, *([other] if fate == "revoked everywhere" else [])):
                self.emit(place, "task-revoked", uuid=uuid, terminated=False, expired=False)
            return
        if fate == "handed on":
            worker = other
            self.emit(worker, "task-received", name=shadow, **task)
            yield
        while EPOCH + self.story.seconds < due:
            yield
        self.start(worker, uuid)
        yield
        for _ in range(chance.randrange(3)):
            yield
        match fate:
            case "fails":
                self.emit(worker, "task-failed", uuid=uuid, exception=f"Error{chance.randrange(3)}('x')")
            case "hard limit":
                for _ in range(2):
                    self.emit(worker, "task-failed", uuid=uuid, exception="X()", traceback=HARD_LIMIT)
                    yield
            case "terminated":
                self.emit(worker, "task-revoked", uuid=uuid, terminated=True, expired=False)
            case "retries" if retries < 3:
                self.flush()  # what overtakes is of two attempts that follow each other, not of three
                pool = f"{worker}/pool"
                retry = self.attempt(uuid, name, shadow, retries + 1, pool if announced else None)
                self.lives.append(retry)
                # Published, and perhaps received and started, before the worker tells of the retry.
                for _ in range(chance.randint(announced, 2 + announced)):
                    next(retry, None)
                self.emit(worker, "task-retried", uuid=uuid, exception=chance.choice(("None", "OSError('x')")))
            case "replaced":
                pool = f"{worker}/pool"
                self.lives.append(self.attempt(uuid, "app.next", "app.next", 0, pool if announced else None))
            case "rejected":
                self.emit(worker, "task-failed", uuid=uuid, exception="reject requeue=False: x")
                self.emit(worker, "task-rejected", uuid=uuid, requeue=False)
            case "requeued" | "cancelled" | "delivered twice" | "worker dies":
                yield from self.again(fate, worker, other, shadow, task)
            case "ignored":
                pass
            case _:
                self.emit(worker, "task-succeeded", uuid=uuid, runtime=chance.choice((None, 0.5)))

    def again(self, fate: str, worker: str, other: str, shadow: str, task: dict[str, Any]) -> Iterator[None]:
        """The message is delivered again, while the first run goes on or after it was stopped."""
        uuid = task["uuid"]
        if fate == "requeued":
            self.emit(worker, "task-rejected", uuid=uuid, requeue=True)
        elif fate == "cancelled":
            self.emit(worker, "task-cancelled", uuid=uuid)
        if fate in ("requeued", "cancelled"):  # the broker takes it back from a worker that has told so
            while self.wires[worker]:
                yield
        self.emit(other, "task-received", name=shadow, **task)
        yield
        self.start(other, uuid)
        yield
        ends = [other] if fate != "delivered twice" else self.random.sample((worker, other), 2)
        for place in ends:
            self.emit(place, "task-succeeded", uuid=uuid, runtime=0.5)
            yield

    def holdings(self) -> dict[str, Any]:
        """Return what a worker might say that it holds: tasks of whatever age, and some of which nobody has heard."""
        chance, held = self.random, []
        for _ in range(chance.randrange(4)):
            uuid = chance.choice((f"uuid-{chance.randint(1, self.uuids + 1)}", f"unknown-{chance.randrange(50)}"))
            stage, at = chance.choice(tuple(Stage)), EPOCH + self.story.seconds + chance.choice((-30, 0, 30))
            held.append(HeldTask(uuid, chance.choice(TASKS), "nickname", chance.choice((None, *QUEUES)), stage, at))
        running = frozenset(task.uuid for task in held if task.stage is Stage.ACTIVE)
        self.shown += len(running)
        asked_at = self.story.now.elapsed
        return {"held": tuple(held), "running": running, "asked_at": asked_at, "holds_listed": chance.random() < 0.7}

    def live(self) -> None:
        """Let one life go on."""
        if self.lives:
            life = self.random.choice(self.lives)
            if next(life, "over") == "over":
                self.lives.remove(life)

    def deliver(self, most: int = 6) -> None:
        """Deliver the first events of one wire."""
        wires = [wire for wire in self.wires.values() if wire]
        if wires:
            wire = self.random.choice(wires)
            self.story.deliver(*(wire.popleft() for _ in range(min(len(wire), self.random.randint(1, most)))))

    def flush(self) -> None:
        """Deliver everything."""
        while any(self.wires.values()):
            self.deliver()

    def beat(self, worker: str, active: int, kind: str = "worker-heartbeat") -> None:
        """A worker beats, behind the events that it has sent before."""
        processed, pid = self.processed[worker], self.pids[worker]
        self.emit(worker, kind, freq=2.0, active=active, processed=processed, pid=pid, loadavg=[0.1, 0.2, 0.3])

    def sleep(self, seconds: float) -> None:
        """Let time pass at once, with one tick at its end."""
        self.story.seconds += seconds
        self.story.tracker.tick(self.story.now)


class Checks:
    """What must hold after every step."""

    def __init__(self, cluster: Cluster, bounds: dict[str, int], *, folded: bool = False) -> None:
        self.cluster = cluster
        self.story = cluster.story
        self.bounds = bounds
        self.folded = folded  # series may share one where the budget is spent
        self._counters: dict[Cell | HistogramCell, float] = {}

    def __call__(self) -> None:
        self.in_flight()
        self.running()
        self.conservation()
        self.monotony()

    def attempts(self) -> Iterator[Attempt]:
        for current in self.story.tracker._table.attempts.values():
            attempt: Attempt | None = current
            while attempt is not None:
                yield attempt
                attempt = attempt.previous

    def pairs(self) -> list[Pair]:
        pairs = self.story.tracker._pairs
        return [*pairs._pairs.values(), *([pairs._overflow] if pairs._overflow else [])]

    def in_flight(self) -> None:
        table = self.story.tracker._table
        held: Counter[tuple[Pair, int]] = Counter()
        for newest in table.sent.values():
            held.update((sent.pair, State.SENT) for sent in newest.line())
        held.update((attempt.pair, attempt.state) for attempt in self.attempts() if attempt.is_open)
        told = {
            (pair, state): cell.value
            for pair in self.pairs()
            for state, cell in enumerate(pair.in_flight)
            if cell.value
        }
        assert {attempt.pair for attempt in self.attempts()} <= set(self.pairs())
        assert told == held
        assert len(table.attempts) <= self.bounds["max_tracked_tasks"]
        assert len(table.sent) <= self.bounds["max_sent_tasks"]

    def running(self) -> None:
        known = set(self.attempts())
        suspects = {suspect.attempt for suspect in self.story.tracker._table._suspects}
        watched = set()
        for worker in self.story.tracker._workers:
            for attempt in worker.running:
                assert attempt in known
                assert attempt.runs_on(worker)
                watched.add(attempt)
        for attempt in known:
            if attempt.state is State.STARTED:
                assert attempt in watched or attempt in suspects, "nobody would notice that it runs no more"

    def conservation(self) -> None:
        total: Counter[str] = Counter()
        for pair in self.pairs():
            waits = (pair.wait.counts if pair.wait is not None else [0],)
            if not self.folded:
                assert pair.started.value == sum(*waits) + pair.wait_unknown.value + pair.redelivered.value
            total["started"] += int(pair.started.value)
            total["ends"] += int(pair.succeeded.value + pair.failed.value + pair.retried.value)
        unstarted = self.story.store.cell(catalog.EXPORTER_DISORDER, ("unstarted_end",)).value
        unregistered = self.story.store.cell(catalog.EXPORTER_EVENTS, ("task-failed",)).value
        assert total["ends"] <= total["started"] + unstarted + unregistered + self.cluster.shown

    def monotony(self) -> None:
        store = self.story.store
        counters: dict[Cell | HistogramCell, float] = {
            cell: cell.value
            for spec, cells in store._cells.items()
            if spec.kind is Kind.COUNTER and spec is not catalog.WORKER_TASKS_PROCESSED
            for cell in cells.values()
        }
        counters.update(
            (histogram, sum(histogram.counts))
            for histograms in store._histograms.values()
            for histogram in histograms.values()
        )
        for cell, value in self._counters.items():
            assert counters.get(cell, value) >= value
        self._counters = counters

    def samples(self) -> None:
        families = self.story.store.snapshot()
        shown = sum(
            len(family.values) + sum(len(sample.counts) + 2 for sample in family.histograms) for family in families
        )
        assert shown == self.story.store.samples

    def nothing_is_left(self) -> None:
        tracker = self.story.tracker
        table = tracker._table
        assert not tracker._tasks.held
        assert not tracker._throttles
        assert not table.sent
        assert not table.attempts
        assert not table._ended
        assert not table._etas
        assert not table._suspects
        assert not any(worker.running for worker in tracker._workers)
        assert self.story.moved("celery_tasks_in_flight") == {}


def misfortune(cluster: Cluster) -> None:
    """Lose, repeat or invent something, or let a worker go."""
    chance, story = cluster.random, cluster.story
    worker = chance.choice(WORKERS)
    wire = cluster.wires.get(chance.choice([*cluster.wires, PRODUCER]), deque())
    match chance.randrange(12):
        case 0 | 1 if wire:
            wire.popleft()
        case 2 if wire:
            wire.append(wire[0])
        case 3 if wire:
            wire.rotate(chance.randint(-2, 2))
        case 4:
            kinds = ("task-started", "task-succeeded", "task-failed", "task-retried", "task-rejected", "task-revoked")
            cluster.emit(worker, chance.choice(kinds), uuid=f"unknown-{chance.randrange(50)}")
        case 5:
            kind = chance.choice(("task-started", "task-rejected"))
            cluster.emit(worker, kind, uuid=f"uuid-{cluster.uuids}", requeue=True)
        case 6:
            cluster.beat(worker, 0, "worker-offline")
        case 7:
            cluster.pids[worker], cluster.processed[worker] = chance.randrange(1, 6), 0
            cluster.beat(worker, 0, "worker-online")
        case 8:
            story.tracker.hearing.lost(story.now.elapsed)
            cluster.sleep(chance.choice((1, 40)))
            story.listen()
        case 9:
            uuid = chance.choice((f"uuid-{cluster.uuids}", f"unknown-{chance.randrange(50)}"))
            cluster.emit(worker, "task-rate-limited", uuid=uuid, limiter=f"api{chance.randrange(3)}", delay=1.5)
        case 10:
            cluster.sleep(chance.choice((35, 61, 130, 700)))
        case _:
            names = frozenset({"app.sum"}) if chance.random() < 0.2 else frozenset()
            pool = chance.choice(("prefork", "solo", None))
            facts = {"silent_tasks": names, "accepted": {"app.sum": 3}, **cluster.holdings()}
            story.inspect(worker, pool=pool, uptime=chance.uniform(0, 500), **facts)


@pytest.mark.parametrize("seed", range(24))
def test_in_chaos_what_is_told_agrees_with_what_is_held_and_nothing_stays(seed: int) -> None:
    tiny = seed % 3 == 0
    bounds: dict[str, Any] = {"max_tracked_tasks": 7, "max_sent_tasks": 5} if tiny else BOUNDS
    patience: dict[str, Any] = {
        "task_ttl": 600.0,
        "orphan_timeout": 90.0,
        "worker_retention": 200.0,
        "pair_retention": 1500.0,
        "backfill_patience": 5.0 if seed % 2 else 0.0,
    }
    budget = 500 if seed % 4 == 1 else 50_000
    cluster = Cluster(seed, series_limit=budget, **bounds, **patience)
    chance, story = cluster.random, cluster.story
    check = Checks(cluster, bounds, folded=budget < 50_000)
    for number in range(500):
        for _ in range(chance.randint(1, 3)):
            chance.choice((cluster.begin, *[cluster.live] * 3, *[cluster.deliver] * 2))()
        if chance.random() < 0.15:
            misfortune(cluster)
        if chance.random() < 0.1:
            cluster.beat(chance.choice(WORKERS), chance.randrange(3))
        if chance.random() < 0.1:
            story.canary()
        if chance.random() < 0.3:
            cluster.sleep(chance.choice((0.1, 0.3, 5)))
        check()
        if number % 25 == 0:
            check.samples()
    cluster.flush()
    for _ in range(5):  # the workers have nothing more to do, and say so
        for worker in WORKERS:
            cluster.beat(worker, 0)
        cluster.flush()
        cluster.sleep(2)
        check()
    for _ in range(15):
        story.canary()
        cluster.sleep(61)
        check()
    check.samples()
    check.nothing_is_left()


@pytest.mark.parametrize("seed", range(12))
def test_without_loss_every_event_is_counted_and_every_end_is_found(seed: int) -> None:
    cluster = Cluster(seed, fates=tuple(fate for fate in FATES if fate not in WITHOUT_END), **BOUNDS)
    chance, story = cluster.random, cluster.story
    check = Checks(cluster, BOUNDS)
    for number in range(600):
        if number < 400:
            chance.choice((cluster.begin, cluster.live, cluster.live))()
        cluster.live()
        cluster.deliver()
        if number % 20 == 0:
            cluster.flush()
            cluster.sleep(0.1)
        check()
    while cluster.lives:
        cluster.live()
        cluster.flush()
        cluster.sleep(0.3)
    cluster.flush()
    cluster.sleep(1)
    check()
    told: Counter[str] = Counter()
    for pair in check.pairs():
        for kind in ("sent", "received", "started", "succeeded", "retried", "cancelled"):
            told[f"task-{kind}"] += int(getattr(pair, kind).value)
    assert +told == Counter({kind: count for kind, count in cluster.truth.items() if kind in told and count})
    assert story.moved("celery_tasks_in_flight") == {}
