"""The loop that polls the broker: what it exports of itself, and that its failures stay its own."""

import threading
from collections.abc import Callable

import pytest

from celeryscope.app import build
from celeryscope.broker import celery_app
from celeryscope.clock import SystemClock
from celeryscope.config import Config
from celeryscope.errors import ConfigError, PollError
from celeryscope.loops.core import Core
from celeryscope.loops.queues import JITTER, QueuePolls
from celeryscope.metrics.health import ExporterHealth
from celeryscope.monitor import Monitor
from celeryscope.pollers.amqp import AmqpPoller
from celeryscope.pollers.generic import GenericPoller
from celeryscope.pollers.management import ManagementPoller
from celeryscope.pollers.redis import RedisPoller
from celeryscope.pollers.sqs import SqsPoller
from celeryscope.readings import BrokerReading, QueueReading
from support.story import Story, StoryClock
from support.waiting import wait_until

WAIT = 20.0  # seconds
INTERVAL = 15.0  # seconds
READING = BrokerReading((QueueReading("fast", length=3),), version="9.1.0")


class FakePoller:
    """Answers what a test says, `duration` seconds later."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.duration = 0.0
        self.error: Exception | None = None
        self.reading = READING
        self.polls = 0
        self.closed = 0

    def poll(self) -> BrokerReading:
        self.polls += 1
        self.story.seconds += self.duration
        if self.error is not None:
            raise self.error
        return self.reading

    def close(self) -> None:
        self.closed += 1


class HangingPoller:
    """Asks a broker that never answers."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.let_go = threading.Event()

    def poll(self) -> BrokerReading:
        self.asked.set()
        self.let_go.wait()
        return READING

    def close(self) -> None:
        pass


class Pauses(threading.Event):
    """A stop event whose waits take no time, and that is set by the last of so many."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.seconds = most, list[float]()

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.seconds.append(timeout)
        if len(self.seconds) >= self.most:
            self.set()
        return self.is_set()


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def poller(story: Story) -> FakePoller:
    return FakePoller(story)


@pytest.fixture
def core(story: Story) -> Core:
    clock = StoryClock(story)
    return Core(story.store, story.tracker, ExporterHealth(story.store, clock, {}), clock)


@pytest.fixture
def polls(core: Core, poller: FakePoller) -> QueuePolls:
    return QueuePolls(core, poller, INTERVAL)


def of_itself(story: Story) -> tuple[float | None, float | None, float | None]:
    """Success, duration, and last success in seconds since the story began."""
    name = "celery_exporter_poll_{}".format
    last = story.value(name("last_success_timestamp_seconds"), "queues")
    began = story.now.wall - story.seconds
    return (
        story.value(name("success"), "queues"),
        story.value(name("duration_seconds"), "queues"),
        None if last is None else last - began,
    )


def test_a_poll_is_told_with_its_duration(story: Story, polls: QueuePolls, poller: FakePoller) -> None:
    poller.duration = 2.0
    polls.poll()
    assert story.value("celery_queue_length", "fast") == 3
    assert of_itself(story) == (1, 2, 2)
    assert story.value("celery_broker_up") == 1


def test_a_poll_that_fails_keeps_what_was_told_and_says_so(story: Story, polls: QueuePolls, poller: FakePoller) -> None:
    polls.poll()
    story.wait(15)
    poller.error, poller.duration = PollError("the broker is away"), 1.0
    with pytest.raises(PollError):
        polls.poll()
    assert story.value("celery_queue_length", "fast") == 3
    assert of_itself(story) == (0, 1, 0)
    assert story.value("celery_broker_up") == 0


def test_a_broker_that_never_answered_shows_no_queue(story: Story, polls: QueuePolls, poller: FakePoller) -> None:
    poller.error = PollError("the broker is away")
    with pytest.raises(PollError):
        polls.poll()
    assert story.series("celery_queue_length") == {}
    assert of_itself(story) == (0, 0, None)
    assert polls.attempted.is_set()


def test_a_bug_of_a_poller_counts_as_a_failure(story: Story, polls: QueuePolls, poller: FakePoller) -> None:
    poller.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        polls.poll()
    assert of_itself(story)[0] == 0
    assert polls.attempted.is_set()


def test_the_version_of_the_server_is_told_and_kept(
    story: Story, core: Core, polls: QueuePolls, poller: FakePoller
) -> None:
    core.health.transport("redis")
    assert story.series("celery_broker_info") == {("redis", ""): 1}
    polls.poll()
    poller.reading = BrokerReading()
    polls.poll()
    assert story.series("celery_broker_info") == {("redis", "9.1.0"): 1}
    poller.reading = BrokerReading(version="9.2.0")
    polls.poll()
    assert story.series("celery_broker_info") == {("redis", "9.2.0"): 1}


@pytest.mark.parametrize(("uniform", "pause"), [(min, INTERVAL * (1 - JITTER)), (max, INTERVAL * (1 + JITTER))])
def test_it_polls_at_once_and_then_at_intervals_that_differ(
    core: Core, poller: FakePoller, uniform: Callable[[float, float], float], pause: float
) -> None:
    stop = Pauses(3)
    QueuePolls(core, poller, INTERVAL, uniform=uniform).run(stop)
    assert poller.polls == 3
    assert stop.seconds == [pytest.approx(pause)] * 3
    assert poller.closed == 1


def test_the_connection_is_closed_where_a_poll_fails(core: Core, poller: FakePoller) -> None:
    poller.error = PollError("the broker is away")
    with pytest.raises(PollError):
        QueuePolls(core, poller, INTERVAL).run(threading.Event())
    assert poller.closed == 1


def test_no_lock_is_held_while_the_broker_is_asked(story: Story, core: Core) -> None:
    poller = HangingPoller()
    monitor = Monitor(core, queue_polls=QueuePolls(core, poller, INTERVAL))
    monitor.start()
    try:
        assert poller.asked.wait(WAIT)
        assert not monitor.is_ready()
        assert story.series("celery_queue_length") == {}  # a scrape goes on
    finally:
        unfinished = monitor.stop(0.1)
        poller.let_go.set()
    assert unfinished == ["celeryscope-poll-queues"]
    wait_until(monitor.is_ready, WAIT, "the poll is over")


def built(url: str, **settings: object) -> Monitor:
    config = Config(broker_url=url, **settings)  # type: ignore[arg-type]
    return build(config, celery_app(config), SystemClock())


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://127.0.0.1:1/0", RedisPoller),
        ("sentinel://127.0.0.1:1/0", RedisPoller),
        ("amqp://127.0.0.1:1//", AmqpPoller),
        ("pyamqp://127.0.0.1:1//", AmqpPoller),
        ("sqs://", SqsPoller),
        ("filesystem://", GenericPoller),
    ],
)
@pytest.mark.parametrize("passive", [False, True])
def test_the_transport_says_who_polls_passive_or_not(url: str, kind: type, passive: bool) -> None:
    polls = built(url, passive=passive)._queue_polls
    assert polls is not None
    assert type(polls._poller) is kind


def test_the_management_api_is_asked_where_it_is_given_and_amqp_where_that_fails() -> None:
    polls = built("amqp://127.0.0.1:1/shop", management_url="http://watcher:secret@127.0.0.1:2")._queue_polls
    assert polls is not None
    poller = polls._poller
    assert isinstance(poller, ManagementPoller)
    assert poller._vhost == "shop"
    assert isinstance(poller._fallback, AmqpPoller)


def test_the_management_api_of_another_broker_is_an_error() -> None:
    with pytest.raises(ConfigError, match="management_url is RabbitMQ's, and the broker's transport is redis"):
        built("redis://127.0.0.1:1/0", management_url="http://127.0.0.1:2")


def test_a_transport_that_carries_no_events_is_polled_for_queues_alone(caplog: pytest.LogCaptureFixture) -> None:
    monitor = built("sqs://")
    assert (monitor._listener, monitor._canary, monitor._polls, monitor._switching) == (None, None, None, None)
    assert [record.message for record in caplog.records] == [
        "the transport sqs carries neither events nor remote control: only queues are shown"
    ]
    assert not monitor.is_ready()
    assert monitor._queue_polls is not None
    monitor._queue_polls.attempted.set()
    assert monitor.is_ready()


def test_sqs_with_fanout_is_listened_to() -> None:
    assert built("sqs://", broker_transport_options={"supports_fanout": True})._listener is not None


def test_the_configured_queues_are_known_to_the_poller() -> None:
    polls = built("redis://127.0.0.1:1/0", queues=("a", "b"))._queue_polls
    assert polls is not None
    assert polls._core.tracker.known_queues() == {"a", "b"}
