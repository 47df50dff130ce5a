"""The event stream and the canary on a real RabbitMQ, published to by Celery's own event dispatcher."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from celery import Celery

from celeryscope import broker
from celeryscope.config import Config
from celeryscope.errors import InvalidEvent, StreamError
from celeryscope.pollers.mailbox import Mailbox
from celeryscope.stream import RawMessage, Received
from celeryscope.stream.canary import Canary
from celeryscope.stream.kombu import MESSAGE_TTL, QUEUE_BYTES, QUEUE_EXPIRES, QUEUE_MESSAGES, QUEUE_PREFIX, KombuStream
from support.exporter import Metrics, exporter
from support.rabbitmq import RabbitMQ, needs_rabbitmq
from support.servers import free_port
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, needs_rabbitmq]

WAIT = 20.0  # seconds
# What docs/operations.md says that a user needs.
OWN = r"^(celeryev(\.celeryscope\..+)?|celery\.pidbox|(.+\.)?reply\.celery\.pidbox)$"
LARGE = 100_000  # bytes of one event


@pytest.fixture
def url(rabbitmq_server: RabbitMQ) -> str:
    """A virtual host for this test alone."""
    return rabbitmq_server.url_of(rabbitmq_server.add_vhost())


def application(url: str, **options: Any) -> Celery:
    return broker.celery_app(Config(broker_url=url, broker_transport_options=options))


def stream_of(app: Celery, **settings: Any) -> KombuStream:
    connect = partial(broker.connect, app, heartbeat=True)
    return KombuStream(connect, app.conf.event_exchange, describe=broker.describe, **settings)


def canary_of(app: Celery) -> Canary:
    return Canary(partial(broker.connect, app), describe=broker.describe)


def fly(canary: Canary) -> None:
    canary.connect()
    canary.send("canary-1", 1.0)


@contextmanager
def listening(url: str, **settings: Any) -> Iterator[KombuStream]:
    stream = stream_of(application(url), **settings)
    stream.connect()
    try:
        yield stream
    finally:
        stream.close()


def send(url: str, *types: str, buffered: bool = False, **fields: Any) -> None:
    app = Celery("observed", broker=url, set_as_current=False)
    with (
        app.connection_for_write() as connection,
        app.events.Dispatcher(connection, buffer_group={"task"} if buffered else None) as dispatcher,
    ):
        for type_ in types:
            dispatcher.send(type_, **fields)
        dispatcher.flush()


def receive(stream: KombuStream, count: int) -> list[Received]:
    """Read until `count` messages are there; more than that fails."""
    received: list[Received] = []

    def enough() -> bool:
        received.extend(stream.read(0.2))
        return len(received) >= count

    wait_until(enough, WAIT, f"{count} messages")
    assert len(received) == count
    return received


def types_of(received: Sequence[Received]) -> list[str]:
    events = [msgspec.json.decode(item.body) for item in received if isinstance(item, RawMessage)]
    return [one["type"] for event in events for one in (event if isinstance(event, list) else [event])]


def ids_of(received: Sequence[Received]) -> list[str]:
    return [msgspec.json.decode(item.body)["id"] for item in received if isinstance(item, RawMessage)]


def vhost_of(url: str) -> str:
    return url.rpartition("/")[2]


def own_queues(server: RabbitMQ, url: str) -> list[dict[str, Any]]:
    return [queue for queue in server.queues(vhost_of(url)) if queue["name"].startswith(QUEUE_PREFIX)]


def lost(stream: KombuStream) -> StreamError:
    """Read until the stream says that it is lost."""
    errors: list[StreamError] = []

    def said() -> bool:
        try:
            stream.read(0.2)
        except StreamError as error:
            errors.append(error)
        return bool(errors)

    wait_until(said, 60.0, "the loss is noticed")
    return errors[0]


def test_every_event_arrives_as_celery_made_it_and_batches_in_one_piece(url: str) -> None:
    with listening(url) as stream:
        send(url, "worker-online", "task-started", "task-own-kind")
        single = receive(stream, 3)
        send(url, "task-received", "task-started", "task-succeeded", buffered=True)
        (batch,) = receive(stream, 1)
    assert types_of(single) == ["worker-online", "task-started", "task-own-kind"]
    assert isinstance(single[0], RawMessage)
    assert (single[0].content_type, single[0].content_encoding) == ("application/json", "utf-8")
    assert types_of([batch]) == ["task-received", "task-started", "task-succeeded"]


def test_its_queue_is_its_own_bounded_and_new_with_every_connection(rabbitmq_server: RabbitMQ, url: str) -> None:
    with listening(url) as stream:
        (queue,) = own_queues(rabbitmq_server, url)
        assert (queue["exclusive"], queue["auto_delete"], queue["durable"]) == (True, True, False)
        assert {name: value for name, _, value in queue["arguments"]} == {
            "x-max-length": QUEUE_MESSAGES,
            "x-max-length-bytes": QUEUE_BYTES,
            "x-overflow": "drop-head",
            "x-message-ttl": MESSAGE_TTL * 1000,
            "x-expires": QUEUE_EXPIRES * 1000,
        }
        stream.connect()
        (fresh,) = own_queues(rabbitmq_server, url)
        assert fresh["name"] != queue["name"]
        (connection,) = (one for one in rabbitmq_server.connections() if one["vhost"] == vhost_of(url))
        assert connection["timeout"] == broker.HEARTBEAT
    assert not own_queues(rabbitmq_server, url)


def test_another_event_exchange(url: str) -> None:
    app = application(url)
    app.conf.event_exchange = "events.of.shop"
    stream = stream_of(app)
    stream.connect()
    send(url, "task-elsewhere")
    with app.connection_for_write() as connection, app.events.Dispatcher(connection) as dispatcher:
        dispatcher.send("task-started")
    assert types_of(receive(stream, 1)) == ["task-started"]
    stream.close()


def test_a_large_message_and_one_too_large(url: str) -> None:
    with listening(url, max_message_bytes=16 * 2**20) as stream, listening(url) as bounded:
        send(url, "task-failed", traceback="x" * 10_000_000)
        send(url, "task-started")
        assert types_of(receive(stream, 2)) == ["task-failed", "task-started"]
        first, second = receive(bounded, 2)
    assert isinstance(first, InvalidEvent)
    assert first.reason == "too_large"
    assert types_of([second]) == ["task-started"]


def test_reads_keep_up_with_a_burst(url: str) -> None:
    with listening(url) as stream:
        send(url, *["task-started"] * 3000)
        assert len(receive(stream, 3000)) == 3000


def test_what_says_that_it_is_compressed_is_not_decompressed(url: str) -> None:
    app = Celery("observed", broker=url, set_as_current=False)
    with listening(url) as stream, app.connection_for_write() as connection:
        event = {"type": "task-started", "uuid": "x" * 1000}
        connection.Producer().publish(event, "task.started", exchange="celeryev", compression="gzip")
        (message,) = receive(stream, 1)
    assert isinstance(message, RawMessage)
    assert len(message.body) < 500


@pytest.mark.full
def test_a_canary_returns_waits_quietly_and_flies_again_after_a_restart(rabbitmq_server: RabbitMQ, url: str) -> None:
    app = application(url)
    canary = canary_of(app)
    with listening(url) as stream:
        canary.connect()
        canary.send("canary-1", 1.0)
        assert types_of(receive(stream, 1)) == ["celeryscope-canary"]
        (silent,) = (
            one for one in rabbitmq_server.connections() if one["vhost"] == vhost_of(url) and not one["timeout"]
        )
        assert silent["state"] == "running"
        rabbitmq_server.restart()
        assert "closed the connection" in str(lost(stream))
        with pytest.raises(StreamError, match="not connected"):
            stream.read(0.1)
        with pytest.raises(StreamError, match="cannot publish"):
            canary.send("canary-2", 1.0)
        stream.connect()
        canary.connect()
        canary.send("canary-3", 1.0)
        assert types_of(receive(stream, 1)) == ["celeryscope-canary"]
    canary.close()


def test_a_broker_short_of_memory_is_said_by_the_canary_and_costs_the_stream_nothing(
    rabbitmq_server: RabbitMQ, url: str
) -> None:
    canary = canary_of(application(url))
    with listening(url) as stream:
        rabbitmq_server.control("eval", "rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []}).")
        try:
            for _ in range(2):
                canary.connect()
                with pytest.raises(StreamError, match="takes no messages at present"):
                    canary.send("canary-1", 1.0)
            assert stream.read(0.1) == []
        finally:
            rabbitmq_server.control("eval", "rabbit_alarm:clear_alarm({resource_limit, memory, node()}).")
        canary.connect()
        canary.send("canary-2", 1.0)
        # What was refused may have been in the broker's hands, and comes now.
        wait_until(lambda: "canary-2" in ids_of(stream.read(0.2)), WAIT, "it comes back")
    canary.close()


def test_a_frozen_broker_is_noticed_after_two_heartbeats(rabbitmq_server: RabbitMQ, url: str) -> None:
    app = application(url, read_timeout=1.0)
    app.conf.update(broker_heartbeat=2, broker_connection_timeout=1)
    stream, canary = stream_of(app), canary_of(app)
    canary.connect()
    stream.connect()
    # A broker that is only quiet sends heartbeats.
    for _ in range(3):
        assert stream.read(2.0) == []
    rabbitmq_server.pause()
    try:
        assert "silent for two heartbeats" in str(lost(stream))
        with pytest.raises(StreamError, match="did not answer in time"):
            stream.connect()
        with pytest.raises(StreamError, match="did not answer in time"):
            canary.send("canary-1", 1.0)
    finally:
        rabbitmq_server.resume()
    stream.connect()
    send(url, "task-started")
    assert types_of(receive(stream, 1)) == ["task-started"]
    stream.close()
    canary.close()


def test_a_queue_that_somebody_deletes_is_noticed(rabbitmq_server: RabbitMQ, url: str) -> None:
    with listening(url) as stream:
        (queue,) = own_queues(rabbitmq_server, url)
        rabbitmq_server.control("delete_queue", "-p", vhost_of(url), queue["name"])
        assert "cancelled our consumer" in str(lost(stream))


def test_what_the_broker_sent_before_it_closed_the_connection_is_read(rabbitmq_server: RabbitMQ, url: str) -> None:
    with listening(url) as stream:
        (queue,) = own_queues(rabbitmq_server, url)
        send(url, *["task-started"] * 50)
        rabbitmq_server.control("delete_queue", "-p", vhost_of(url), queue["name"])
        assert len(receive(stream, 50)) == 50
        assert "cancelled our consumer" in str(lost(stream))


def test_close_from_another_thread_ends_a_waiting_read(rabbitmq_server: RabbitMQ, url: str) -> None:
    with listening(url) as stream:
        results: list[Sequence[Received]] = []
        thread = threading.Thread(target=lambda: results.append(stream.read(60.0)), daemon=True)
        thread.start()
        wait_until(stream._lock.locked, WAIT, "the read has begun")
        stream.close()
        thread.join(WAIT)
        assert not thread.is_alive()
        assert results == [[]]
        assert stream.read(1.0) == []
        assert not own_queues(rabbitmq_server, url)
    assert "closed TCP connection" not in rabbitmq_server.log.rpartition(vhost_of(url))[2]


def test_close_does_not_wait_for_a_broker_that_is_frozen(rabbitmq_server: RabbitMQ, url: str) -> None:
    with listening(url) as stream:

        def connect() -> None:
            with suppress(StreamError):
                stream.connect()

        rabbitmq_server.pause()
        try:
            stream.close()
            thread = threading.Thread(target=connect, daemon=True)
            thread.start()
            wait_until(stream._lock.locked, WAIT, "the connect has begun")
            stream.close()
            thread.join(WAIT)
            assert not thread.is_alive()
        finally:
            rabbitmq_server.resume()


@pytest.mark.parametrize(
    ("user", "password", "vhost", "said"),
    [
        ("guest", "wrong-secret", "", "refused the credentials"),
        ("guest", "guest", "not-there", "refused the virtual host"),
        ("bob", "bobs-secret", "", "refused the virtual host"),
        ("eve", "eves-secret", "", "lacks a permission"),
    ],
)
def test_who_is_refused_is_told_why_in_one_line_without_the_secret(
    rabbitmq_server: RabbitMQ, url: str, user: str, password: str, vhost: str, said: str
) -> None:
    for name in ("bob", "eve"):
        rabbitmq_server.add_user(name, f"{name}s-secret")
    rabbitmq_server.grant("eve", vhost_of(url), configure="^$")
    app = application(rabbitmq_server.url_of(vhost or vhost_of(url), user, password))
    canary = canary_of(app)
    with pytest.raises(StreamError, match=said) as caught:
        stream_of(app).connect()
    with pytest.raises(StreamError, match=said):
        fly(canary)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_permissions_that_the_documentation_names_are_enough(rabbitmq_server: RabbitMQ, url: str) -> None:
    documented = Path(__file__).parents[2] / "docs" / "operations.md"
    assert OWN.strip("^$") in documented.read_text()
    rabbitmq_server.add_user("watcher", "watchers-secret")
    rabbitmq_server.grant("watcher", vhost_of(url), OWN, OWN, OWN)
    app = application(rabbitmq_server.url_of(vhost_of(url), "watcher", "watchers-secret"))
    stream, canary = stream_of(app), canary_of(app)
    stream.connect()
    fly(canary)
    assert types_of(receive(stream, 1)) == ["celeryscope-canary"]
    mailbox = Mailbox(app, partial(broker.connect, app), timeout=0.2, describe=broker.describe)
    assert mailbox.ask({"stats": {}}, None) == {}
    mailbox.close()
    canary.close()
    stream.close()


def test_nobody_there_is_said() -> None:
    with pytest.raises(StreamError, match="refused the connection"):
        stream_of(application(f"amqp://guest:guest@127.0.0.1:{free_port()}//")).connect()


def test_a_killed_exporter_leaves_nothing_behind(rabbitmq_server: RabbitMQ, url: str, tmp_path: Path) -> None:
    with exporter(url, log=tmp_path / "exporter.log") as running:
        wait_until(lambda: own_queues(rabbitmq_server, url), WAIT, "the queue is there")
        running.process.kill()
        wait_until(lambda: not rabbitmq_server.queues(vhost_of(url)), WAIT, "every queue is gone")


def test_what_a_stopped_exporter_leaves_in_the_broker_is_bounded(
    rabbitmq_server: RabbitMQ, url: str, tmp_path: Path
) -> None:
    with exporter(url, log=tmp_path / "exporter.log") as running:
        running.process.freeze()
        # Three times what the queue may hold.
        send(url, *["task-failed"] * (3 * QUEUE_BYTES // LARGE), traceback="x" * LARGE)
        (queue,) = own_queues(rabbitmq_server, url)
        assert 0 < queue["messages"] <= QUEUE_MESSAGES
        assert QUEUE_BYTES / 2 < queue["message_bytes"] <= QUEUE_BYTES
        running.process.signal(signal.SIGCONT)
        wait_until(lambda: own_queues(rabbitmq_server, url)[0]["messages"] == 0, WAIT, "it reads what is left")
        metrics = running.scrape()
        assert metrics.value("celery_exporter_connected") == 1
        assert metrics.sum("celery_exporter_reconnects_total") == 0


@pytest.mark.full
def test_an_exporter_that_is_stopped_for_long_is_dropped_and_comes_back(
    rabbitmq_server: RabbitMQ, url: str, tmp_path: Path
) -> None:
    with exporter(url, log=tmp_path / "exporter.log") as running:
        running.process.freeze()
        wait_until(lambda: not own_queues(rabbitmq_server, url), 60.0, "the broker drops who sends no heartbeat")
        running.process.signal(signal.SIGCONT)
        running.wait_until(lambda metrics: metrics.sum("celery_exporter_reconnects_total") >= 1, 60.0, "it comes back")
        running.wait_for("celery_exporter_connected", 1, 60.0)
        assert len(own_queues(rabbitmq_server, url)) == 1


@pytest.mark.full
def test_the_exporter_asks_the_workers_again_and_again_and_leaves_no_queue_that_grows(
    rabbitmq_server: RabbitMQ, url: str, tmp_path: Path
) -> None:
    with exporter(url, "--workers-poll-interval", "1s", log=tmp_path / "exporter.log") as running:
        send(url, "worker-heartbeat", freq=2.0, active=0, processed=0)

        def polled() -> set[str]:
            return {queue["name"] for queue in rabbitmq_server.queues(vhost_of(url)) if "pidbox" in queue["name"]}

        # It is there while workers are asked, and gone in between.
        first = wait_until(polled, WAIT, "there is a queue for replies")
        durations: set[float | None] = set()

        def polls_went_on(metrics: Metrics) -> bool:
            # Answered or not, each poll takes a time of its own.
            durations.add(metrics.value("celery_exporter_poll_duration_seconds", poller="workers"))
            return len(durations) > 3

        running.wait_until(polls_went_on, WAIT, "polls go on")
        assert polled() <= first
        assert all(not queue["messages"] for queue in rabbitmq_server.queues(vhost_of(url)))
        running.process.signal(signal.SIGTERM)
        assert running.process.wait(WAIT) == 0
        assert "still waiting" not in running.process.log
