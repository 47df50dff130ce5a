"""Polls of the broker: what lies in its queues, and how it fares."""

import random
import threading
from collections.abc import Callable

from celeryscope.loops.core import Core
from celeryscope.pollers import BrokerPoller
from celeryscope.supervisor import Periodic
from celeryscope.tracker.labels import clean_label

POLLER = "queues"  # the label of these polls
JITTER = 0.1  # of the interval


class QueuePolls:
    """Asks the broker at once and at every interval; one that failed, again after the supervisor's pause."""

    def __init__(
        self,
        core: Core,
        poller: BrokerPoller,
        interval: float,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`interval` is in seconds; `uniform(a, b)` picks from what is between."""
        self._core = core
        self._poller = poller
        self._periodic = Periodic(interval, JITTER, self.poll, uniform)
        self.attempted = threading.Event()  # the first poll is over, whatever came of it

    def run(self, stop: threading.Event) -> None:
        """Poll until told to stop; raise PollError where the broker fails."""
        try:
            self._periodic.run(stop)
        finally:
            self._poller.close()

    def poll(self) -> None:
        """Poll once; raise PollError where the broker fails."""
        health, clock = self._core.health, self._core.clock
        started = clock.now().elapsed
        succeeded = False
        try:
            reading = self._poller.poll()
            with self._core.store.lock:
                self._core.tracker.apply_broker(reading, clock.now())
            if reading.version is not None:
                health.version(clean_label(reading.version))
            succeeded = True
        finally:
            health.broker(POLLER, works=succeeded)
            health.polled(POLLER, succeeded, clock.now().elapsed - started)
            self.attempted.set()
