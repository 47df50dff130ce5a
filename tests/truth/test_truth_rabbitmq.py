"""The proof on RabbitMQ: 10,000 tasks, to the last one; and what the exporter does where the broker fails it."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from celery import Celery

from support.exporter import Exporter, exporter
from support.rabbitmq import RabbitMQ, listening, needs_rabbitmq
from support.truth import assert_true, new_ledger
from support.truth_run import assert_every_counter_is_true
from support.waiting import wait_until
from support.workers import worker
from support.workload.producer import Producer

QUEUE = "alpha"
WORKER = "worker1@example"
RESUME_TIMEOUT = 20.0  # seconds from the broker's return until events count again

pytestmark = [needs_rabbitmq, pytest.mark.truth]


@pytest.fixture
def url(rabbitmq_server: RabbitMQ) -> str:
    """A virtual host for this test alone."""
    return rabbitmq_server.url_of(rabbitmq_server.add_vhost())


def hears(running: Exporter, url: str, name: str) -> bool:
    """Publish a heartbeat of a worker made up for this, and tell whether the exporter has heard one."""
    app = Celery("probe", broker=url, set_as_current=False)
    with app.connection_for_write() as connection, app.events.Dispatcher(connection, hostname=name) as dispatcher:
        dispatcher.send("worker-heartbeat", freq=2.0, active=0, processed=0)
    return running.scrape().value("celery_worker_up", worker=name) == 1


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("rounds", "tasks"), [(1, 2_500), pytest.param(4, 10_000, marks=pytest.mark.full)])
def test_every_counter_equals_what_tasks_and_their_producer_counted(
    url: str, tmp_path: Path, rounds: int, tasks: int
) -> None:
    assert_every_counter_is_true(url, listening(url), tmp_path, rounds=rounds, least=tasks)


@pytest.mark.full
@pytest.mark.timeout(180)
def test_counters_survive_a_broker_restart_and_counting_resumes(
    rabbitmq_server: RabbitMQ, url: str, tmp_path: Path
) -> None:
    ledger = new_ledger(tmp_path / "ledger")
    with ExitStack() as stack:
        running = stack.enter_context(exporter(url, log=tmp_path / "exporter.log"))
        log = tmp_path / "worker.log"
        node = stack.enter_context(worker(url, ledger, name=WORKER, queues=[QUEUE], log=log, supervised=True))
        producer = Producer(url, ledger)
        for number in range(100):
            producer.send("add", QUEUE, number, 1)
        before = assert_true(running, ledger, work_timeout=60.0)

        rabbitmq_server.stop()
        running.wait_for("celery_broker_up", 0, 5.0)
        assert running.scrape().sum("celery_task_succeeded_total") == before.sum("celery_task_succeeded_total")
        rabbitmq_server.start()

        wait_until(lambda: hears(running, url, "probe@example"), RESUME_TIMEOUT, "counting resumes")
        running.wait_for("celery_broker_up", 1, RESUME_TIMEOUT)
        assert running.scrape().sum("celery_exporter_reconnects_total") >= 1
        node.wait_ready(url)
        for number in range(100):
            producer.send("add", QUEUE, number, 1)
        assert_true(running, ledger, work_timeout=60.0)


def test_a_wrong_password_is_told_in_one_line_without_the_secret(rabbitmq_server: RabbitMQ, tmp_path: Path) -> None:
    url = rabbitmq_server.url_of("", password="wrong-secret")
    with exporter(url, log=tmp_path / "exporter.log", wait_connected=False) as running:
        running.wait_for("celery_broker_up", 0, 10.0)
        wait_until(lambda: running.complaints, 10.0, "the log says what is wrong")
        assert running.get("/-/healthy").status == 200
        (line,) = running.different_complaints
        assert "refused the credentials" in line
        for text in (running.process.log, running.scrape().text, running.get("/").body.decode()):
            assert "wrong-secret" not in text
            assert "Traceback" not in text
