"""The event stream and the canary on a real Valkey, published to by Celery's own event dispatcher."""

import base64
import gc
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from celery import Celery

from celeryscope.errors import InvalidEvent, StreamError
from celeryscope.stream import RawMessage, Received
from celeryscope.stream.canary import Canary
from celeryscope.stream.redis import RedisStream
from support.servers import Valkey, free_port
from support.waiting import wait_until

pytestmark = pytest.mark.integration

WAIT = 10.0  # seconds


def application(url: str, **options: Any) -> Celery:
    app = Celery("observed", broker=url, set_as_current=False)
    app.conf.broker_transport_options = {"socket_timeout": 2.0, "socket_connect_timeout": 2.0} | options
    return app


@contextmanager
def listening(app: Celery, **settings: Any) -> Iterator[RedisStream]:
    stream = RedisStream(app.connection_for_read, app.conf.event_exchange, **settings)
    stream.connect()
    try:
        yield stream
    finally:
        stream.close()


def send(app: Celery, *types: str, **fields: Any) -> None:
    with app.connection_for_write() as connection, app.events.Dispatcher(connection) as dispatcher:
        for type_ in types:
            dispatcher.send(type_, **fields)


def receive(stream: RedisStream, count: int) -> list[Received]:
    """Read until `count` messages are there; more than that fails."""
    received: list[Received] = []

    def enough() -> bool:
        received.extend(stream.read(0.2))
        return len(received) >= count

    wait_until(enough, WAIT, f"{count} messages")
    assert len(received) == count
    return received


def types_of(received: Sequence[Received]) -> list[str]:
    return [msgspec.json.decode(item.body)["type"] for item in received if isinstance(item, RawMessage)]


SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "key prefix": {"global_keyprefix": "shop:"},
    "no patterns": {"fanout_patterns": False},
    "no prefix": {"fanout_prefix": False},
    "own prefix": {"fanout_prefix": "/shop.{db}."},
    "RESP3 or 2 with retries": {"retry_on_timeout": True, "health_check_interval": 1},
}


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
def test_every_event_arrives_under_the_transport_options(valkey_server: Valkey, options: dict[str, Any]) -> None:
    app = application(valkey_server.database_url(3), **options)
    with listening(app) as stream:
        # Without a prefix nothing tells databases apart: that is kombu's.
        if options.get("fanout_prefix", True):
            send(application(valkey_server.database_url(4), **options), "task-elsewhere")
        send(app, "worker-online", "task-started", "task-succeeded")
        received = receive(stream, 3)
    assert types_of(received) == ["worker-online", "task-started", "task-succeeded"]
    first = received[0]
    assert isinstance(first, RawMessage)
    assert (first.content_type, first.content_encoding) == ("application/json", "utf-8")


def test_a_transport_option_of_the_wrong_type_is_said(valkey_server: Valkey) -> None:
    app = application(valkey_server.url, socket_timeout="soon")
    with pytest.raises(StreamError, match="str"), listening(app):
        pass
    with pytest.raises(StreamError, match="str"):
        Canary(app.connection_for_write).connect()


def test_another_event_exchange(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    app.conf.event_exchange = "events.of.shop"
    with listening(app) as stream:
        send(application(valkey_server.url), "task-elsewhere")
        send(app, "task-started")
        assert types_of(receive(stream, 1)) == ["task-started"]


def test_a_password(protected_valkey_server: Valkey) -> None:
    app = application(protected_valkey_server.url)
    with listening(app) as stream:
        send(app, "task-started")
        assert types_of(receive(stream, 1)) == ["task-started"]


@pytest.mark.parametrize("password", ["", ":wrong-secret@"], ids=["none", "wrong"])
def test_a_wrong_password_is_one_clear_line(protected_valkey_server: Valkey, password: str) -> None:
    app = application(f"redis://{password}127.0.0.1:{protected_valkey_server.port}/0")
    with pytest.raises(StreamError, match=r"(?i)auth|pass") as caught, listening(app):
        pass
    assert "\n" not in str(caught.value)
    assert "wrong-secret" not in str(caught.value)


@pytest.mark.parametrize("transport", ["redis", "nosuchtransport"])
def test_a_broker_that_is_not_there_is_said(transport: str) -> None:
    app = application(f"{transport}://127.0.0.1:{free_port()}/0")
    with pytest.raises(StreamError), listening(app):
        pass


def test_a_failover_url_is_tried_to_its_end(valkey_server: Valkey) -> None:
    app = application(f"redis://127.0.0.1:{free_port()}/0;{valkey_server.url}")
    with listening(app) as stream:
        send(application(valkey_server.url), "task-started")
        assert types_of(receive(stream, 1)) == ["task-started"]


def test_a_database_that_is_none_is_said(valkey_server: Valkey) -> None:
    app = application(f"redis://127.0.0.1:{valkey_server.port}/shop")
    with pytest.raises(StreamError, match="Database"), listening(app):
        pass


def test_subscribed_when_connect_returns_and_nothing_left_in_redis(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    with valkey_server.client() as client:
        assert client.keys() == []
        with listening(app) as stream:
            assert client.pubsub_numpat() == 1
            send(app, "task-started")
            canary = Canary(app.connection_for_write)
            canary.connect()
            canary.send("canary-1", 1.0)
            assert types_of(receive(stream, 2)) == ["task-started", "celeryscope-canary"]
            canary.close()
            assert client.keys() == []
        wait_until(lambda: client.pubsub_numpat() == 0, WAIT, "the subscription is gone")
        assert client.keys() == []


def test_a_canary_is_an_event_like_celerys(valkey_server: Valkey) -> None:
    app = application(valkey_server.url, global_keyprefix="shop:")
    with listening(app) as stream:
        canary = Canary(app.connection_for_write, hostname="celeryscope@test")
        assert not canary.connected
        with pytest.raises(StreamError):
            canary.send("too early", 1.0)
        canary.connect()
        canary.send("canary-1", 1_700_000_000.5)
        (message,) = receive(stream, 1)
        canary.close()
    assert isinstance(message, RawMessage)
    assert msgspec.json.decode(message.body) == {
        "type": "celeryscope-canary",
        "id": "canary-1",
        "timestamp": 1_700_000_000.5,
        "hostname": "celeryscope@test",
        "pid": os.getpid(),
        "utcoffset": 0,
        "clock": 0,
    }


def test_a_canary_says_that_the_broker_is_gone_and_flies_again(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    canary = Canary(app.connection_for_write)
    canary.connect()
    canary.send("canary-1", 1.0)
    valkey_server.kill()

    def refused() -> bool:
        with pytest.raises(StreamError, match="cannot publish"):
            canary.send("canary-2", 2.0)
        return True

    wait_until(refused, WAIT, "the loss is noticed")
    with pytest.raises(StreamError):
        canary.connect()
    valkey_server.start()
    canary.connect()
    canary.send("canary-3", 3.0)
    canary.close()


def test_a_killed_server_is_noticed_and_never_reconnected_silently(valkey_server: Valkey) -> None:
    app = application(valkey_server.url, retry_on_timeout=True)
    with listening(app) as stream:
        valkey_server.kill()
        with pytest.raises(StreamError, match="lost the event stream"):
            stream.read(WAIT)
        valkey_server.start()
        with pytest.raises(StreamError):
            stream.read(0.1)
        stream.connect()
        send(app, "task-started")
        assert types_of(receive(stream, 1)) == ["task-started"]


def test_a_subscription_that_the_server_ends_is_noticed(valkey_server: Valkey) -> None:
    with listening(application(valkey_server.url)) as stream, valkey_server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        with pytest.raises(StreamError, match="lost the event stream"):
            stream.read(WAIT)


def test_what_the_server_sent_before_it_ended_the_subscription_is_read(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    with listening(app) as stream, valkey_server.client() as client:
        send(app, *["task-started"] * 50)
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        assert len(receive(stream, 50)) == 50
        with pytest.raises(StreamError, match="lost the event stream"):
            stream.read(WAIT)


def test_a_frozen_server_is_noticed_in_time(valkey_server: Valkey) -> None:
    app = application(valkey_server.url, socket_timeout=0.3)
    with listening(app, ping_after=0.3, pong_timeout=0.3) as stream:
        # A server that is only quiet answers the question.
        assert stream.read(1.0) == []
        valkey_server.pause()
        with pytest.raises(StreamError, match="silent"):
            stream.read(WAIT)
        with pytest.raises(StreamError):
            stream.connect()
        valkey_server.resume()
        stream.connect()
        send(app, "task-started")
        assert types_of(receive(stream, 1)) == ["task-started"]


def test_a_large_message_and_one_too_large(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    with listening(app, max_message_bytes=16 * 2**20) as stream, listening(app) as bounded:
        send(app, "task-failed", traceback="x" * 10_000_000)
        send(app, "task-started")
        assert types_of(receive(stream, 2)) == ["task-failed", "task-started"]
        first, second = receive(bounded, 2)
    assert isinstance(first, InvalidEvent)
    assert first.reason == "too_large"
    assert types_of([second]) == ["task-started"]


def test_garbage_costs_nobody_else(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    body = base64.b64encode(b"\xff\xfe").decode()
    envelope = {"body": body, "content-type": "x/y", "properties": {"body_encoding": "base64"}}
    with listening(app) as stream, valkey_server.client() as client:
        client.publish("/0.celeryev/task.started", b"\x00\xff garbage")
        client.publish("/0.celeryev/", b"")
        client.publish("/0.celeryev/a/b\nc", json.dumps(envelope))
        client.publish("/0.celeryev/\xff", "[" * 200_000)
        send(app, "task-started")
        received = receive(stream, 5)
    reasons = [item.reason if isinstance(item, InvalidEvent) else None for item in received]
    assert reasons == ["envelope", "envelope", None, "envelope", None]
    assert received[2] == RawMessage(b"\xff\xfe", "x/y", "binary")


@pytest.mark.full
def test_reads_keep_up_with_a_burst(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    with listening(app) as stream:
        send(app, *["task-started"] * 3000)
        assert len(receive(stream, 3000)) == 3000


def test_close_from_another_thread_ends_a_waiting_read(valkey_server: Valkey) -> None:
    with listening(application(valkey_server.url)) as stream:
        results: list[Sequence[Received]] = []
        reading = threading.Event()

        def read() -> None:
            reading.set()
            results.append(stream.read(60.0))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        assert reading.wait(WAIT)
        wait_until(stream._lock.locked, WAIT, "the read has begun")
        stream.close()
        thread.join(WAIT)
        assert not thread.is_alive()
        assert results == [[]]
        stream.close()
        assert stream.read(1.0) == []


def test_close_does_not_wait_for_a_connect_that_hangs(valkey_server: Valkey) -> None:
    stream = RedisStream(application(valkey_server.url, socket_timeout=10 * WAIT).connection_for_read)
    valkey_server.pause()
    errors: list[StreamError] = []

    def connect() -> None:
        try:
            stream.connect()
        except StreamError as error:
            errors.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    wait_until(stream._lock.locked, WAIT, "the connect has begun")
    stream.close()
    assert thread.is_alive()
    valkey_server.resume()
    thread.join(WAIT)
    assert len(errors) == 1
    with valkey_server.client() as client:
        wait_until(lambda: len(client.client_list()) == 1, WAIT, "no connection but this client's is left")


def descriptors() -> int:
    # kombu's channels stand in reference cycles, and before 5.7 keep a file open until they are collected.
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files through /proc")
def test_attempts_in_vain_leave_no_file_open_till_the_next_garbage_collection() -> None:
    urls = ";".join(f"redis://127.0.0.1:{free_port()}/0" for _ in range(2))
    unreachable = RedisStream(application(urls).connection_for_read)
    canary = Canary(application(urls).connection_for_write)
    before = descriptors()
    gc.disable()
    try:
        for _ in range(10):
            for connect in (unreachable.connect, canary.connect):
                with pytest.raises(StreamError):
                    connect()
        assert len(list(Path("/proc/self/fd").iterdir())) <= before
    finally:
        gc.enable()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files through /proc")
def test_a_hundred_reconnects_leave_no_socket_behind(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    stream, canary = RedisStream(app.connection_for_read), Canary(app.connection_for_write)
    unreachable = RedisStream(application(f"redis://127.0.0.1:{free_port()}/0").connection_for_read)
    stream.connect()
    canary.connect()
    before = descriptors()
    for number in range(100):
        stream.connect()
        canary.connect()
        canary.send(str(number), 1.0)
        with pytest.raises(StreamError):
            unreachable.connect()
    receive(stream, 1)
    assert descriptors() <= before + 2
    with valkey_server.client() as client:
        # One subscription, the canary's two, and this client.
        wait_until(lambda: len(client.client_list()) <= 5, WAIT, "old connections are closed")
    stream.close()
    canary.close()
    assert descriptors() < before
