"""A broker that runs already, of --broker-url: whether the demo may use it, and how it is left as it was."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from kombu import Connection, Exchange, Queue

from celeryscope.errors import CeleryscopeError
from celeryscope.redaction import MASK, redact, register_url
from celeryscope_demo.queues import DELAYS, EXCHANGE, QUEUES

CONNECT_TIMEOUT = 3.0  # seconds
AMQP = ("amqp", "amqps", "pyamqp")  # schemes
BINDINGS = "_kombu.binding."  # what kombu's keys of exchanges begin with on Redis
SEPARATOR = b"\x06\x16"  # of the parts of a binding
BATCH = 1000  # keys that one SCAN looks at
NOT_FOUND = "404"  # AMQP's answer, which kombu gives on every broker


class BrokerUnusable(CeleryscopeError):
    """The demo cannot or must not run on this broker, or could not leave it as it was: says why."""


def masked(url: str) -> str:
    """The URL, or the list of URLs, without credentials and options. Raises BrokerUnusable where it cannot be read."""
    return ";".join(_masked(part) for part in url.split(";"))


def _masked(url: str) -> str:
    # A password that is not percent-encoded ends up anywhere in what is parsed, so nothing of such a URL is shown.
    try:
        parts = urlsplit(url)
        address = parts.hostname or ""
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        raise _unreadable() from None
    credentials, at, _ = parts.netloc.rpartition("@")
    readable = "://" in url and (bool(address) or not parts.netloc or bool(at))
    if not readable or "@" in credentials + parts.path + parts.query or parts.fragment or re.search(r"\s", url):
        raise _unreadable()
    host = f"[{address}]" if ":" in address else address
    return f"{parts.scheme}://{f'{MASK}@' if at else ''}{host}{port}{parts.path}"


def _unreadable() -> BrokerUnusable:
    return BrokerUnusable(
        "--broker-url cannot be read: expected for instance redis://:PASSWORD@HOST:6379/0 or "
        "amqp://USER:PASSWORD@HOST:5672/VHOST, where @ : / ? # in a name or password are percent-encoded (# is %23)"
    )


def speaks_amqp(url: str | None) -> bool:
    """Whether the broker is RabbitMQ, by its URL."""
    return (url or "").partition("://")[0] in AMQP


def require_usable(url: str) -> None:
    """Raise BrokerUnusable where the broker accepts no connection, or has something that is named as the demo's."""
    shown = masked(url)
    register_url(url)
    try:
        with Connection(url, connect_timeout=CONNECT_TIMEOUT) as connection:
            connection.ensure_connection(max_retries=1, timeout=CONNECT_TIMEOUT)
            taken = next(_taken(connection), None)
    except Exception as error:  # noqa: BLE001 - every transport has errors of its own; here they all mean the same
        raise BrokerUnusable(f"--broker-url {shown} cannot be used: {_reason(error)}") from None
    if taken:
        raise BrokerUnusable(
            f"--broker-url {shown} has {taken} already, which is another application's, another demo's, or left by a "
            "demo that was killed. The demo would take what is in it, and delete it at the end: name another database "
            "or virtual host, or delete it there if nobody needs it"
        )


def _reason(error: Exception) -> str:
    """What went wrong, in one line; a parser's error would quote what it could not read."""
    return (
        "the URL cannot be read" if isinstance(error, ValueError | KeyError) else redact(" ".join(str(error).split()))
    )


def _taken(connection: Connection) -> Iterator[str]:
    """What is there of the demo's names."""
    queues = list(_own(connection))
    for queue in queues:
        if _exists(connection, queue):
            yield f"a queue {queue.name!r}"
    if connection.transport.driver_type == "redis":
        names = {queue.name.encode() for queue in queues}
        client = connection.channel().client
        for key in client.scan_iter(match=f"{BINDINGS}*", count=BATCH):
            bound = {member.rpartition(SEPARATOR)[2] for member in client.smembers(key)} & names
            if bound:
                yield f"a binding of queue {min(bound).decode()!r}"
            exchange = key.decode().removeprefix(BINDINGS)
            if exchange == EXCHANGE.name:
                yield f"an exchange {exchange!r}"
    elif connection.transport.driver_type == "amqp":
        for exchange in dict.fromkeys(queue.exchange for queue in queues):
            if _exists(connection, exchange):
                yield f"an exchange {exchange.name!r}"


def _own(connection: Connection) -> Iterator[Queue]:
    """The queues that the demo declares on such a broker."""
    yield from QUEUES
    if connection.transport.driver_type == "amqp":
        yield from DELAYS.values()


def _exists(connection: Connection, entity: Queue | Exchange) -> bool:
    """Whether there is such a queue or exchange. One that may not be looked at, as it is exclusive, is an error."""
    channel = connection.channel()  # one for each: the broker closes it where there is none
    try:
        if isinstance(entity, Queue):
            channel.queue_declare(queue=entity.name, passive=True)
        else:
            channel.exchange_declare(exchange=entity.name, type=entity.type, passive=True)
    except connection.channel_errors as error:
        if str(getattr(error, "reply_code", "")) != NOT_FOUND:
            raise
        return False
    channel.close()
    return True


def remove_queues(url: str) -> None:
    """Remove the demo's own queues, and what still waits in them. Raises BrokerUnusable."""
    try:
        with Connection(url, connect_timeout=CONNECT_TIMEOUT) as connection:
            channel = connection.channel()
            amqp = connection.transport.driver_type == "amqp"
            for queue in _own(connection):
                bound = queue(channel)
                if not amqp:
                    bound.declare()  # kombu removes the bindings that it knows of
                bound.delete()
                if queue.exchange.name != EXCHANGE.name:
                    queue.exchange(channel).delete()
            EXCHANGE(channel).delete()
    except Exception as error:  # noqa: BLE001 - as above
        raise BrokerUnusable(f"the demo's queues stay on {masked(url)}: {_reason(error)}") from None
