"""The loop that polls workers: whom it asks when, and what it says of that."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from celeryscope.errors import PollError
from celeryscope.loops.core import Core
from celeryscope.loops.polls import WorkerPolls
from celeryscope.metrics.health import ExporterHealth
from celeryscope.readings import WorkerReading
from support.story import Story, StoryClock

INTERVAL = 30.0  # seconds
EVERYBODY = ("everybody",)
KNOWN = ("known",)


class FakePoller:
    """Answers for workers that do; notes whom it was told to ask."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.answering: list[str] = []
        self.broken = False

    def poll(self, *, discover: bool = False, only: Sequence[str] = ()) -> list[WorkerReading]:
        self.asked.append(EVERYBODY if discover else tuple(only) or KNOWN)
        if self.broken:
            raise PollError("the broker is away")
        return [WorkerReading(worker=name, queues=("fast",), concurrency=1) for name in self.answering]

    def running(self, workers: Sequence[str]) -> list[Any]:
        return []


@pytest.fixture
def story() -> Story:
    story = Story()
    story.listen()
    return story


@pytest.fixture
def poller() -> FakePoller:
    return FakePoller()


@pytest.fixture
def polls(story: Story, poller: FakePoller) -> WorkerPolls:
    clock = StoryClock(story)
    core = Core(story.store, story.tracker, ExporterHealth(story.store, clock, {}), clock)
    return WorkerPolls(core, cast(Any, poller), INTERVAL)


def beat(story: Story, poller: FakePoller, *workers: str) -> None:
    for worker in workers:
        story.heartbeat(hostname=worker)
        poller.answering.append(worker)


def test_everybody_is_asked_once_the_stream_is_open_and_then_who_is_known_at_every_interval(
    story: Story, poller: FakePoller, polls: WorkerPolls
) -> None:
    beat(story, poller, "a@x")
    polls.poll_if_due()
    polls.poll_if_due()
    assert poller.asked == [EVERYBODY]
    story.wait(INTERVAL)
    story.heartbeat(hostname="a@x")
    polls.poll_if_due()
    assert poller.asked == [EVERYBODY, KNOWN]


def test_workers_that_appear_are_asked_at_once_and_nobody_else(
    story: Story, poller: FakePoller, polls: WorkerPolls
) -> None:
    beat(story, poller, "a@x")
    polls.poll_if_due()
    beat(story, poller, "b@x", "c@x")
    polls.poll_if_due()
    polls.poll_if_due()
    assert poller.asked == [EVERYBODY, ("b@x", "c@x")]


def test_a_poll_of_newcomers_does_not_put_off_that_of_all(story: Story, poller: FakePoller, polls: WorkerPolls) -> None:
    beat(story, poller, "a@x")
    polls.poll_if_due()
    story.wait(INTERVAL - 1)
    beat(story, poller, "a@x", "b@x")
    polls.poll_if_due()
    story.wait(1)
    polls.poll_if_due()
    assert poller.asked == [EVERYBODY, ("b@x",), KNOWN]


def test_a_newcomer_that_does_not_answer_yet_says_nothing_of_the_others(
    story: Story, poller: FakePoller, polls: WorkerPolls
) -> None:
    beat(story, poller, "a@x")
    polls.poll_if_due()
    story.heartbeat(hostname="b@x")
    poller.answering.clear()
    polls.poll_if_due()
    assert poller.asked == [EVERYBODY, ("b@x",)]
    assert story.value("celery_exporter_poll_success", "workers") == 1


def test_a_poll_that_nobody_answers_is_no_success_and_says_so_once(
    story: Story, poller: FakePoller, polls: WorkerPolls, caplog: pytest.LogCaptureFixture
) -> None:
    story.heartbeat(hostname="a@x")
    for _ in range(2):
        polls.poll_if_due()
        story.wait(INTERVAL)
        story.heartbeat(hostname="a@x")
    assert story.value("celery_exporter_poll_success", "workers") == 0
    assert story.value("celery_broker_up") == 1
    assert story.series("celery_queue_workers") == {}
    assert [record.getMessage()[:31] for record in caplog.records] == ["no worker answers inspection, t"]


def test_without_workers_an_unanswered_poll_proves_that_nobody_is_there(
    story: Story, poller: FakePoller, polls: WorkerPolls
) -> None:
    polls.poll_if_due()
    assert poller.asked == [EVERYBODY]
    assert story.value("celery_exporter_poll_success", "workers") == 1


def test_a_broker_that_is_away_is_an_error_and_asked_again_at_the_next_look(
    story: Story, poller: FakePoller, polls: WorkerPolls
) -> None:
    beat(story, poller, "a@x")
    poller.broken = True
    with pytest.raises(PollError):
        polls.poll_if_due()
    assert story.value("celery_broker_up") == 0
    assert story.value("celery_exporter_poll_success", "workers") == 0
    poller.broken = False
    polls.poll_if_due()
    assert poller.asked == [EVERYBODY, EVERYBODY]
    assert story.value("celery_exporter_poll_success", "workers") == 1
