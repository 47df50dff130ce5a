"""Random lives of tasks, shuffled, doubled and torn: whatever arrives, the numbers hold together."""

import random
from collections import Counter
from typing import Any

import pytest

from celeryscope.metrics.store import HistogramSample
from celeryscope.readings import HeldTask, Stage
from celeryscope.tracker.attempts import State
from support.story import EPOCH, PRODUCER, Story

WORKERS = ("celery@one", "celery@two", "celery@three")
TASKS = ("app.work", "app.other", "app.silent")
STEPS = 400


class Cluster:
    """Makes up events of a few uuids, most of them plausible."""

    def __init__(self, story: Story, chance: random.Random) -> None:
        self.story = story
        self.chance = chance
        self.late: list[dict[str, Any]] = []

    def step(self) -> None:
        """Deliver a few events: now, later, twice or never; then let some time pass."""
        batch = []
        for _ in range(self.chance.randint(1, 6)):
            fate, event = self.chance.random(), self.event()
            if fate < 0.7:
                batch.append(event)
            if 0.6 < fate < 0.9:
                self.late.append(event)
        if self.late and self.chance.random() < 0.4:
            batch.append(self.late.pop(self.chance.randrange(len(self.late))))
        self.story.deliver(*batch)
        act = self.chance.random()
        if act < 0.3:
            self.story.wait(self.chance.choice((0.25, 1, 5, 70)))
        elif act < 0.35:
            self.story.canary()
        elif act < 0.4:
            self.story.inspect(
                worker=self.chance.choice(WORKERS),
                uptime=self.chance.uniform(0, 1_000),
                queues=self.chance.choice((None, ("only",), ("one", "two"))),
                silent_tasks=self.chance.choice((None, frozenset(), frozenset({"app.silent"}))),
                pool=self.chance.choice(("prefork", "solo")),
                accepted={"app.work": self.chance.randint(0, 100)},
                rate_limits=self.chance.choice((None, {}, {"app.work": 1.0})),
                **self.holdings(),
            )
        elif act < 0.42:
            self.story.tracker.hearing.lost(self.story.now.elapsed)
        elif act < 0.45:
            self.story.listen()

    def holdings(self) -> dict[str, Any]:
        """Return what a worker might say that it holds."""
        chance = self.chance
        if chance.random() < 0.5:
            return {}
        held = []
        for number in chance.sample(range(31), chance.randint(0, 4)):
            stage, at = chance.choice(tuple(Stage)), EPOCH + self.story.seconds + chance.choice((-30, 0, 30))
            task = chance.choice(TASKS)
            held.append(HeldTask(f"uuid-{number}", task, task, chance.choice((None, "fast")), stage, at))
        running = frozenset(task.uuid for task in held if task.stage is Stage.ACTIVE)
        asked_at = self.story.now.elapsed - chance.choice((0, 1, 10))
        return {"held": tuple(held), "running": running, "asked_at": asked_at, "holds_listed": chance.random() < 0.7}

    def event(self) -> dict[str, Any]:
        """Return one event at random."""
        chance = self.chance
        worker = chance.choice(WORKERS)
        at = self.story.seconds + chance.choice((0, 0, 0, -2, 400))
        kind = chance.choice(
            ("task-sent", "task-received", "task-started", "task-succeeded", "task-failed", "task-retried") * 3
            + ("task-rejected", "task-revoked", "task-cancelled", "task-rate-limited")
            + ("worker-heartbeat", "worker-heartbeat", "worker-online", "worker-offline")
        )
        if kind.startswith("worker-"):
            counts = {"processed": chance.randint(0, 50), "active": chance.randint(0, 2), "freq": 2.0}
            return self.story.event(kind, hostname=worker, at=at, pid=chance.choice((1, 1, 1, 2, 3)), **counts)
        fields: dict[str, Any] = {"uuid": f"uuid-{chance.randint(0, 30)}", "hostname": worker}
        if kind in ("task-sent", "task-received"):
            eta = chance.choice((None, None, None, "2023-11-14T22:14:20+00:00", "2023-11-14T22:30:00", "soon"))
            fields |= {"name": chance.choice(TASKS), "retries": chance.choice((0, 0, 1, 2)), "eta": eta}
        if kind == "task-sent":
            parent = chance.choice((None, f"uuid-{chance.randint(0, 30)}"))
            fields |= {"queue": chance.choice(("fast", "slow", None)), "hostname": PRODUCER, "parent_id": parent}
        elif kind in ("task-failed", "task-retried"):
            fields["exception"] = chance.choice(("OSError('x')", "NotRegistered('app.gone')", "None", "<odd>"))
        elif kind == "task-succeeded":
            fields["runtime"] = chance.choice((None, 0.5))
        elif kind == "task-rejected":
            fields["requeue"] = chance.random() < 0.5
        elif kind == "task-revoked":
            fields |= {"expired": chance.random() < 0.5, "terminated": chance.random() < 0.5}
        elif kind == "task-rate-limited":
            fields |= {"limiter": "api", "delay": 1.0}
        return self.story.event(kind, at=at, **fields)


def check_in_flight(story: Story) -> None:
    """What is exported as in flight is what the table holds."""
    table = story.tracker._table
    held: Counter[tuple[str, ...]] = Counter()
    attempts = set()
    for attempt in table.attempts.values():
        attempts |= {attempt} | ({attempt.previous} if attempt.previous is not None else set())
        assert attempt.previous is None or attempt.previous.is_open
    for attempt in attempts:
        if attempt.is_open:
            held[(*attempt.pair.labels, State(attempt.state).name.lower())] += 1
    for newest in table.sent.values():
        for sent in newest.line():
            held[(*sent.pair.labels, "sent")] += 1
    assert story.moved("celery_tasks_in_flight") == held
    for worker in story.tracker._workers:
        for attempt in worker.running:
            assert attempt in attempts
            assert attempt.runs_on(worker), (attempt.uuid, worker.name)


def check_series(story: Story) -> None:
    """Starts are waits known and unknown, and redeliveries; and the budget is counted to the sample."""
    for labels, started in story.series("celery_task_started_total").items():
        waits, _ = story.value("celery_task_wait_seconds", *labels) or (0, 0.0)
        unknown = story.value("celery_task_wait_unknown_total", *labels)
        redelivered = story.value("celery_task_redelivered_total", *labels)
        assert started == waits + unknown + redelivered, labels
    samples = 0
    for family in story.store.snapshot():
        samples += len(family.values) + sum(samples_of(histogram) for histogram in family.histograms)
    assert story.store.samples == samples


def samples_of(histogram: HistogramSample) -> int:
    return len(histogram.counts) + 2


@pytest.mark.parametrize("seed", range(12))
def test_whatever_arrives_the_numbers_hold_together(seed: int) -> None:
    bounds: dict[str, Any] = {"max_tracked_tasks": 20, "max_sent_tasks": 10} if seed % 3 == 0 else {}
    bounds["backfill_patience"] = 5.0 if seed % 2 else 0.0
    story = Story(orphan_timeout=300, worker_retention=600, task_ttl=2_000, **bounds)
    story.listen()
    cluster = Cluster(story, random.Random(seed))
    for number in range(STEPS):
        cluster.step()
        check_in_flight(story)
        if number % 40 == 0:
            check_series(story)
    check_series(story)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_remembered_for_ever(seed: int) -> None:
    story = Story(orphan_timeout=60, worker_retention=60, task_ttl=120, backfill_patience=5.0)
    cluster = Cluster(story, random.Random(1_000 + seed))
    for _ in range(STEPS):
        cluster.step()
    for worker in WORKERS:
        story.heartbeat(hostname=worker, kind="worker-offline", at=story.seconds + 1_000)
    story.wait(3_000)
    table, tasks = story.tracker._table, story.tracker._tasks
    assert not table.attempts
    assert not table.sent
    assert not table._ended
    assert not table._etas
    assert not table._suspects
    assert not tasks.held
    assert not list(story.tracker._workers)
    assert not story.tracker._throttles
    assert story.moved("celery_tasks_in_flight") == {}
