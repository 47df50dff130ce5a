"""The comparison of an exporter with the ledger, once the cluster is quiet."""

from pathlib import Path
from typing import Any

from support.expectation import EVERYTHING_KNOWN, View, attempt_of, differences, expected
from support.exporter import Exporter, Metrics
from support.waiting import wait_until
from support.workload.ledger import Ledger

SETTLE_TIMEOUT = 30.0  # seconds from the last task's end until every counter must be right
CLOCK_TOLERANCE = 1.0  # seconds

Records = list[dict[str, Any]]


def new_ledger(folder: Path) -> Ledger:
    """An empty ledger in a new folder."""
    folder.mkdir(parents=True)
    return Ledger(folder)


class Outstanding:
    """Tasks that were sent to run and have not come to their end, by their own account. Each record is read once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._read: dict[Path, int] = {}
        self._lives: set[tuple[Any, ...]] = set()
        self._ended: set[tuple[Any, ...]] = set()

    def ids(self) -> set[str]:
        """Their ids now."""
        for record in self._ledger.more(self._read):
            if record["what"] == "send" and record["fate"] in ("run", "eventless"):
                self._lives.add(attempt_of(record))
            elif record["what"] == "end" and record["outcome"] != "requeued":
                self._ended.add(attempt_of(record))
        return {uuid for uuid, *_ in self._lives - self._ended}


def assert_true(
    running: Exporter,
    ledger: Ledger,
    view: View = EVERYTHING_KNOWN,
    *,
    work_timeout: float,
    settle_timeout: float = SETTLE_TIMEOUT,
) -> Metrics:
    """Wait until all work is done, then until every counter equals the ledger; return that exposition.

    Fails with a table of every series that differs.
    """

    outstanding = Outstanding(ledger)

    def done() -> bool:
        left = outstanding.ids()
        if left:
            raise AssertionError(f"{len(left)} tasks have not ended, {sorted(left)[:3]} among them")
        return True

    wait_until(done, work_timeout, "every task comes to its end")
    wanted = expected(ledger.records(), view)
    seen: list[Metrics] = []

    def equal() -> bool:
        seen[:] = [running.scrape()]
        return not differences(wanted, seen[0])

    try:
        wait_until(equal, settle_timeout, "every counter equals the ledger")
    except AssertionError:
        if not seen:
            raise
        table = "\n".join(differences(wanted, seen[0]))
        raise AssertionError(f"the exporter differs from the ledger:\n{table}") from None
    return seen[0]


def assert_nothing_in_flight(running: Exporter, *, timeout: float) -> None:
    """Wait until no task is tracked as sent, received, scheduled or started any more."""
    seen: list[Metrics] = []

    def quiet() -> bool:
        seen[:] = [running.scrape()]
        return not in_flight(seen[0])

    try:
        wait_until(quiet, timeout, "nothing is in flight")
    except AssertionError as error:
        error.add_note(f"in flight: {in_flight(seen[0]) if seen else 'never scraped'}")
        raise


def in_flight(metrics: Metrics) -> dict[str, float]:
    """Tasks in flight that are not 0, by task and state, over all queues."""
    counts: dict[str, float] = {}
    for labels, value in metrics.series("celery_tasks_in_flight").items():
        if value:
            names = dict(labels)
            key = f"{names['task']} {names['state']}"
            counts[key] = counts.get(key, 0) + value
    return counts


def started_on(records: Records) -> dict[str, int]:
    """Starts by worker: what the workers must have counted as processed."""
    counts: dict[str, int] = {}
    for record in records:
        if record["what"] == "start":
            counts[record["host"]] = counts.get(record["host"], 0) + 1
    return counts


def waits(records: Records, clock_ahead: float = 0.0) -> dict[tuple[str, str], tuple[int, float]]:
    """First starts by (task, queue): how many, and the seconds from due to start.

    `clock_ahead`: seconds that the workers' clock, which wrote the starts, is ahead of the producer's.
    """
    eventless = {record["uuid"] for record in records if record.get("fate") == "eventless"}
    due = {
        attempt_of(record): record["due"] + (clock_ahead if record["by"] == "producer" else 0.0)
        for record in records
        if record["what"] == "send"
    }
    sums: dict[tuple[str, str], tuple[int, float]] = {}
    seen = set()
    for record in sorted(records, key=lambda record: float(record["time"])):
        attempt = attempt_of(record)
        if record["what"] != "start" or attempt in seen or record["uuid"] in eventless:
            continue
        seen.add(attempt)
        pair = record["task"], record["queue"]
        count, total = sums.get(pair, (0, 0.0))
        sums[pair] = count + 1, total + max(record["time"] - due[attempt], 0.0)
    return sums


def assert_waits(metrics: Metrics, records: Records, *, clock_ahead: float = 0.0) -> None:
    """Compare the mean wait of every (task, queue) with the ledger's; `clock_ahead` as in `waits`."""
    wrong = []
    for (task, queue), (count, total) in waits(records, clock_ahead).items():
        found = metrics.value("celery_task_wait_seconds_sum", task=task, queue=queue)
        mean, wanted = (found or 0.0) / count, total / count
        if found is None or abs(mean - wanted) > CLOCK_TOLERANCE:
            wrong.append(f"{task} in {queue}: mean wait {mean:.3f} s, by the ledger {wanted:.3f} s")
    assert not wrong, "\n".join(wrong)
