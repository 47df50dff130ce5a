"""Scenarios of rules, as documents for `promtool test rules`, one file each, all of them in one run of promtool.

A scenario is judged by the minutes in which an alert fires, and by its labels; in all other minutes it must be silent.
It is told twice: by one exporter, and by two, of which one knows no queue of any task. Both must end alike.
"""

import json
import re
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from celeryscope.rules import core, recording, render
from celeryscope.rules.model import Alert, Group, Record
from celeryscope.rules.settings import Settings
from rules.series import STEP, Line, Sample, SeriesOf, added, at, largest, notation, samples

JOB = "celery"
RECORDED = re.compile(r"\b[a-z_]+:\w+:\w+")
QUEUE = re.compile(r'queue="[^"]*"')
ONE, TWO, FORGETFUL = "one exporter", "two", "two of which one knows no queue"
DEFAULT = Settings()
START = -1_000_000.0  # when exporters were started, where a scenario says nothing


@dataclass(frozen=True)
class Firing:
    """An alert fires in the minutes `first` to `last`, with these labels beside component."""

    first: int
    last: int
    labels: Mapping[str, str]


def firing(first: int, last: int, severity: str, **labels: str) -> Firing:
    """An alert of a job fires."""
    return Firing(first, last, {"job": JOB, "severity": severity, **labels})


@dataclass(frozen=True)
class Value:
    """What an expression is at a minute: values by labels. No values: it has none."""

    minute: int
    expr: str
    values: Sequence[tuple[Mapping[str, str], float]]


@dataclass(frozen=True)
class Scenario:
    """What happens, and what comes of it."""

    name: str
    minutes: int
    series: SeriesOf
    alert: str = ""
    fires: Sequence[Firing] = ()
    values: Sequence[Value] = ()
    records: Sequence[str] = ()  # names of recorded series that it is about
    exporter: Mapping[str, Line] = field(default_factory=dict)  # up, build_info, process_start_time_seconds
    other: SeriesOf | None = None  # what the second exporter says, where that is something else
    others: SeriesOf = field(default_factory=dict)  # of targets that are no exporter, with all labels
    alone: bool = False  # told by one exporter only: it is about the exporters themselves
    settings: Settings = DEFAULT
    step: int = STEP
    every: int = 1  # minutes between two evaluations

    @property
    def title(self) -> str:
        """What it is about, and what happens."""
        return f"{self.alert or 'records'}: {self.name}"

    @property
    def variants(self) -> tuple[str, ...]:
        """By whom it is told."""
        if self.other is not None:
            return (TWO,)
        if self.alone:
            return (ONE,)
        knows = any(name.startswith("celery_task_") and QUEUE.search(name) for name in self.series)
        return (ONE, FORGETFUL if knows else TWO)


@cache
def _by_default() -> tuple[Group, ...]:
    return _made(DEFAULT)


def _made(settings: Settings) -> tuple[Group, ...]:
    return (*recording.groups(settings), *core.groups(settings))


def everything(settings: Settings = DEFAULT) -> tuple[Group, ...]:
    """All groups that core alerts need, in order of evaluation."""
    return _by_default() if settings is DEFAULT else _made(settings)


def needed(groups: Iterable[Group], alert: str, records: Collection[str] = ()) -> list[Group]:
    """The groups with nothing but an alert, some recorded series, and what both build on."""
    groups = list(groups)
    by_name = {rule.name: rule for group in groups for rule in group.rules if isinstance(rule, Record)}
    alerts = [rule for group in groups for rule in group.rules if isinstance(rule, Alert) and rule.name == alert]
    assert alerts or not alert, alert
    wanted: set[str] = set()
    pending = [*records, *(name for rule in alerts for name in RECORDED.findall(rule.expr))]
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending += RECORDED.findall(by_name[name].expr)
    found = []
    for group in groups:
        rules = [rule for rule in group.rules if rule in alerts or rule.name in wanted]
        if rules:
            found.append(Group(group.name, tuple(rules)))
    return found


def _told(series: SeriesOf, scenario: Scenario, instance: str, *, knows: bool) -> Iterator[tuple[str, list[Sample]]]:
    found: dict[str, list[list[Sample]]] = {}
    for name, line in series.items():
        told = name if knows or not name.startswith("celery_task_") else QUEUE.sub('queue="unknown"', name)
        found.setdefault(told, []).append(samples(line, scenario.minutes, scenario.step))
    own: Mapping[str, Line] = {
        "up": [at(1)],
        "celery_exporter_build_info": [at(1)],
        "process_start_time_seconds": [at(START)],
        **scenario.exporter,
    }
    found |= {name: [samples(line, scenario.minutes, scenario.step)] for name, line in own.items()}
    for name, lines in found.items():
        metric, _, rest = name.partition("{")
        labels = f'job="{JOB}", instance="{instance}"' + (f", {rest}" if rest else "}")
        merged = largest(lines) if "timestamp" in metric else added(lines)
        yield f"{metric}{{{labels}" + ("" if labels.endswith("}") else "}"), merged


def document(scenario: Scenario, variant: str, groups: Sequence[Group], rule_file: str) -> str:
    """A test for promtool."""
    told = [*_told(scenario.series, scenario, "a:9808", knows=True)]
    if variant != ONE:
        other = scenario.series if scenario.other is None else scenario.other
        told += _told(other, scenario, "b:9808", knows=variant != FORGETFUL)
    told += [(name, samples(line, scenario.minutes, scenario.step)) for name, line in scenario.others.items()]
    return json.dumps(
        {
            "rule_files": [rule_file],
            "evaluation_interval": f"{scenario.every}m",
            "group_eval_order": [group.name for group in groups],
            "tests": [
                {
                    "interval": f"{scenario.step}s",
                    "input_series": [{"series": name, "values": notation(found)} for name, found in told],
                    "promql_expr_test": list(_expectations(scenario)),
                }
            ],
        }
    )


def _expectations(scenario: Scenario) -> Iterator[dict[str, object]]:
    if scenario.alert:
        selector = f'ALERTS{{alertname="{scenario.alert}", alertstate="firing"}}'
        counts: dict[str, int] = {}
        for fires in scenario.fires:
            labels = {"alertname": scenario.alert, "alertstate": "firing", "component": "celery", **fires.labels}
            count = (fires.last - fires.first) // scenario.every + 1
            counts[_labels(labels)] = counts.get(_labels(labels), 0) + count
            # In all minutes of its time, and (below) in none beside.
            window = (fires.last - fires.first) * 60 + 30
            named = ", ".join(f'{name}="{value}"' for name, value in labels.items())
            yield _expect(f"count_over_time(ALERTS{{{named}}}[{window}s])", fires.last, {_labels(labels): count})
        yield _expect(f"count_over_time({selector}[{scenario.minutes * 60 + 30}s])", scenario.minutes, counts)
    for value in scenario.values:
        yield _expect(value.expr, value.minute, {_labels(labels): number for labels, number in value.values})


def _expect(expr: str, minute: int, values: Mapping[str, float]) -> dict[str, object]:
    found = [{"labels": labels, "value": value} for labels, value in values.items()]
    return {"expr": expr, "eval_time": f"{minute}m", "exp_samples": found}


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}"


def write(
    folder: Path, number: int, scenario: Scenario, groups: Sequence[Group], variants: Collection[str] | None = None
) -> dict[Path, str]:
    """Write the documents of a scenario, by default all, with the rules that it needs; return who tells each."""
    rules = needed(groups, scenario.alert, scenario.records)
    rule_file = folder / f"{number}.rules.yml"
    rule_file.write_text(render.prometheus(rules, scenario.settings))
    written = {}
    for variant in scenario.variants if variants is None else variants:
        path = folder / f"{number}.{variant.replace(' ', '_')}.json"
        path.write_text(document(scenario, variant, rules, rule_file.name))
        written[path] = variant
    return written


def parameters(scenarios: Iterable[Scenario]) -> list[ParameterSet]:
    """Each scenario as each variant tells it. What two exporters tell, one alone tells in --full only."""
    return [
        pytest.param(
            scenario,
            variant,
            id=f"{scenario.title}, {variant}",
            marks=[pytest.mark.full] if variant == ONE and len(scenario.variants) > 1 else [],
        )
        for scenario in scenarios
        for variant in scenario.variants
    ]


Outcome = dict[tuple[str, str], str]


def outcome(request: pytest.FixtureRequest, folder: Path, groups: Callable[[Settings], Sequence[Group]]) -> Outcome:
    """What promtool has to say of the scenarios that a module is to tell, by title and variant, where they fail."""
    told: dict[str, tuple[Scenario, list[str]]] = {}
    for item in request.session.items:
        asked = getattr(getattr(item, "callspec", None), "params", {})
        if item.path == request.path and "scenario" in asked:
            told.setdefault(asked["scenario"].title, (asked["scenario"], []))[1].append(asked["variant"])
    written = {}
    for number, (scenario, variants) in enumerate(told.values()):
        for path, variant in write(folder, number, scenario, groups(scenario.settings), variants).items():
            written[path] = (scenario.title, variant)
    paths = list(written)
    with ThreadPoolExecutor(2) as pool:
        failed = [*pool.map(run, filter(None, (paths[::2], paths[1::2])))]
    return {written[path]: said for part in failed for path, said in part.items()}


def run(paths: Sequence[Path], timeout: float = 300) -> dict[Path, str]:
    """Run promtool once; return what it has to say of each document that fails."""
    command = ["promtool", "test", "rules", *map(str, paths)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False
    )
    text = done.stdout
    failed = {}
    for section in text.split("Unit Testing:")[1:]:
        name, _, said = section.strip().partition("\n")
        if "SUCCESS" not in said:
            failed[Path(name.strip())] = said.strip()
    assert (done.returncode == 0) is (not failed), text
    return failed


def complaints(path: Path) -> str:
    """What promtool has to say against a rule file; empty where it is valid."""
    command = ["promtool", "check", "rules", "--lint=none", str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout


def configuration_complaints(path: Path) -> str:
    """What promtool has to say against a configuration of Prometheus; empty where it is valid."""
    command = ["promtool", "check", "config", "--syntax-only", str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout
