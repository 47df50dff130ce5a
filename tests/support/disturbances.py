"""What goes wrong on a demo's broker that no incident of the demo causes: told by hand, over the real broker."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import redis
from celery import Celery

HOSTNAME = "celery@told-by-hand"
JUNK = b"x" * 100_000
ROOM = 5_000_000  # bytes that a broker has left before it evicts


class Events:
    """Events as a worker sends them, of tasks that are rejected and cancelled; and some that nobody should send."""

    def __init__(self, url: str) -> None:
        self._app = Celery("told-by-hand", broker=url, set_as_current=False)
        self._connection = self._app.connection_for_write()
        self._dispatcher = self._app.events.Dispatcher(self._connection, hostname=HOSTNAME)
        self._uuids = map("by-hand-{}".format, count())

    def tell(self) -> None:
        """Send one of each."""
        for kind, fields in (("task-rejected", {"requeue": False}), ("task-cancelled", {})):
            uuid = next(self._uuids)
            self._dispatcher.send("task-received", uuid=uuid, name="told.by_hand", retries=0)
            self._dispatcher.send("task-started", uuid=uuid)
            self._dispatcher.send(kind, uuid=uuid, **fields)
        self._dispatcher.send("task-started", uuid=None)

    def close(self) -> None:
        """Leave the broker."""
        self._dispatcher.close()
        self._connection.release()
        self._app.close()


@contextmanager
def events_by_hand(url: str) -> Iterator[Events]:
    """Events for the length of a block."""
    events = Events(url)
    try:
        yield events
    finally:
        events.close()


class Squeeze:
    """A broker that evicts, in little more memory than it uses: what is written to it pushes something out."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._before = self._client.config_get("maxmemory*")
        used = int(self._client.info("memory")["used_memory"])
        self._client.config_set("maxmemory-policy", "volatile-ttl")
        self._client.config_set("maxmemory", used + ROOM)
        self._numbers = count()

    def write(self) -> None:
        """Write what may be evicted, and so spares everything else."""
        for _ in range(20):
            self._client.set(f"junk-{next(self._numbers)}", JUNK, ex=600)

    def close(self) -> None:
        """Put the settings back."""
        for name in ("maxmemory", "maxmemory-policy"):
            self._client.config_set(name, self._before[name] or "")
        self._client.close()


@contextmanager
def squeezed(url: str) -> Iterator[Squeeze]:
    """A squeezed broker for the length of a block."""
    squeeze = Squeeze(url)
    try:
        yield squeeze
    finally:
        squeeze.close()
