"""The event stream of Redis over TLS, a Unix socket and Sentinel; and the whole exporter after a master was killed."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from celery import Celery

from celeryscope.broker import celery_app, connect, describe
from celeryscope.config import Config
from celeryscope.errors import StreamError
from celeryscope.stream import RawMessage, Received
from celeryscope.stream.canary import Canary
from celeryscope.stream.redis import RedisStream
from support.channel import event, publish
from support.exporter import exporter
from support.redis_servers import (
    MASTER_NAME,
    Redis,
    needs_redis,
    needs_sentinel,
    redis_server,
    valkey_on_a_socket,
    watched_redis,
)
from support.waiting import wait_until

pytestmark = pytest.mark.integration

WAIT = 10.0  # seconds


def application(url: str, **options: Any) -> Celery:
    return celery_app(Config(broker_url=url, broker_transport_options={"socket_timeout": 3.0} | options))


def send(app: Celery, *types: str) -> None:
    with app.connection_for_write() as connection, app.events.Dispatcher(connection) as dispatcher:
        for type_ in types:
            dispatcher.send(type_)


@contextmanager
def listening(app: Celery) -> Iterator[RedisStream]:
    stream = RedisStream(lambda: connect(app), app.conf.event_exchange, describe=describe)
    stream.connect()
    try:
        yield stream
    finally:
        stream.close()


def receive(stream: RedisStream, count: int) -> list[str]:
    """Read until `count` messages are there; return their types."""
    received: list[Received] = []

    def enough() -> bool:
        received.extend(stream.read(0.2))
        return len(received) >= count

    wait_until(enough, WAIT, f"{count} messages")
    return [msgspec.json.decode(item.body)["type"] for item in received if isinstance(item, RawMessage)]


def check_events_and_canaries(app: Celery) -> None:
    """Events of Celery's dispatcher and a canary arrive, one by one and in a burst, and the end is clean."""
    canary = Canary(lambda: connect(app))
    canary.connect()
    with listening(app) as stream:
        send(app, "worker-online", "task-started")
        assert receive(stream, 2) == ["worker-online", "task-started"]
        canary.send("canary-1", time.time())
        assert receive(stream, 1) == ["celeryscope-canary"]
        send(app, *["task-succeeded"] * 2000)
        assert receive(stream, 2000) == ["task-succeeded"] * 2000
        assert stream.read(0.1) == []
    canary.close()


@needs_redis
def test_events_over_tls(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", tls=True) as server:
        check_events_and_canaries(application(server.url))


@needs_redis
def test_a_certificate_that_is_not_trusted_is_said(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", tls=True) as server, redis_server(tmp_path / "other", tls=True) as other:
        url = f"{server.url.partition('?')[0]}?{other.url.partition('?')[2]}"
        with pytest.raises(StreamError, match="certificate is not accepted"), listening(application(url)):
            pass


@needs_redis
def test_a_server_with_tls_that_is_killed_is_noticed(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", tls=True) as server, listening(application(server.url)) as stream:
        server.kill()
        with pytest.raises(StreamError, match="lost the event stream"):
            stream.read(WAIT)


def test_events_over_a_unix_socket(tmp_path: Path) -> None:
    with valkey_on_a_socket(tmp_path / "valkey") as (server, url):
        app = application(url)
        check_events_and_canaries(app)
        with listening(app) as stream:
            server.kill()
            with pytest.raises(StreamError, match="lost the event stream"):
                stream.read(WAIT)


@needs_sentinel
def test_events_through_sentinel(tmp_path: Path) -> None:
    with watched_redis(tmp_path) as watched:
        check_events_and_canaries(application(watched.url, master_name=MASTER_NAME))


@needs_sentinel
def test_a_stream_follows_the_master(tmp_path: Path) -> None:
    with watched_redis(tmp_path) as watched:
        app = application(watched.url, master_name=MASTER_NAME)
        with listening(app) as stream:
            watched.master.kill()
            with pytest.raises(StreamError, match="lost the event stream"):
                stream.read(WAIT)

            def connected() -> bool:
                stream.connect()
                return True

            wait_until(connected, WAIT, "the stream finds the new master")
            send(app, "task-started")
            assert receive(stream, 1) == ["task-started"]


def count_until(running: Any, server: Redis, timeout: float) -> None:
    """Publish events on a server until the exporter has counted one: those of a time when it is deaf are gone."""
    before = running.scrape().value("celery_exporter_events_total", type="task-custom") or 0

    def counted() -> bool:
        with closing(server.client()) as client:
            publish(client, event("task-custom", uuid="1"))
        return (running.scrape().value("celery_exporter_events_total", type="task-custom") or 0) > before

    wait_until(counted, timeout, "events are counted")


@needs_sentinel
def test_an_exporter_counts_again_after_its_master_was_killed(tmp_path: Path) -> None:
    with watched_redis(tmp_path) as watched:
        options = ("--broker-transport-option", f"master_name={MASTER_NAME}")
        with exporter(watched.url, *options, log=tmp_path / "exporter.log") as running:
            count_until(running, watched.master, WAIT)
            watched.master.kill()
            count_until(running, watched.replica, WAIT)
            running.wait_for("celery_broker_up", 1.0, WAIT)
            running.wait_for("celery_exporter_connected", 1.0, WAIT)
            assert running.scrape().sum("celery_exporter_deaf_seconds_total") > 0


@needs_redis
def test_an_exporter_counts_over_tls(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path / "redis", tls=True) as server,
        exporter(server.url, log=tmp_path / "exporter.log") as running,
    ):
        count_until(running, server, WAIT)
        running.wait_until(
            lambda metrics: metrics.value("celery_exporter_canary_last_success_timestamp_seconds"), WAIT, "canaries fly"
        )
        assert running.complaints == []
