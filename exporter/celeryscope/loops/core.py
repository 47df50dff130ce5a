"""What every loop of a monitor is handed."""

from dataclasses import dataclass

from celeryscope.clock import Clock
from celeryscope.metrics.health import ExporterHealth
from celeryscope.metrics.store import Store
from celeryscope.tracker import Tracker


@dataclass(frozen=True, slots=True)
class Core:
    """What every loop of a monitor works on. Whoever touches the tracker holds the store's lock."""

    store: Store
    tracker: Tracker
    health: ExporterHealth
    clock: Clock
