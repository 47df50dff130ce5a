"""Task events of one worker that were sent and never arrived, from the worker's own count of accepted tasks."""

from collections import deque

HEARTBEATS_TO_PROVE = 3  # that miss the same events
MAX_PENDING = 100_000  # started events between two heartbeats that are kept; beyond it the count starts anew


class LostEvents:
    """Compares `processed` of a worker's heartbeats with the started events that arrived.

    `processed` counts a task just before its started event is made, and events are sent in batches, so heartbeat n is
    judged when n+1 arrives, by the started events whose timestamp (same clock) is not after n's. A task accepted just
    when a heartbeat is made looks lost to that one alone: only what several in a row miss counts.
    """

    __slots__ = (
        "_baseline", "_first", "_high_water", "_last", "_matched", "_missing", "_pending", "_processed",
    )  # fmt: skip

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start anew with the next heartbeat: another process, or events were off."""
        self._baseline: int | None = None
        self._first = self._last = 0.0  # timestamps of the first and the latest heartbeat
        self._processed = 0  # as of the latest heartbeat
        self._matched = 0  # started events up to the latest heartbeat
        self._pending: list[float] = []  # timestamps of started events after it
        self._missing: deque[int] = deque(maxlen=HEARTBEATS_TO_PROVE)
        self._high_water = 0

    def started(self, timestamp: float) -> None:
        """A started event arrived."""
        if timestamp > self._last:
            if self._baseline is not None:
                self._pending.append(timestamp)
                if len(self._pending) > MAX_PENDING:
                    self.reset()
        elif timestamp > self._first:
            self._matched += 1

    def heartbeat(self, timestamp: float, processed: int, silent: int | None) -> int:
        """Return how many more events the worker's heartbeats prove lost.

        `silent` is how many tasks that send no events the worker accepted since the first heartbeat; None where that
        cannot be judged now.
        """
        if self._baseline is None:
            self._baseline = self._processed = processed
            self._first = self._last = timestamp
            return 0
        proven = 0
        if silent is not None:
            missing = self._processed - self._baseline - self._matched - silent
            self._missing.append(missing)
            if len(self._missing) == HEARTBEATS_TO_PROVE:
                proven = max(0, min(self._missing) - self._high_water)
                self._high_water += proven
        after = [started for started in self._pending if started > timestamp]
        self._matched += len(self._pending) - len(after)
        self._pending = after
        self._processed = processed
        self._last = timestamp
        return proven
