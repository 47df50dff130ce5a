"""The proof: 10,000 tasks of every fate on two prefork workers, counted by themselves and by the exporter."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from support.exporter import exporter
from support.record import kept_on_failure
from support.servers import Valkey
from support.truth import (
    assert_nothing_in_flight,
    assert_true,
    assert_waits,
    new_ledger,
    outstanding,
    started_on,
)
from support.waiting import wait_until
from support.workers import worker
from support.workload.producer import Producer
from support.workload.scenario import send_everything

QUEUES = ("alpha", "beta", "gamma")
ROUNDS = 4
FILLING = 2400  # quick tasks after each round
WORK_TIMEOUT = 240.0  # seconds


@pytest.mark.truth
@pytest.mark.timeout(400)
def test_every_counter_equals_what_10000_tasks_and_their_producer_counted(
    valkey_server: Valkey, tmp_path: Path
) -> None:
    ledger = new_ledger(tmp_path / "ledger")
    with ExitStack() as stack:
        running = stack.enter_context(
            exporter(valkey_server.url, "--workers-poll-interval", "2s", log=tmp_path / "exporter.log")
        )
        for name, queues in (("worker1@example", QUEUES[:2]), ("worker2@example", QUEUES[1:])):
            log = tmp_path / f"{name}.log"
            stack.enter_context(worker(valkey_server.url, ledger, name=name, queues=queues, log=log))
        stack.enter_context(kept_on_failure(valkey_server, ledger, tmp_path))
        producer = Producer(valkey_server.url, ledger)
        send_everything(producer, QUEUES, 2, rounds=ROUNDS, filling=FILLING)

        metrics = assert_true(running, ledger, work_timeout=WORK_TIMEOUT)

        records = list(ledger.records())
        assert sum(record["what"] == "send" for record in records) >= 10_000
        assert not outstanding(records)
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
