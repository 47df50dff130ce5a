"""What Redis answers to the poller, parsed. Pure functions; what is not as expected is not known.

A reply is what redis-py returns undecoded, of RESP2 or RESP3; an error of one command is a `redis.ResponseError`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Any, NamedTuple

import msgspec

from celeryscope.events import parse_eta
from celeryscope.readings import Head

MAX_NAME_BYTES = 1024  # of a queue, an exchange or a routing key
MAX_ID_LENGTH = 256  # characters of a task id
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class ServerFacts(NamedTuple):
    """What INFO tells."""

    version: str | None = None  # Valkey's own where it is one
    memory_used: int | None = None  # bytes
    memory_max: int | None = None  # bytes; None where there is no limit
    eviction_policy: str | None = None
    evicted_keys: int | None = None


class Binding(NamedTuple):
    """One member of an exchange's set of bindings."""

    routing_key: str
    topic: bool  # whether * and # in the routing key are wildcards
    queue: str


class UnackedSample(NamedTuple):
    """Part of the messages that are delivered and not acknowledged, or all of them."""

    routes: Counter[tuple[str, str]]  # (exchange, routing key) -> messages
    entries: int
    bytes: int
    complete: bool


class _Headers(msgspec.Struct, gc=False):
    id: Any = None
    task: Any = None
    eta: Any = None


class _Properties(msgspec.Struct, gc=False):
    body_encoding: Any = None


class _Message(msgspec.Struct, gc=False):
    headers: _Headers = msgspec.field(default_factory=_Headers)
    properties: _Properties = msgspec.field(default_factory=_Properties)
    body: msgspec.Raw = msgspec.Raw(b"null")


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_base64 = msgspec.json.Decoder(bytes).decode
_decode_body = msgspec.json.Decoder(_Headers).decode
_decode_unacked = msgspec.json.Decoder(tuple[msgspec.Raw, str, str]).decode


def parse_info(*replies: Any) -> ServerFacts:
    """Return what sections of INFO tell, each a reply of its own."""
    fields: dict[str, str] = {}
    for reply in replies:
        if isinstance(reply, bytes):
            for line in reply.decode(errors="replace").splitlines():
                name, separator, value = line.partition(":")
                if separator:
                    fields[name] = value
    return ServerFacts(
        version=fields.get("valkey_version") or fields.get("redis_version") or None,
        memory_used=_decimal(fields.get("used_memory")),
        memory_max=_decimal(fields.get("maxmemory")) or None,
        eviction_policy=fields.get("maxmemory_policy") or None,
        evicted_keys=_decimal(fields.get("evicted_keys")),
    )


def parse_scan(reply: Any) -> tuple[int, list[bytes]] | None:
    """Return the next cursor (0 ends the round) and the keys of a step of SCAN; None where it was refused."""
    if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[1], list):
        return None
    try:
        cursor = int(reply[0])
    except (TypeError, ValueError):
        return None
    return cursor, [key for key in reply[1] if isinstance(key, bytes)]


def parse_bindings(reply: Any, separator: str) -> frozenset[Binding] | None:
    """Return the bindings in an answer to SMEMBERS; None where it was refused.

    kombu writes a binding as routing key, pattern and queue; of a direct exchange, the pattern is empty.
    """
    if not isinstance(reply, list | set | frozenset):
        return None
    bindings = set()
    for member in reply:
        if not isinstance(member, bytes) or len(member) > 4 * MAX_NAME_BYTES:
            continue
        try:
            fields = member.decode().split(separator)
        except UnicodeDecodeError:
            continue
        if len(fields) == 3 and fields[2] and len(fields[2].encode()) <= MAX_NAME_BYTES:
            bindings.add(Binding(fields[0], bool(fields[1]), fields[2]))
    return frozenset(bindings)


def parse_count(reply: Any) -> int | None:
    """Return a number that is a count: of LLEN, HLEN, MEMORY USAGE."""
    return reply if isinstance(reply, int) and not isinstance(reply, bool) and reply >= 0 else None


def parse_head(message: bytes) -> Head:
    """Return what a message is. Celery's message protocol 2 names the task in the headers, protocol 1 in the body."""
    try:
        content = _decode_message(message)
        named: _Headers = content.headers
        if named.task is None and content.properties.body_encoding == "base64":
            named = _decode_body(_decode_base64(content.body))
    except _FAULTS:
        return Head(None, len(message))
    is_task = isinstance(named.task, str) and isinstance(named.id, str) and 0 < len(named.id) <= MAX_ID_LENGTH
    if not is_task:
        return Head(None, len(message))
    return Head(named.id, len(message), parse_eta(named.eta if isinstance(named.eta, str) else None))


def parse_oldest(reply: Any) -> float | None:
    """Return the first score, in Unix seconds, of an answer to ZRANGE WITHSCORES; None where there is none."""
    if not isinstance(reply, list) or not reply:
        return None
    score = reply[0][1] if isinstance(reply[0], list) and len(reply[0]) == 2 else reply[1] if len(reply) > 1 else None
    try:
        seconds = float(score)  # type: ignore[arg-type]  # what it cannot be is caught
    except (TypeError, ValueError):
        return None
    return seconds if isfinite(seconds) and seconds > 0 else None


def parse_unacked(reply: Any) -> UnackedSample | None:
    """Return the messages in an answer to HSCAN from cursor 0 of kombu's hash of them; None where it was refused.

    A value is a list of the message, its exchange and its routing key. The hash may name a field twice while it grows.
    """
    step = parse_scan(reply)
    if step is None:
        return None
    cursor, items = step
    routes: Counter[tuple[str, str]] = Counter()
    size = 0
    entries = dict(_pairs(items))
    for value in entries.values():
        size += len(value)
        try:
            _, exchange, routing_key = _decode_unacked(value)
        except _FAULTS:
            continue
        if len(exchange) <= MAX_NAME_BYTES and len(routing_key) <= MAX_NAME_BYTES:
            routes[exchange, routing_key] += 1
    return UnackedSample(routes, len(entries), size, complete=cursor == 0)


def route(bindings: Mapping[str, frozenset[Binding]], exchange: str, routing_key: str) -> str | None:
    """Return the queue that a message was put into, as kombu's virtual channel looks it up.

    None where no binding says so, or more than one queue got the message.
    """
    if not exchange:
        return routing_key or None
    words = routing_key.split(".")
    queues = {
        binding.queue
        for binding in bindings.get(exchange, ())
        if (_matches(binding.routing_key.split("."), words) if binding.topic else binding.routing_key == routing_key)
    }
    return queues.pop() if len(queues) == 1 else None


def _matches(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """Return whether a topic pattern fits: * is one word that is not empty, # is any number of them but none.

    As in kombu 5.7. In older ones, * takes several words; a message that needs that is no queue's here.
    """
    reached = [True] + [False] * len(words)  # whether the pattern so far fits the first n words
    for part in pattern:
        if part == "#":
            some = False
            after = [False]
            for before in reached[:-1]:
                some = some or before
                after.append(some)
        else:
            fits = (bool(word) if part == "*" else part == word for word in words)
            after = [False, *(before and fit for before, fit in zip(reached, fits, strict=False))]
        reached = after
    return reached[-1]


def _pairs(items: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    yield from list(pairwise(items))[::2]


def _decimal(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 20 else None
