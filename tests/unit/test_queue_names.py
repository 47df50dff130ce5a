"""Names that Celery and kombu make themselves, asked of them where they tell."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
from celery import Celery
from kombu import Connection
from kombu.common import Broadcast

from celeryscope.pollers.queue_names import delay_level, delayed_queues, is_work, kind_of

KOMBUS = "kombu.transport.native_delayed_delivery"
WORK = (
    "celery",
    "shop.pay",
    "celeryevents",
    "worker1@host.dq2",
    "reply",
    "pidbox",
    "reply.shop",
    "celery_delayed_28",
    "my_celery_delayed_x",
    "7b8f5f0e-52a3-4d5b-9a8c-1111111111",
    "amqp",
    "a\nb",
    "\N{PILE OF POO}",
)


@pytest.mark.parametrize("name", WORK)
def test_queues_of_work(name: str) -> None:
    assert kind_of(name) == "work"
    assert is_work(name)


def test_a_queue_without_a_name_is_none() -> None:
    assert not is_work("")


def test_what_celery_makes() -> None:
    app = Celery("observed", broker="memory://", set_as_current=False)
    with Connection("memory://") as connection:
        receiver = app.events.Receiver(connection)
        mailbox: Any = app.control.mailbox(connection)
    assert kind_of(receiver.queue.name) == kind_of(receiver.exchange.name) == "events"
    assert kind_of(mailbox.exchange.name) == kind_of(mailbox.get_queue("worker@host").name) == "control"
    assert kind_of(mailbox.reply_exchange.name) == kind_of(mailbox.get_reply_queue().name) == "reply"
    assert kind_of(app.thread_oid) == "reply"
    assert kind_of(app.thread_oid.replace("-", "")) == "reply"
    broadcast: Any = Broadcast("everybody")
    assert kind_of(broadcast.name) == "private"
    assert is_work("everybody")


def test_an_event_queue_of_another_prefix_is_private() -> None:
    app = Celery("observed", broker="memory://", set_as_current=False)
    app.conf.event_queue_prefix = "shop.events"
    with Connection("memory://") as connection:
        assert kind_of(app.events.Receiver(connection).queue.name) == "private"


@pytest.mark.parametrize("name", ["amq.gen-JzTY20BRgKO-HjmUJj0wLg", "amq.rabbitmq.reply-to", "amq.topic"])
def test_names_of_the_broker(name: str) -> None:
    assert kind_of(name) == "private"


@pytest.mark.parametrize(("prefix", "stem"), [("", "celery_delayed"), ("shop_a", "shop_a_celery_delayed")])
def test_delayed_delivery(prefix: str, stem: str) -> None:
    names = [f"{stem}_{level}" for level in range(28)]
    assert list(delayed_queues(prefix)) == names
    assert [delay_level(name) for name in names] == list(range(28))
    assert {kind_of(name) for name in names} == {kind_of(f"{stem}_delivery")} == {"delayed"}
    assert delay_level(f"{stem}_delivery") is delay_level("celery") is None


@pytest.mark.skipif(find_spec(KOMBUS) is None, reason="kombu has it since 5.5")
def test_delayed_delivery_has_the_names_that_kombu_gives() -> None:
    kombus = import_module(KOMBUS)
    assert list(delayed_queues()) == [kombus.level_name(level) for level in range(kombus.MAX_NUMBER_OF_BITS_TO_USE)]
    assert kind_of(kombus.CELERY_DELAYED_DELIVERY_EXCHANGE) == "delayed"
