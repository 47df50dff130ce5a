"""Events of our own, sent to prove that we hear."""

import threading
import uuid

from celeryscope.errors import StreamError
from celeryscope.loops.core import Core
from celeryscope.loops.listener import Listener
from celeryscope.stream.canary import Canary

LOOK_INTERVAL = 0.25  # seconds between two looks whether the stream was opened or a canary is due


class CanaryRounds:
    """Sends a canary as soon as the stream is open, and then at every interval."""

    def __init__(self, core: Core, canary: Canary, interval: float, listener: Listener) -> None:
        self._core = core
        self._canary = canary
        self.interval = interval  # seconds
        self._listener = listener

    def run(self, stop: threading.Event) -> None:
        """Send canaries until told to stop; raise StreamError where the broker does not take them."""
        opened, next_at = 0, 0.0
        try:
            self._canary.connect()
            self._core.health.broker("canary", works=True)
            while not stop.is_set():
                now = self._core.clock.now().elapsed
                if self._listener.connected.is_set() and (now >= next_at or opened != self._listener.opened):
                    if opened not in (0, self._listener.opened):
                        self._canary.connect()  # what cost the stream its connection has hardly spared this one
                    opened, next_at = self._listener.opened, now + self.interval
                    self._send()
                stop.wait(LOOK_INTERVAL)
        except StreamError:
            self._core.health.broker("canary", works=False)
            raise
        finally:
            self._canary.close()

    def _send(self) -> None:
        hearing, identity, now = self._core.tracker.hearing, uuid.uuid4().hex, self._core.clock.now()
        with self._core.store.lock:
            hearing.canary_sent(identity, now.elapsed)
        try:
            self._canary.send(identity, now.wall)
        except StreamError:
            with self._core.store.lock:
                hearing.canary_failed(identity)
            raise
