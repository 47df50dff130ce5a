"""What proves that we hear: without proof, silence says nothing about a worker."""

CANARY_PATIENCE = 10.0  # seconds
CANARIES_MISSED = 2
MAX_OUTSTANDING = 64  # canaries sent and not heard that are remembered


class Hearing:
    """Whether, since when and up to when the event stream provably reached us. Times are elapsed seconds.

    Canaries travel the way of every event, so once one that was sent at `t` is heard, everything that was published
    before `t` has been heard too: `proved_until` is the send time of the latest canary that came back.
    """

    def __init__(self, deaf_after: float) -> None:
        self._deaf_after = deaf_after
        self._outstanding: dict[str, float] = {}
        self._connected = False
        self._deaf_seconds = 0.0
        self._accounted: float | None = None  # up to here it is decided whether we were deaf
        self.since: float | None = None
        self.proved_until: float | None = None

    def opened(self, now: float) -> None:
        """The event stream was opened."""
        self.deaf_seconds(now)
        self._connected = True
        self.since = now

    def lost(self, now: float) -> None:
        """The event stream was lost, or could not be opened."""
        self.deaf_seconds(now)
        self._accounted = now
        self._connected = False
        self.since = None
        self._outstanding.clear()

    def canary_sent(self, identity: str, now: float) -> None:
        """A canary is about to be published."""
        while len(self._outstanding) >= MAX_OUTSTANDING:
            del self._outstanding[next(iter(self._outstanding))]
        self._outstanding[identity] = now

    def canary_failed(self, identity: str) -> None:
        """A canary could not be published: it cannot come back either."""
        self._outstanding.pop(identity, None)

    def canary_heard(self, identity: str, now: float) -> float | None:
        """A canary came back: return its round trip in seconds, or None for one that is not ours."""
        sent = self._outstanding.pop(identity, None)
        if sent is None:
            return None
        self.deaf_seconds(now)
        self.proved_until = max(sent, self.proved_until or sent)
        self._outstanding = {other: at for other, at in self._outstanding.items() if at > sent}
        return now - sent

    def is_deaf(self, now: float) -> bool:
        """Whether nothing can have been heard of late: no connection, or canaries that do not come back."""
        return not self._connected or now - self._heard_at() > self._deaf_after or self.has_missed(now)

    def has_missed(self, now: float) -> bool:
        """Whether canaries that were published do not come back: the subscription is no good."""
        overdue = sum(now - sent > CANARY_PATIENCE for sent in self._outstanding.values())
        return overdue >= CANARIES_MISSED

    def silence(self, last_heard: float) -> float:
        """Return for how many seconds somebody last heard at `last_heard` has provably been silent."""
        if self.since is None or self.proved_until is None:
            return 0.0
        return max(0.0, self.proved_until - max(last_heard, self.since))

    def deaf_seconds(self, now: float) -> float:
        """Return for how many seconds in all we have been deaf; asked for often, since it does the counting."""
        if self._accounted is None:
            self._accounted = now
        if self.is_deaf(now):
            self._deaf_seconds += now - self._accounted
            self._accounted = now
        else:  # what came after the last proof is decided by the next one
            self._accounted = max(self._accounted, self._heard_at())
        return self._deaf_seconds

    def _heard_at(self) -> float:
        return max(self.since or 0.0, self.proved_until or 0.0)
