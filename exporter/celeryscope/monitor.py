"""Everything about one broker: its stream, canary, pollers, tracker and store, and the threads that join them.

One process runs one monitor today; nothing in here knows that.
"""

import threading
from math import inf

from celeryscope.loops.adviser import Adviser
from celeryscope.loops.canary import CanaryRounds
from celeryscope.loops.core import Core
from celeryscope.loops.listener import Listener
from celeryscope.loops.polls import WorkerPolls
from celeryscope.loops.queues import QueuePolls
from celeryscope.loops.switching import EventSwitching
from celeryscope.metrics.store import Store
from celeryscope.status import reading
from celeryscope.status.facts import Connection, Status
from celeryscope.status.history import History
from celeryscope.supervisor import Supervisor, periodic
from celeryscope.tracker import DEAF_AFTER_CANARIES

TICK_INTERVAL = 0.25  # seconds
ADVICE_INTERVAL = 10.0  # seconds
POLL_CHECK_INTERVAL = 1.0  # seconds between two looks whether a poll is due, or a worker that was not asked yet


class Monitor:
    """Watches one broker from `start` to `stop`. What writes to it, or what it cannot carry, may be left out."""

    def __init__(
        self,
        core: Core,
        listener: Listener | None = None,
        canary: CanaryRounds | None = None,
        polls: WorkerPolls | None = None,
        switching: EventSwitching | None = None,
        queue_polls: QueuePolls | None = None,
    ) -> None:
        self._core = core
        self._listener = listener
        self._canary = canary
        self._polls = polls
        self._switching = switching
        self._queue_polls = queue_polls
        self._adviser = Adviser(core, events_switched=switching is not None)
        self._supervisor = Supervisor(clock=core.clock)
        self._started = core.clock.now().elapsed
        self._history = History(self._started)
        self._looking = threading.Lock()  # of whoever uses the history; taken before the store's
        core.store.before_snapshot.append(lambda: core.tracker.refresh(core.clock.now()))

    @property
    def store(self) -> Store:
        """All series of this broker."""
        return self._core.store

    def start(self) -> None:
        """Start all threads."""
        start = self._supervisor.start
        start("celeryscope-tick", periodic(TICK_INTERVAL, 0.0, self._tick))
        if self._listener is not None:
            start("celeryscope-stream", self._listener, interrupt=self._listener.interrupt)
        start("celeryscope-advice", periodic(ADVICE_INTERVAL, 0.1, self._look))
        if self._canary is not None:
            start("celeryscope-canary", self._canary)
        if self._polls is not None:
            start("celeryscope-poll-workers", periodic(POLL_CHECK_INTERVAL, 0.1, self._polls.poll_if_due))
        if self._queue_polls is not None:
            start("celeryscope-poll-queues", self._queue_polls)
        if self._switching is not None:
            start("celeryscope-task-events", periodic(POLL_CHECK_INTERVAL, 0.1, self._switching.look))

    def stop(self, timeout: float) -> list[str]:
        """Stop all threads; return the names of those that did not end within `timeout` seconds."""
        return self._supervisor.stop(timeout)

    def is_ready(self) -> bool:
        """Whether the first attempt to connect and the first polls are over; what came of them the metrics tell."""
        first = (self._listener, self._polls, self._queue_polls)
        return all(loop.attempted.is_set() for loop in first if loop is not None)

    def status(self, broker: str = "") -> Status:
        """Return what a person is shown. `broker` is its URL without credentials."""
        core = self._core
        with self._looking:
            with core.store.lock:
                now = core.clock.now()
                core.tracker.refresh(now)
                series = reading.series(core.store)
                advice = tuple(self._adviser.found())
            deaf_after = inf if self._canary is None else DEAF_AFTER_CANARIES * self._canary.interval
            connection = self._connection(now.elapsed)
            around = reading.Surroundings(self._started, broker, connection, deaf_after, advice)
            return reading.status(series, self._history, now, around)

    def _connection(self, now: float) -> Connection | None:
        listener = self._listener
        if listener is None:
            return None
        return Connection(listener.connected.is_set(), max(0.0, now - listener.since), listener.reason)

    def _look(self) -> None:
        self._adviser.look()
        with self._looking:
            with self.store.lock:
                now = self._core.clock.now().elapsed
                series = reading.series(self.store, reading.COUNTED)
            self._history.take(now, *reading.totals(series))

    def _tick(self) -> None:
        with self.store.lock:
            self._core.tracker.tick(self._core.clock.now())
