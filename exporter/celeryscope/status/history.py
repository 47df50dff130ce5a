"""What counters were in the last minutes, so that a page can tell what happened of late."""

from collections import deque
from collections.abc import Mapping
from heapq import nlargest
from typing import NamedTuple

RATE_WINDOW = 60.0  # seconds
FAILURE_WINDOW = 300.0  # seconds
MAX_FAILURES = 1_000  # kinds that are remembered of one look: the most frequent

Failure = tuple[str, str]  # task, exception


class _Look(NamedTuple):
    at: float  # elapsed seconds
    events: float  # in all
    failures: Mapping[Failure, float]  # since the look before


class History:
    """Looks at counters, taken every few seconds.

    Its owner lets one thread at a time in here, with totals that are not older than those before.
    """

    def __init__(self, started: float) -> None:
        """`started` is when all counters were 0, in elapsed seconds."""
        self._looks: deque[_Look] = deque([_Look(started, 0.0, {})])
        self._totals: Mapping[Failure, float] = {}

    def take(self, now: float, events: float, failures: Mapping[Failure, float]) -> None:
        """Take a look at totals. `now` is elapsed seconds."""
        before = self._totals
        grown = {key: _growth(before.get(key, 0.0), total) for key, total in failures.items()}
        grown = {key: growth for key, growth in grown.items() if growth}
        if len(grown) > MAX_FAILURES:
            grown = dict(nlargest(MAX_FAILURES, grown.items(), key=lambda item: item[1]))
        self._totals = failures
        self._looks.append(_Look(now, events, grown))
        # One that is older than the window stays: what is in the window is counted from it.
        while len(self._looks) > 1 and now - self._looks[1].at >= FAILURE_WINDOW:
            self._looks.popleft()

    def event_rate(self, now: float, events: float, since: float) -> tuple[float | None, float]:
        """Return events per second and the seconds that this is the mean of; None where they are less than one.

        What came before `since` is left out.
        """
        looks = [look for look in self._looks if look.at >= since]
        first = next((look for look in looks if now - look.at <= RATE_WINDOW), looks[-1] if looks else None)
        window = 0.0 if first is None else now - first.at
        if first is None or window < 1.0:
            return None, window
        return max(0.0, events - first.events) / window, window

    def recent_failures(self, now: float, totals: Mapping[Failure, float]) -> tuple[dict[Failure, float], float]:
        """Return failures of late by kind, and the seconds in which they happened."""
        found = {key: _growth(self._totals.get(key, 0.0), total) for key, total in totals.items()}
        first, *looks = self._looks
        for look in looks:
            for key, growth in look.failures.items():
                found[key] = found.get(key, 0.0) + growth
        return {key: growth for key, growth in found.items() if growth}, now - first.at


def _growth(before: float, after: float) -> float:
    # A series that was forgotten begins anew.
    return after - before if after >= before else after
