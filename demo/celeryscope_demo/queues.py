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

SPARE = 60.0  # seconds for which a delay queue stays, beyond its delay, after the last message was sent to it
MILLISECONDS = 1000


def _delay(seconds: int) -> Queue:
    name = f"{PREFIX}-delay-{seconds}s"
    arguments = {
        "x-message-ttl": seconds * MILLISECONDS,
        # Each declaration starts it anew. Not as kombu's `expires`: it would then declare the queue once alone.
        "x-expires": int((seconds + SPARE) * MILLISECONDS),
        "x-dead-letter-exchange": EXCHANGE.name,
        "x-dead-letter-routing-key": DEFAULT,
    }
    return Queue(name, Exchange(name, type="direct"), routing_key=DEFAULT, queue_arguments=arguments)


# Where messages wait in RabbitMQ until they are due, by seconds: nobody consumes these, and they pass to DEFAULT.
DELAYS = {seconds: _delay(seconds) for seconds in (5, 10)}

# Where work goes is decided here and not at the tasks: a queue is split, or a task moved, in one place.
ROUTES = {
    "archives.*": {"queue": HEAVY},
    "campaigns.*": {"queue": URGENT},
    "etl.*": {"queue": ETL},
    "exports.*": {"queue": CALLS},
    "feeds.*": {"queue": FEEDS},
    "mail.*": {"queue": MAIL},
    "media.*": {"queue": HEAVY},
    "notices.*": {"queue": URGENT},
    "pages.*": {"queue": CALLS},
    "partners.*": {"queue": CALLS},
    "photos.*": {"queue": URGENT},
    "presence.*": {"queue": LOW},
    "reminders.*": {"queue": MAIL},
    "reports.*": {"queue": LOW},
    "trickle.*": {"queue": TRICKLE},
    "webhooks.*": {"queue": CALLS},
}
