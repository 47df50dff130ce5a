"""The poller of Redis on real servers: every number is what Celery and kombu put there."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kombu import Exchange, Queue

from celeryscope.errors import PollError
from support.redis_polling import (
    HandClock,
    application,
    by_name,
    check_every_number,
    polling,
    send,
    taken,
)
from support.redis_servers import (
    FAILOVER_TIMEOUT,
    MASTER_NAME,
    needs_redis,
    needs_sentinel,
    redis_server,
    valkey_on_a_socket,
    watched_redis,
)
from support.servers import Valkey, valkey
from support.waiting import wait_until

pytestmark = pytest.mark.integration

OF_WORK = {"pay", "mail", "report"}


OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "key prefix": {"global_keyprefix": "shop*[1]:"},
    "ten steps": {"priority_steps": list(range(10))},
    "two steps and a separator": {"priority_steps": [0, 5], "sep": "::"},
    "priority order": {"queue_order_strategy": "priority", "visibility_timeout": 600},
    "own unacked": {"unacked_key": "shop.unacked", "unacked_index_key": "shop.index", "global_keyprefix": "s:"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_number_under_the_transport_options(valkey_server: Valkey, options: dict[str, Any]) -> None:
    send(application(valkey_server.database_url(4)), "elsewhere")
    check_every_number(application(valkey_server.database_url(3), **options), version="9.1.2")


def test_the_size_of_a_head_is_that_of_its_message(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    send(app, "pay")
    with polling(app) as poller, closing(valkey_server.client()) as client:
        (queue,) = poller.poll().queues
        message = client.lindex("pay", -1)
        assert isinstance(message, bytes)
        assert queue.head is not None
        assert queue.head.bytes == len(message)


def test_limits_of_memory_and_evictions(tmp_path: Path) -> None:
    limits = ("--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru")
    with valkey(tmp_path / "valkey", extra=limits) as server, closing(server.client()) as client:
        for number in range(60):
            client.set(f"other:{number}", b"x" * 100_000)
        with polling(application(server.url)) as poller:
            reading = poller.poll()
        assert (reading.memory_max, reading.eviction_policy) == (4 * 2**20, "allkeys-lru")
        assert reading.evicted_keys == client.info("stats")["evicted_keys"] > 0


def test_celerys_own_queues_are_none_and_no_worker_need_be_alive(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    for name in ("pay", "mail", "report"):
        send(app, name)
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": print})
        with receiver.consumer_context():
            app.control.inspect(timeout=0.1).ping()
            bound: Any = Queue("7b8f5f0e-52a3-4d5b-9a8c-111111111111", Exchange("replies"), routing_key="r")
            bound(connection.default_channel).declare()
            with polling(app) as poller:
                assert set(by_name(poller.poll())) == OF_WORK
                assert set(by_name(poller.poll())) == OF_WORK


def test_queues_that_others_know_of_and_queues_that_are_not_wanted(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    send(app, "pay")
    send(app, "mail")
    known = ["quiet", "report", "worker@host.celery.pidbox", "celeryev.1"]
    with polling(app, lambda: known, lambda name: name not in {"mail", "report"}) as poller:
        queues = by_name(poller.poll())
        assert {name: queue.length for name, queue in queues.items()} == {"pay": 1, "quiet": 0}
        known.clear()
        assert set(by_name(poller.poll())) == {"pay"}


def test_messages_of_topics_are_attributed_to_their_queue(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    topics = Exchange("topics", type="topic")
    app.conf.task_queues = [
        Queue("pay", topics, routing_key="shop.*.pay"),
        Queue("mail", topics, routing_key="mail.#"),
        Queue("direct", Exchange("straight"), routing_key="there"),
    ]
    for queue, routing_key in (("pay", "shop.uk.pay"), ("pay", "shop.de.pay"), ("mail", "mail.a.b.c")):
        app.send_task("shop.work", queue=queue, routing_key=routing_key)
    with app.connection_for_write() as connection:
        app.amqp.queues["direct"](connection.default_channel).declare()
    app.send_task("shop.work", exchange="straight", routing_key="there")
    with taken(app, "pay", 2), taken(app, "mail", 1), taken(app, "direct", 1), polling(app) as poller:
        unacked = {queue.queue: queue.unacked for queue in poller.poll().queues}
    assert unacked == {"pay": 2, "mail": 1, "direct": 1, "celery": 0}


def test_a_queue_is_forgotten_when_it_is_unbound_for_a_round_and_empty(valkey_server: Valkey) -> None:
    app, clock = application(valkey_server.url), HandClock()
    send(app, "pay")
    send(app, "mail")
    with polling(app, clock=clock) as poller, closing(valkey_server.client()) as client:
        assert set(by_name(poller.poll())) == {"pay", "mail"}
        client.delete("_kombu.binding.pay", "mail")
        assert set(by_name(poller.poll())) == {"pay", "mail"}
        clock.elapsed += 30
        assert {queue.queue: queue.length for queue in poller.poll().queues} == {"pay": 1, "mail": 0}
        client.delete("pay")
        assert set(by_name(poller.poll())) == {"mail"}


@needs_redis
def test_every_number_over_tls(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", tls=True) as server:
        check_every_number(application(server.url))


def test_every_number_over_a_unix_socket(tmp_path: Path) -> None:
    with valkey_on_a_socket(tmp_path / "valkey") as (server, url):
        check_every_number(application(url))
        with closing(server.client(3)) as client:
            assert client.exists("_kombu.binding.pay")


@needs_sentinel
def test_a_master_that_is_killed_is_followed(tmp_path: Path) -> None:
    with watched_redis(tmp_path) as watched:
        app = application(watched.url, master_name=MASTER_NAME)
        check_every_number(app)
        with polling(app) as poller:
            before = {name: queue.length for name, queue in by_name(poller.poll()).items()}
            with closing(watched.master.client()) as client:
                assert client.wait(1, 5000) == 1
            watched.master.kill()
            with pytest.raises(PollError):
                poller.poll()

            def found() -> bool:
                return {name: queue.length for name, queue in by_name(poller.poll()).items()} == before

            wait_until(found, FAILOVER_TIMEOUT, "the poller finds the new master")
