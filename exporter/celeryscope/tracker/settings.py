"""What the tracker is told once: its bounds and patience, how names are shown, what is expected of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from celeryscope.metrics.catalog import RUNTIME_BUCKETS, WAIT_BUCKETS
from celeryscope.naming import NameRules
from celeryscope.objectives import DEFAULT_ALLOWED_WAIT, Objectives


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """Bounds in tasks, durations in seconds."""

    hears: bool = True  # whether the transport carries events at all
    canary_interval: float = 15.0
    worker_timeout: float = 30.0
    solo_worker_timeout: float = 3600.0
    worker_retention: float = 3600.0
    orphan_timeout: float = 3600.0
    task_ttl: float = 86_400.0
    pair_retention: float = 86_400.0
    max_tracked_tasks: int = 50_000
    max_sent_tasks: int = 500_000
    runtime_buckets: tuple[float, ...] = RUNTIME_BUCKETS
    wait_buckets: tuple[float, ...] = WAIT_BUCKETS
    prefetch_histogram: bool = False
    rate_limit_exceptions: frozenset[str] = frozenset()
    task_names: NameRules = field(default_factory=NameRules)
    queue_names: NameRules = field(default_factory=NameRules)
    objectives: Objectives = field(default_factory=Objectives)
    queue_wait_objective: float = DEFAULT_ALLOWED_WAIT
    queues: tuple[str, ...] = ()  # names that are known from the start
    poll_stale_after: float = 120.0
    backfill_patience: float = 5.0  # that events of unknown tasks wait for inspection once the stream is open; 0: never
    beat_intervals: Mapping[str, float] = field(default_factory=dict)  # by name of task
