"""How busy the network is, and when: profiles, and a day that passes in minutes."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

DAY = 600.0  # seconds in which a day of the network passes


@dataclass(frozen=True)
class Profile:
    """`level` times the workloads' own rates, in a wave that rises and falls by `swing` of it in a day."""

    level: float
    swing: float

    def factor(self, elapsed: float) -> float:
        """What rates are multiplied by, `elapsed` seconds after the start: in the morning, at the mean."""
        return self.level * (1 + self.swing * math.sin(2 * math.pi * elapsed / DAY))

    @property
    def highest(self) -> float:
        """The largest factor of the day."""
        return self.level * (1 + self.swing)


PROFILES = {
    "steady": Profile(level=1.0, swing=0.3),
    "peak": Profile(level=2.5, swing=0.2),
    "night": Profile(level=0.15, swing=0.3),
}


def arrivals(rate: float, profile: Profile, seed: object) -> Iterator[float]:
    """When work arrives, in seconds from the start, for ever: independently (Poisson), as that of many users does.

    `rate` is the mean per second at a factor of 1. The same seed gives the same moments.
    """
    chance = random.Random(repr(seed))
    elapsed = 0.0
    while True:
        # Thinning: drawn at the day's highest rate, and kept as often as the moment's rate is a share of that.
        elapsed += chance.expovariate(rate * profile.highest)
        if chance.random() * profile.highest < profile.factor(elapsed):
            yield elapsed
