"""The queues, and what having several teaches.

Named for this demo alone, so that on a broker with other applications nobody takes the other's work. Work is
parted by what it needs and by how long it may wait, not by which module it stands in: calls to others wait for
the network, heavy work has a worker of its own, urgent work must not stand behind a mailing.
"""

from typing import Any

from kombu import Exchange, Queue

from celeryscope_demo.environment import on_rabbitmq

PREFIX = "demo"
DEFAULT = PREFIX
URGENT = f"{PREFIX}-urgent"  # what somebody waits for
LOW = f"{PREFIX}-low"  # what can wait; every worker but the heavy one helps with it and with the urgent queue
CALLS = f"{PREFIX}-calls"  # calls to third parties: mostly waiting
MAIL = f"{PREFIX}-mail"
FEEDS = f"{PREFIX}-feeds"  # fan-out of posts
ETL = f"{PREFIX}-etl"
HEAVY = f"{PREFIX}-heavy"  # seconds of computation: one worker, one task at a time
TRICKLE = f"{PREFIX}-trickle"  # a long job, fed a few at a time

EXCHANGE = Exchange(PREFIX, type="direct")

# On Redis, kombu keeps a list per step, and 0 is delivered first; on RabbitMQ the largest number is.
PRIORITY_STEPS = (0, 3, 6, 9)
MAX_PRIORITY = 9


def priority(urgency: int) -> int:
    """Return what to send as `priority`; `urgency` is 0 (may wait) to 9 (first), on every broker."""
    return urgency if on_rabbitmq() else MAX_PRIORITY - urgency


def _queue(name: str, **arguments: Any) -> Queue:
    return Queue(name, EXCHANGE, routing_key=name, queue_arguments=arguments or None)


def _prioritised(name: str) -> Queue:
    return _queue(name, **({"x-max-priority": MAX_PRIORITY} if on_rabbitmq() else {}))


QUEUES = (
    _queue(DEFAULT),
    _queue(URGENT),
    _prioritised(LOW),
    *(_queue(name) for name in (CALLS, MAIL, FEEDS, ETL, HEAVY, TRICKLE)),
)
