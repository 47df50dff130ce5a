"""The status page's facts, from the series of a store."""

from collections.abc import Iterable, Mapping
from heapq import nsmallest
from math import inf
from typing import NamedTuple

from celeryscope.clock import Moment
from celeryscope.metrics import catalog
from celeryscope.metrics.catalog import Spec
from celeryscope.metrics.store import Labels, Store
from celeryscope.status.facts import Connection, FailureRow, QueueRow, Row, Rows, Status, Total, Traffic, WorkerRow
from celeryscope.status.findings import findings
from celeryscope.status.history import Failure, History

MOST_ROWS = 20  # of a table
FIRST_CANARY = 5.0  # seconds after connecting in which one comes back
CANARY = ("celeryscope-canary",)  # the label of our own events

SHOWN: tuple[Spec, ...] = (
    catalog.BROKER_ALARM, catalog.BROKER_EVICTION_POLICY, catalog.BROKER_INFO, catalog.BROKER_MEMORY_MAX,
    catalog.BROKER_MEMORY_USED, catalog.BROKER_UP, catalog.EXPORTER_CANARY_LAST_SUCCESS,
    catalog.EXPORTER_CANARY_ROUND_TRIP, catalog.EXPORTER_DEAF_SECONDS, catalog.EXPORTER_EVENTS,
    catalog.EXPORTER_POLL_LAST_SUCCESS, catalog.EXPORTER_POLL_SUCCESS, catalog.EXPORTER_SERIES_DROPPED,
    catalog.QUEUE_CONCURRENCY, catalog.QUEUE_LENGTH, catalog.QUEUE_OLDEST, catalog.QUEUE_WAIT_OBJECTIVE,
    catalog.QUEUE_WORKERS, catalog.TASK_EXCEPTIONS, catalog.WORKER_CLOCK_SKEW, catalog.WORKER_CONCURRENCY,
    catalog.WORKER_EVENTS_LOST, catalog.WORKER_INFO, catalog.WORKER_LAST_HEARTBEAT, catalog.WORKER_LOST,
    catalog.WORKER_TASKS_ACTIVE, catalog.WORKER_TASKS_RESERVED, catalog.WORKER_TASK_EVENTS_ENABLED, catalog.WORKER_UP,
)  # fmt: skip

COUNTED = (catalog.EXPORTER_EVENTS, catalog.TASK_EXCEPTIONS)  # what `totals` is of

Series = Mapping[Spec, Mapping[Labels, float]]


class Surroundings(NamedTuple):
    """What the page shows beside the series."""

    started: float  # elapsed seconds
    broker: str = ""  # its URL without credentials
    connection: Connection | None = None
    deaf_after: float = inf  # seconds without a canary; inf where none is sent
    advice: tuple[str, ...] = ()


def series(store: Store, specs: Iterable[Spec] = SHOWN) -> Series:
    """Return the values of some metrics as they stand. The caller holds the store's lock."""
    return {spec: store.values(spec) for spec in specs}


def status(series: Series, history: History, now: Moment, around: Surroundings) -> Status:
    """Return what the page shows of these series."""
    workers, queues = _workers(series, now.wall), _queues(series, now.wall)
    events, failed = totals(series)
    failures, window = _failures(failed, history, now.elapsed)
    up = [worker for worker in workers if worker.up is not False]
    traffic = _traffic(series, history, now, around, events)
    return Status(
        at=now.wall,
        uptime=now.elapsed - around.started,
        broker=around.broker,
        server=" ".join(next(iter(series[catalog.BROKER_INFO]), ())).strip(),
        connection=around.connection,
        traffic=traffic,
        workers_up=sum(bool(worker.up) for worker in workers),
        workers_gone=len(workers) - len(up),
        active=_total(worker.active for worker in up),
        slots=_total(worker.concurrency for worker in up),
        waiting=_total(queue.length for queue in queues),
        findings=findings(series, queues, traffic, now.wall, around.advice),
        workers=_first(workers),
        queues=_first(queues),
        failures=failures,
        failure_window=window,
    )


def totals(series: Series) -> tuple[float, dict[Failure, float]]:
    """Return how many events came, our own left out, and how many tasks failed for good, by task and exception."""
    events = sum(value for labels, value in series[catalog.EXPORTER_EVENTS].items() if labels != CANARY)
    failures: dict[Failure, float] = {}
    for (task, _, exception, outcome), value in series[catalog.TASK_EXCEPTIONS].items():
        if outcome == "failed" and value:
            failures[task, exception] = failures.get((task, exception), 0.0) + value
    return events, failures


def _traffic(series: Series, history: History, now: Moment, around: Surroundings, events: float) -> Traffic:
    connection = around.connection
    connected = inf if connection is None else connection.seconds if connection.open else 0.0  # seconds
    rate, window = history.event_rate(now.elapsed, events, now.elapsed - connected)
    heard = series[catalog.EXPORTER_CANARY_LAST_SUCCESS].get(())
    silence = now.elapsed - around.started if heard is None else now.wall - heard
    unproved = connected > FIRST_CANARY and silence > around.deaf_after
    lost = sum(series[catalog.WORKER_EVENTS_LOST].values())
    judged = lost or 1.0 in series[catalog.WORKER_TASK_EVENTS_ENABLED].values()
    return Traffic(
        rate=None if unproved and not rate else rate,
        window=window,
        lost=int(lost) if judged else None,
        round_trip=series[catalog.EXPORTER_CANARY_ROUND_TRIP].get(()),
        canary_age=None if heard is None else max(0.0, now.wall - heard),
        unproved=unproved,
        deaf=series[catalog.EXPORTER_DEAF_SECONDS].get(()),
    )


def _workers(series: Series, wall: float) -> list[WorkerRow]:
    """All workers, the worst first: those that are gone, then those with the most to do."""
    up, heartbeats = series[catalog.WORKER_UP], series[catalog.WORKER_LAST_HEARTBEAT]
    pools: dict[Labels, str] = {labels[:1]: labels[-1] for labels in series[catalog.WORKER_INFO]}
    rows = []
    for label in {**up, **series[catalog.WORKER_CONCURRENCY]}:
        beat = heartbeats.get(label)
        rows.append(
            WorkerRow(
                name=label[0],
                up=None if label not in up else up[label] == 1,
                lost=int(series[catalog.WORKER_LOST].get(label, 0)),
                pool=pools.get(label, ""),
                concurrency=_whole(series[catalog.WORKER_CONCURRENCY].get(label)),
                active=_whole(series[catalog.WORKER_TASKS_ACTIVE].get(label)),
                reserved=_whole(series[catalog.WORKER_TASKS_RESERVED].get(label)),
                heartbeat_age=None if beat is None else max(0.0, wall - beat),
            )
        )
    return sorted(rows, key=lambda row: (row.up is not False, -(row.active or 0), -(row.reserved or 0), row.name))


def _queues(series: Series, wall: float) -> list[QueueRow]:
    """All queues, the worst first: those without workers, those whose tasks wait too long, the longest."""
    names = (catalog.QUEUE_LENGTH, catalog.QUEUE_WORKERS, catalog.QUEUE_WAIT_OBJECTIVE)
    rows = []
    for label in dict.fromkeys(label for spec in names for label in series[spec]):
        oldest = series[catalog.QUEUE_OLDEST].get(label)
        rows.append(
            QueueRow(
                name=label[0],
                length=_whole(series[catalog.QUEUE_LENGTH].get(label)),
                oldest_age=None if oldest is None else max(0.0, wall - oldest),
                objective=series[catalog.QUEUE_WAIT_OBJECTIVE].get(label),
                workers=_whole(series[catalog.QUEUE_WORKERS].get(label)),
                concurrency=_whole(series[catalog.QUEUE_CONCURRENCY].get(label)),
            )
        )

    def badness(row: QueueRow) -> tuple[bool, float, int, str]:
        share = (row.oldest_age or 0.0) / (row.objective or inf)
        return not row.deserted, -share if row.late else 0.0, -(row.length or 0), row.name

    return sorted(rows, key=badness)


def _failures(failed: Mapping[Failure, float], history: History, elapsed: float) -> tuple[Rows[FailureRow], float]:
    recent, window = history.recent_failures(elapsed, failed)
    worst = nsmallest(MOST_ROWS, failed, key=lambda kind: (-recent.get(kind, 0.0), -failed[kind], kind))
    rows = (FailureRow(*kind, int(recent.get(kind, 0)), int(failed[kind])) for kind in worst)
    return Rows(tuple(rows), len(failed) - len(worst)), window


def _first(rows: list[Row]) -> Rows[Row]:
    return Rows(tuple(rows[:MOST_ROWS]), max(0, len(rows) - MOST_ROWS))


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _total(values: Iterable[int | None]) -> Total:
    parts = list(values)
    known = [value for value in parts if value is not None]
    return Total(sum(known) if known else None, len(parts) - len(known))
