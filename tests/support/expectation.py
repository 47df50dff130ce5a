"""What every task counter must say, derived from the ledger alone, and the comparison with an exposition."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from support.exporter import LabelSet, Metrics

Series = tuple[str, LabelSet]
Attempt = tuple[str, str, int]  # id, task, retries

LIFECYCLE = tuple(
    f"celery_task_{name}_total"
    for name in (
        "sent",
        "received",
        "started",
        "succeeded",
        "failed",
        "retried",
        "cancelled",
        "redelivered",
        "orphaned",
    )
)
COMPARED = (
    *LIFECYCLE,
    "celery_task_rejected_total",
    "celery_task_revoked_total",
    "celery_task_exceptions_total",
    "celery_task_wait_unknown_total",
    "celery_task_wait_seconds_count",
    "celery_task_runtime_seconds_count",
    "celery_task_rate_limited_total",
    "celery_task_rate_limit_delay_seconds_count",
)

UNKNOWN = "unknown"


@dataclass(frozen=True)
class View:
    """What the exporter can know of a cluster: whether task-sent events flow, what a worker betrays."""

    sent_events: bool = True
    #: The queue label where no task-sent tells it.
    queue: str = UNKNOWN


EVERYTHING_KNOWN = View()


def attempt_of(record: dict[str, Any]) -> Attempt:
    """Which attempt of which life of a task a record is about."""
    return record["uuid"], record["task"], record["retries"]


def expected(records: Iterable[dict[str, Any]], view: View = EVERYTHING_KNOWN) -> Counter[Series]:
    """Every series that must not be 0, and its value."""
    records = sorted(records, key=lambda record: float(record["time"]))
    counts: Counter[Series] = Counter()
    eventless = {record["uuid"] for record in records if record.get("fate") == "eventless"}
    shadows = {record["uuid"]: record["shadow"] for record in records if record.get("shadow")}
    with_eta = {attempt_of(record) for record in records if record.get("eta")}
    started: set[Attempt] = set()

    for record in records:
        task, queue = record["task"], record["queue"]
        if not view.sent_events:
            task = shadows.get(record["uuid"], task)
            queue = view.queue

        def count(name: str, task: str = task, queue: str = queue, **labels: str) -> None:
            counts[f"celery_task_{name}", frozenset({"task": task, "queue": queue, **labels}.items())] += 1

        if record["what"] == "send":
            if view.sent_events:
                count("sent_total")
            _count_fate(record["fate"], count, view)
        elif record["uuid"] in eventless:
            continue
        elif record["what"] == "start":
            count("received_total")
            count("started_total")
            attempt = attempt_of(record)
            if attempt in started:
                count("redelivered_total")
            else:
                # An ETA is never before the sending, so it alone tells when the task was due.
                known = view.sent_events or attempt in with_eta
                count("wait_seconds_count" if known else "wait_unknown_total")
            started.add(attempt)
        elif record["what"] == "end":
            _count_end(record["outcome"], record["exception"], count)
        elif record["what"] == "limited":
            count("rate_limited_total", limiter=record["limiter"])
            count("rate_limit_delay_seconds_count", limiter=record["limiter"])
    return counts


def _count_fate(fate: str, count: Callable[..., None], view: View) -> None:
    # Of a task that no worker received, only task-sent knows the name.
    nameless = {} if view.sent_events else {"task": UNKNOWN}
    if fate in ("expired", "revoked"):
        count("revoked_total", reason=fate, **nameless)
    elif fate in ("expired_eta", "revoked_eta"):
        count("received_total")
        count("revoked_total", reason=fate.removesuffix("_eta"))
    elif fate == "unregistered":
        count("failed_total")
        count("exceptions_total", exception="NotRegistered", outcome="failed")


def _count_end(outcome: str, exception: str, count: Callable[..., None]) -> None:
    if outcome == "succeeded":
        count("succeeded_total")
        count("runtime_seconds_count", outcome="succeeded")
    elif outcome in ("failed", "retried"):
        count(f"{outcome}_total")
        count("exceptions_total", exception=exception, outcome=outcome)
        count("runtime_seconds_count", outcome=outcome)
    elif outcome == "terminated":
        count("revoked_total", reason="terminated")
    elif outcome in ("rejected", "requeued"):
        count("rejected_total", requeue="true" if outcome == "requeued" else "false")
    elif outcome != "silence":
        raise ValueError(f"the ledger has an outcome without an expectation: {outcome}")


def differences(wanted: Counter[Series], metrics: Metrics) -> list[str]:
    """A line for every series that is missing, extra or another number. Empty: all is equal."""
    found = {(name, labels): value for name in COMPARED for labels, value in metrics.series(name).items() if value != 0}
    return [
        f"{name:<46} {dict(sorted(labels))}: "
        f"ledger {wanted.get((name, labels), 0)}, exporter {found.get((name, labels), 0):g}"
        for name, labels in sorted({*wanted, *found}, key=lambda series: (series[0], sorted(series[1])))
        if wanted.get((name, labels), 0) != found.get((name, labels), 0)
    ]
