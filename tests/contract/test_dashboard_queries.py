"""What holds for every query of the dashboards: it parses, asks for what exists, and counts two replicas once.

Parsed twice: by promtool, which is Prometheus's own parser in the oldest version that we test with, and by
promql-parser, whose tree the other checks read.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import promql_parser as ast
import pytest

from support.dashboards import Dashboard, Json, Target, dashboards
from support.grafana_queries import VALUES
from support.grafana_variables import Resolver, Window, seconds
from support.programs import needs
from support.promql import Analysis, Series, chosen, exported, keeps_name, known, matchers, nodes

# Durations that nobody writes, so that it can be told where one comes from.
WINDOW = Window(start=0.0, end=7_919.0, scrape=61.0, points=100)
INTERVAL, RANGE = round(WINDOW.interval), 7_919
# What stands for a chosen value: it has all that must be escaped, and is the same as what a variable is named for.
CHOSEN = {"job": "job.a+b", "task": "photos.resize", "queue": "a(b)|c", "worker": "celery@host.one", "slo": "wait"}
JOB = r"job\.a\+b"  # as a regular expression
RATES = {"rate", "irate"}
SHORTEST = 300  # seconds: ranges written out are no shorter than a few scrapes of a slow Prometheus
LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")
GRAPHS = {"timeseries", "state-timeline", "bargauge"}


@dataclass(frozen=True)
class Query:
    """An expression, and who asks it."""

    name: str
    dashboard: Dashboard
    text: str
    target: Target | None = None  # None: an annotation

    def resolved(self) -> str:
        """With one value chosen for each variable."""
        return resolver(self.dashboard).resolved(self.text, self.step)

    @property
    def step(self) -> str | None:
        """Its own minimum step, where it has one."""
        return self.target.data.get("interval") if self.target is not None else None

    def parsed(self) -> ast.Expr:
        return parse(self.resolved())


@cache
def parse(text: str) -> ast.Expr:
    return ast.parse(text)


def resolver(dashboard: Dashboard) -> Resolver:
    return Resolver(dashboard, WINDOW, {name: [value] for name, value in CHOSEN.items()})


def asked_by(dashboard: Dashboard) -> Iterator[Query]:
    """All that a dashboard asks, but for its variables."""
    for target in dashboard.targets:
        yield Query(target.name, dashboard, target.expr, target)
    for annotation in dashboard.annotations:
        yield Query(f"{dashboard.name}/{annotation['name']}", dashboard, annotation["expr"])


def queries() -> Iterator[Query]:
    for dashboard in dashboards():
        yield from asked_by(dashboard)


def variables() -> Iterator[tuple[Dashboard, Json]]:
    for dashboard in dashboards():
        for variable in dashboard.variables:
            if variable["type"] == "query":
                yield dashboard, variable


@cache
def names() -> dict[str, Series]:
    return known()


each = pytest.mark.parametrize("dashboard", dashboards(), ids=lambda found: found.name)
each_variable = pytest.mark.parametrize(
    ("dashboard", "variable"), list(variables()), ids=lambda found: getattr(found, "name", None) or found["name"]
)


@each
class TestQueries:
    def test_asks_for_what_exists_and_counts_replicas_once(self, dashboard: Dashboard) -> None:
        for query in asked_by(dashboard):
            analysis = Analysis(names())
            result = analysis.of(query.parsed())
            assert analysis.complaints == [], query.text
            # Each replica by itself is shown where it is about them.
            assert query.dashboard.name == "exporter" or query.target is None or "instance" not in result.labels, (
                query.text
            )

    def test_keeps_to_the_chosen_jobs(self, dashboard: Dashboard) -> None:
        for query in asked_by(dashboard):
            for selector in chosen(query.parsed()):
                matched = {matcher.name: (matcher.op, matcher.value) for matcher in matchers(selector)}
                wanted = [(ast.MatchOp.Re, JOB)]
                if selector.name == "ALERTS":
                    # Some are of no job: that nobody exports anything, and the watchdog.
                    wanted.append((ast.MatchOp.Re, f"{JOB}|"))
                    if matched["alertname"] == (ast.MatchOp.Equal, "CeleryWatchdog"):
                        continue
                assert matched.get("job") in wanted, query.text

    def test_obeys_each_variable_whose_label_it_has(self, dashboard: Dashboard) -> None:
        for query in asked_by(dashboard):
            labels = {found["name"] for found in query.dashboard.variables} - {"datasource", "job"}
            for selector in chosen(query.parsed()):
                matched = {matcher.name for matcher in matchers(selector)}
                having = names()[str(selector.name)].labels & labels
                # Alerts of the whole cluster have none of them.
                assert selector.name == "ALERTS" or having <= matched, f"{selector}: {having - matched}"

    def test_rates_are_over_the_rate_interval(self, dashboard: Dashboard) -> None:
        for query in asked_by(dashboard):
            wanted = round(WINDOW.rate_interval(seconds(query.step) if query.step else None))
            for node in nodes(query.parsed()):
                if not isinstance(node, ast.Call):
                    continue
                for argument in node.args:
                    if isinstance(argument, ast.MatrixSelector):
                        span = round(argument.range.total_seconds())
                        assert span != INTERVAL, query.text
                        written = span >= SHORTEST
                        assert span == wanted or (written and node.func.name not in RATES), query.text

    def test_legends_tell_series_apart_by_labels_that_are_there(self, dashboard: Dashboard) -> None:
        for query in asked_by(dashboard):
            target = query.target
            if target is None or target.panel.type not in GRAPHS | {"stat"}:
                continue
            labels = Analysis(names()).of(query.parsed()).labels
            named = set(LABEL.findall(target.legend))
            assert named <= labels, query.text
            if target.panel.type in GRAPHS:
                assert target.legend not in {"", "__auto"}
                assert named or not labels - {"job"}, query.text

    def test_tables_have_one_row_for_each_thing(self, dashboard: Dashboard) -> None:
        for panel in dashboard.panels:
            asked = [query for query in asked_by(dashboard) if query.target is not None and query.target.panel is panel]
            if panel.type == "table":
                (order,) = (
                    found["options"]["indexByName"]
                    for found in panel.data["transformations"]
                    if found["id"] == "organize"
                )
                labels = frozenset().union(*(Analysis(names()).of(query.parsed()).labels for query in asked))
                assert labels == {name for name in order if not name.startswith("Value")}, panel.name
                # Columns are merged into one row where all they share is the same; names of metrics are not.
                assert not [query.text for query in asked if keeps_name(query.parsed())], panel.name

    def test_heatmaps_are_of_buckets(self, dashboard: Dashboard) -> None:
        for query in asked_by(dashboard):
            if query.target is not None and query.target.panel.type == "heatmap":
                assert Analysis(names()).of(query.parsed()).labels - {"job"} == {"le"}
                assert query.target.legend == "{{le}}"


@each_variable
class TestVariable:
    def test_asks_for_values_of_a_label_that_exists(self, dashboard: Dashboard, variable: Json) -> None:
        text = variable["query"]["query"]
        found = VALUES.fullmatch(text)
        assert found is not None, text
        assert found["selector"], f"{text}: of one metric, or every series of the server is looked through"
        selector = ast.parse(resolver(dashboard).resolved(found["selector"]))
        analysis = Analysis(names(), anything=True)
        assert found["label"] in analysis.of(selector).labels
        assert analysis.complaints == []
        assert isinstance(selector, ast.VectorSelector)
        # A list that depends on the job changes with it.
        matched = {matcher.name for matcher in matchers(selector)}
        assert found["label"] == "job" or "job" in matched, text

    def test_is_what_the_definition_says(self, dashboard: Dashboard, variable: Json) -> None:
        assert variable.get("definition", variable["query"]["query"]) == variable["query"]["query"]


@needs("prometheus")
def test_all_parse(tmp_path: Path) -> None:
    rules = [
        {"record": f"dashboard:query{number}", "expr": query.resolved(), "labels": {"query": query.name}}
        for number, query in enumerate(queries())
    ]
    file = tmp_path / "dashboards.rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboards", "rules": rules}]}))  # JSON is YAML
    command = ["promtool", "check", "rules", "--lint=none", str(file)]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout


class TestTheAnalysis:
    """The checks above find what they look for."""

    def test_finds_the_labels_that_recording_rules_are_named_for(self) -> None:
        recorded = {name: series for name, series in names().items() if ":" in name}
        assert len(recorded) > 40
        for name, series in recorded.items():
            assert set(name.partition(":")[0].split("_")) == series.labels

    @pytest.mark.parametrize(
        ("expr", "complaint"),
        [
            ("celery_task_vanished_total", "neither exported nor recorded"),
            ("job:celery_task_sent:rate7m", "neither exported nor recorded"),
            ('max by (job) (celery_queue_length{colour="red"})', "no label colour"),
            ("max by (job, task) (celery_queue_length)", "over ['task']"),
            ("max by (job, task) (celery_task_sent_total)", "outside rate"),
            ("max by (job) (rate(celery_queue_length[5m]))", "of the gauge"),
            ("max by (job) (deriv(celery_task_sent_total[5m]))", "of the counter"),
            ("sum by (job, task) (rate(celery_task_sent_total[5m]))", "over replicas"),
            ("sum(celery_worker_up)", "over replicas"),
            ("count by (job) (celery_worker_up == 1)", "over replicas"),
            ("max(sum by (job, instance) (celery_queue_length))", "different jobs"),
            ("max by (job, task) (celery_task_sent_total unless celery_task_failed_total offset 5m)", "outside rate"),
            ("sum by (job) (max by (job, queue) (rate(celery_task_sent_total[5m])))", "sum each one first"),
            (
                "max by (job) (histogram_quantile(0.5,"
                " sum by (job, instance) (rate(celery_task_wait_seconds_bucket[5m]))))",
                "loses le",
            ),
            ("histogram_quantile(0.5, job_queue:celery_task_wait_seconds:p95_5m)", "no le"),
            ("job_queue:celery_queue_length:max / job:celery_worker_up:sum", "never match"),
            ("job_queue:celery_queue_length:max / on (queue) job:celery_worker_up:sum", "not both sides have"),
            ("celery_queue_length / on (queue) celery_queue_workers", "once for each"),
            (
                "job_worker:celery_worker_up:max * on (job, worker) group_left (version) celery_worker_info",
                "once for each",
            ),
            (
                "job_queue:celery_queue_length:max * on (job) group_left (colour) job:celery_worker_up:sum",
                "one side has not",
            ),
            ("rate(job_task:celery_task_sent:rate5m[5m])", "of the gauge"),
            ('label_replace(job:celery_worker_up:sum, "a", "$1", "worker", "(.*)")', "not there"),
        ],
    )
    def test_complains(self, expr: str, complaint: str) -> None:
        analysis = Analysis(names())
        analysis.of(ast.parse(expr))
        assert any(complaint in found for found in analysis.complaints), analysis.complaints

    @pytest.mark.parametrize(
        ("expr", "labels"),
        [
            ("sum(job_queue:celery_queue_length:max)", ""),
            ("max by (job, task) (sum by (job, instance, task) (rate(celery_task_sent_total[5m])))", "job task"),
            ("topk(5, job_task:celery_task_sent:rate5m)", "job task"),
            ("job_queue:celery_queue_length:max > on (job, queue) group_left () job_queue:celery_queue_workers:max",
             "job queue"),
            ("time() - max by (job, worker) (celery_worker_start_time_seconds)", "job worker"),
            ("vector(0)", ""),
            ("max(celery_queue_length)", ""),
            (
                "max by (job) (sum by (job, instance) ((celery_task_sent_total unless celery_task_sent_total offset 5m)"
                " or increase(celery_task_sent_total[5m])))",
                "job",
            ),
            (
                "max by (job, le) (sum by (job, instance, le) (increase(celery_task_wait_seconds_bucket[5m])))",
                "job le",
            ),
            (
                "max by (job, worker) (celery_worker_up) * on (job, worker) group_left (version)"
                " max by (job, worker, version) (celery_worker_info)",
                "job worker version",
            ),
        ],
    )  # fmt: skip
    def test_is_content_with_what_is_sound(self, expr: str, labels: str) -> None:
        analysis = Analysis(names())
        assert analysis.of(ast.parse(expr)).labels == set(labels.split())
        assert analysis.complaints == []

    @pytest.mark.parametrize(
        "expr",
        [
            "celery_worker_up",
            "(celery_worker_up) == 1",
            "0 < celery_worker_up",
            "topk(5, celery_worker_up)",
            "celery_worker_up and on (job) celery_broker_up",
            "max(celery_broker_up) or celery_worker_up",
            "last_over_time(celery_worker_up[5m])",
        ],
    )
    def test_knows_what_keeps_its_name(self, expr: str) -> None:
        assert keeps_name(ast.parse(expr))
        assert not keeps_name(ast.parse(f"max by (job) ({expr}) > 0"))
        assert not keeps_name(ast.parse(f"1 - ({expr})"))

    def test_knows_every_metric_of_the_catalog(self) -> None:
        assert {name for name in exported() if name not in names()} == set()


class TestTheVariables:
    """Values are put in as Grafana's Prometheus datasource does."""

    @pytest.fixture
    def dashboard(self) -> Dashboard:
        several = {"multi": True, "includeAll": True, "current": {"value": ["$__all"]}}
        found = [
            {"name": "job", "allValue": ".*", **several},
            {"name": "task", "allValue": None, **several},
            {"name": "slo", "current": {"value": "wait"}},
        ]
        return Dashboard("made", {"templating": {"list": found}})

    @pytest.mark.parametrize(
        ("text", "values", "wanted"),
        [
            ('x{job=~"$job"}', {}, 'x{job=~".*"}'),
            ('x{job=~"${job}"}', {"job": ["a.b"]}, r'x{job=~"a\\.b"}'),
            ('x{job=~"[[job]]"}', {"job": ["a", "b|c"]}, r'x{job=~"(a|b\\|c)"}'),
            ('x{task=~"$task"}', {}, 'x{task=~"(one|two)"}'),
            ('x{slo="$slo"}', {}, 'x{slo="wait"}'),
            ('x{job=~"${job:pipe}"}', {"job": ["a", "b"]}, 'x{job=~"a|b"}'),
            ("rate(x[$__rate_interval])", {}, "rate(x[60s])"),
            ("x[$__interval]", {}, "x[15s]"),
            ("increase(x[$__range])", {}, "increase(x[3600s])"),
        ],
    )
    def test_of_a_query(self, dashboard: Dashboard, text: str, values: dict[str, list[str]], wanted: str) -> None:
        window = Window(0.0, 3600.0, 15.0)
        assert Resolver(dashboard, window, values, {"task": ["one", "two"]}).resolved(text) == wanted

    @pytest.mark.parametrize(
        ("span", "shortest", "wanted"),
        [(3_600.0, None, 60), (86_400.0, None, 101), (3_600.0, "1m", 240)],
    )
    def test_the_rate_interval_spans_four_scrapes_or_more(
        self, dashboard: Dashboard, span: float, shortest: str | None, wanted: int
    ) -> None:
        resolved = Resolver(dashboard, Window(0.0, span, 15.0)).resolved("$__rate_interval", shortest)
        assert resolved == f"{wanted}s"
