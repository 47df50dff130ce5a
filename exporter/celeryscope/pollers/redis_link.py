"""One redis-py connection of our own, made as kombu is configured: it asks for much at once, and never twice."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import redis
from kombu.connection import Connection
from kombu.transport.redis import Channel as KombuChannel

from celeryscope.connections import OTHER_ERRORS, open_now
from celeryscope.errors import PollError, StreamError
from celeryscope.pollers.redis_layout import Layout

# What opening raises: the first is the connection factory's.
OPEN_ERRORS = (StreamError, redis.RedisError, *OTHER_ERRORS)
ASK_ERRORS = (redis.RedisError, OSError)

Command: TypeAlias = tuple[str | bytes | int, ...]


class Link:
    """An open connection and the layout of what is behind it."""

    def __init__(self, connection: Any, layout: Layout) -> None:
        self._connection = connection
        self.layout = layout
        self.refused: set[str] = set()  # commands that the broker's user may not use, or not on these keys

    @classmethod
    def open(cls, connection_factory: Callable[[], Connection]) -> "Link":
        """Return a connection to the broker, or to the present master behind sentinels; raises OPEN_ERRORS."""
        broker: Any = connection_factory()
        try:
            open_now(broker)
            channel: Any = broker.channel()
            if not isinstance(channel, KombuChannel):
                raise PollError(f"queues are read from Redis and Valkey, not from {broker.transport.driver_type}")
            pool = channel.pool
            settings = dict(pool.connection_kwargs)
            # Whoever polls decides what is asked again. No health check: every poll is one.
            settings.update(retry=None, retry_on_error=[], retry_on_timeout=False, health_check_interval=0)
            connection = pool.connection_class(**settings)
            try:
                connection.connect()
            except BaseException:
                connection.disconnect()
                raise
            return cls(connection, Layout.of(channel))
        finally:
            with suppress(*ASK_ERRORS):
                broker.release()

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one go; return their replies, errors of single ones among them. Raises ASK_ERRORS."""
        if not commands:
            return []
        connection = self._connection
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        read = connection.read_response
        replies: list[Any] = []
        for command in commands:
            try:
                replies.append(read(disable_decoding=True))
            except redis.ResponseError as error:
                replies.append(error)
                if isinstance(error, redis.exceptions.NoPermissionError):
                    self.refused.add(str(command[0]))
        return replies

    def close(self) -> None:
        """Close the connection."""
        with suppress(*ASK_ERRORS):
            self._connection.disconnect()
