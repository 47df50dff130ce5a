"""What the exporter does while the broker is away, refuses it, or says nothing."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.channel import event, publish
from support.exporter import Exporter, exporter
from support.servers import Valkey, free_port
from support.truth import assert_true, new_ledger
from support.waiting import wait_until
from support.workers import worker
from support.workload.producer import Producer

QUEUE = "alpha"
WORKER = "worker1@example"
RESUME_TIMEOUT = 10.0  # seconds from the broker's return until events count again
SECRET = "correct-horse"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


def hears(running: Exporter, server: Valkey, name: str) -> bool:
    """Publish a heartbeat of a worker made up for this, and tell whether the exporter has heard one."""
    with server.client() as client:
        publish(client, event("worker-heartbeat", hostname=name, freq=2.0, active=0, processed=0))
    return running.scrape().value("celery_worker_up", worker=name) == 1


@pytest.mark.truth
def test_counters_survive_a_broker_restart_and_counting_resumes(valkey_server: Valkey, tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path / "ledger")
    with ExitStack() as stack:
        running = stack.enter_context(exporter(valkey_server.url, log=tmp_path / "exporter.log"))
        node = stack.enter_context(
            worker(
                valkey_server.url,
                ledger,
                name=WORKER,
                queues=[QUEUE],
                log=tmp_path / "worker.log",
                supervised=True,
            )
        )
        producer = Producer(valkey_server.url, ledger)
        for number in range(100):
            producer.send("add", QUEUE, number, 1)
        before = assert_true(running, ledger, work_timeout=60.0)

        valkey_server.stop()
        running.wait_for("celery_broker_up", 0, 5.0)
        assert running.scrape().sum("celery_task_succeeded_total") == before.sum("celery_task_succeeded_total")
        valkey_server.start()

        wait_until(lambda: hears(running, valkey_server, "probe@example"), RESUME_TIMEOUT, "counting resumes")
        running.wait_for("celery_broker_up", 1, RESUME_TIMEOUT)
        assert running.scrape().sum("celery_exporter_reconnects_total") >= 1
        node.wait_ready(valkey_server.url)
        for number in range(100):
            producer.send("add", QUEUE, number, 1)
        assert_true(running, ledger, work_timeout=60.0)


@pytest.mark.full
def test_a_broker_that_falls_silent_is_noticed_and_heard_again(valkey_server: Valkey, tmp_path: Path) -> None:
    with exporter(valkey_server.url, log=tmp_path / "exporter.log") as running:
        valkey_server.pause()
        try:
            running.wait_for("celery_broker_up", 0, 35.0)
        finally:
            valkey_server.resume()
        wait_until(lambda: hears(running, valkey_server, "probe@example"), 40.0, "counting resumes")
        running.wait_for("celery_broker_up", 1, 40.0)


def test_without_a_broker_it_serves_at_once_and_connects_once_there_is_one(tmp_path: Path) -> None:
    server = Valkey(tmp_path, None, free_port(), ())
    with exporter(server.url, log=tmp_path / "exporter.log", wait_connected=False) as running:
        running.wait_for("celery_broker_up", 0, 5.0)
        assert running.get("/-/healthy").status == 200
        server.start()
        try:
            running.wait_for("celery_broker_up", 1, 20.0)
        finally:
            server.stop()


@pytest.mark.parametrize(
    ("url", "clue"),
    [
        ("redis://:wrong-{secret}@127.0.0.1:{port}/0", r"(?i)password|auth"),
        ("redis://:{secret}@127.0.0.1:{unused}/0", r"(?i)refused|connect"),
        ("redis://:{secret}@127.0.0.1:{port}/no-database", r"no-database|(?i:database)"),
        ("pigeon://user:{secret}@127.0.0.1:{port}/0", "pigeon"),
    ],
    ids=["wrong-password", "refused", "no-such-database", "unknown-transport"],
)
def test_a_broker_that_cannot_be_reached_is_told_in_one_line_without_its_secrets(
    protected_valkey_server: Valkey, tmp_path: Path, url: str, clue: str
) -> None:
    url = url.format(secret=SECRET, port=protected_valkey_server.port, unused=free_port())
    with exporter(url, log=tmp_path / "exporter.log", wait_connected=False) as running:
        running.wait_for("celery_broker_up", 0, 10.0)
        wait_until(lambda: running.complaints, 10.0, "the log says what is wrong")
        assert running.process.returncode is None
        assert running.get("/-/healthy").status == 200

        lines = running.complaints
        assert any(re.search(clue, line) for line in lines), lines
        assert len(running.different_complaints) == 1, lines
        assert "Traceback" not in running.process.log
        for text in (running.process.log, running.scrape().text, running.get("/").body.decode()):
            assert SECRET not in text


def test_the_right_password_is_no_secret_told_either(protected_valkey_server: Valkey, tmp_path: Path) -> None:
    log = tmp_path / "exporter.log"
    with exporter(protected_valkey_server.url, "--log-level", "debug", log=log) as running:
        for text in (running.process.log, running.scrape().text, running.get("/").body.decode()):
            assert SECRET not in text
