"""What is known of every kombu connection: how it is opened, which errors are its own, and how it ends."""

import itertools
import socket
from contextlib import suppress
from typing import Any

from kombu.exceptions import KombuError

GOODBYE_TIMEOUT = 0.5  # seconds that an AMQP broker has to confirm the end of a connection

# What kombu and the transports' libraries raise besides their own errors for a broker that cannot exist or be used: an
# unknown transport is a KeyError or an ImportError, an impossible virtual host a ValueError, a transport option of the
# wrong type a TypeError. py-amqp may raise an AttributeError where it has just lost a connection.
OTHER_ERRORS = (KombuError, OSError, ValueError, TypeError, KeyError, AttributeError, ImportError)


def errors_of(broker: Any) -> tuple[type[Exception], ...]:
    """Return all that a kombu connection raises for a broker that is unreachable, refuses us, or cannot exist."""
    if broker is None:
        return OTHER_ERRORS
    try:
        # The recoverable ones: what py-amqp raises for a message that the broker does not take is none of the others.
        own = broker.connection_errors, broker.channel_errors, broker.recoverable_connection_errors
    except OTHER_ERRORS:
        return OTHER_ERRORS  # there is no such transport, or its library is missing: what is being reported
    return (*OTHER_ERRORS, *itertools.chain(*own))


def open_now(broker: Any) -> None:
    """Open a kombu connection; each alternative of a failover URL once, without kombu's seconds between them."""
    retries = max(len(broker.alt), 1) - 1
    try:
        broker.ensure_connection(
            # Called before kombu turns to the next alternative, with a transport of its own.
            errback=lambda *_: _close(_poller_of(broker)),
            max_retries=retries,
            interval_start=0,
            interval_step=0,
            interval_max=0,
        )
    except BaseException:
        _close(_poller_of(broker))
        raise


def take_leave(broker: Any) -> None:
    """Close a kombu connection in order; raises what the transport raises."""
    sock = _socket_of(broker)
    if sock is not None:
        sock.settimeout(GOODBYE_TIMEOUT)
    poller = _poller_of(broker)
    try:
        broker.release()
    finally:
        _close(poller)


def drop(broker: Any) -> None:
    """Let go of a kombu connection; raises what the transport raises."""
    shut_down(broker)
    poller = _poller_of(broker)
    try:
        broker.collect()
    finally:
        _close(poller)


def shut_down(broker: Any) -> None:
    """Wake a thread that waits for the broker: what it waits for will not come. From any thread."""
    sock = _socket_of(broker)
    if sock is not None:
        # The socket's own, also under TLS, whose `shutdown` would take the session away under the thread that reads.
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _poller_of(broker: Any) -> Any:
    # Redis's transport has one, whose descriptor kombu leaves to the garbage collector.
    # Not through kombu's `transport`: where there is none, it makes one.
    transport = getattr(broker, "_transport", None)
    return getattr(getattr(transport, "cycle", None), "poller", None)


def _close(poller: Any) -> None:
    if poller is not None:
        poller.close()


def _socket_of(broker: Any) -> socket.socket | None:
    # Not through kombu's `connection`, nor py-amqp's `transport`: where there is none, they open one.
    connection = getattr(broker, "_connection", None)
    transport = getattr(connection, "_transport", None)
    sock = getattr(transport, "sock", None)
    return sock if isinstance(sock, socket.socket) else None
