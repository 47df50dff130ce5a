"""Tasks that are over and of which no end will be told, found by what their workers say they run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from celeryscope.tracker.worker import Doubt, Worker

if TYPE_CHECKING:
    from celeryscope.tracker.attempts import Attempt

END_GRACE = 5.0  # seconds that an end may be under way: workers send events in batches, once a second
LOOK_INTERVAL = 5.0  # seconds between two questions to one worker for what it runs


class Reconciler:
    """Closes what no longer runs. `close_run(attempt, worker, now)` is called for each such run."""

    def __init__(self, close_run: Callable[[Attempt, Worker, float], None]) -> None:
        self._close_run = close_run

    def heartbeat(self, worker: Worker, timestamp: float, active: int, now: float) -> None:
        """A heartbeat told how many tasks its worker runs. `now` is elapsed seconds."""
        known = len(worker.running)
        if known > active > 0:
            known = sum(started_at <= timestamp for started_at in worker.running.values())
        # Ends may still be on their way: what one heartbeat shows to be over, the next one confirms.
        worker.in_doubt = 0 < active < known and worker.fewer_active
        worker.fewer_active = 0 < active < known
        if active or not known:
            worker.idle_since = None
            return
        idle_since, worker.idle_since = worker.idle_since, timestamp
        if idle_since is not None:
            for attempt, started_at in list(worker.running.items()):
                if started_at <= idle_since:
                    self._close_run(attempt, worker, now)

    def to_look_at(self, workers: Iterable[Worker], now: float) -> list[str]:
        """Return the node names of the workers to be asked now for what they run; they are taken to be asked."""
        names = []
        for worker in workers:
            if worker.in_doubt and worker.up and not worker.is_mute(now) and now - worker.looked_at >= LOOK_INTERVAL:
                worker.looked_at = now
                names.append(worker.name)
        return names

    def listed(self, worker: Worker, running: Collection[str], asked_at: float, now: float) -> None:
        """A worker told the uuids of all that it runs. Times are elapsed seconds."""
        for attempt, started_at in worker.running.items():
            if attempt.uuid in running:
                worker.doubts.pop(attempt, None)
            elif attempt.seen_at < asked_at and attempt not in worker.doubts:
                worker.doubts[attempt] = Doubt(started_at, now + END_GRACE)

    def tick(self, worker: Worker, now: float) -> None:
        """Close the runs in doubt of which nothing came. `now` is elapsed seconds."""
        for attempt, doubt in list(worker.doubts.items()):
            if worker.running.get(attempt) != doubt.started_at:
                del worker.doubts[attempt]
            elif doubt.deadline <= now:
                del worker.doubts[attempt]
                self._close_run(attempt, worker, now)
