"""Events from RabbitMQ, and from every other broker whose transport has fanout, as a kombu consumer.

The consumer's queue is our own and goes with its connection; what a stopped or slow exporter leaves in it is bounded
by its length, its size and its age. Bodies are taken as they come: nothing is decoded or decompressed here.
"""

import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any

from celery.events.event import get_exchange
from kombu.connection import Connection
from kombu.entity import Queue

from celeryscope.clock import Clock, SystemClock
from celeryscope.connections import drop, errors_of, open_now, shut_down, take_leave
from celeryscope.errors import InvalidEvent, StreamError
from celeryscope.stream import RawMessage, Received
from celeryscope.stream.envelope import UNENCODED, UNTYPED

QUEUE_PREFIX = "celeryev.celeryscope"
# What the broker keeps for us at most; the oldest message gives way. Redis allows a subscriber 32 MB as well.
QUEUE_MESSAGES = 50_000
QUEUE_BYTES = 32 * 2**20
MESSAGE_TTL = 30.0  # seconds: an exporter that has not read for so long is being dropped by its heartbeat
QUEUE_EXPIRES = 60.0  # seconds without a consumer

MAX_MESSAGES = 1000  # in one read
MAX_BATCH_BYTES = 16 * 2**20  # in one read: messages may be large
STEP = 0.25  # seconds: how long a read waits before it looks whether the stream was closed
AT_ONCE = 0.001  # seconds: with 0, py-amqp spins until the rest of a message that has begun has come
HEARTBEAT_CHECK = 1.0  # seconds between two looks whether a heartbeat is due or overdue
CLOSE_TIMEOUT = 0.75  # seconds that `close` waits for a read that is under way: more than a step

logger = logging.getLogger(__name__)


class KombuStream:
    """The event stream of one broker that kombu can consume from."""

    def __init__(
        self,
        connection_factory: Callable[[], Connection],
        exchange: str = "celeryev",
        *,
        max_message_bytes: int = 4 * 2**20,
        clock: Clock | None = None,
        describe: Callable[[Exception], str] = str,
    ) -> None:
        """`connection_factory` returns a new kombu connection; `exchange` is the app's `event_exchange`.

        The connection should ask for a heartbeat, and bound what py-amqp would else wait for without end
        (`read_timeout`, `write_timeout`). A message whose body is larger than `max_message_bytes` is invalid.
        `describe` makes one line of an error, with credentials masked.
        """
        self._connection_factory = connection_factory
        self._exchange = exchange
        self._max_message_bytes = max_message_bytes
        self._clock = clock or SystemClock()
        self._describe = describe
        self._lock = Lock()  # around the use of the connection; `close` waits for it, then shuts the socket down
        self._closed = False
        self._broker: Any = None  # kombu's connection
        # What is below it, held here: kombu's own property would open a lost connection again, without our consumer.
        self._transport: Any = None
        self._connection: Any = None
        self._queue: Any = None
        self._arrived: list[Received] = []
        self._arrived_bytes = 0
        self._failure: str | None = None  # of a connection that is lost, to be told by the next read
        self._heartbeat_checked_at = 0.0  # elapsed seconds

    def connect(self) -> None:
        """Open the connection and subscribe; return once the broker has confirmed the consumer."""
        self.close()
        with self._lock:
            self._closed = False
            self._arrived, self._arrived_bytes, self._failure = [], 0, None
            try:
                self._open()
            except errors_of(self._broker) as error:
                self._drop()
                raise StreamError(self._describe(error)) from error
            except BaseException:
                self._drop()
                raise
            if self._closed:
                self._drop()
                raise StreamError("the event stream was closed while it was opened")

    def read(self, timeout: float) -> Sequence[Received]:
        """Return the messages that have arrived; wait up to `timeout` seconds for the first."""
        with self._lock:
            if self._closed:
                return []
            if self._connection is None:
                failure, self._failure = self._failure, None
                raise StreamError(failure or "the event stream is not connected")
            try:
                self._read(timeout)
            except errors_of(self._broker) as error:
                self._drop()
                # What came before the connection was lost has come all the same.
                failure = f"lost the event stream: {self._describe(error)}"
                if not (self._arrived or self._closed):
                    raise StreamError(failure) from error
                self._failure = failure
            finally:
                if self._closed:
                    self._take_leave()
            arrived, self._arrived, self._arrived_bytes = self._arrived, [], 0
            return arrived

    def close(self) -> None:
        """Give up the subscription. Where another thread waits in `read`, it returns within a step."""
        self._closed = True
        if self._lock.acquire(timeout=CLOSE_TIMEOUT):
            try:
                self._take_leave()
            finally:
                self._lock.release()
        elif (broker := self._broker) is not None:
            shut_down(broker)

    def _open(self) -> None:
        broker: Any = self._connection_factory()
        self._broker = broker
        transport = broker.transport
        _require_fanout(transport, getattr(transport, "Channel", None))
        open_now(broker)
        self._transport, self._connection = broker.transport, broker.connection
        channel: Any = broker.channel()
        _require_fanout(broker.transport, channel)
        channel.auto_decode = False  # py-amqp's: bodies stay bytes
        queue: Any = Queue(
            f"{QUEUE_PREFIX}.{uuid.uuid4()}",
            exchange=get_exchange(broker, name=self._exchange),
            routing_key="#",
            durable=False,
            exclusive=True,
            auto_delete=True,
            message_ttl=MESSAGE_TTL,
            expires=QUEUE_EXPIRES,
            max_length=QUEUE_MESSAGES,
            max_length_bytes=QUEUE_BYTES,
            queue_arguments={"x-overflow": "drop-head"},
        )(channel)
        queue.declare()
        self._queue = queue
        # Not through kombu's Consumer: it would decompress what says that it is compressed.
        queue.consume(callback=self._take, no_ack=True)
        self._heartbeat_checked_at = self._clock.now().elapsed
        logger.info("reading the event stream from queue %s", queue.name)

    def _read(self, timeout: float) -> None:
        deadline = self._clock.now().elapsed + timeout
        while True:
            remaining = max(0.0, deadline - self._clock.now().elapsed)
            wait = AT_ONCE if self._arrived else max(AT_ONCE, min(STEP, remaining))
            while self._drain(wait) and len(self._arrived) < MAX_MESSAGES and self._arrived_bytes < MAX_BATCH_BYTES:
                wait = AT_ONCE
            now = self._clock.now().elapsed
            self._check_heartbeat(now)
            if self._arrived or self._closed or now >= deadline:
                return

    def _drain(self, timeout: float) -> bool:
        """Take what comes next; return whether anything came within `timeout` seconds."""
        try:
            self._transport.drain_events(self._connection, timeout=timeout)
        except TimeoutError as error:
            if error.errno is not None:
                raise  # the system's, of a dead connection; the libraries' own has no number
            return False
        return True

    def _take(self, message: Any) -> None:
        body = message.body
        if isinstance(body, str):
            body = body.encode(errors="replace")
        elif not isinstance(body, bytes):
            body = b""
        size = len(body)
        self._arrived_bytes += size
        if size > self._max_message_bytes:
            self._arrived.append(InvalidEvent("too_large"))
            return
        # AMQP's messages, and kombu's of virtual transports, have both where they were sent with them.
        content_type = getattr(message, "content_type", None) or UNTYPED
        content_encoding = getattr(message, "content_encoding", None) or UNENCODED
        self._arrived.append(RawMessage(body, str(content_type), str(content_encoding)))

    def _check_heartbeat(self, now: float) -> None:
        if now - self._heartbeat_checked_at >= HEARTBEAT_CHECK:
            self._heartbeat_checked_at = now
            self._transport.heartbeat_check(self._connection, rate=2)

    def _take_leave(self) -> None:
        """End the connection in order, within the time that `close` may take."""
        broker, queue = self._broker, self._queue
        if queue is not None:
            with suppress(*errors_of(self._broker)):
                if is_virtual(queue.channel):
                    # These transports know neither exclusive queues nor such as delete themselves.
                    queue.delete()
                    queue.unbind_from(queue.exchange, queue.routing_key)
                take_leave(broker)
        self._drop()

    def _drop(self) -> None:
        """Let go of the connection without a word: the broker may not answer any more."""
        broker = self._broker
        self._broker = self._transport = self._connection = self._queue = None
        if broker is not None:
            with suppress(*errors_of(broker)):
                drop(broker)


def is_virtual(channel: Any) -> bool:
    """Whether kombu itself does what a broker of AMQP would do. `channel` is one, or the class of them."""
    return hasattr(channel, "supports_fanout")


def _require_fanout(transport: Any, channel: Any) -> None:
    """Raise StreamError where the transport cannot carry events; `channel` is one, or the class of them."""
    if is_virtual(channel) and not channel.supports_fanout:
        raise StreamError(
            f"the broker's transport, {transport.driver_type}, has no fanout and so carries neither events nor "
            "inspection: of tasks and workers nothing can be told; use Redis, Valkey or RabbitMQ for that"
        )
