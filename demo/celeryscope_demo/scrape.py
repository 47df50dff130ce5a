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


@dataclass(frozen=True)
class Snapshot:
    """One scrape, summed over tasks and queues. What the exporter does not know yet is 0, or empty."""

    totals: Mapping[str, float] = field(default_factory=dict)  # tasks by outcome, since the exporter's start
    in_flight: Mapping[str, float] = field(default_factory=dict)  # tasks by state, now
    wait_buckets: Mapping[float, float] = field(default_factory=dict)  # tasks by longest wait
    workers: float = 0.0
    concurrency: float | None = None


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
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
            if sample.name == "celery_tasks_in_flight":
                state = sample.labels["state"]
                in_flight[state] = in_flight.get(state, 0.0) + sample.value
            elif sample.name == WAIT_BUCKET:
                edge = float(sample.labels["le"])
                buckets[edge] = buckets.get(edge, 0.0) + sample.value
    return Snapshot(
        totals={outcome: sums.get(f"celery_task_{outcome}_total", 0.0) for outcome in OUTCOMES},
        in_flight=in_flight,
        wait_buckets=buckets,
        workers=sums.get("celery_worker_up", 0.0),
        concurrency=sums.get("celery_worker_concurrency"),
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
        buckets = sorted(new.wait_buckets.items())
        waits = [(edge, count - old.wait_buckets.get(edge, 0.0)) for edge, count in buckets]
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
        )
