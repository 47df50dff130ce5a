"""Limits from outside that applications announce: counted under the task that they hold back."""

from collections import deque

from celeryscope.clock import Moment
from celeryscope.events import TaskRateLimited
from celeryscope.metrics import catalog
from celeryscope.metrics.store import Store
from celeryscope.tracker.holding import Holds
from celeryscope.tracker.pairs import Pairs
from celeryscope.tracker.table import TaskTable

HOLD = 1.0  # seconds that an announcement waits for its task to be known
MAX_HELD = 10_000


class Throttles:
    """Announcements, each held until its task is known or hardly will be.

    The pool child that sends one has its own connection, so it may overtake the events that say which task it is.
    """

    def __init__(self, store: Store, pairs: Pairs, table: TaskTable, holds: Holds) -> None:
        self._store = store
        self._pairs = pairs
        self._table = table
        self._holds = holds
        self._held: deque[tuple[float, TaskRateLimited]] = deque()  # with the elapsed seconds until which they wait

    def __len__(self) -> int:
        """How many are held."""
        return len(self._held)

    def announced(self, event: TaskRateLimited, now: Moment) -> None:
        """An application told of a limit."""
        if self._table.pair_of(event.uuid) is None and len(self._held) < MAX_HELD:
            self._held.append((now.elapsed + HOLD, event))
        else:
            self._count(event)

    def tick(self, now: Moment) -> None:
        """Count those that waited for long enough; longer where their task is itself held."""
        held, until = self._held, self._holds.patience(now.elapsed)
        while held and held[0][0] <= until and held[0][1].uuid not in self._holds.held:
            self._count(held.popleft()[1])

    def _count(self, event: TaskRateLimited) -> None:
        pair = self._table.pair_of(event.uuid) or self._pairs.get(None, None)
        limiter = self._pairs.limiter(event.limiter)
        self._store.increment(catalog.TASK_RATE_LIMITED, (*pair.labels, limiter))
        if event.delay is not None:
            self._store.histogram(catalog.TASK_RATE_LIMIT_DELAY, (*pair.labels, limiter)).observe(event.delay)
        for spec, value in (
            (catalog.RATE_LIMITER_LIMIT, event.limit),
            (catalog.RATE_LIMITER_REMAINING, event.remaining),
        ):
            if value is not None:
                self._store.set(spec, (limiter,), value)
