"""The incidents that are on, as tasks, producers and the provider see them.

They stand in the store, each with the moment when it ends: an incident ends by itself even where whoever
started it is gone.
"""

import time
from typing import Any

import redis

from celeryscope_demo.store import store

KEY = "incidents"
FRESH = 0.5  # seconds for which a process believes what it has read

_read_at = 0.0
_until: dict[str, float] = {}


def on(incident: str) -> bool:
    """Whether an incident is on. Asked before everything that it changes, so it seldom asks the store."""
    global _read_at, _until  # noqa: PLW0603 - one answer for all threads of a process
    now = time.time()
    if not 0 <= now - _read_at < FRESH:
        _read_at = now
        _until = read(store())
    return _until.get(incident, 0.0) > now


def read(client: "redis.Redis") -> dict[str, float]:
    """When each incident ends, in seconds since the epoch; those that have ended by themselves too."""
    entries: Any = client.hgetall(KEY)
    return {name: float(until) for name, until in entries.items()}


def turn_on(client: "redis.Redis", incident: str, until: float) -> None:
    """Have an incident last until then, in seconds since the epoch."""
    client.hset(KEY, incident, str(until))


def turn_off(client: "redis.Redis", incident: str) -> None:
    """End an incident."""
    client.hdel(KEY, incident)
