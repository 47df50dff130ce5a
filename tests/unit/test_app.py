"""The composition root: what of the configuration reaches whom."""

from dataclasses import fields
from pathlib import Path

import pytest
from celery import Celery

from celeryscope import app, config
from celeryscope.clock import SystemClock
from celeryscope.metrics.catalog import QUEUE_WAIT_OBJECTIVE, TASK_EXPECTED_INTERVAL, Spec
from celeryscope.monitor import Monitor
from celeryscope.tracker import TrackerSettings

FILE = r"""
task_rename = ['_\d+=>_N']
task_exclude = ['noise']
queue_include = ['fast']
queue_wait_objective = "1m"
[task."report"]
expected_interval = "1h"
[queue."slow"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "celeryscope.toml"
    path.write_text(FILE)
    return path


def shown(monitor: Monitor, spec: Spec) -> dict[str, float]:
    families = [family for family in monitor.store.snapshot() if family.spec is spec]
    return {value.labels[0]: value.value for family in families for value in family.values}


def test_names_and_objectives_reach_the_tracker(file: Path) -> None:
    settings = app.tracker_settings(config.load({"broker_url": "redis://h/0"}, {}, file))
    assert settings.task_names.apply("report_7") == "report_N"
    assert settings.task_names.apply("noise") is None
    assert settings.queue_names.apply("slow_1") is None
    assert settings.objectives.tasks.exact.keys() == {"report"}
    assert settings.queue_wait_objective == 60.0


def test_without_a_file_the_tracker_is_told_its_own_defaults() -> None:
    told = app.tracker_settings(config.load({"broker_url": "redis://h/0"}, {}))
    own = TrackerSettings()
    assert {name.name: getattr(told, name.name) for name in fields(own)} == {
        name.name: getattr(own, name.name) for name in fields(own)
    }


def test_the_schedule_of_a_projects_app_is_read_and_that_of_our_own_is_not(file: Path) -> None:
    project = Celery("proj", broker="redis://h/0", set_as_current=False)
    project.conf.beat_schedule = {
        "a": {"task": "sync_1", "schedule": 30.0},
        "b": {"task": "report", "schedule": 60.0},
        "c": {"task": "noise", "schedule": 5.0},
    }
    monitor = app.build(config.load({"app": "proj"}, {}, file), project, SystemClock())
    assert shown(monitor, TASK_EXPECTED_INTERVAL) == {"sync_N": 30.0, "report": 3_600.0}
    assert shown(monitor, QUEUE_WAIT_OBJECTIVE) == {"slow": 60.0}
    monitor = app.build(config.load({"broker_url": "redis://h/0"}, {}, file), project, SystemClock())
    assert shown(monitor, TASK_EXPECTED_INTERVAL) == {"report": 3_600.0}
