"""Tasks that were published and that no worker has taken yet, kept compactly: a deep backlog is when waits matter."""

from __future__ import annotations

from itertools import islice

import msgspec

from celeryscope.metrics import catalog
from celeryscope.metrics.store import Store
from celeryscope.tracker.pairs import SENT, Pair

EVICTION_SHARE = 100  # a full tier gives up this fraction at once: finding its oldest entries costs a walk
MOST_SENT_UNDER_ONE_UUID = 4


class SentTask(msgspec.Struct, frozen=True, gc=False):
    """A published task that no worker has taken yet. There may be very many: the collector need not look at them."""

    pair: Pair
    task: str  # its name, as task-sent says it
    due: float  # Unix seconds
    retries: int
    eta_open: bool  # its ETA came without a time zone
    earlier: SentTask | None  # published under the same uuid before, and not taken either

    def line(self) -> list[SentTask]:
        """Return all that wait under the uuid, the first published first."""
        if self.earlier is None:
            return [self]
        return [*self.earlier.line(), self]


class SentTasks:
    """Published tasks by uuid, with the counts of what is in flight kept true."""

    def __init__(self, store: Store, most: int) -> None:
        """`most` bounds them, in uuids."""
        self._store = store
        self._most = most
        self.by_uuid: dict[str, SentTask] = {}

    def publish(self, uuid: str, pair: Pair, task: str, due: float, retries: int, *, eta_open: bool = False) -> None:
        """Remember a published task until a worker takes it."""
        earlier = self.by_uuid.get(uuid)
        if earlier is None:
            if len(self.by_uuid) >= self._most:
                wanted = max(1, self._most // EVICTION_SHARE)
                for oldest in list(islice(self.by_uuid, wanted)):
                    self.drop(oldest, "capacity")
        elif len(earlier.line()) >= MOST_SENT_UNDER_ONE_UUID:
            self.drop(uuid, "capacity")
            earlier = None
        self.by_uuid[uuid] = SentTask(pair, task, due, retries, eta_open, earlier)
        pair.in_flight[SENT].value += 1

    def take(
        self, uuid: str, retries: int | None = None, task: str | None = None, *, only_named: bool = False
    ) -> SentTask | None:
        """Take out the published task that a worker's event is about, where there is one.

        Several may wait under one uuid: a replacement or a retry is published by the pool, past the events of what it
        replaces or retries. It is the one of that attempt, by preference of that name, else the first published.
        """
        newest = self.by_uuid.get(uuid)
        if newest is None:
            return None
        taken, rest = newest, newest.earlier
        if rest is not None or only_named or (retries is not None and newest.retries != retries):
            line = newest.line()
            fitting = [sent for sent in line if retries is None or sent.retries == retries]
            named = [sent for sent in fitting if sent.task == task]
            if only_named or named:
                fitting = named
            if not fitting:
                return None
            taken, rest = fitting[0], None
            for sent in line:
                if sent is not taken:
                    rest = msgspec.structs.replace(sent, earlier=rest)
        taken.pair.in_flight[SENT].value -= 1
        if rest is None:
            del self.by_uuid[uuid]
        else:
            self.by_uuid[uuid] = rest
        return taken

    def drop_named(self, tasks: frozenset[str]) -> None:
        """Forget published tasks of these names: their workers send no events of them."""
        for uuid in [uuid for uuid, sent in self.by_uuid.items() if sent.task in tasks]:
            self.drop(uuid, None)

    def expire(self, due_before: float) -> None:
        """Give up what was due before a moment, in Unix seconds."""
        for uuid in [uuid for uuid, sent in self.by_uuid.items() if sent.due < due_before]:
            self.drop(uuid, "ttl")

    def drop(self, uuid: str, reason: str | None) -> None:
        """Forget what was published under an uuid; without a reason where it was taken unseen."""
        for sent in self.by_uuid.pop(uuid).line():
            sent.pair.in_flight[SENT].value -= 1
            if reason is not None:
                self._store.increment(catalog.EXPORTER_EVICTED, (reason,))
