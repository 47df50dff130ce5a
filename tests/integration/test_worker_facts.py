"""What real workers tell when they are asked, as metrics: what they hold, replace, or do without events."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from celery import Celery

from support.exporter import Exporter, Metrics, exporter
from support.processes import python, pythonpath, started
from support.servers import Valkey
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

WAIT = 60.0  # seconds
NAME = "one@host"
TASKS = """
import os
import time
from pathlib import Path

from celery import Celery
from celery.exceptions import Ignore

app = Celery("facts", broker=os.environ["OBSERVED_BROKER"])
GATE = Path(os.environ["GATE"])


@app.task(name="facts.wait")
def wait():
    while not GATE.exists():
        time.sleep(0.05)


@app.task(name="facts.quick")
def quick():
    pass


@app.task(name="facts.ignore")
def ignore():
    raise Ignore
"""


@contextmanager
def watched(server: Valkey, folder: Path, *options: str, pool: Sequence[str] = ("threads", "1")) -> Iterator[Exporter]:
    """An exporter and one worker, which has answered."""
    (folder / "facts_tasks.py").write_text(TASKS)
    environ = {"OBSERVED_BROKER": server.url, "GATE": str(folder / "gate"), "PYTHONPATH": pythonpath(folder)}
    command = python("-m", "celery", "-A", "facts_tasks", "worker", "-n", NAME, "-P", pool[0], "-c", pool[1], *options)
    with (
        exporter(server.url, "--workers-poll-interval", "1s", log=folder / "exporter.log") as running,
        started(command, folder / "worker.log", environ),
    ):
        running.wait_for("celery_worker_concurrency", int(pool[1]), WAIT, worker=NAME)
        yield running


@pytest.fixture
def app(valkey_server: Valkey) -> Iterator[Celery]:
    with Celery("producer", broker=valkey_server.url, set_as_current=False) as made:
        yield made


def holds(metrics: Metrics) -> tuple[float | None, ...]:
    kinds = ("active", "reserved", "scheduled")
    return tuple(metrics.value(f"celery_worker_tasks_{kind}", worker=NAME) for kind in kinds)


def test_what_a_worker_holds(valkey_server: Valkey, tmp_path: Path, app: Celery) -> None:
    with watched(valkey_server, tmp_path, "-E") as running:
        for _ in range(3):
            app.send_task("facts.wait")
        eta = datetime.now(UTC) + timedelta(hours=1)
        for _ in range(5):
            app.send_task("facts.quick", eta=eta)
        running.wait_until(lambda metrics: holds(metrics) == (1, 2, 5), WAIT, "1 runs, 2 wait, 5 are scheduled")
        (tmp_path / "gate").touch()
        running.wait_until(lambda metrics: holds(metrics) == (0, 0, 5), WAIT, "only those with an ETA are left")


@pytest.mark.full
def test_a_worker_that_holds_very_many_is_not_asked_for_them(
    valkey_server: Valkey, tmp_path: Path, app: Celery
) -> None:
    with watched(valkey_server, tmp_path, "-E") as running:
        eta = datetime.now(UTC) + timedelta(hours=1)
        with app.connection_for_write() as connection:
            for _ in range(1_500):
                app.send_task("facts.quick", eta=eta, connection=connection)
        running.wait_until(
            lambda metrics: holds(metrics) == (0, None, 1_500), WAIT, "the prefetch limit tells of 1,500"
        )


@pytest.mark.full
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_tasks_without_an_end_are_closed_while_others_run(
    valkey_server: Valkey, tmp_path: Path, app: Celery, pool: str
) -> None:
    with watched(valkey_server, tmp_path, "-E", pool=(pool, "2")) as running:
        for _ in range(2):
            app.send_task("facts.ignore")
        app.send_task("facts.wait")
        running.wait_until(lambda metrics: metrics.sum("celery_task_started_total") == 3, WAIT, "all were started")
        metrics = running.wait_until(
            lambda metrics: metrics.sum("celery_tasks_in_flight", state="started") == 1, WAIT, "only one runs"
        )
        assert metrics.sum("celery_tasks_in_flight", task="facts.wait", state="started") == 1
        assert metrics.value("celery_exporter_tracked_tasks_evicted_total", reason="no_end") == 2
        (tmp_path / "gate").touch()
        running.wait_until(lambda metrics: metrics.sum("celery_task_succeeded_total") == 1, WAIT, "it ended")


@pytest.mark.full
def test_processes_that_are_replaced_are_counted(valkey_server: Valkey, tmp_path: Path, app: Celery) -> None:
    with watched(valkey_server, tmp_path, "--max-tasks-per-child", "1", pool=("prefork", "2")) as running:
        running.wait_for("celery_worker_child_replacements_total", 0, WAIT, worker=NAME)
        app.send_task("facts.quick")
        running.wait_for("celery_worker_child_replacements_total", 1, WAIT, worker=NAME)


def test_without_task_events_throughput_is_told_by_inspection(
    valkey_server: Valkey, tmp_path: Path, app: Celery
) -> None:
    with watched(valkey_server, tmp_path) as running:

        def off(metrics: Metrics) -> bool:
            app.send_task("facts.quick")
            return metrics.value("celery_worker_task_events_enabled", worker=NAME) == 0

        running.wait_until(off, WAIT, "heartbeats tell that it works and sends no task events")
        accepted = running.scrape().value("celery_task_accepted_total", task="facts.quick")
        assert accepted is not None
        app.send_task("facts.quick")
        running.wait_until(
            lambda metrics: (metrics.value("celery_task_accepted_total", task="facts.quick") or 0) > accepted,
            WAIT,
            "what it accepts is counted",
        )
        assert running.scrape().series("celery_task_started_total") == {}


@pytest.mark.full
def test_a_worker_without_heartbeats_is_found_and_asked_again(
    valkey_server: Valkey, tmp_path: Path, app: Celery
) -> None:
    (tmp_path / "facts_tasks.py").write_text(TASKS)
    environ = {
        "OBSERVED_BROKER": valkey_server.url,
        "GATE": str(tmp_path / "gate"),
        "PYTHONPATH": pythonpath(tmp_path),
    }
    command = python("-m", "celery", "-A", "facts_tasks", "worker", "-n", NAME, "-P", "threads", "-c", "1")
    command += ["--without-heartbeat", "-E"]
    with started(command, tmp_path / "worker.log", environ) as process:

        def answers() -> bool:
            return bool(app.control.ping(destination=[NAME], timeout=1.0))

        wait_until(answers, WAIT, "the worker answers")
        with exporter(valkey_server.url, "--workers-poll-interval", "1s", log=tmp_path / "exporter.log") as running:
            running.wait_for("celery_worker_concurrency", 1, WAIT, worker=NAME)
            app.send_task("facts.wait")
            metrics = running.wait_until(lambda metrics: holds(metrics)[0] == 1, WAIT, "its answers tell what it runs")
            assert metrics.value("celery_worker_up", worker=NAME) is None
            assert metrics.value("celery_worker_last_heartbeat_timestamp_seconds", worker=NAME) is None
            (tmp_path / "gate").touch()
            running.wait_until(lambda metrics: holds(metrics)[0] == 0, WAIT, "and what it runs no more")
        process.stop()
