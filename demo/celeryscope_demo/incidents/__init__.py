"""Incidents: what goes wrong with Celery clusters, caused on demand, seen, and undone.

Most of an incident is a switch in the store (switches.py): tasks, producers and the provider look at it and behave
badly while it is on. What takes a process or the broker is an action: a generator that does its harm up to the
first `yield`, is asked on while the incident lasts, and undoes everything in its `finally`.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass

from celeryscope.errors import CeleryscopeError
from celeryscope_demo.broker import Running
from celeryscope_demo.cluster import Cluster

Action = Callable[[Cluster], Generator[None]]

MINUTES = 60.0  # seconds

# Parts that incidents of several modules take.
HEAVY = "worker-heavy"
# Calls that wait for another attempt multiply while a visibility timeout is shorter than their countdowns.
REDELIVERY = "the redelivery of calls"


class CannotStart(CeleryscopeError):
    """An incident cannot be caused here, or not now: says why, and what to do."""


@dataclass(frozen=True)
class Incident:
    """One incident: what goes wrong, what an operator will see, and how long it lasts unless it is stopped.

    `seen` names metrics as `/metrics` does. `part` is what it takes hold of: two that take the same are not on at once,
    nor before the program that one of them `starts` has ended.
    """

    name: str
    summary: str
    seen: str
    seconds: float = 3 * MINUTES
    action: Action | None = None
    part: str | None = None
    starts: str | None = None


def embedded_broker(cluster: Cluster) -> Running:
    """The demo's own broker. Raises CannotStart where it is somebody else's."""
    if cluster.broker is None:
        raise CannotStart("this incident disturbs the broker, and --broker-url names one that is not the demo's own")
    return cluster.broker


def lasting() -> Generator[None]:
    """What an action does that has done its harm: nothing more, for as long as the incident lasts."""
    while True:
        yield
