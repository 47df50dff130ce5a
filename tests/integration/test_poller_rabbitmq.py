"""Queues of a real RabbitMQ, published to by Celery and delivered to consumers that do not acknowledge."""

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import pytest
from celery import Celery
from kombu import Connection, Consumer, Exchange, Queue, pools

from celeryscope import broker
from celeryscope.config import Config
from celeryscope.errors import PollError
from celeryscope.pollers import BrokerPoller
from celeryscope.pollers.amqp import AmqpPoller
from celeryscope.pollers.management import ManagementPoller
from celeryscope.readings import BrokerReading, QueueReading
from support.processes import python, pythonpath, started
from support.rabbitmq import RabbitMQ, needs_rabbitmq
from support.servers import free_port
from support.waiting import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(180),
    pytest.mark.system("rabbitmq-server"),
    needs_rabbitmq,
]

WAIT = 60.0  # seconds: the broker counts every 5 s
# What docs/operations.md says that a user needs, in the virtual host; none of the queues of work is among it.
OWN = r"^(celeryev(\.celeryscope\..+)?|celery\.pidbox|(.+\.)?reply\.celery\.pidbox)$"
QUORUM_TASKS = """
import os
from celery import Celery

app = Celery("quorum", broker=os.environ["OBSERVED_BROKER"])
app.conf.update(
    task_default_queue="shop",
    task_default_queue_type="quorum",
    task_default_exchange_type="topic",
    worker_detect_quorum_queues=True,
    broker_transport_options={"confirm_publish": True},
)


@app.task(name="shop.pay")
def pay():
    pass
"""

T = TypeVar("T")


@pytest.fixture
def vhost(rabbitmq_server: RabbitMQ) -> str:
    """A virtual host for this test alone."""
    return rabbitmq_server.add_vhost()


@pytest.fixture
def url(rabbitmq_server: RabbitMQ, vhost: str) -> str:
    return rabbitmq_server.url_of(vhost)


def amqp(url: str, *known: str, hidden: Collection[str] = (), **options: Any) -> AmqpPoller:
    app = broker.celery_app(Config(broker_url=url, broker_transport_options=options))
    connect = partial(broker.connect, app)
    return AmqpPoller(connect, lambda: known, lambda name: name not in hidden, describe=broker.describe)


def management(
    server: RabbitMQ,
    vhost: str,
    *known: str,
    url: str = "",
    hidden: Collection[str] = (),
    fallback: BrokerPoller | None = None,
) -> ManagementPoller:
    return ManagementPoller(
        url or server.management_url(),
        vhost,
        lambda: known,
        lambda name: name not in hidden,
        fallback=fallback,
    )


def by_name(reading: BrokerReading) -> dict[str, QueueReading]:
    return {queue.queue: queue for queue in reading.queues}


def eventually(poller: BrokerPoller, wanted: Callable[[BrokerReading], T | None]) -> T:
    """Poll until what `wanted` makes of a reading is true; return that."""
    found = wait_until(lambda: wanted(poller.poll()), WAIT, "the broker tells it")
    assert found is not None
    return found


def queue_of(name: str, **arguments: Any) -> Queue:
    queue: Queue = Queue(name, Exchange(name), name, queue_arguments=arguments)
    return queue


def publish(url: str, queue: Queue | str, count: int, **options: Any) -> None:
    """Send tasks to a queue, which Celery declares, as applications do."""
    app = Celery("producer", broker=url, set_as_current=False)
    app.conf.broker_transport_options = {"confirm_publish": True}
    if isinstance(queue, Queue):
        app.conf.task_queues = [queue]
    for _ in range(count):
        app.send_task("shop.pay", queue=queue if isinstance(queue, str) else queue.name, **options)
    pools.reset()


def declare(url: str, *queues: Queue) -> None:
    with Connection(url) as connection:
        for queue in queues:
            queue(connection.default_channel).declare()


@contextmanager
def unacknowledged(url: str, queue: str, count: int) -> Iterator[None]:
    """A consumer that takes messages and keeps them, for the length of a block."""
    taken: list[Any] = []
    with Connection(url) as connection:
        channel = connection.channel()
        with Consumer(channel, [Queue(queue, no_declare=True)], prefetch_count=count, on_message=taken.append):
            while len(taken) < count:
                connection.drain_events(timeout=WAIT)
            yield


def names_of(server: RabbitMQ, vhost: str) -> set[str]:
    return {queue["name"] for queue in server.queues(vhost)}


def test_ready_and_consumers_by_passive_declare_of_every_kind_of_queue(
    rabbitmq_server: RabbitMQ, vhost: str, url: str
) -> None:
    publish(url, "plain", 5)
    publish(url, queue_of("safe", **{"x-queue-type": "quorum"}), 3)
    for priority in (1, 1, 9):
        publish(url, queue_of("urgent", **{"x-max-priority": 10}), 1, priority=priority)
    before = names_of(rabbitmq_server, vhost)
    poller = amqp(url, "plain", "safe", "urgent", "not-there", "", "x" * 256, "\ud800", "celeryev.x", hidden=["hidden"])
    with unacknowledged(url, "plain", 2):
        reading = eventually(poller, lambda told: told if by_name(told)["safe"].length == 3 else None)
    assert reading.queues == (
        QueueReading("plain", length=3, consumers=1),
        QueueReading("safe", length=3, consumers=0),
        QueueReading("urgent", length=3, consumers=0),
    )
    assert reading.version == rabbitmq_server.manage("GET", "overview")["rabbitmq_version"]
    for _ in range(100):
        poller.poll()
    assert names_of(rabbitmq_server, vhost) == before == {"plain", "safe", "urgent"}
    (connection,) = [one for one in rabbitmq_server.connections() if one["vhost"] == vhost]
    assert dict(connection)["state"] == "running"
    poller.close()
    wait_until(lambda: all(c["vhost"] != vhost for c in rabbitmq_server.connections()), WAIT, "it is gone")


def test_a_queue_that_goes_and_comes_again_is_told_while_it_is_there(
    rabbitmq_server: RabbitMQ, vhost: str, url: str
) -> None:
    publish(url, "first", 1)
    publish(url, "second", 2)
    poller = amqp(url, "first", "second")
    assert set(by_name(poller.poll())) == {"first", "second"}
    rabbitmq_server.control("delete_queue", "-p", vhost, "first")
    assert by_name(poller.poll()) == {"second": QueueReading("second", length=2, consumers=0)}
    publish(url, "first", 1)
    assert any("first" in by_name(poller.poll()) for _ in range(3))
    poller.close()


@pytest.mark.parametrize(
    "name", ["shop/eu", *(pytest.param(name, marks=pytest.mark.full) for name in ("50%25", "späti"))]
)
def test_virtual_hosts_of_odd_names(rabbitmq_server: RabbitMQ, name: str) -> None:
    vhost = rabbitmq_server.add_vhost(name)
    url = rabbitmq_server.url_of(vhost)
    publish(url, "jobs", 2)
    assert by_name(amqp(url, "jobs").poll())["jobs"].length == 2
    app = broker.celery_app(Config(broker_url=url))
    assert broker.virtual_host(app) == vhost == unquote(url.rpartition("/")[2])
    poller = management(rabbitmq_server, vhost)
    assert eventually(poller, lambda told: by_name(told)["jobs"].length == 2)


def test_a_connection_that_the_broker_closed_is_replaced_silently(
    rabbitmq_server: RabbitMQ, vhost: str, url: str
) -> None:
    publish(url, "jobs", 1)
    poller = amqp(url, "jobs")
    first = poller.poll()
    used = poller._session._broker
    rabbitmq_server.control("close_all_connections", "-p", vhost, "tidying up")

    def replaced() -> bool:
        assert poller.poll() == first
        return poller._session._broker is not used

    wait_until(replaced, WAIT, "it has another connection")
    poller.close()


def test_a_broker_that_is_frozen_is_an_error_and_one_that_comes_back_is_asked_again(
    rabbitmq_server: RabbitMQ, url: str
) -> None:
    publish(url, "jobs", 1)
    poller = amqp(url, "jobs", read_timeout=1.0)
    first = poller.poll()
    rabbitmq_server.pause()
    try:
        with pytest.raises(PollError, match="did not answer in time"):
            poller.poll()
        poller.close()
    finally:
        rabbitmq_server.resume()
    assert poller.poll() == first
    poller.close()


def test_nobody_there_and_who_is_refused_are_told_in_one_line(rabbitmq_server: RabbitMQ, vhost: str) -> None:
    with pytest.raises(PollError, match="refused the connection"):
        amqp(f"amqp://guest:guest@127.0.0.1:{free_port()}//", "jobs").poll()
    with pytest.raises(PollError, match="refused the credentials") as caught:
        amqp(rabbitmq_server.url_of(vhost, "guest", "wrong-secret"), "jobs").poll()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_permissions_of_the_event_stream_are_enough(rabbitmq_server: RabbitMQ, vhost: str, url: str) -> None:
    publish(url, "jobs", 1)
    rabbitmq_server.add_user("poller", "pollers-secret", "management")
    rabbitmq_server.grant("poller", vhost, OWN, OWN, OWN)
    poller = amqp(rabbitmq_server.url_of(vhost, "poller", "pollers-secret"), "jobs")
    assert by_name(poller.poll())["jobs"].length == 1
    poller.close()
    told = eventually(
        management(rabbitmq_server, vhost, url=rabbitmq_server.management_url("poller", "pollers-secret")),
        lambda told: told if by_name(told)["jobs"].length == 1 else None,
    )
    assert told.version
    assert (told.memory_used, dict(told.alarms)) == (None, {})  # that takes the tag monitoring


def test_the_management_api_tells_everything_of_celerys_queues_and_nothing_of_others(
    rabbitmq_server: RabbitMQ, vhost: str, url: str
) -> None:
    publish(url, "plain", 5)
    publish(url, queue_of("safe", **{"x-queue-type": "quorum"}), 3)
    for priority in (1, 1, 9):
        publish(url, queue_of("urgent", **{"x-max-priority": 10}), 1, priority=priority)
    publish(url, "hidden", 1)
    declare(
        url,
        Queue("orders", Exchange("shop", type="topic"), "order.#"),
        Queue("named", Exchange("shop", type="topic"), "named"),
        Queue("node.celery.pidbox", Exchange("celery.pidbox", type="fanout")),
        Queue("celeryev.7", Exchange("celeryev", type="topic"), "#"),
    )
    before = names_of(rabbitmq_server, vhost)
    poller = management(rabbitmq_server, vhost, "named", hidden=["hidden"])
    with unacknowledged(url, "plain", 2), unacknowledged(url, "safe", 1):

        def told(reading: BrokerReading) -> BrokerReading | None:
            numbers = {name: (q.length, q.unacked, q.consumers, q.delayed) for name, q in by_name(reading).items()}
            wanted = {
                "named": (0, 0, 0, None),
                "plain": (3, 2, 1, None),
                "safe": (2, 1, 1, None),
                "urgent": (3, 0, 0, None),
            }
            if numbers != wanted or sum(by_name(reading)["urgent"].by_priority.values()) != 3:
                raise AssertionError(reading)
            return reading

        reading = eventually(poller, told)
    queues = by_name(reading)
    assert {level: count for level, count in queues["urgent"].by_priority.items() if count} == {1: 2, 9: 1}
    told_by_ctl = {queue["name"]: queue["message_bytes"] for queue in rabbitmq_server.queues(vhost)}
    assert {name: queues[name].bytes for name in ("plain", "urgent")} == {
        name: told_by_ctl[name] for name in ("plain", "urgent")
    }
    assert reading.version == rabbitmq_server.manage("GET", "overview")["rabbitmq_version"]
    assert 0 < (reading.memory_used or 0) < (reading.memory_max or 0)
    assert reading.alarms == {"memory": False, "disk": False}
    for _ in range(100):
        poller.poll()
    assert names_of(rabbitmq_server, vhost) == before


@pytest.mark.full
def test_a_memory_alarm_is_told_while_it_is_raised(rabbitmq_server: RabbitMQ, vhost: str) -> None:
    poller = management(rabbitmq_server, vhost)
    rabbitmq_server.control("set_vm_memory_high_watermark", "0.0001")
    try:
        reading = eventually(poller, lambda told: told if told.alarms["memory"] else None)
        assert reading.alarms == {"memory": True, "disk": False}
        assert (reading.memory_used or 0) > (reading.memory_max or 0)
    finally:
        rabbitmq_server.control("set_vm_memory_high_watermark", "0.4")
    assert eventually(poller, lambda told: not told.alarms["memory"])


@pytest.mark.full
def test_tasks_of_native_delayed_delivery_are_delayed(
    rabbitmq_server: RabbitMQ, vhost: str, url: str, tmp_path: Path
) -> None:
    (tmp_path / "quorum_tasks.py").write_text(QUORUM_TASKS)
    environ = {"OBSERVED_BROKER": url, "PYTHONPATH": pythonpath(tmp_path)}
    command = python("-m", "celery", "-A", "quorum_tasks", "worker", "-P", "threads", "-c", "1", "-l", "INFO")
    with started(command, tmp_path / "worker.log", environ) as worker:
        wait_until(lambda: "ready." in worker.log, WAIT, "the worker has declared the queues")
    send = "import quorum_tasks as q; [q.pay.apply_async(countdown=c) for c in (3600, 90000, 3700)]; q.pay.delay()"
    with started(python("-c", send), tmp_path / "producer.log", environ) as producer:
        assert producer.wait(WAIT) == 0, producer.tail()
    for poller in (amqp(url, "shop"), management(rabbitmq_server, vhost)):
        queues = eventually(
            poller, lambda told: queues if (queues := by_name(told))["celery_delayed"].delayed == 3 else None
        )
        assert set(queues) == {"celery_delayed", "shop"}
        assert queues["celery_delayed"] == QueueReading("celery_delayed", delayed=3)
        assert eventually(poller, lambda told: by_name(told)["shop"].length == 1)
        poller.close()


def test_queues_of_one_countdown_each_are_the_delay_of_the_queue_that_they_pass_to(
    rabbitmq_server: RabbitMQ, vhost: str, url: str
) -> None:
    publish(url, "shop", 1)
    with Connection(url) as connection:
        for number, exchange, key in ((1, "", "shop"), (2, "shop", "shop"), (3, "elsewhere", "nobody")):
            arguments = {
                "x-message-ttl": 3_600_000,
                "x-expires": 3_700_000,
                "x-dead-letter-exchange": exchange,
                "x-dead-letter-routing-key": key,
            }
            name = f"shop.delay.{number}.3f2a9b"
            queue = Queue(name, Exchange(""), name, queue_arguments=arguments)
            queue(connection.default_channel).declare()
            connection.Producer().publish({}, exchange="", routing_key=name)
    poller = management(rabbitmq_server, vhost)
    queues = eventually(
        poller,
        lambda told: queues if (queues := by_name(told))["shop"].delayed == 2 and queues["shop"].length else None,
    )
    assert set(queues) == {"shop"}


def test_where_the_management_api_fails_passive_declares_go_on_and_the_log_says_so_once(
    rabbitmq_server: RabbitMQ, vhost: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="celeryscope")
    publish(url, "jobs", 2)
    for address, said in (
        (f"http://guest:guest@127.0.0.1:{free_port()}", "cannot be reached"),
        (rabbitmq_server.management_url("guest", "wrong-secret"), "refused the credentials"),
        (f"http://127.0.0.1:{rabbitmq_server.port}", "the management API at"),  # AMQP's port
    ):
        caplog.clear()
        with pytest.raises(PollError, match=said) as caught:
            management(rabbitmq_server, vhost, url=address).poll()
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
        poller = management(rabbitmq_server, vhost, url=address, fallback=amqp(url, "jobs"))
        for _ in range(3):
            assert poller.poll().queues == (QueueReading("jobs", length=2, consumers=0),)
        (line,) = [record.getMessage() for record in caplog.records if record.name.endswith("management")]
        assert said in line
        poller.close()
    with pytest.raises(PollError, match="virtual host"):
        management(rabbitmq_server, "not-there").poll()


def test_a_frozen_management_api_is_an_error_in_time(rabbitmq_server: RabbitMQ, vhost: str) -> None:
    poller = ManagementPoller(rabbitmq_server.management_url(), vhost, set, bool, timeout=1.0)
    poller.poll()
    rabbitmq_server.pause()
    try:
        with pytest.raises(PollError, match="did not answer in time"):
            poller.poll()
    finally:
        rabbitmq_server.resume()
    poller.poll()


@pytest.mark.full
def test_five_thousand_queues_are_read_page_by_page(rabbitmq_server: RabbitMQ, vhost: str, url: str) -> None:
    with Connection(url) as connection:
        for number in range(5000):
            queue_of(f"many-{number}")(connection.default_channel).declare()
    poller = management(rabbitmq_server, vhost)
    assert len(eventually(poller, lambda told: told if len(told.queues) == 5000 else None).queues) == 5000
