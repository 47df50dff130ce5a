"""Publishing by the hundred thousand, no faster than the subscriber takes it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import redis

from support.channel import CHANNEL, envelope
from support.waiting import wait_until

CHUNK = 500  # messages between two looks at the subscriber
MOST_WAITING = 512 * 1024  # bytes that wait for it: the server cuts a subscriber that falls far behind
PATIENCE = 60.0  # seconds


def flood(client: redis.Redis, payloads: Iterable[bytes]) -> None:
    """Publish envelopes on the event channel, in order."""
    rest = iter(payloads)
    while chunk := list(islice(rest, CHUNK)):
        with client.pipeline(transaction=False) as pipeline:
            for payload in chunk:
                pipeline.publish(CHANNEL, payload)
            pipeline.execute()
        wait_until(lambda: waiting(client) < MOST_WAITING, PATIENCE, "the subscriber keeps up")


def waiting(client: redis.Redis) -> int:
    """Bytes that wait in the server for its slowest subscriber."""
    subscribers: Any = client.client_list(_type="pubsub")
    return max((int(subscriber["omem"]) for subscriber in subscribers), default=0)


def batches(events: Iterable[dict[str, Any]], size: int = 24) -> Iterator[bytes]:
    """Events in envelopes of that many, as a prefork worker sends them."""
    rest = iter(events)
    while batch := list(islice(rest, size)):
        yield batch_of([json.dumps(event) for event in batch])


def batch_of(events: Sequence[str]) -> bytes:
    """One envelope of events that are JSON already."""
    return envelope(f"[{','.join(events)}]".encode())
