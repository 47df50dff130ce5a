"""Polling a real Redis or Valkey whose queues a test has filled through Celery."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery
from kombu import Consumer

from celeryscope.broker import celery_app, connect, describe
from celeryscope.clock import Moment
from celeryscope.config import Config
from celeryscope.pollers.redis import RedisPoller
from celeryscope.readings import BrokerReading, QueueReading
from support.waiting import wait_until

WAIT = 10.0  # seconds


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.elapsed = 1000.0

    def now(self) -> Moment:
        return Moment(self.elapsed, self.elapsed)


def application(url: str, **options: Any) -> Celery:
    return celery_app(Config(broker_url=url, broker_transport_options={"socket_timeout": 3.0} | options))


@contextmanager
def polling(
    app: Celery,
    known: Callable[[], Collection[str]] = tuple,
    keeps: Callable[[str], bool] = lambda _: True,
    **settings: Any,
) -> Iterator[RedisPoller]:
    poller = RedisPoller(lambda: connect(app), known, keeps, describe=describe, **settings)
    try:
        yield poller
    finally:
        poller.close()


def send(app: Celery, queue: str, *priorities: int, **options: Any) -> list[str]:
    return [app.send_task("shop.work", queue=queue, priority=priority, **options).id for priority in priorities or (0,)]


@contextmanager
def taken(app: Celery, queue: str, count: int) -> Iterator[list[str]]:
    """Messages that a consumer has taken and not acknowledged: their task ids."""
    ids: list[str] = []
    with app.connection_for_write() as connection, connection.channel() as channel:
        consumer: Any = Consumer(
            channel,
            [app.amqp.queues[queue]],
            on_message=lambda message: ids.append(message.headers["id"]),
            prefetch_count=count,
        )
        with consumer:
            consumer.qos(prefetch_count=count)

            def enough() -> bool:
                connection.drain_events(timeout=1.0)
                return len(ids) == count

            wait_until(enough, WAIT, f"{count} messages of {queue} are taken")
            yield ids


def by_name(reading: BrokerReading) -> dict[str, QueueReading]:
    assert len({queue.queue for queue in reading.queues}) == len(reading.queues)
    return {queue.queue: queue for queue in reading.queues}


def steps_of(app: Celery) -> tuple[list[int], Callable[[int], int]]:
    """The priorities that this broker keeps apart, and which of them kombu makes of another."""
    with app.connection_for_write() as connection:
        channel: Any = connection.channel()
        steps = list(channel.priority_steps)
        return steps, channel.priority


def check_every_number(app: Celery, **expected: Any) -> None:
    """Publish to three queues, take some, and compare every number with that."""
    sent = {"pay": [*range(10), 0, 9], "mail": [5, 5, 5], "report": [0]}
    ids = {queue: send(app, queue, *priorities) for queue, priorities in sent.items()}
    steps, step_of = steps_of(app)
    before = time.time()
    with taken(app, "pay", 2) as gone, taken(app, "report", 1), polling(app) as poller:
        reading = poller.poll()
        queues = by_name(reading)
        assert set(queues) == set(sent)
        waiting = {name: list(zip(sent[name], ids[name], strict=True)) for name in sent}
        waiting["pay"] = [(priority, id_) for priority, id_ in waiting["pay"] if id_ not in gone]
        waiting["report"] = []
        for name, messages in waiting.items():
            queue = queues[name]
            counts = {step: sum(1 for priority, _ in messages if step_of(priority) == step) for step in steps}
            assert queue.by_priority == counts
            assert queue.length == len(messages)
            assert queue.unacked == {"pay": 2, "mail": 0, "report": 1}[name]
            assert (queue.delayed, queue.consumers, queue.bytes) == (None, None, None)
            if not messages:
                assert queue.head is None
                continue
            assert queue.head is not None
            # Of one step, the one sent first.
            assert queue.head.task_id == min(messages, key=lambda message: step_of(message[0]))[1]
        assert reading.oldest_unacked == pytest.approx(before, abs=WAIT)
        assert reading.oldest_unacked is not None
        assert before <= reading.oldest_unacked <= time.time()
        assert reading.visibility_timeout == app.conf.broker_transport_options.get("visibility_timeout", 3600)
        assert reading.memory_used is not None
        assert reading.memory_used > 100_000
        assert (reading.memory_max, reading.evicted_keys, reading.eviction_policy) == (None, 0, "noeviction")
        assert reading.version is not None
        for name, value in expected.items():
            assert getattr(reading, name) == value
    with polling(app) as poller:
        reading = poller.poll()
        assert {queue.unacked for queue in reading.queues} == {0}
        assert reading.oldest_unacked is None
        assert {name: queue.length for name, queue in by_name(reading).items()} == {
            name: len(priorities) for name, priorities in sent.items()
        }


def command(client: Any, *words: str) -> Any:
    return client.execute_command(*words)
