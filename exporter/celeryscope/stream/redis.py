"""Events from Redis and Valkey, where Celery's event exchange is PUB/SUB.

kombu builds the connection as it is configured (TLS, Sentinel, credentials, database, key prefix, fanout) and
names the topics; the messages are read from one redis-py connection of our own, without kombu's virtual
transport in between. No queue is declared or bound: nothing is left behind in Redis.
"""

import logging
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any

import redis
from kombu.connection import Connection
from kombu.exceptions import KombuError
from kombu.transport.redis import Channel as KombuChannel

from celeryscope.clock import Clock, SystemClock
from celeryscope.connections import open_now, take_leave
from celeryscope.errors import InvalidEvent, StreamError
from celeryscope.stream import Received
from celeryscope.stream.envelope import Tag, unwrap
from celeryscope.stream.replies import Replies, replies_of

PING_AFTER = 10.0  # seconds of silence after which the server is asked for a sign of life
PONG_TIMEOUT = 10.0  # seconds of silence after that question which mean that the connection is dead
MAX_MESSAGES = 100  # in one read: more would leave the processor's cache before they are counted
MAX_BATCH_BYTES = 16 * 2**20  # in one read: messages may be large
CLOSE_TIMEOUT = 1.0  # seconds that `close` waits for a thread inside; one that connects cleans up by itself
REMEMBERED_TAGS = 10_000  # delivery tags, where every message comes on two topics

logger = logging.getLogger(__name__)

# What kombu and redis-py raise for a broker that is unreachable, refuses us, or cannot exist: a database that
# is no number is a ValueError, an unknown transport a KeyError or an ImportError, a transport option of the
# wrong type a TypeError.
CONNECT_ERRORS = (KombuError, redis.RedisError, OSError, ValueError, TypeError, KeyError, ImportError)


class RedisStream:
    """The event stream of one Redis or Valkey broker."""

    def __init__(
        self,
        connection_factory: Callable[[], Connection],
        exchange: str = "celeryev",
        *,
        max_message_bytes: int = 4 * 2**20,
        ping_after: float = PING_AFTER,
        pong_timeout: float = PONG_TIMEOUT,
        clock: Clock | None = None,
        describe: Callable[[Exception], str] = str,
    ) -> None:
        """`connection_factory` returns a new kombu connection; `exchange` is the app's `event_exchange`.

        Its transport options bound what redis-py would else wait for without end: `socket_timeout`,
        `socket_connect_timeout`.
        A message whose envelope is larger than `max_message_bytes` is invalid. `describe` makes one line of
        an error, with credentials masked.
        """
        self._connection_factory = connection_factory
        self._exchange = exchange
        self._max_message_bytes = max_message_bytes
        self._ping_after = ping_after
        self._pong_timeout = pong_timeout
        self._clock = clock or SystemClock()
        self._describe = describe
        self._lock = Lock()  # around the use of the connection; `close` takes it once the socket is shut down
        self._closed = False
        self._connection: Any = None
        self._replies: Replies
        self._waiting: list[Received] = []
        self._failure: str | None = None  # of a connection that is lost, to be told by the next read
        self._tags: OrderedDict[str | int, None] | None = None
        self._heard_at = 0.0  # elapsed seconds
        self._pinged_at: float | None = None

    def connect(self) -> None:
        """Open the connection and subscribe; return once the server has confirmed every topic."""
        self.close()
        with self._lock:
            self._closed = False
            self._waiting, self._failure = [], None
            self._pinged_at = None
            try:
                broker: Any = self._connection_factory()
                try:
                    self._open(broker)
                finally:
                    take_leave(broker)
            except CONNECT_ERRORS as error:
                self._disconnect()
                raise StreamError(self._describe(error)) from error
            except BaseException:
                self._disconnect()
                raise
            if self._closed:
                self._disconnect()
                raise StreamError("the event stream was closed while it was opened")
            self._heard_at = self._clock.now().elapsed

    def read(self, timeout: float) -> Sequence[Received]:
        """Return the messages that have arrived; wait up to `timeout` seconds for the first."""
        with self._lock:
            if self._closed:
                return []
            connection = self._connection
            if connection is None:
                failure, self._failure = self._failure, None
                raise StreamError(failure or "the event stream is not connected")
            messages, self._waiting = self._waiting, []
            try:
                self._read(connection, timeout, messages)
            except (redis.RedisError, OSError, StreamError) as error:
                self._disconnect()
                failure = f"lost the event stream: {self._describe(error)}"
                if not (messages or self._closed):
                    raise StreamError(failure) from error
                self._failure = failure
            finally:
                if self._closed:
                    self._disconnect()
            return messages

    def close(self) -> None:
        """Give up the subscription. Where another thread waits in `read`, it returns at once."""
        self._closed = True
        connection = self._connection
        if connection is not None:
            _shut_down(connection)
        if self._lock.acquire(timeout=CLOSE_TIMEOUT):
            try:
                self._disconnect()
            finally:
                self._lock.release()

    def _open(self, broker: Any) -> None:
        open_now(broker)
        channel: Any = broker.channel()
        if not isinstance(channel, KombuChannel):
            raise StreamError(f"events are read from Redis and Valkey, not from {broker.transport.driver_type}")
        topics = subscription_topics(channel, self._exchange)
        self._started(len(topics))
        pool = channel.pool
        # Not from the pool: its connections reconnect and repeat a command by themselves, and here one that
        # was lost for a moment has to be seen, since its events are lost.
        settings = dict(pool.connection_kwargs)
        settings.update(retry=None, retry_on_error=[], retry_on_timeout=False, health_check_interval=0)
        connection = pool.connection_class(**settings)
        self._connection = connection
        connection.connect()
        connection.send_command("PSUBSCRIBE", *topics, check_health=False)
        pending = len(topics)
        while pending:
            reply = _next_reply(connection)
            if reply[0] == b"psubscribe":
                pending -= 1
            else:
                self._take([reply], self._waiting)
        self._replies = replies_of(connection)
        logger.info("reading the event stream through %s", self._replies.name)

    def _started(self, topics: int) -> None:
        # Where kombu publishes to two topics, every message comes twice, under one delivery tag.
        self._tags = OrderedDict() if topics > 1 else None

    def _read(self, connection: Any, timeout: float, messages: list[Received]) -> None:
        """Append what has arrived to `messages`: what came before a connection was lost has come all the same."""
        size = 0
        now = self._clock.now().elapsed
        deadline = now + timeout
        wait = 0.0 if messages else self._next_wait(now, timeout)
        replies = self._replies
        while True:
            heard = False
            while len(messages) < MAX_MESSAGES and size < MAX_BATCH_BYTES and replies.wait(wait):
                wait = 0.0
                arrived = replies.read()
                if not arrived:
                    break  # part of a message came: it is no sign of life
                heard = True
                size += self._take(arrived, messages)
            now = self._clock.now().elapsed
            if heard:
                self._heard_at, self._pinged_at = now, None
            self._check_alive(connection, now)
            if messages or self._closed or now >= deadline:
                return
            wait = self._next_wait(now, deadline - now)

    def _take(self, replies: Sequence[Any], messages: list[Received]) -> int:
        """Append the messages in replies; return their size in bytes."""
        size = 0
        for reply in replies:
            if not isinstance(reply, list) or len(reply) != 4 or reply[0] != b"pmessage":
                continue
            payload: bytes = reply[3]
            size += len(payload)
            if len(payload) > self._max_message_bytes:
                messages.append(InvalidEvent("too_large"))
                continue
            try:
                message, tag = unwrap(payload)
            except InvalidEvent as error:
                # Not the error itself: its traceback would hold this frame, and with it all that was read.
                messages.append(InvalidEvent(error.reason))
            else:
                if self._tags is None or not self._is_repeated(self._tags, tag):
                    messages.append(message)
        return size

    @staticmethod
    def _is_repeated(tags: OrderedDict[str | int, None], tag: Tag) -> bool:
        if tag is None:
            return False
        if tag in tags:
            return True
        tags[tag] = None
        if len(tags) > REMEMBERED_TAGS:
            tags.popitem(last=False)
        return False

    def _next_wait(self, now: float, limit: float) -> float:
        """Return how long to wait for data, in seconds: until the silence needs an answer, up to `limit`."""
        asked = self._pinged_at
        due = self._heard_at + self._ping_after if asked is None else asked + self._pong_timeout
        return max(0.0, min(limit, due - now))

    def _check_alive(self, connection: Any, now: float) -> None:
        if self._pinged_at is not None:
            if now - self._pinged_at >= self._pong_timeout:
                raise StreamError(f"the broker has been silent for {now - self._heard_at:.1f} s")
        elif now - self._heard_at >= self._ping_after:
            connection.send_command("PING", check_health=False)
            self._pinged_at = now

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()


def subscription_topics(channel: Any, exchange: str) -> list[str]:
    """Return the PSUBSCRIBE patterns under which a kombu Redis channel publishes an exchange's messages."""
    # kombu turns the binding `#` into the pattern `*`. With sentinel_fanout_compat (kombu 5.7) there are two.
    # Neither has a public name.
    all_topics = getattr(channel, "_get_publish_topics", None)
    topics = all_topics(exchange, "*") if all_topics else [channel._get_publish_topic(exchange, "*")]  # noqa: SLF001
    return [f"{channel.global_keyprefix}{topic}" for topic in topics]


def _next_reply(connection: Any) -> Sequence[Any]:
    # Messages are pushes in RESP3, replies in RESP2; a PONG is a string in the one, a list in the other.
    reply: Any = connection.read_response(disconnect_on_error=False, push_request=True)
    return reply if isinstance(reply, list) and reply else (None,)


def _shut_down(connection: Any) -> None:
    # Not `disconnect`: it would take the parser away under the thread that reads.
    sock = connection._sock  # noqa: SLF001 - redis-py has no public name for it
    if sock is not None:
        # The socket's own, also under TLS, whose `shutdown` would take the session away under that thread.
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
