"""Hearing where no canary is sent: what else proves that the event stream reaches us."""

from math import inf

from celeryscope.tracker.hearing import Hearing

PATIENCE = 60.0  # seconds within which every stream notices that its broker is dead or frozen
LONGEST_PAUSE = 5.0  # seconds between two reads of a stream: a longer one is a process that stood still


class WitnessedHearing(Hearing):
    """Whether we hear, by heartbeats and by the stream itself. Only a lost connection is deaf.

    A heartbeat that arrives proves what a canary would, up to when it was sent. Where all workers are silent, a
    stream that was read for `PATIENCE` without a break and without an error had heard everything until `PATIENCE` ago.
    That the subscription is the right one is taken for granted: canaries alone prove that.
    """

    def __init__(self) -> None:
        super().__init__(deaf_after=inf)
        self._read_since = 0.0
        self._read_at = -inf

    def opened(self, now: float) -> None:
        """The event stream was opened."""
        super().opened(now)
        self._read_since = self._read_at = now

    def heard(self, sent_at: float) -> None:
        """An event came that was sent at `sent_at`, on our clock."""
        self.proved_until = max(sent_at, self.proved_until or sent_at)

    def read(self, now: float) -> None:
        """The stream was read without an error, whether something came or not."""
        if now - self._read_at > LONGEST_PAUSE:
            self._read_since = now
        self._read_at = now
        if now - self._read_since >= PATIENCE:
            self.heard(now - PATIENCE)
