"""Hearing without canaries, and the loops that are left out."""

from math import inf

import pytest

from celeryscope.app import build, tracker_settings
from celeryscope.broker import celery_app
from celeryscope.clock import SystemClock
from celeryscope.config import Config
from celeryscope.metrics.catalog import ALL
from celeryscope.tracker.witness import PATIENCE
from support.story import Story

ONE, TWO = "celery@one", "celery@two"
TIMEOUT = 30.0  # seconds: the default of worker_timeout


class PassiveStory(Story):
    """A story without canaries, whose stream is read every quarter of a second."""

    def __init__(self) -> None:
        super().__init__(canary_interval=inf)
        self.reads = True
        self.listen()

    def wait(self, seconds: float) -> None:
        end = self.seconds + seconds
        while self.seconds < end:
            super().wait(min(0.25, end - self.seconds))
            if self.reads:
                self.tracker.listened(self.now)

    def beat(self, seconds: float, *names: str) -> None:
        for _ in range(int(seconds / 2)):
            for name in names:
                self.heartbeat(hostname=name)
            self.wait(2)

    def up(self, name: str) -> float | None:
        value: float | None = self.value("celery_worker_up", name)
        return value

    def deaf(self) -> float:
        value: float = self.value("celery_exporter_deaf_seconds_total")
        return value


@pytest.fixture
def story() -> PassiveStory:
    return PassiveStory()


class TestDeafness:
    def test_no_canary_is_no_deafness(self, story: PassiveStory) -> None:
        story.wait(600)
        assert story.deaf() == 0

    def test_a_lost_connection_is(self, story: PassiveStory) -> None:
        story.wait(600)
        story.tracker.hearing.lost(story.now.elapsed)
        story.reads = False
        story.wait(20)
        story.reads = True
        story.listen()
        story.wait(600)
        assert story.deaf() == pytest.approx(20)

    def test_nothing_is_missed(self, story: PassiveStory) -> None:
        story.wait(600)
        assert not story.tracker.hearing.has_missed(story.now.elapsed)

    def test_no_metric_of_canaries_appears(self, story: PassiveStory) -> None:
        story.beat(60, ONE)
        names = [spec.name for spec in ALL if "canary" in spec.name]
        assert names
        assert all(story.series(name) == {} for name in names)


class TestLoss:
    def test_a_silent_worker_is_lost_beside_another_that_beats(self, story: PassiveStory) -> None:
        story.beat(20, ONE, TWO)
        story.beat(TIMEOUT + 4, TWO)
        assert (story.up(ONE), story.up(TWO)) == (0, 1)
        assert story.value("celery_worker_lost_total", ONE) == 1

    def test_the_only_worker_is_lost_a_while_later(self, story: PassiveStory) -> None:
        story.beat(20, ONE)
        story.wait(PATIENCE)
        assert story.up(ONE) == 1
        story.wait(TIMEOUT)
        assert story.up(ONE) == 0

    def test_silence_is_counted_anew_after_a_reconnection(self, story: PassiveStory) -> None:
        story.beat(20, ONE)
        story.wait(PATIENCE)
        story.tracker.hearing.lost(story.now.elapsed)
        story.wait(600)
        story.listen()
        story.wait(PATIENCE)
        assert story.up(ONE) == 1
        story.wait(TIMEOUT + 1)
        assert story.up(ONE) == 0

    def test_a_process_that_stood_still_hears_what_waited_before_it_judges(self, story: PassiveStory) -> None:
        story.beat(70, ONE, TWO)
        story.seconds += 600
        # The events of that time lie in the socket, in order; the first batch holds those of one worker only.
        story.heartbeat(hostname=TWO, at=story.seconds - 599)
        story.wait(0.25)
        assert (story.up(ONE), story.up(TWO)) == (1, 1)
        assert story.value("celery_worker_lost_total", ONE) == 0
        story.beat(20, ONE, TWO)
        assert story.value("celery_worker_lost_total", ONE) == 0

    def test_a_stream_that_is_not_read_proves_nothing(self, story: PassiveStory) -> None:
        story.beat(20, ONE)
        story.reads = False
        story.wait(600)
        assert story.up(ONE) == 1


def test_passive_builds_a_monitor_without_anything_that_writes() -> None:
    config = Config(broker_url="redis://127.0.0.1:1/0", passive=True)
    monitor = build(config, celery_app(config), SystemClock())
    assert (monitor._canary, monitor._polls, monitor._switching) == (None, None, None)
    assert tracker_settings(config).canary_interval == inf
    assert not monitor.is_ready()
    assert monitor._listener is not None
    assert monitor._queue_polls is not None
    monitor._listener.attempted.set()
    assert not monitor.is_ready()
    monitor._queue_polls.attempted.set()
    assert monitor.is_ready()


@pytest.mark.parametrize("enable_events", [False, True])
def test_task_events_are_switched_on_where_asked_for(enable_events: bool) -> None:
    config = Config(broker_url="redis://127.0.0.1:1/0", enable_events=enable_events)
    monitor = build(config, celery_app(config), SystemClock())
    assert (monitor._switching is not None) is enable_events
    assert monitor._canary is not None
    assert monitor._polls is not None
