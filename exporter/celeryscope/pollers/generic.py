"""Queue lengths of every other transport, where kombu can count messages without creating a queue or taking a lock.

kombu's passive declare (`kombu/transport/virtual/base.py`, `Channel.queue_declare`) calls what creates the queue even
for one that exists; its two halves that only look are used here. Nothing is told of transports whose halves create what
is missing (sql, azurestoragequeues, SLMQ), lock (etcd), wait (consul), or know only what they consume themselves
(confluentkafka, gcpubsub).
"""

from collections.abc import Collection
from typing import Any

from celeryscope.pollers.by_name import ByNamePoller
from celeryscope.readings import BrokerReading, QueueReading

# kombu's `driver_type`. Of these a queue is there or not ...
TELL_WHICH = frozenset({"memory", "pgmq", "pyro", "zookeeper"})
# ... and of these it is only its messages, so that an empty one and none are the same.
TELL_MESSAGES = frozenset({"filesystem", "mongodb"})


class GenericPoller(ByNamePoller[Any]):
    """Asks for the length of every queue that is known, by name, where the transport can tell."""

    def _enter(self, broker: Any) -> Any:
        return broker.default_channel

    def _read(self, channel: Any, due: Collection[str]) -> BrokerReading:
        readings = []
        for name in due if can_count(channel) else ():
            if not has_queue(channel, name):
                self._roster.missing(name)
                continue
            self._roster.found(name)
            readings.append(QueueReading(name, length=int(channel._size(name))))  # noqa: SLF001  # kombu has no other
        return BrokerReading(tuple(readings))


def can_count(channel: Any) -> bool:
    """Whether a channel of kombu counts the messages of a queue, and changes nothing by it."""
    kind = channel.connection.driver_type
    if kind == "mongodb" and not channel.calc_queue_size:
        return False  # it answers 0 then
    return kind in TELL_WHICH | TELL_MESSAGES


def has_queue(channel: Any, name: str) -> bool:
    """Whether a queue is there, as far as the transport tells one from an empty one."""
    return channel.connection.driver_type in TELL_MESSAGES or bool(channel._has_queue(name))  # noqa: SLF001  # likewise
