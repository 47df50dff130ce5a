"""Queues of SQS, on moto's server, published to by Celery."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import pools

from celeryscope import broker
from celeryscope.config import Config
from celeryscope.errors import PollError
from celeryscope.pollers.sqs import SqsPoller
from celeryscope.readings import BrokerReading, QueueReading
from support.servers import free_port
from support.sqs import OPTIONS, Sqs, sqs

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def started_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sqs]:
    with sqs(tmp_path_factory.mktemp("sqs")) as server:
        yield server


@pytest.fixture
def server(started_server: Sqs) -> Sqs:
    """A server without any queue."""
    started_server.reset()
    return started_server


def poller_of(url: str, *known: str, hidden: str = "", **options: Any) -> SqsPoller:
    app = broker.celery_app(Config(broker_url=url, broker_transport_options=OPTIONS | options))
    connect = partial(broker.connect, app)
    return SqsPoller(connect, lambda: known, lambda name: name != hidden, describe=broker.describe)


def publish(url: str, queue: str, count: int, **options: Any) -> None:
    app = Celery("producer", broker=url, set_as_current=False)
    app.conf.broker_transport_options = OPTIONS | options
    for _ in range(count):
        app.send_task("shop.pay", queue=queue)
    pools.reset()  # what is left in them remembers queues of an earlier test


def by_name(reading: BrokerReading) -> dict[str, QueueReading]:
    return {queue.queue: queue for queue in reading.queues}


def test_depth_what_is_in_flight_and_what_is_delayed_are_as_the_test_made_them(server: Sqs) -> None:
    publish(server.url, "shop.mail", 5)
    client = server.client()
    address = client.get_queue_url(QueueName="shop-mail")["QueueUrl"]
    for _ in range(2):
        client.send_message(QueueUrl=address, MessageBody="later", DelaySeconds=600)
    client.receive_message(QueueUrl=address, MaxNumberOfMessages=2)
    poller = poller_of(server.url, "shop.mail", "not-there")
    before = server.queues()
    reading = poller.poll()
    assert reading.queues == (QueueReading("shop.mail", length=3, unacked=2, delayed=2),)
    assert reading.visibility_timeout == 1800  # seconds: kombu's default
    for _ in range(20):
        assert poller.poll() == reading
    poller.close()
    assert poller.poll() == reading
    poller.close()
    assert server.queues() == before == ["shop-mail"]


def test_a_queue_that_comes_and_goes_is_told_while_it_is_there(server: Sqs) -> None:
    poller = poller_of(server.url, "shop")
    assert poller.poll().queues == ()
    publish(server.url, "shop", 1)
    assert any(by_name(poller.poll()) for _ in range(3))
    client = server.client()
    client.delete_queue(QueueUrl=client.get_queue_url(QueueName="shop")["QueueUrl"])
    assert poller.poll().queues == ()
    assert server.queues() == []


def test_with_a_prefix_all_its_queues_are_found_under_the_names_that_celery_has_for_them(server: Sqs) -> None:
    for queue in ("mail.high", "mail.low", "celery@host.celery.pidbox", "secret"):
        publish(server.url, queue, 1, queue_name_prefix="prod-")
    publish(server.url, "another", 1)
    poller = poller_of(server.url, "mail.low", hidden="secret", queue_name_prefix="prod-")
    assert {name: queue.length for name, queue in by_name(poller.poll()).items()} == {"mail-high": 1, "mail.low": 1}


def test_predefined_queues_are_asked_by_their_url_and_no_other_is(server: Sqs) -> None:
    address = server.client().create_queue(QueueName="jobs-of-the-shop")["QueueUrl"]
    predefined = {"jobs": {"url": address, "access_key_id": "other", "secret_access_key": "other-secret"}}
    publish(server.url, "jobs", 3, predefined_queues=predefined)
    poller = poller_of(server.url, "jobs", "not-predefined", predefined_queues=predefined)
    assert {name: queue.length for name, queue in by_name(poller.poll()).items()} == {"jobs": 3}
    assert server.queues() == ["jobs-of-the-shop"]


def test_names_that_sqs_cannot_have_are_not_asked_for(server: Sqs) -> None:
    publish(server.url, "shop", 1)
    assert set(by_name(poller_of(server.url, "shop", "x" * 81, "\ud800", "größe", "").poll())) == {"shop"}


def test_nobody_there_is_said_in_one_line_without_the_secret() -> None:
    url = f"sqs://key-id:secret-key@127.0.0.1:{free_port()}//"
    with pytest.raises(PollError, match="endpoint") as caught:
        poller_of(url, "shop").poll()
    assert "\n" not in str(caught.value)
    assert "secret-key" not in str(caught.value)


def test_a_missing_library_is_said_in_one_line(server: Sqs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] in {"boto3", "botocore"}]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("boto3", "botocore"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith(("kombu.transport.SQS", "kombu.asynchronous.aws"))]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(PollError, match=r"client library is missing.*celery\[sqs\]") as caught:
        poller_of(server.url, "shop").poll()
    assert "\n" not in str(caught.value)
