"""What the status page is told of the connection."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from celeryscope.errors import StreamError
from celeryscope.events import EventDecoder
from celeryscope.loops.canary import CanaryRounds
from celeryscope.loops.core import Core
from celeryscope.loops.listener import Listener
from celeryscope.metrics.health import ExporterHealth
from celeryscope.monitor import Monitor
from celeryscope.status.facts import Connection
from celeryscope.stream import Received
from support.story import Story, StoryClock


class FakeStream:
    """A stream that does what a test says whenever it is read."""

    def __init__(self, read: Callable[[], Sequence[Received]]) -> None:
        self._read = read

    def connect(self) -> None:
        pass

    def read(self, timeout: float) -> Sequence[Received]:
        return self._read()

    def close(self) -> None:
        pass


class Watched:
    """A monitor of a stream that is read once."""

    def __init__(self, error: Exception | None, canary_interval: float | None = 15.0) -> None:
        self.story = Story()
        clock = StoryClock(self.story)
        core = Core(self.story.store, self.story.tracker, ExporterHealth(self.story.store, clock, {}), clock)
        self._error = error
        self._stop = threading.Event()
        self.seen: Any = None
        self.listener = Listener(core, FakeStream(self._read), EventDecoder(("json",)))
        canary: Any = None  # nothing is sent
        rounds = None if canary_interval is None else CanaryRounds(core, canary, canary_interval, self.listener)
        self.monitor = Monitor(core, self.listener, rounds)

    def _read(self) -> Sequence[Received]:
        self.story.seconds += 100
        self.seen = self.monitor.status()
        self._stop.set()
        if self._error is not None:
            raise self._error
        return ()

    def run(self) -> None:
        self.listener.run(self._stop)


def test_before_the_first_attempt_no_reason_is_known() -> None:
    assert Watched(None).monitor.status().connection == Connection(open=False, seconds=0.0)


def test_while_the_stream_is_open_its_age_is_told() -> None:
    watched = Watched(None)
    watched.run()
    assert watched.seen.connection == Connection(open=True, seconds=100.0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StreamError("the broker is away"), "the broker is away"),
        (ZeroDivisionError(), "listening ended by an error of its own: the log says which"),
    ],
)
def test_what_ended_the_stream_is_told_whatever_it_was(error: Exception, reason: str) -> None:
    watched = Watched(error)
    with pytest.raises(type(error)):
        watched.run()
    watched.story.seconds += 7
    assert watched.monitor.status().connection == Connection(open=False, seconds=7.0, reason=reason)


@pytest.mark.parametrize(("interval", "unproved"), [(15.0, True), (60.0, False), (None, False)])
def test_a_missing_canary_is_judged_by_the_interval_at_which_they_are_sent(
    interval: float | None, unproved: bool
) -> None:
    watched = Watched(None, interval)
    watched.run()
    assert watched.seen.traffic.unproved is unproved
