"""Celery's own rate limits on real workers: the sum over those that live, and the tasks that they hold back."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from celery import Celery

from support.exporter import Metrics, exporter
from support.processes import Process, python, pythonpath
from support.servers import Valkey
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

WAIT = 60.0  # seconds
WORKERS = ("one@host", "two@host", "three@host")
SENT = 12
TASKS = """
import os
from celery import Celery

app = Celery("limited", broker=os.environ["OBSERVED_BROKER"])


@app.task(name="api.call", rate_limit="10/m")
def call():
    pass


@app.task(name="api.free")
def free():
    pass
"""


def limit(metrics: Metrics) -> float | None:
    return metrics.value("celery_task_rate_limit_per_second", task="api.call")


def test_the_limit_moves_with_the_workers_and_what_they_hold_back_is_counted(
    valkey_server: Valkey, tmp_path: Path
) -> None:
    (tmp_path / "limited_tasks.py").write_text(TASKS)
    environ = {"OBSERVED_BROKER": valkey_server.url, "PYTHONPATH": pythonpath(tmp_path)}
    app = Celery("producer", broker=valkey_server.url, set_as_current=False)
    with ExitStack() as stack:
        options = ("--workers-poll-interval", "1s")
        running = stack.enter_context(exporter(valkey_server.url, *options, log=tmp_path / "exporter.log"))
        workers = {}
        for name in WORKERS:
            command = python("-m", "celery", "-A", "limited_tasks", "worker", "-n", name, "-P", "threads", "-c", "2")
            workers[name] = Process([*command, "-E"], tmp_path / f"{name}.log", environ)
            stack.callback(workers[name].stop)
        metrics = running.wait_until(
            lambda metrics: limit(metrics) == pytest.approx(0.5), WAIT, "three workers allow 10 a minute each"
        )
        assert metrics.value("celery_task_rate_limit_per_second", task="api.free") is None
        for _ in range(SENT):
            app.send_task("api.call")
            app.send_task("api.free")

        def held(metrics: Metrics) -> bool:
            started = metrics.sum("celery_task_started_total", task="api.call")
            here = metrics.sum("celery_tasks_rate_limit_held", task="api.call")
            return started >= len(WORKERS) and here > 0 and started + here == SENT

        metrics = running.wait_until(held, WAIT, "all tasks but those that had a token are held")
        assert metrics.value("celery_tasks_rate_limit_held", task="api.free") is None
        assert metrics.sum("celery_task_succeeded_total", task="api.free") == SENT

        workers["one@host"].terminate()
        running.wait_until(
            lambda metrics: limit(metrics) == pytest.approx(1 / 3), WAIT, "two workers allow 10 a minute each"
        )
        for name in ("two@host", "three@host"):
            workers[name].terminate()
        wait_until(lambda: limit(running.scrape()) is None, WAIT, "no worker is left that limits")
    app.close()
