"""Rules that keep dashboards of other exporters alive, on series of a recorded run, as promtool evaluates them."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from celeryscope.metrics.catalog import ALL
from rules import promtool

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "docs" / "migration"
FILES = sorted(RULES.glob("*.rules.yml"))
GUIDE = (ROOT / "docs" / "migration.md").read_text()
REPLICAS = ("a:9808", "b:9808")
MINUTES = 10

# What the sources of the other two export, labels of task, worker and queue included.
CELERY_EXPORTER = {
    **{
        f"celery_task_{event}_total": {"name", "queue_name"}
        for event in ("sent", "received", "started", "succeeded", "rejected", "revoked", "retried")
    },
    "celery_task_failed_total": {"name", "queue_name", "exception"},
    "celery_task_runtime_bucket": {"name", "queue_name", "le"},
    "celery_task_runtime_sum": {"name", "queue_name"},
    "celery_task_runtime_count": {"name", "queue_name"},
    "celery_worker_up": {"hostname"},
    "celery_worker_tasks_active": {"hostname"},
    "celery_queue_length": {"queue_name"},
    "celery_active_consumer_count": {"queue_name"},
    "celery_active_worker_count": {"queue_name"},
    "celery_active_process_count": {"queue_name"},
}
FLOWER = {
    "flower_events_total": {"task", "type"},
    "flower_task_runtime_seconds_bucket": {"task", "le"},
    "flower_task_runtime_seconds_sum": {"task"},
    "flower_task_runtime_seconds_count": {"task"},
    "flower_task_prefetch_time_seconds": {"task"},
    "flower_worker_prefetched_tasks": {"worker"},
    "flower_worker_online": {"worker"},
    "flower_worker_number_of_currently_executing_tasks": {"worker"},
}
EXPECTED = {"celery-exporter.rules.yml": CELERY_EXPORTER, "flower.rules.yml": FLOWER}

Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Mapping[str, str], float]

# What a recorded event stream does not have: facts of polls.
POLLED: tuple[Sample, ...] = (
    ("celery_worker_up", {"worker": "one@host"}, 1.0),
    ("celery_worker_up", {"worker": "two@host"}, 0.0),
    ("celery_worker_tasks_active", {"worker": "one@host"}, 3.0),
    ("celery_worker_tasks_active", {"worker": "two@host"}, 4.0),
    ("celery_worker_tasks_reserved", {"worker": "one@host"}, 5.0),
    ("celery_queue_length", {"queue": "mail"}, 7.0),
    ("celery_queue_consumers", {"queue": "mail"}, 2.0),
    ("celery_queue_workers", {"queue": "mail"}, 1.0),
    ("celery_queue_concurrency", {"queue": "mail"}, 8.0),
)


READ = {name for file in FILES for name in re.findall(r"(celery_\w+)\{", file.read_text())}


def recorded() -> list[Sample]:
    """The series of the recorded run, and of polls."""
    text = (ROOT / "tests" / "data" / "replay.prom").read_text()
    found = [
        (sample.name, sample.labels, round(sample.value * 8) / 8)  # so that sums are exact in any order
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in READ
        and not sample.name.startswith("celery_worker_")
        and sample.labels.get("le", "+Inf") in {"0.1", "10.0", "+Inf"}  # more tell nothing more, and take their time
    ]
    return [*found, *POLLED]


SERIES = recorded()


def added(names: Iterable[str], rename: Mapping[str, str], **wanted: str) -> dict[Labels, float]:
    """Series of these names that have the wanted labels, added up by some of their labels under other names."""
    totals: dict[Labels, float] = defaultdict(float)
    for name, labels, value in SERIES:
        if name in names and all(labels.get(label) == text for label, text in wanted.items()):
            totals[tuple(sorted((new, labels[old]) for old, new in rename.items()))] += value
    assert totals
    return dict(totals)


TASK = {"task": "name", "queue": "queue_name"}
HOST: dict[Labels, float] = {(("hostname", "host"),): 1.0}
OLD: dict[str, Callable[[], dict[Labels, float]]] = {
    **{
        name: lambda name=name: added({name}, TASK)  # type: ignore[misc]
        for name in CELERY_EXPORTER
        if name.startswith("celery_task_") and name.endswith("_total") and "failed" not in name
    },
    "celery_task_failed_total": lambda: added(
        {"celery_task_exceptions_total"}, {**TASK, "exception": "exception"}, outcome="failed"
    ),
    "celery_task_runtime_bucket": lambda: added(
        {"celery_task_runtime_seconds_bucket"}, {**TASK, "le": "le"}, outcome="succeeded"
    ),
    "celery_task_runtime_sum": lambda: added({"celery_task_runtime_seconds_sum"}, TASK, outcome="succeeded"),
    "celery_task_runtime_count": lambda: added({"celery_task_runtime_seconds_count"}, TASK, outcome="succeeded"),
    "celery_worker_up": lambda: HOST,
    "celery_worker_tasks_active": lambda: {(("hostname", "host"),): 7.0},
    "celery_queue_length": lambda: {(("queue_name", "mail"),): 7.0},
    "celery_active_consumer_count": lambda: {(("queue_name", "mail"),): 2.0},
    "celery_active_worker_count": lambda: {(("queue_name", "mail"),): 1.0},
    "celery_active_process_count": lambda: {(("queue_name", "mail"),): 8.0},
    **{
        f'flower_events_total{{type="task-{event}"}}': lambda event=event: {  # type: ignore[misc]
            (*labels, ("type", f"task-{event}")): value
            for labels, value in added({f"celery_task_{event}_total"}, {"task": "task"}).items()
        }
        for event in ("sent", "received", "started", "succeeded", "failed", "retried", "rejected", "revoked")
    },
    "flower_task_runtime_seconds_bucket": lambda: added(
        {"celery_task_runtime_seconds_bucket"}, {"task": "task", "le": "le"}, outcome="succeeded"
    ),
    "flower_task_runtime_seconds_sum": lambda: added(
        {"celery_task_runtime_seconds_sum"}, {"task": "task"}, outcome="succeeded"
    ),
    "flower_task_runtime_seconds_count": lambda: added(
        {"celery_task_runtime_seconds_count"}, {"task": "task"}, outcome="succeeded"
    ),
    "flower_task_prefetch_time_seconds": lambda: {(("task", "shop.pay"),): 0.5},
    "flower_worker_prefetched_tasks": lambda: {(("worker", "one@host"),): 5.0},
    "flower_worker_online": lambda: {(("worker", "one@host"),): 1.0, (("worker", "two@host"),): 0.0},
    "flower_worker_number_of_currently_executing_tasks": lambda: {
        (("worker", "one@host"),): 3.0,
        (("worker", "two@host"),): 4.0,
    },
}


def selector(name: str, labels: Mapping[str, str]) -> str:
    return f"{name}{{{', '.join(f'{label}={json.dumps(value)}' for label, value in labels.items())}}}"


def told(extra: Mapping[str, str]) -> list[dict[str, str]]:
    """Every series as two exporters tell it; and waits in workers that rise by 2 a minute and 1 s a minute."""
    series = [
        {
            "series": selector(name, {"job": "celeryscope", "instance": replica, **extra, **labels}),
            "values": f"{value}x{MINUTES}",
        }
        for name, labels, value in SERIES
        for replica in REPLICAS
    ]
    for name, step in (("sum", 1), ("count", 2)):
        labels = {"job": "celeryscope", "instance": REPLICAS[0], **extra, "task": "shop.pay", "queue": "mail"}
        series.append(
            {"series": selector(f"celery_task_prefetch_seconds_{name}", labels), "values": f"0+{step}x{MINUTES}"}
        )
    return series


def evaluated(folder: Path, file: Path, extra: Mapping[str, str]) -> dict[Path, str]:
    """Hold every old name against what it must be; return what promtool has to say of it."""
    job = file.name.removesuffix(".rules.yml")
    names = [name for name in OLD if name.partition("{")[0] in EXPECTED[file.name]]
    expectations = []
    for name in names:
        metric, brace, rest = name.partition("{")
        chosen = f'{metric}{{job="{job}"' + (f", {rest}" if brace else "}")
        samples = [
            {"labels": selector(metric, {"job": job, **extra, **dict(labels)}), "value": value}
            for labels, value in OLD[name]().items()
        ]
        expectations.append({"expr": chosen, "eval_time": f"{MINUTES}m", "exp_samples": samples})
    path = folder / "test.json"
    path.write_text(
        json.dumps(
            {
                "rule_files": [str(file)],
                "evaluation_interval": "1m",
                "tests": [{"interval": "1m", "input_series": told(extra), "promql_expr_test": expectations}],
            }
        )
    )
    return promtool.run([path])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
class TestRules:
    def test_promtool_accepts_them(self, file: Path) -> None:
        assert promtool.complaints(file) == ""

    def test_every_name_of_the_other_exporter_is_there(self, file: Path) -> None:
        (group,) = yaml.safe_load(file.read_text())["groups"]
        assert {rule["record"] for rule in group["rules"]} == set(EXPECTED[file.name])

    @pytest.mark.parametrize("extra", [{}, {"namespace": "shop"}], ids=["plain", "with labels of the target"])
    def test_two_exporters_are_told_as_one_with_the_labels_of_old(
        self, file: Path, extra: Mapping[str, str], tmp_path: Path
    ) -> None:
        assert evaluated(tmp_path, file, extra) == {}

    def test_they_read_one_job_and_write_another_so_that_nothing_is_counted_twice(self, file: Path) -> None:
        (group,) = yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]:
            read = re.findall(r"(\bcelery_\w+)(\{[^}]*\})?", rule["expr"])
            assert read
            assert all('job="celeryscope"' in chosen for _, chosen in read), rule
            assert rule["labels"]["job"] == file.name.removesuffix(".rules.yml")

    def test_they_read_metrics_that_exist(self, file: Path) -> None:
        known = {spec.name for spec in ALL}
        read = set(re.findall(r"(celery_\w+)\{", file.read_text()))
        assert {re.sub("_(bucket|sum|count)$", "", name) for name in read} <= known | read
        assert {name for name in read if not re.search("_(bucket|sum|count)$", name)} <= known


def test_the_files_are_those_two() -> None:
    assert {file.name for file in FILES} == set(EXPECTED)


class TestGuide:
    @pytest.mark.parametrize("name", [*CELERY_EXPORTER, *FLOWER])
    def test_names_every_metric_of_the_others(self, name: str) -> None:
        row = re.sub("_(sum|count)$", "_bucket", name) if name.startswith("celery_task_runtime") else name
        row = re.sub("^flower_task_runtime_seconds_.*", "flower_task_runtime_seconds", row)
        assert f"| `{row}`" in GUIDE

    def test_its_configuration_for_prometheus_is_valid(self, tmp_path: Path) -> None:
        block = re.search(r"^( {4}alerting:\n(?: {4}.*\n)+)", GUIDE, re.MULTILINE)
        assert block is not None
        path = tmp_path / "prometheus.yml"
        path.write_text(re.sub("^ {4}", "", block[1], flags=re.MULTILINE))
        assert promtool.configuration_complaints(path) == ""
