"""What the exporter's own `/metrics` says, reduced to the few numbers that the demo shows."""

import http.client
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

TIMEOUT = 1.0  # seconds
WINDOW = 30.0  # seconds that rates and quantiles look back

OUTCOMES = ("started", "succeeded", "failed", "retried")
WAIT_BUCKET = "celery_task_wait_seconds_bucket"
LENGTH = "celery_queue_length"
OLDEST = "celery_queue_oldest_task_timestamp_seconds"
QUEUE_WORKERS = "celery_queue_workers"
STARTED = "celery_task_started_total"
QUEUE_FACTS = (LENGTH, OLDEST, QUEUE_WORKERS, STARTED)


@dataclass(frozen=True)
class QueueSnapshot:
    """What one scrape says of a queue; None is unknown."""

    length: float | None = None
    oldest: float | None = None  # when the task that is next was due, in seconds since the epoch
    workers: float | None = None
    started: float = 0.0  # tasks, since the exporter's start
    wait_buckets: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """One scrape, summed over tasks and queues. What the exporter does not know yet is 0, or empty."""

    totals: Mapping[str, float] = field(default_factory=dict)  # tasks by outcome, since the exporter's start
    in_flight: Mapping[str, float] = field(default_factory=dict)  # tasks by state, now
    wait_buckets: Mapping[float, float] = field(default_factory=dict)  # tasks by longest wait
    workers: float = 0.0
    concurrency: float | None = None
    queues: Mapping[str, QueueSnapshot] = field(default_factory=dict)


@dataclass(frozen=True)
class QueueFigures:
    """A line of the table of queues; None is unknown."""

    name: str
    length: float | None
    oldest: float | None  # seconds since the epoch
    workers: float | None
    started_rate: float | None  # tasks per second
    wait_p95: float | None  # seconds


@dataclass(frozen=True)
class Figures:
    """What is shown. Rates (tasks/s) and waits (seconds) are those of the last `seconds`; None is unknown."""

    rates: Mapping[str, float | None]
    waiting: float
    running: float
    scheduled: float
    wait_p50: float | None
    wait_p95: float | None
    workers: float
    concurrency: float | None
    seconds: float
    queues: Sequence[QueueFigures] = ()


def get(host: str, port: int, path: str) -> tuple[int, str]:
    """Status and body of an HTTP request, past any proxy. Raises OSError where nobody answers."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except http.client.HTTPException as error:
        raise OSError(f"not an HTTP answer: {error!r}") from error
    finally:
        connection.close()


def parse(exposition: str) -> Snapshot:
    """Reduce a text exposition."""
    sums: dict[str, float] = {}
    in_flight: dict[str, float] = {}
    buckets: dict[float, float] = {}
    queues: dict[str, dict[str, float]] = {}
    queue_buckets: dict[str, dict[float, float]] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
            if sample.name == "celery_tasks_in_flight":
                state = sample.labels["state"]
                in_flight[state] = in_flight.get(state, 0.0) + sample.value
            elif sample.name == WAIT_BUCKET:
                edge = float(sample.labels["le"])
                buckets[edge] = buckets.get(edge, 0.0) + sample.value
                of_queue = queue_buckets.setdefault(sample.labels["queue"], {})
                of_queue[edge] = of_queue.get(edge, 0.0) + sample.value
            elif sample.name in QUEUE_FACTS:
                facts = queues.setdefault(sample.labels["queue"], {})
                facts[sample.name] = facts.get(sample.name, 0.0) + sample.value
    return Snapshot(
        totals={outcome: sums.get(f"celery_task_{outcome}_total", 0.0) for outcome in OUTCOMES},
        in_flight=in_flight,
        wait_buckets=buckets,
        workers=sums.get("celery_worker_up", 0.0),
        concurrency=sums.get("celery_worker_concurrency"),
        queues={
            name: QueueSnapshot(
                length=facts.get(LENGTH),
                oldest=facts.get(OLDEST),
                workers=facts.get(QUEUE_WORKERS),
                started=facts.get(STARTED, 0.0),
                wait_buckets=queue_buckets.get(name, {}),
            )
            for name, facts in queues.items()
        },
    )


def quantile(q: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """The q-quantile of cumulative (upper bound, count) pairs in ascending order, the last bound infinite.

    Linear within a bucket, as `histogram_quantile` is; in the last bucket its lower bound. None where nothing
    was observed.
    """
    if not buckets or buckets[-1][1] <= 0:
        return None
    rank = q * buckets[-1][1]
    lower, below = 0.0, 0.0
    for upper, count in buckets:
        if count >= rank and count > below:
            return lower if math.isinf(upper) else lower + (upper - lower) * (rank - below) / (count - below)
        lower, below = upper, count
    return None


class History:
    """The snapshots of the last WINDOW seconds."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, Snapshot]] = deque()

    def add(self, elapsed: float, snapshot: Snapshot) -> None:
        """Keep a snapshot; `elapsed` are seconds of a clock that never jumps."""
        self._kept.append((elapsed, snapshot))
        while self._kept[0][0] < elapsed - WINDOW:
            self._kept.popleft()

    def figures(self) -> Figures | None:
        """The newest snapshot against the oldest; None while the exporter has seen no event of a task."""
        if not self._kept or not any(self._kept[-1][1].totals.values()):
            return None
        (then, old), (now, new) = self._kept[0], self._kept[-1]
        seconds = now - then
        rates = {
            outcome: (total - old.totals.get(outcome, 0.0)) / seconds if seconds > 0 else None
            for outcome, total in new.totals.items()
        }
        waits = _grown(old.wait_buckets, new.wait_buckets)
        return Figures(
            rates=rates,
            waiting=new.in_flight.get("sent", 0.0) + new.in_flight.get("received", 0.0),
            running=new.in_flight.get("started", 0.0),
            scheduled=new.in_flight.get("scheduled", 0.0),
            wait_p50=quantile(0.5, waits),
            wait_p95=quantile(0.95, waits),
            workers=new.workers,
            concurrency=new.concurrency,
            seconds=seconds,
            queues=[
                _queue(name, old.queues.get(name, QueueSnapshot()), new.queues[name], seconds)
                for name in sorted(new.queues)
            ],
        )


def _queue(name: str, old: QueueSnapshot, new: QueueSnapshot, seconds: float) -> QueueFigures:
    return QueueFigures(
        name=name,
        length=new.length,
        oldest=new.oldest,
        workers=new.workers,
        started_rate=(new.started - old.started) / seconds if seconds > 0 else None,
        wait_p95=quantile(0.95, _grown(old.wait_buckets, new.wait_buckets)),
    )


def _grown(old: Mapping[float, float], new: Mapping[float, float]) -> list[tuple[float, float]]:
    """The buckets of what came between two snapshots, in ascending order."""
    return [(edge, count - old.get(edge, 0.0)) for edge, count in sorted(new.items())]
