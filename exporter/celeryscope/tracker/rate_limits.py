"""Celery's own rate limits: what the workers together allow of each task, and what their token buckets hold back.

A `rate_limit` holds per worker, so that a cluster's limit is the sum over its workers, and moves as they come and go.
"""

from __future__ import annotations

from collections.abc import Iterable

from celeryscope.metrics import catalog
from celeryscope.metrics.store import Store
from celeryscope.tracker.attempts import RECEIVED, Attempt
from celeryscope.tracker.labels import Labels
from celeryscope.tracker.worker import Worker

HELD_AFTER = 1.0  # seconds in a worker's hands: before that its start may be on the way to us


class RateLimits:
    """The gauges of rate limits, by label of task."""

    def __init__(self, store: Store, labels: Labels) -> None:
        self._store = store
        self._labels = labels

    def refresh(self, workers: Iterable[Worker], attempts: Iterable[Attempt], now: float) -> None:
        """Set the gauges. `now` is elapsed seconds."""
        limits: dict[str, float] = {}
        held: dict[str, int] = {}
        for worker in workers:
            if worker.up is False:
                continue
            for task, limit in worker.rate_limits.items():
                label = self._labels.of(task)
                limits[label] = limits.get(label, 0.0) + limit
                if worker.events_enabled:  # else nothing tells what it holds
                    held[label] = 0
        if held:
            for attempt in attempts:
                if is_held(attempt, now):
                    held[self._labels.of(attempt.task)] += 1
        for spec, values in ((catalog.TASK_RATE_LIMIT, limits), (catalog.TASKS_RATE_LIMIT_HELD, held)):
            self._store.clear(spec)
            for label, value in values.items():
                self._store.set(spec, (label,), value)


def is_held(attempt: Attempt, now: float) -> bool:
    """Whether nothing but its worker's token bucket can be why a task was not started.

    It is due, its worker limits it, and a slot of that worker is free, which every other task would have taken.
    """
    worker = attempt.worker
    return (
        attempt.state is RECEIVED
        and worker is not None
        and worker.up is not False
        and attempt.task in worker.rate_limits
        and bool(worker.events_enabled)
        and worker.has_free_slot
        and now - attempt.seen_at >= HELD_AFTER
    )
