import base64
import json
from typing import Any

import pytest
import redis

from celeryscope.clock import Moment
from celeryscope.errors import InvalidEvent, StreamError
from celeryscope.stream import RawMessage
from celeryscope.stream.envelope import unwrap
from celeryscope.stream.redis import RedisStream, subscription_topics
from celeryscope.stream.replies import replies_of

EVENT = b'{"type": "worker-heartbeat"}'


def envelope(**changes: Any) -> bytes:
    message: dict[str, Any] = {
        "body": base64.b64encode(EVENT).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"hostname": "celery@host"},
        "properties": {"body_encoding": "base64", "delivery_tag": "tag-1", "delivery_info": {}},
    }
    return json.dumps(message | changes).encode()


def test_unwrap_takes_kombus_envelope_off() -> None:
    assert unwrap(envelope()) == (RawMessage(EVENT, "application/json", "utf-8"), "tag-1")


@pytest.mark.parametrize("properties", [{}, {"body_encoding": None}, {"body_encoding": "utf-8"}])
def test_a_body_without_base64_is_text(properties: dict[str, str]) -> None:
    message, tag = unwrap(envelope(body='{"name": "\N{SNOWMAN}"}', properties=properties))
    assert message.body.decode() == '{"name": "\N{SNOWMAN}"}'
    assert tag is None


def test_missing_content_headers_are_binary_data() -> None:
    assert unwrap(b'{"body": "x"}')[0] == RawMessage(b"x", "application/data", "binary")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"garbage",
        b'{"body": null}',
        b'{"body": 1e999}',
        b'{"content-type": "application/json"}',
        b'{"body": "\xff"}',
        b'{"body": "\\ud800"}',
        b'{"body": "", "properties": 7}',
        b'{"body": "", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_envelope_is_invalid(payload: bytes) -> None:
    with pytest.raises(InvalidEvent) as caught:
        unwrap(payload)
    assert caught.value.reason == "envelope"


@pytest.mark.parametrize("body", ["a b", "abc", "\N{SNOWMAN}", "YQ==YQ==", "="])
def test_what_is_no_base64_is_invalid(body: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        unwrap(envelope(body=body))
    assert caught.value.reason == "body_encoding"


class FakeChannel:
    """A channel of kombu before 5.7, which knows one topic."""

    def __init__(self, *, prefix: str = "", patterns: bool = True) -> None:
        self.global_keyprefix = prefix
        self.patterns = patterns

    def _get_publish_topic(self, exchange: str, routing_key: str) -> str:
        return f"/0.{exchange}/{routing_key}" if self.patterns else f"/0.{exchange}"


class FakeCompatibleChannel(FakeChannel):
    """A channel of kombu 5.7 with sentinel_fanout_compat."""

    def _get_publish_topics(self, exchange: str, routing_key: str) -> list[str]:
        return [f"/0.{exchange}/{routing_key}", f"/{{db}}.{exchange}/{routing_key}"]


def test_topics_are_the_channels_own() -> None:
    assert subscription_topics(FakeChannel(), "celeryev") == ["/0.celeryev/*"]
    assert subscription_topics(FakeChannel(patterns=False), "celeryev") == ["/0.celeryev"]
    assert subscription_topics(FakeChannel(prefix="shop:"), "ev") == ["shop:/0.ev/*"]
    assert subscription_topics(FakeCompatibleChannel(prefix="p"), "ev") == ["p/0.ev/*", "p/{db}.ev/*"]


class FakeServer:
    """redis-py's side of a connection: replies to give, and a clock that waiting moves on."""

    def __init__(self, replies: list[Any]) -> None:
        self.elapsed = 100.0
        self.replies = replies
        self.sent: list[tuple[str, ...]] = []
        self.open = True

    def now(self) -> Moment:
        return Moment(self.elapsed, self.elapsed)

    def can_read(self, timeout: float) -> bool:
        if not self.replies:
            self.elapsed += timeout
        return bool(self.replies)

    def read_response(self, **_: object) -> Any:
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def send_command(self, *command: str, check_health: bool) -> None:
        assert not check_health
        self.sent.append(command)

    def disconnect(self) -> None:
        self.open = False


def never() -> Any:
    raise AssertionError("nothing connects in this test")


def opened(server: FakeServer, topics: int = 1, max_message_bytes: int = 1000) -> RedisStream:
    stream = RedisStream(never, max_message_bytes=max_message_bytes, clock=server)
    stream._connection = server
    stream._replies = replies_of(server)
    stream._heard_at = server.elapsed
    stream._started(topics)
    return stream


def published(payload: bytes, channel: bytes = b"/0.celeryev/task.started") -> list[bytes]:
    return [b"pmessage", b"/0.celeryev/*", channel, payload]


def test_a_read_returns_all_that_has_arrived_in_order() -> None:
    bodies = [f'{{"n": {number}}}'.encode() for number in range(5)]
    replies = [published(envelope(body=base64.b64encode(body).decode())) for body in bodies]
    received = opened(FakeServer(replies)).read(1.0)
    assert received == [RawMessage(body, "application/json", "utf-8") for body in bodies]


def test_a_bad_message_never_costs_its_neighbours() -> None:
    replies = [published(envelope()), published(b"{"), published(b"x" * 1001), published(envelope(body="!"))]
    received = opened(FakeServer([*replies, published(envelope())])).read(1.0)
    reasons = [item.reason if isinstance(item, InvalidEvent) else "" for item in received]
    assert reasons == ["", "envelope", "too_large", "body_encoding", ""]


def test_what_is_told_of_a_bad_message_does_not_hold_what_was_read_with_it() -> None:
    (invalid,) = opened(FakeServer([published(b"{")])).read(1.0)
    assert isinstance(invalid, InvalidEvent)
    assert invalid.__traceback__ is None


def test_what_came_before_the_end_of_a_connection_is_returned_and_the_end_told_after_it() -> None:
    server = FakeServer([published(envelope()), redis.ConnectionError("Connection closed by server.")])
    stream = opened(server)
    assert stream.read(1.0) == [RawMessage(EVENT, "application/json", "utf-8")]
    assert not server.open
    with pytest.raises(StreamError, match=r"lost the event stream: Connection closed by server\."):
        stream.read(1.0)
    with pytest.raises(StreamError, match="not connected"):
        stream.read(1.0)


def test_what_redis_py_calls_closed_is_read_to_its_end() -> None:
    class Closed(FakeServer):
        def can_read(self, timeout: float) -> bool:
            raise redis.ConnectionError("Connection closed by server.")

    end = redis.ConnectionError("Connection closed by server.")
    stream = opened(Closed([published(envelope()), published(envelope()), end]))
    assert len(stream.read(1.0)) == 2
    with pytest.raises(StreamError, match="lost the event stream"):
        stream.read(1.0)


def test_a_read_is_bounded_in_messages_and_bytes() -> None:
    stream = opened(FakeServer([published(envelope()) for _ in range(250)]))
    assert [len(stream.read(0)) for _ in range(4)] == [100, 100, 50, 0]
    stream = opened(FakeServer([published(b"x" * 2**20) for _ in range(40)]))
    assert [len(stream.read(0)) for _ in range(4)] == [16, 16, 8, 0]


def test_a_message_on_two_topics_is_returned_once() -> None:
    twice = [published(envelope()), published(envelope(), b"/{db}.celeryev/task.started")]
    assert len(opened(FakeServer([*twice]), topics=2).read(0)) == 1
    assert len(opened(FakeServer([*twice]), topics=1).read(0)) == 2
    untagged = [published(envelope(properties={}))] * 2
    assert len(opened(FakeServer(untagged), topics=2).read(0)) == 2


def test_silence_is_asked_about_and_then_an_error() -> None:
    server = FakeServer([])
    stream = opened(server)
    assert stream.read(4.0) == []
    assert server.elapsed == 104.0
    assert server.sent == []
    assert stream.read(8.0) == []
    assert server.elapsed == 112.0
    assert server.sent == [("PING",)]
    with pytest.raises(StreamError, match=r"lost the event stream: the broker has been silent for 20\.0 s"):
        stream.read(60.0)
    assert server.elapsed == 120.0
    assert not server.open
    with pytest.raises(StreamError, match="not connected"):
        stream.read(1.0)


@pytest.mark.parametrize("pong", [b"PONG", [b"pong", b""]], ids=["RESP3", "RESP2"])
def test_an_answer_ends_the_silence(pong: Any) -> None:
    server = FakeServer([])
    stream = opened(server)
    stream.read(15.0)
    server.replies.append(pong)
    assert stream.read(0) == []
    stream.read(14.0)
    assert server.sent == [("PING",)] * 2


def test_what_arrived_while_this_process_was_suspended_counts_as_heard() -> None:
    server = FakeServer([])
    stream = opened(server)
    stream.read(15.0)
    server.elapsed += 3600.0
    server.replies.append(published(envelope()))
    assert len(stream.read(1.0)) == 1
