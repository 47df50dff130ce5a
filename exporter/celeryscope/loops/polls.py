"""Polls of what is asked rather than heard, at intervals."""

import logging
import threading

from celeryscope.clock import Moment
from celeryscope.loops.core import Core
from celeryscope.pollers.workers import WorkersPoller

logger = logging.getLogger(__name__)


class WorkerPolls:
    """Asks the workers at every interval, all of them when the stream was opened, and a worker that appears at once."""

    def __init__(self, core: Core, poller: WorkersPoller, interval: float) -> None:
        """`interval` is in seconds."""
        self._core = core
        self._poller = poller
        self._interval = interval
        self._polled_at: float | None = None
        self._asked: frozenset[str] = frozenset()
        self._stream_opened_at: float | None = None  # as of the last poll
        self._mute = False  # whether the last poll was answered by none of those that it asked
        self.attempted = threading.Event()

    def poll_if_due(self) -> None:
        """Poll where that is due, or look at the workers that need it; raise PollError where the broker fails."""
        now = self._core.clock.now()
        with self._core.store.lock:
            workers = frozenset(self._core.tracker.askable_workers(now))
            opened_at = self._core.tracker.hearing.since
        # What workers hold was taken before we listened: its events are of no use until they have told of it.
        opened = opened_at is not None and opened_at != self._stream_opened_at
        overdue = self._polled_at is None or now.elapsed - self._polled_at >= self._interval
        everybody = opened or overdue
        new = sorted(workers - self._asked)
        if not everybody and not new:
            self._look(now)
            return
        works = answered = False
        try:
            # Where nobody is known, only a question to everybody proves that nobody is there.
            readings = self._poller.poll(discover=opened or not workers, only=() if everybody else new)
            works, answered = True, bool(readings) or not workers
            if answered:
                with self._core.store.lock:
                    self._core.tracker.apply(readings, self._core.clock.now())
            self._asked |= workers
            # A poll that failed is tried again after the supervisor's pause, not after the interval.
            if everybody:
                self._polled_at, self._stream_opened_at = now.elapsed, opened_at
                self._asked = workers.union(reading.worker for reading in readings)
        finally:
            self._core.health.broker("workers", works=works)
            if everybody or not works:  # newcomers that do not answer yet say nothing of the others
                self._core.health.polled("workers", answered, self._core.clock.now().elapsed - now.elapsed)
            self.attempted.set()
        if everybody:
            self._note(mute=not answered)

    def _note(self, *, mute: bool) -> None:
        if mute and not self._mute:
            logger.warning("no worker answers inspection, though heartbeats arrive: is remote control switched off?")
        self._mute = mute

    def _look(self, now: Moment) -> None:
        with self._core.store.lock:
            workers = self._core.tracker.workers_to_look_at(now)
        if workers:
            readings = self._poller.running(workers)
            with self._core.store.lock:
                self._core.tracker.apply_running(readings, self._core.clock.now())
