"""Workloads: each module is one way of using Celery, says what it teaches, and how its work arrives.

Every task has an explicit name: the name is in messages that wait in queues, so it must survive a module that
moves. The work is simulated; how long it takes, and whether it succeeds, follows from the arguments alone, so
that a run can be repeated.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

IDS = 1_000_000  # users, posts, links and photos of the network


@dataclass(frozen=True)
class Workload:
    """How work arrives: `start` sends what one arrival means, drawn from the chance that it is given.

    `rate` is arrivals per second in profile steady. With an `incident`, work arrives only while that is on.
    """

    name: str
    rate: float
    start: Callable[[random.Random], None]
    incident: str | None = None


def one_id(chance: random.Random) -> int:
    """The id of a post, a link, a photo or a user."""
    return chance.randrange(IDS)
