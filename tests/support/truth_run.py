"""The proof: tasks of every fate on two prefork workers, counted by themselves and by the exporter, on any broker."""

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from support.exporter import exporter
from support.record import Heard, kept_on_failure
from support.truth import (
    Outstanding,
    assert_nothing_in_flight,
    assert_true,
    assert_waits,
    new_ledger,
    started_on,
)
from support.waiting import wait_until
from support.workers import worker
from support.workload.producer import Producer
from support.workload.scenario import send_everything

QUEUES = ("alpha", "beta", "gamma")
FILLING = 2400  # quick tasks after each round
WORK_TIMEOUT = 240.0  # seconds


def assert_every_counter_is_true(
    broker_url: str, listening: AbstractContextManager[list[Heard]], folder: Path, *, rounds: int, least: int
) -> None:
    """Send every kind of task `rounds` times, quick ones after each: `least` in all; compare counters and ledger.

    `listening` collects what the broker publishes, with nothing of the exporter in between: kept where this fails.
    """
    ledger = new_ledger(folder / "ledger")
    with ExitStack() as stack:
        running = stack.enter_context(
            exporter(broker_url, "--workers-poll-interval", "2s", log=folder / "exporter.log")
        )
        for name, queues in (("worker1@example", QUEUES[:2]), ("worker2@example", QUEUES[1:])):
            log = folder / f"{name}.log"
            stack.enter_context(worker(broker_url, ledger, name=name, queues=queues, log=log))
        stack.enter_context(kept_on_failure(listening, ledger, folder))
        producer = Producer(broker_url, ledger)
        send_everything(producer, QUEUES, 2, rounds=rounds, filling=FILLING)

        metrics = assert_true(running, ledger, work_timeout=WORK_TIMEOUT)

        records = list(ledger.records())
        assert sum(record["what"] == "send" for record in records) >= least
        assert not Outstanding(ledger).ids()
        assert_waits(metrics, records)
        # What ended without an event is reconciled with the heartbeats; a task that sends none is known from
        # inspection.
        assert_nothing_in_flight(running, timeout=20.0)
        for name, count in started_on(records).items():
            running.wait_for("celery_worker_tasks_processed_total", count, 15.0, worker=name)
            assert running.scrape().value("celery_worker_events_lost_total", worker=name) == 0
        wait_until(
            lambda: running.scrape().sum("celery_task_accepted_total") == sum(started_on(records).values()),
            15.0,
            "the workers' own statistics add up to the starts in the ledger",
        )
