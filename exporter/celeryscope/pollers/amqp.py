"""Queues of RabbitMQ by passive declare: messages ready and consumers, of queues whose names are known.

AMQP tells no more: what is delivered and not acknowledged, sizes and priorities only the management API knows. A
passive declare ignores the queue's type and arguments, needs no permission, and creates nothing. For a queue that is
missing, or that belongs to another connection alone, the broker closes the channel.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from kombu.connection import Connection

from celeryscope.pollers.by_name import ByNamePoller
from celeryscope.pollers.queue_names import delayed_queues
from celeryscope.readings import BrokerReading, QueueReading

# What holds all tasks with an ETA until they are due, where Celery uses native delayed delivery. Whose they are stands
# in their routing keys, which cannot be seen without taking them.
DELAYED = "celery_delayed"
LONGEST_NAME = 255  # bytes that AMQP has for a queue's name
ABSENT = frozenset({403, 404, 405})  # refused, not there, or another connection's own
DELAY_LOOK = 8  # polls between two looks whether there is native delayed delivery, while there is none


class Declared(NamedTuple):
    """What a passive declare answers."""

    ready: int  # messages
    consumers: int


class AmqpPoller(ByNamePoller["_Channel"]):
    """Asks for every queue that is known, by name."""

    def __init__(
        self,
        connection_factory: Callable[[], Connection],
        known: Callable[[], Collection[str]],
        keeps: Callable[[str], bool],
        *,
        describe: Callable[[Exception], str] = str,
    ) -> None:
        """As of every poller by name; the connections should have a `read_timeout`."""
        super().__init__(connection_factory, known, keeps, describe=describe)
        self._delay_look = 0  # polls until the next

    def _enter(self, broker: Any) -> "_Channel":
        return _Channel(broker)

    def _read(self, channel: "_Channel", due: Collection[str]) -> BrokerReading:
        answers: dict[str, Declared] = {}
        for name in filter(askable, due):
            answer = channel.look(name)
            if answer is None:
                self._roster.missing(name)
            else:
                self._roster.found(name)
                answers[name] = answer
        queues = read_queues(answers)
        if self._roster.keeps(DELAYED):
            queues += self._delayed(channel)
        return BrokerReading(queues, version=channel.version)

    def _delayed(self, channel: "_Channel") -> tuple[QueueReading, ...]:
        if self._delay_look > 0:
            self._delay_look -= 1
            return ()
        *others, first = delayed_queues()  # Celery makes that of the longest delay first
        found = channel.look(first)
        if found is None:
            self._delay_look = DELAY_LOOK
            return ()
        answers = [found, *(channel.look(name) for name in others)]
        return (QueueReading(DELAYED, delayed=sum(answer.ready for answer in answers if answer)),)


def askable(name: str) -> bool:
    """Whether AMQP can carry this name. Events may carry any, and an empty one means the queue declared last."""
    try:
        return 0 < len(name.encode()) <= LONGEST_NAME
    except UnicodeEncodeError:
        return False


def read_queues(answers: Mapping[str, Declared]) -> tuple[QueueReading, ...]:
    """Return readings of what passive declares answered, by queue."""
    return tuple(QueueReading(name, length=a.ready, consumers=a.consumers) for name, a in answers.items())


class _Channel:
    """A channel that is opened again where the broker closes it."""

    def __init__(self, broker: Any) -> None:
        self._broker = broker
        self._connection: Any = broker.connection
        self._channel: Any = broker.channel()
        version = getattr(self._connection, "server_properties", {}).get("version")
        self.version: str | None = version if isinstance(version, str) else None

    def look(self, name: str) -> Declared | None:
        """Return what the broker tells of a queue; None where it is not there for us."""
        try:
            _, ready, consumers = self._channel.queue_declare(name, passive=True)
        except self._broker.channel_errors as error:
            if getattr(error, "code", None) not in ABSENT:
                raise
            # py-amqp opens the same channel again; another library may not.
            if not self._channel.is_open:
                self._channel = self._connection.channel()
            return None
        return Declared(int(ready), int(consumers))
