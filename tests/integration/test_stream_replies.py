"""Both ways to read the event stream give the same messages, to the byte."""

import base64
import json
from functools import partial
from pathlib import Path

import msgspec
import pytest
import redis
from kombu.connection import Connection

from celeryscope.stream import RawMessage
from celeryscope.stream import redis as stream_redis
from celeryscope.stream.redis import RedisStream
from celeryscope.stream.replies import PublicReplies, SocketReplies
from support.servers import Valkey
from support.waiting import wait_until

RECORDING = Path(__file__).resolve().parents[1] / "data" / "events.jsonl"

pytestmark = pytest.mark.integration


def envelopes() -> list[bytes]:
    """The recorded stream as kombu published it."""
    lines = [json.loads(line) for line in RECORDING.read_text().splitlines()]
    return [
        json.dumps(
            {
                "body": line["body"],
                "content-type": line["content_type"],
                "content-encoding": line["content_encoding"],
                "properties": {"body_encoding": "base64"},
            }
        ).encode()
        for line in lines
    ]


def test_the_recorded_stream_is_the_same_through_the_socket_and_through_redis_py(
    valkey_server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = partial(Connection, valkey_server.url)
    fast = RedisStream(connect)
    fast.connect()
    monkeypatch.setattr(stream_redis, "replies_of", PublicReplies)
    public = RedisStream(connect)
    public.connect()
    assert isinstance(fast._replies, SocketReplies)
    assert isinstance(public._replies, PublicReplies)
    # A message of a megabyte needs many pieces; one that is no envelope keeps its place among the others.
    large = json.dumps({"body": base64.b64encode(b"x" * 2**20).decode(), "properties": {"body_encoding": "base64"}})
    published = [*envelopes(), large.encode(), b"no envelope", *envelopes()]
    client = redis.Redis.from_url(valkey_server.url)
    with client.pipeline(transaction=False) as pipeline:
        for payload in published:
            pipeline.publish("/0.celeryev/task.multi", payload)
        pipeline.execute()
    client.close()
    heard: list[list[tuple[object, ...]]] = []
    for stream in (fast, public):
        received: list[tuple[object, ...]] = []

        def all_heard(stream: RedisStream = stream, received: list[tuple[object, ...]] = received) -> bool:
            received += [
                msgspec.structs.astuple(item) if isinstance(item, RawMessage) else ("invalid", item.reason)
                for item in stream.read(0.5)
            ]
            return len(received) == len(published)

        wait_until(all_heard, 20.0, "every message is read")
        stream.close()
        heard.append(received)
    assert heard[0] == heard[1]
    assert ("invalid", "envelope") in heard[0]
