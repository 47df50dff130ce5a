"""What a Redis database holds beyond what the poller tells: heads of queues, replies that nobody fetched, results.

It only reads (SCAN, LINDEX, SCARD, SMEMBERS, TTL), and all of it is bounded.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from celeryscope.check.facts import Head, Heads, Keys
from celeryscope.clock import Clock
from celeryscope.events import parse_eta
from celeryscope.pollers.queue_names import is_work
from celeryscope.pollers.redis_link import Command, Link
from celeryscope.pollers.redis_replies import parse_bindings, parse_count, parse_scan
from celeryscope.readings import QueueReading

SCAN_COUNT = 2000  # keys that the server looks at in a step
MOST_STEPS = 500
MOST_HEADS = 200
MOST_BINDINGS = 5_000  # exchanges
MOST_HEAD_BYTES = 8 * 2**20  # of all heads that are read
MOST_SAMPLES = 200  # results whose time to live is asked
RESULT = b"celery-task-meta-"
REPLY = b".reply.celery.pidbox"
REPLY_BINDINGS = "reply.celery.pidbox"
LONGEST_NAME = 512  # characters of a task


class _Headers(msgspec.Struct, gc=False):
    id: Any = None
    task: Any = None
    eta: Any = None
    expires: Any = None


class _Message(msgspec.Struct, gc=False):
    headers: _Headers = msgspec.field(default_factory=_Headers)


_decode = msgspec.json.Decoder(_Message).decode


def read_heads(link: Link, queues: Mapping[str, QueueReading], clock: Clock) -> Heads:
    """Return the heads of the queues that have messages, as far as the poller could see them. Raises ASK_ERRORS."""
    keys: list[tuple[str, str]] = []
    allowed, left = MOST_HEAD_BYTES, MOST_HEADS
    for name, reading in sorted(queues.items()):
        if reading.head is None or reading.head.bytes > allowed or not left:
            continue
        allowed, left = allowed - reading.head.bytes, left - 1
        # Lists behind the head's are left alone: what they hold may be large.
        for (priority, _), key in zip(link.layout.lists, link.layout.keys(name), strict=True):
            keys.append((name, key))
            if reading.by_priority.get(priority):
                break
    replies = link.ask([("LINDEX", key, -1) for _, key in keys])
    heads: dict[str, Head] = {}
    for (name, _), reply in zip(keys, replies, strict=True):
        if isinstance(reply, bytes) and name not in heads:  # the lists are in the order of delivery
            heads[name] = parse_head(reply)
    return Heads(clock.now().wall, heads)


def read_keys(link: Link, clock: Clock, until: float) -> tuple[Keys | None, frozenset[str]]:
    """Return what lies beside queues, and the queues that bindings name, of the keys seen until then (elapsed seconds).

    None where SCAN is refused. Raises ASK_ERRORS.
    """
    cursor, steps = 0, 0
    layout = link.layout
    bound: set[bytes] = set()
    replies = results = 0
    samples: list[bytes] = []
    while steps < MOST_STEPS and clock.now().elapsed < until:
        step = parse_scan(link.ask([("SCAN", cursor, "COUNT", SCAN_COUNT)])[0])
        if step is None:
            return None, frozenset()
        cursor, keys = step
        steps += 1
        for key in keys:
            if RESULT in key:
                results += 1
                if len(samples) < MOST_SAMPLES:
                    samples.append(key)
            elif key.startswith(layout.bindings.encode()):
                if is_work(layout.exchange(key) or "") and len(bound) < MOST_BINDINGS:
                    bound.add(key)
            elif key.endswith(REPLY):
                replies += 1
        if not cursor:
            break
    asked: Sequence[Command] = [("TTL", key) for key in samples]
    bindings, *lives = link.ask([("SCARD", layout.bindings + REPLY_BINDINGS), *asked])
    members = [parse_bindings(reply, layout.separator) for reply in link.ask([("SMEMBERS", key) for key in bound])]
    queues = {binding.queue for found in members for binding in found or () if is_work(binding.queue)}
    keys_told = Keys(
        complete=cursor == 0 and steps > 0,
        replies=replies,
        reply_bindings=parse_count(bindings),
        results=results,
        results_sampled=sum(1 for life in lives if isinstance(life, int) and life != -2),
        results_lasting=sum(1 for life in lives if life == -1),
    )
    return keys_told, frozenset(queues)


def parse_head(message: bytes) -> Head:
    """Return what a message is, by the headers of Celery's message protocol 2."""
    try:
        headers = _decode(message).headers
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Head(len(message))
    if not isinstance(headers.task, str) or not isinstance(headers.id, str):
        return Head(len(message))
    return Head(
        bytes=len(message),
        id=headers.id,
        task=headers.task[:LONGEST_NAME],
        eta=parse_eta(headers.eta if isinstance(headers.eta, str) else None),
        expires=parse_eta(headers.expires if isinstance(headers.expires, str) else None),
    )
