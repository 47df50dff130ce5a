"""What is known of one worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from celeryscope.metrics import catalog
from celeryscope.metrics.store import Store
from celeryscope.tracker.labels import clean_label
from celeryscope.tracker.lost_events import LostEvents

if TYPE_CHECKING:
    from celeryscope.tracker.attempts import Attempt

HEARTBEATS_FOR_SKEW = 10
REMEMBERED_PIDS = 8
DEFAULT_FREQUENCY = 2.0  # seconds between heartbeats


class Doubt(NamedTuple):
    """A run that its worker did not tell of when it was asked: over, unless its end comes before the deadline."""

    started_at: float  # as in `Worker.running`
    deadline: float  # elapsed seconds


class Worker:
    """What is known of one worker, by its node name."""

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self.label = (clean_label(name),)
        self.up: bool | None = None  # None: no heartbeat yet
        self.up_since = 0.0  # elapsed seconds of its first heartbeat since it came up or was restarted
        self.gone_at: float | None = None  # elapsed seconds
        self.seen_at = 0.0  # elapsed seconds of its last event of any kind
        self.heard_at = 0.0  # elapsed seconds of its last heartbeat
        self.frequency = DEFAULT_FREQUENCY
        self.pids: deque[int] = deque(maxlen=REMEMBERED_PIDS)
        self.incarnation = 0
        self.latest = 0.0  # latest timestamp of its worker events, on its own clock
        self.processed: int | None = None
        self.uptime_ends: float | None = None  # elapsed seconds at which it was started
        self.skews: deque[float] = deque(maxlen=HEARTBEATS_FOR_SKEW)
        self.skew: float | None = None
        self.correction = 0.0  # seconds to add to its timestamps
        self.queues: tuple[str, ...] | None = None  # that it consumes, as it last told; None before it has
        self.only_queue: str | None = None
        self.concurrency: int | None = None  # tasks that it can run at once, as it last told
        self.solo = False
        self.task_events = 0
        self.task_events_at_heartbeat = 0
        self.task_events_at_tick = 0
        self.silent_heartbeats = 0
        self.events_enabled: bool | None = None
        self.silent_tasks: frozenset[str] = frozenset()
        self.silent_baseline: int | None = None
        self.silent_growth: int | None = 0  # None: not asked since the last heartbeat
        self.lost_events = LostEvents()
        self.running: dict[Attempt, float] = {}  # when each was started, on its own clock
        self.idle_since: float | None = None  # timestamp of its latest heartbeat, where nothing was active
        self.active = 0  # tasks that it ran at its latest heartbeat
        self.fewer_active = False  # whether its latest heartbeat told of fewer running tasks than we know of
        self.in_doubt = False  # whether the one before it did so too
        self.looked_at = float("-inf")  # elapsed seconds of the last question for what it runs
        self.doubts: dict[Attempt, Doubt] = {}  # runs that it did not tell of when it was asked
        self.found: dict[Attempt, bool] = {}  # known from inspection alone, and whether the latest missed it
        self.backfilled_since: float | None = None  # when the stream was opened before what it holds was taken over
        self.info: tuple[str, ...] = ()  # version, software, system, pool
        self.answered_at: float | None = None  # elapsed seconds of its last answer, while that is not too old
        self.accepted: Mapping[str, int] | None = None  # as of the last inspection
        self.pool_pids: frozenset[int] | None = None  # likewise
        self.rate_limits: Mapping[str, float] = {}  # starts per second by task, likewise
        self.usual_prefetch: int | None = None  # without what is added for tasks whose ETA is ahead
        self.listed: tuple[int | None, int] | None = None  # prefetch and scheduled, when the latter was last listed
        self.restarts = store.cell(catalog.WORKER_RESTARTS, self.label)
        self.lost = store.cell(catalog.WORKER_LOST, self.label)
        self.events_lost = store.cell(catalog.WORKER_EVENTS_LOST, self.label)

    @property
    def has_free_slot(self) -> bool:
        """Whether it could run another task at once."""
        # Of tasks that send no events only its heartbeats tell.
        busy = max(len(self.running), self.active) if self.silent_tasks else len(self.running)
        return self.concurrency is not None and busy < self.concurrency

    def is_mute(self, now: float) -> bool:
        """Whether it can neither beat nor answer now: a solo worker that runs a task. `now` is elapsed seconds."""
        return self.solo and now - self.heard_at > 2 * self.frequency
