"""The canary: an event of our own, which proves by its return that the subscription hears.

It is published as Celery publishes its events, by kombu's producer to the event exchange; on a connection of
its own.
"""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery.events.event import get_exchange
from kombu.connection import Connection
from kombu.messaging import Producer

from celeryscope.connections import drop, errors_of, open_now, take_leave
from celeryscope.errors import StreamError

EVENT_TYPE = "celeryscope-canary"
# Neither `task.*` nor `worker.*`: Celery's gossip listens to the latter.
ROUTING_KEY = "celeryscope.canary"
TRANSIENT = 1  # AMQP delivery mode, as Celery's own events have it

_producer: Any = Producer  # kombu is typed in part; this is not


class Canary:
    """Sends canaries. Every failure is a StreamError of one line; call `connect` again after it."""

    def __init__(
        self,
        connection_factory: Callable[[], Connection],
        exchange: str = "celeryev",
        *,
        hostname: str | None = None,
        describe: Callable[[Exception], str] = str,
    ) -> None:
        """`exchange` is the application's `event_exchange`; `hostname` the node name that the event carries.

        `describe` makes one line of an error, with credentials masked.
        """
        self._connection_factory = connection_factory
        self._exchange_name = exchange
        self._hostname = hostname or f"celeryscope@{socket.gethostname()}"
        self._describe = describe
        self._connection: Any = None
        self._producer: Any = None

    @property
    def connected(self) -> bool:
        """Whether `send` may be called."""
        return self._producer is not None

    def connect(self) -> None:
        """Open the connection, and close the one before."""
        self._drop()
        try:
            connection: Any = self._connection_factory()
            self._connection = connection
            if connection.transport.driver_type == "amqp":
                # Without a confirmation, a broker that takes no messages lets them vanish without an error.
                own: dict[str, Any] = {"confirm_publish": True, "on_blocked": _refuse_blocked}
                connection.transport_options = {**connection.transport_options, **own}
            open_now(connection)
            exchange = get_exchange(connection, name=self._exchange_name)
            self._producer = _producer(connection.channel(), exchange, serializer="json", auto_declare=False)
        except errors_of(self._connection) as error:
            self._drop()
            raise StreamError(self._describe(error)) from error

    def send(self, id: str, timestamp: float) -> None:
        """Publish one canary. `timestamp` is now in Unix seconds."""
        producer = self._producer
        if producer is None:
            raise StreamError("the canary's connection is not open")
        event: dict[str, Any] = {
            "type": EVENT_TYPE,
            "id": id,
            "timestamp": timestamp,
            "hostname": self._hostname,
            "pid": os.getpid(),
            "utcoffset": 0,
            "clock": 0,
        }
        try:
            producer.publish(
                event,
                routing_key=ROUTING_KEY,
                headers={"hostname": self._hostname},
                declare=[producer.exchange],
                delivery_mode=TRANSIENT,
                retry=False,
            )
        except StreamError:
            self._drop()
            raise
        except errors_of(self._connection) as error:
            self._drop()
            raise StreamError(f"cannot publish: {self._describe(error)}") from error

    def close(self) -> None:
        """Close the connection, where there is one."""
        if self._connection is not None:
            # One that is broken may fail once more: what mattered has been reported.
            with suppress(*errors_of(self._connection)):
                take_leave(self._connection)
        self._drop()

    def _drop(self) -> None:
        """Let go of the connection, where there is one, without a word: the broker may not answer any more."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with suppress(*errors_of(connection)):
                drop(connection)


def _refuse_blocked(_reason: str) -> None:
    raise StreamError(
        "the broker takes no messages at present, events included (connection.blocked): it is short of memory or disk"
    )
