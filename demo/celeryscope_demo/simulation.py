"""Work that is not done: how long it takes, and whether it goes well, follow from a key alone."""

import random
import time

LONGEST = 5.0  # times the usual


def duration(seconds: float, *key: object) -> float:
    """About `seconds`: often less, now and then much more, as real latencies are. `key` seeds it."""
    spread = random.Random(repr(key)).lognormvariate(-0.2, 0.6)
    return min(seconds * spread, seconds * LONGEST)


def work(seconds: float, *key: object) -> None:
    """Take about `seconds`."""
    time.sleep(duration(seconds, *key))


def chance(probability: float, *key: object) -> bool:
    """Whether something that happens with this probability happens for this key."""
    return random.Random(repr(("chance", *key))).random() < probability
