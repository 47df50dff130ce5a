"""Celery's own rate limits: the sum over workers, and what their token buckets hold."""

import pytest

from support.story import Story

LIMIT = {"app.work": 1 / 6}
WORKERS = ("celery@one", "celery@two", "celery@three")


@pytest.fixture
def story() -> Story:
    """Three workers that limit a task, and send events."""
    story = Story()
    story.listen()
    for worker in WORKERS:
        story.heartbeat(hostname=worker)
        story.inspect(worker, rate_limits=LIMIT, concurrency=2)
        story.run(f"first of {worker}", hostname=worker)
    story.wait(61)  # nobody waits for task-sent events any more
    return story


def limit(story: Story) -> float | None:
    value: float | None = story.value("celery_task_rate_limit_per_second", "app.work")
    return value


def held(story: Story) -> float | None:
    value: float | None = story.value("celery_tasks_rate_limit_held", "app.work")
    return value


def test_the_limit_of_the_cluster_is_the_sum_over_workers_and_moves_with_them(story: Story) -> None:
    assert limit(story) == pytest.approx(0.5)
    story.heartbeat(hostname=WORKERS[0], kind="worker-offline")
    assert limit(story) == pytest.approx(1 / 3)
    story.heartbeat(hostname=WORKERS[0])
    assert limit(story) == pytest.approx(0.5)


def test_it_goes_with_the_last_worker_that_limits(story: Story) -> None:
    for worker in WORKERS:
        story.inspect(worker, rate_limits={})
    assert story.series("celery_task_rate_limit_per_second") == {}
    assert story.series("celery_tasks_rate_limit_held") == {}


def test_what_is_not_told_any_more_is_not_known(story: Story) -> None:
    for _ in range(40):
        story.wait(2)
        for worker in WORKERS:
            story.heartbeat(hostname=worker)
        story.inspect(WORKERS[0], rate_limits=LIMIT)
    assert limit(story) == pytest.approx(1 / 6)


def test_what_is_due_on_a_worker_with_a_free_slot_is_held(story: Story) -> None:
    assert held(story) == 0
    for number in range(3):
        story.received(f"u{number}")
    assert held(story) == 0  # their starts may be on the way
    story.wait(1.5)
    assert held(story) == 3
    story.started("u0")
    story.succeeded("u0")
    assert held(story) == 2


def test_what_waits_for_a_slot_or_an_eta_is_not(story: Story) -> None:
    story.received("later", eta="2023-11-14T23:00:00+00:00")
    story.received("held")
    for number in range(2):
        story.received(f"u{number}", name="app.other")
        story.started(f"u{number}")
    story.wait(2)
    assert held(story) == 0
    story.succeeded("u0")
    assert held(story) == 1


def test_tasks_without_events_take_slots_too() -> None:
    story = Story()
    story.listen()
    story.heartbeat()
    story.inspect(rate_limits=LIMIT, concurrency=1, silent_tasks=frozenset({"app.silent"}))
    story.received("a")
    story.wait(2)
    assert held(story) == 1
    story.heartbeat(active=1, processed=1)
    assert held(story) == 0


def test_of_workers_without_events_nothing_is_said() -> None:
    story = Story()
    story.listen()
    story.heartbeat()
    story.inspect(rate_limits=LIMIT, concurrency=1)
    assert limit(story) == pytest.approx(1 / 6)
    assert held(story) is None
