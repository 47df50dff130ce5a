"""What queries answer in a Prometheus that watches two clusters and much else, and what they leave out.

All in one run of promtool, on series that are written down.
"""

import json
import subprocess
from pathlib import Path

import pytest

from support.dashboards import dashboard
from support.grafana_variables import Resolver, Window
from support.programs import needs

MINUTES = 30
HOSTS = {"a1": "a", "a2": "a", "b1": "b"}  # exporters, and their clusters
SERIES = {
    "up": (1, 0, 1),
    "celery_exporter_build_info": (1, 1, 1),
    "scrape_duration_seconds": (0.1, 0.2, 0.3),
    "process_resident_memory_bytes": (1e6, 2e6, 3e6),
    "process_start_time_seconds": (0, 0, 0),
    'celery_task_rate_limit_per_second{task="t"}': (4, 4, 6),
}
COUNTERS = {
    "celery_exporter_deaf_seconds_total": (60, 0, 30),  # in a minute
    "process_cpu_seconds_total": (6, 12, 18),
    'celery_task_started_total{task="t", queue="q"}': (60, 60, 120),
}
ELSE = {"up": 1, "scrape_duration_seconds": 9, "process_resident_memory_bytes": 9e9, "process_start_time_seconds": 0}

# Dashboard, panel and query; values by instance, or one value.
ANSWERS: dict[tuple[str, str, str], dict[str, float] | float] = {
    ("exporter", "Deaf in the time range", "A"): 30 * MINUTES,  # of cluster b: one of a's exporters heard all
    ("exporter", "Exporters up", "A"): {"a1": 1, "a2": 0, "b1": 1},
    ("exporter", "Scrape duration", "A"): {"a1": 0.1, "a2": 0.2, "b1": 0.3},
    ("exporter", "CPU", "A"): {"a1": 0.1, "a2": 0.2, "b1": 0.3},
    ("exporter", "Memory", "A"): {"a1": 1e6, "a2": 2e6, "b1": 3e6},
    ("limits", "Starts against the rate limit", "B"): 10,
}


def labelled(name: str, instance: str, job: str) -> str:
    metric, _, rest = name.partition("{")
    return f'{metric}{{instance="{instance}", job="{job}"' + (f", {rest}" if rest else "}")


def told() -> list[dict[str, str]]:
    series = {labelled(name, "node", "else"): f"{value:.1f}x{MINUTES}" for name, value in ELSE.items()}
    for number, (instance, job) in enumerate(HOSTS.items()):
        series |= {labelled(name, instance, job): f"{values[number]}x{MINUTES}" for name, values in SERIES.items()}
        series |= {labelled(name, instance, job): f"0+{by[number]}x{MINUTES}" for name, by in COUNTERS.items()}
    return [{"series": name, "values": values} for name, values in series.items()]


def query(name: str, title: str, letter: str) -> str:
    found = dashboard(name)
    (text,) = (target.expr for target in found.targets if (target.panel.title, target.data["refId"]) == (title, letter))
    return Resolver(found, Window(0.0, MINUTES * 60.0, 60.0)).resolved(text)


@needs("prometheus")
def test_clusters_stay_apart_and_other_targets_out(tmp_path: Path) -> None:
    tests = []
    for (name, title, letter), answer in ANSWERS.items():
        values = answer if isinstance(answer, dict) else {"": answer}
        samples = [
            {"labels": f'{{instance="{instance}"}}' if instance else "{}", "value": value}
            for instance, value in values.items()
        ]
        if name == "limits":
            samples = [{"labels": '{task="t"}', "value": answer}]
        tests.append({"expr": query(name, title, letter), "eval_time": f"{MINUTES}m", "exp_samples": samples})
    document = {
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": told(), "promql_expr_test": tests}],
    }
    file = tmp_path / "answers.test.yml"
    file.write_text(json.dumps(document))  # JSON is YAML
    done = subprocess.run(["promtool", "test", "rules", str(file)], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stdout + done.stderr)
