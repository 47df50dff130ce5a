"""Names and objectives from a configuration file, on a real cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from celery import Celery

from support.exporter import Exporter, exporter
from support.processes import python, pythonpath, started
from support.servers import Valkey

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

WAIT = 40.0  # seconds
TASKS = """
import os, time
from celery import Celery

app = Celery("shop", broker=os.environ["OBSERVED_BROKER"])
app.conf.task_send_sent_event = True


@app.task(name="shop.pay", ignore_result=True)
def pay(seconds=0.0, fails=False):
    time.sleep(seconds)
    if fails:
        raise ValueError


def nothing():
    pass


for name in ("noise", *[f"report_{number}" for number in range(5)]):
    app.task(name=f"shop.{name}", ignore_result=True)(nothing)
"""
CONFIG = r"""
task_rename = ['_\d+$=>_N']
task_exclude = ['shop\.noise']

[task."shop.pay"]
success_ratio = 0.99
runtime = "300ms"
wait = "30s"
wait_ratio = 0.5

[task."shop.report_N"]
success_ratio = 0.9

[queue."slow"]
allowed_wait = "1h"
"""


@contextmanager
def running(server: Valkey, folder: Path) -> Iterator[tuple[Exporter, Celery]]:
    """An exporter with the configuration, a worker of two queues, and an app that sends to it."""
    (folder / "shop.py").write_text(TASKS)
    (folder / "celeryscope.toml").write_text(CONFIG)
    environ = {"PYTHONPATH": pythonpath(folder), "OBSERVED_BROKER": server.url}
    command = python("-m", "celery", "-A", "shop", "worker", "-P", "solo", "-E", "-Q", "fast,idle", "-n", "shop@host")
    app = Celery("producer", broker=server.url, set_as_current=False)
    app.conf.task_send_sent_event = True
    options = ("--config", str(folder / "celeryscope.toml"), "--workers-poll-interval", "1s")
    with (
        exporter(server.url, *options, log=folder / "exporter.log") as exposing,
        started(command, folder / "worker.log", environ),
    ):
        yield exposing, app
    app.close()


def test_tasks_are_judged_and_shown_as_the_file_says(valkey_server: Valkey, tmp_path: Path) -> None:
    with running(valkey_server, tmp_path) as (exposing, app):
        past = datetime.now(UTC) - timedelta(minutes=1)
        for options in ({}, {}, {"kwargs": {"seconds": 0.5}}, {"kwargs": {"fails": True}}, {"expires": past}):
            app.send_task("shop.pay", queue="fast", **options)
        for number in range(5):
            app.send_task(f"shop.report_{number}", queue="fast")
        app.send_task("shop.noise", queue="fast")
        metrics = exposing.wait_for("celery_task_succeeded_total", 1.0, WAIT, task="other", queue="fast")
        pay = {"task": "shop.pay", "queue": "fast"}
        judged = {
            slo: tuple(metrics.value(f"celery_slo_{kind}_total", slo=slo, **pay) for kind in ("good_tasks", "tasks"))
            for slo in ("success", "wait", "runtime")
        }
        assert judged == {"success": (3, 5), "wait": (4, 4), "runtime": (2, 3)}
        assert metrics.value("celery_slo_objective_ratio", slo="wait", **pay) == 0.5
        assert metrics.value("celery_slo_threshold_seconds", slo="runtime", **pay) == 0.3
        report = {"task": "shop.report_N", "queue": "fast"}
        assert metrics.value("celery_task_sent_total", **report) == 5
        assert metrics.value("celery_task_succeeded_total", **report) == 5
        assert metrics.value("celery_slo_good_tasks_total", slo="success", **report) == 5
        shown = {labels["task"] for labels in metrics.labels("celery_task_started_total")}
        assert shown == {"shop.pay", "shop.report_N", "other"}
        metrics = exposing.wait_for("celery_task_accepted_total", 5.0, WAIT, task="shop.report_N")
        assert {labels["queue"]: metrics.value("celery_queue_wait_objective_seconds", **labels)
                for labels in metrics.labels("celery_queue_wait_objective_seconds")} == {
            "fast": 900.0, "idle": 900.0, "slow": 3600.0,
        }  # fmt: skip
        assert metrics.labels("celery_task_expected_interval_seconds") == []
