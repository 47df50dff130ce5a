"""The kombu stream on kombu's in-process transport; what only a real broker shows is an integration test."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from celery import Celery
from kombu.connection import Connection
from kombu.transport.memory import Channel

from celeryscope.clock import Moment
from celeryscope.errors import InvalidEvent, StreamError
from celeryscope.stream import RawMessage, Received
from celeryscope.stream.canary import Canary
from celeryscope.stream.kombu import HEARTBEAT_CHECK, MAX_MESSAGES, QUEUE_PREFIX, KombuStream

URL = "memory://"


@pytest.fixture
def stream() -> Iterator[KombuStream]:
    stream = KombuStream(lambda: Connection(URL), max_message_bytes=1000)
    stream.connect()
    yield stream
    stream.close()


def send(*types: str, **fields: Any) -> None:
    app = Celery("observed", broker=URL, set_as_current=False)
    with app.connection_for_write() as connection, app.events.Dispatcher(connection) as dispatcher:
        for type_ in types:
            dispatcher.send(type_, **fields)


def types_of(received: Sequence[Received]) -> list[str]:
    return [msgspec.json.decode(item.body)["type"] for item in received if isinstance(item, RawMessage)]


def queues() -> list[str]:
    return [name for name in Channel.queues if name.startswith(QUEUE_PREFIX)]


def test_bodies_come_as_celery_made_them(stream: KombuStream) -> None:
    send("task-started", "worker-heartbeat", "task-own-kind")
    received = stream.read(1.0)
    assert types_of(received) == ["task-started", "worker-heartbeat", "task-own-kind"]
    assert isinstance(received[0], RawMessage)
    assert received[0].content_type == "application/json"
    assert received[0].content_encoding == "utf-8"
    assert stream.read(0.0) == []


def test_a_canary_comes_back(stream: KombuStream) -> None:
    canary = Canary(lambda: Connection(URL))
    canary.connect()
    canary.send("canary-1", 1.0)
    canary.close()
    assert types_of(stream.read(1.0)) == ["celeryscope-canary"]


def test_what_is_too_large_is_told_and_left_out(stream: KombuStream) -> None:
    send("task-failed", traceback="x" * 1000)
    send("task-started")
    first, second = stream.read(1.0)
    assert isinstance(first, InvalidEvent)
    assert first.reason == "too_large"
    assert types_of([second]) == ["task-started"]


def test_a_read_is_bounded_and_nothing_is_lost(stream: KombuStream) -> None:
    send(*["task-started"] * (MAX_MESSAGES + 1))
    assert [len(stream.read(1.0)), len(stream.read(1.0))] == [MAX_MESSAGES, 1]


def test_a_queue_of_its_own_goes_with_the_connection(stream: KombuStream) -> None:
    (first,) = queues()
    stream.connect()
    (second,) = queues()
    assert first != second
    stream.close()
    assert not queues()
    assert stream.read(1.0) == []


def test_not_connected_is_an_error() -> None:
    with pytest.raises(StreamError):
        KombuStream(lambda: Connection(URL)).read(0.1)


@pytest.mark.parametrize(
    ("url", "name"), [("zookeeper://127.0.0.1:1//", "zookeeper"), ("consul://127.0.0.1:1//", "con")]
)
def test_a_transport_without_fanout_is_refused_by_name_before_anything_is_opened(url: str, name: str) -> None:
    transport = SimpleNamespace(driver_type=name, Channel=SimpleNamespace(supports_fanout=False))
    broker: Any = SimpleNamespace(transport=transport, collect=lambda: None)
    with pytest.raises(StreamError, match=f"transport, {name}, has no fanout and so carries neither events") as caught:
        KombuStream(lambda: broker).connect()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["nosuchtransport://h", "memory://"])
def test_what_kombu_cannot_build_is_a_stream_error(url: str) -> None:
    def connection() -> Connection:
        raise KeyError(url)

    with pytest.raises(StreamError):
        KombuStream(connection).connect()


class Clock:
    def __init__(self) -> None:
        self.elapsed = 0.0

    def now(self) -> Moment:
        return Moment(0.0, self.elapsed)


class Transport:
    """A transport of AMQP that answers as it is told."""

    connection_errors = (ConnectionError,)
    channel_errors = ()

    def __init__(self, clock: Clock, *answers: Exception) -> None:
        self.checked: list[float] = []
        self._clock = clock
        self._answers = list(answers)

    def drain_events(self, connection: object, timeout: float) -> None:
        self._clock.elapsed += max(timeout, 0.001)
        raise self._answers.pop(0) if self._answers else TimeoutError()

    def heartbeat_check(self, connection: object, rate: float) -> None:
        self.checked.append(self._clock.elapsed)


def reading(clock: Clock, transport: Transport) -> KombuStream:
    stream = KombuStream(lambda: Connection(URL), clock=clock)
    stream._broker, stream._connection, stream._transport = Connection(URL), object(), transport
    return stream


def test_heartbeats_are_looked_after_in_a_quiet_stream() -> None:
    clock = Clock()
    transport = Transport(clock)
    stream = reading(clock, transport)
    for _ in range(40):
        assert stream.read(0.25) == []
    assert len(transport.checked) == pytest.approx(10.0 / HEARTBEAT_CHECK, abs=1)


@pytest.mark.parametrize(
    "error", [TimeoutError(110, "Connection timed out"), ConnectionError("gone"), OSError("closed")]
)
def test_a_lost_connection_is_told_and_never_opened_again_silently(error: Exception) -> None:
    clock = Clock()
    stream = reading(clock, Transport(clock, error))
    with pytest.raises(StreamError, match="lost the event stream"):
        stream.read(0.25)
    with pytest.raises(StreamError, match="not connected"):
        stream.read(0.25)


def test_what_came_before_a_connection_was_lost_is_returned_and_the_loss_told_after_it() -> None:
    clock = Clock()
    stream = reading(clock, Transport(clock, ConnectionError("gone")))
    stream._take(SimpleNamespace(body="{}"))
    assert stream.read(0.25) == [RawMessage(b"{}", "application/data", "binary")]
    with pytest.raises(StreamError, match="lost the event stream: gone"):
        stream.read(0.25)
    with pytest.raises(StreamError, match="not connected"):
        stream.read(0.25)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (SimpleNamespace(body="{}"), RawMessage(b"{}", "application/data", "binary")),
        (SimpleNamespace(body=None, content_type=None), RawMessage(b"", "application/data", "binary")),
        (SimpleNamespace(body=b"x", content_type=7), RawMessage(b"x", "7", "binary")),
        (SimpleNamespace(body="\ud800", content_encoding="u"), RawMessage(b"?", "application/data", "u")),
    ],
)
def test_whatever_a_message_holds_is_made_bytes(message: Any, expected: RawMessage) -> None:
    stream = KombuStream(lambda: Connection(URL))
    stream._take(message)
    assert stream._arrived == [expected]
