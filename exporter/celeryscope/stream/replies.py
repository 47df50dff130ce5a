"""Replies of a subscribed redis-py connection, by two ways: the fast one, and the public one.

The fast way reads the connection's socket in pieces and feeds them to the connection's own hiredis reader, so that a
piece of many messages costs one call. The public way asks redis-py for one reply at a time; it serves TLS, whose
sockets hold data that no poll sees, and a redis-py that is not built as expected.
"""

import select
import socket
from typing import Any, Protocol

import hiredis
import redis
from redis._parsers import hiredis as hiredis_parser

PIECE = 64 * 1024  # bytes: 256 kB is no better, 1 MB is worse


class Replies(Protocol):
    """Where replies come from. Errors are redis-py's and the operating system's."""

    name: str

    def wait(self, timeout: float) -> bool:
        """Return whether something has arrived, after at most `timeout` seconds."""
        ...

    def read(self) -> list[Any]:
        """Return the next complete replies, once something has arrived: a piece's worth, or none yet."""
        ...


class PublicReplies:
    """Through redis-py's `read_response`."""

    name = "redis-py"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def wait(self, timeout: float) -> bool:
        """Return whether something has arrived."""
        try:
            return bool(self._connection.can_read(timeout))
        except redis.ConnectionError:
            return True  # said of a closed connection, even while what came before its end is still to be read

    def read(self) -> list[Any]:
        """Return the next complete replies."""
        try:
            return [self._connection.read_response(disconnect_on_error=False, push_request=True)]
        except redis.TimeoutError:
            return []  # part of a message came and the rest does not: redis-py keeps it


class SocketReplies:
    """Past redis-py's parser, into its hiredis reader: nothing that the parser had read already is lost."""

    name = "hiredis"

    def __init__(self, sock: socket.socket, reader: Any, end: object) -> None:
        """`end` is what the reader answers where no complete reply is left."""
        self._sock = sock
        self._reader = reader
        self._end = end
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._ready: list[Any] = []
        self._take()

    def wait(self, timeout: float) -> bool:
        """Return whether something has arrived."""
        return bool(self._ready or self._poll.poll(timeout * 1000))

    def read(self) -> list[Any]:
        """Return the next complete replies."""
        if not self._ready:
            piece = self._sock.recv(PIECE)
            if not piece:
                raise redis.ConnectionError("Connection closed by server.")
            self._reader.feed(piece)
            self._take()
        replies, self._ready = self._ready, []
        return replies

    def _take(self) -> None:
        gets, append, end = self._reader.gets, self._ready.append, self._end
        while (reply := gets()) is not end:
            append(reply)


def replies_of(connection: Any) -> Replies:
    """Return the fast way where the connection allows it, else the public one."""
    # None of these has a public name; where redis-py is built otherwise, the public way serves.
    sock = getattr(connection, "_sock", None)
    reader = getattr(getattr(connection, "_parser", None), "_reader", None)
    end = getattr(hiredis_parser, "NOT_ENOUGH_DATA", None)
    pollable = hasattr(select, "poll") and isinstance(reader, hiredis.Reader) and end is not None
    if pollable and type(sock) is socket.socket:
        return SocketReplies(sock, reader, end)
    return PublicReplies(connection)
