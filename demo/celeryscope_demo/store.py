"""The application's own Redis: rate limiters, locks, cursors, results, and the demo's ledger.

It is another server than the broker, as it should be in production: a broker has to keep every message
(`noeviction`), a cache has to forget, and neither should fall with the other.
"""

from functools import cache

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celeryscope_demo.environment import STORE_URL, required

TIMEOUT = 5.0  # seconds
HASTE = 1.0  # seconds

APPLICATION, RESULTS = 0, 1  # its databases


def url_of(server: str, database: int) -> str:
    """The URL of a database of the server that STORE_URL names."""
    return f"{server.rstrip('/')}/{database}"


def connect(server: str) -> redis.Redis:
    """A client of the application's database; what it reads is text."""
    return redis.Redis.from_url(url_of(server, APPLICATION), decode_responses=True, socket_timeout=TIMEOUT)


def connect_in_haste(server: str) -> redis.Redis:
    """The same for who must not wait: it gives up after HASTE, and tries nothing again."""
    return redis.Redis.from_url(
        url_of(server, APPLICATION),
        decode_responses=True,
        socket_timeout=HASTE,
        socket_connect_timeout=HASTE,
        retry=Retry(NoBackoff(), 0),
    )


@cache
def store() -> redis.Redis:
    """Return this process's client. Its pool of connections may be used by threads, and survives a fork."""
    return connect(required(STORE_URL))
