"""`celeryscope rules`: what is committed is what it prints, every option has its effect, bad input fits a line."""

import re
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from celeryscope.cli import celeryscope
from celeryscope.metrics.catalog import ALL, Kind
from celeryscope.rules import command
from celeryscope.rules.model import Alert, Record
from celeryscope.rules.settings import THRESHOLDS, Settings
from rules import promtool
from support.programs import needs

ALERTS = Path(__file__).parents[2] / "alerts"


def asked(*arguments: str) -> Result:
    return CliRunner().invoke(celeryscope, ["rules", *arguments])


def printed(*arguments: str) -> str:
    result = asked(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def alert(text: str, name: str) -> str:
    """What is printed of the alerts of one name."""
    found = re.findall(rf"^ *- alert: {name}\n(?:(?! *- ).*\n)*", text, re.MULTILINE)
    assert found, name
    return "".join(found)


def check(text: str, tmp_path: Path) -> None:
    path = tmp_path / "checked.rules.yml"
    path.write_text(text)
    assert promtool.complaints(path) == ""


class TestWhatIsCommitted:
    @pytest.mark.parametrize("part", command.PARTS)
    def test_is_what_the_command_prints(self, part: str) -> None:
        text = (ALERTS / f"{part}.rules.yml").read_text()
        assert text == command.committed(part)
        assert text.partition("\n")[2] == printed(part)

    def test_there_is_no_other(self) -> None:
        assert {path.name for path in ALERTS.glob("*.rules.yml")} == {f"{part}.rules.yml" for part in command.PARTS}

    @pytest.mark.system("promtool")
    @needs("promtool")
    @pytest.mark.parametrize("part", command.PARTS)
    def test_is_valid(self, part: str, tmp_path: Path) -> None:
        check(command.committed(part), tmp_path)


class TestParts:
    def test_all_of_them_where_none_is_named(self) -> None:
        assert printed() == printed("recording", "core", "extra")

    def test_those_that_are_named_in_their_order_once(self) -> None:
        text = printed("extra", "core", "extra")
        assert re.findall(r"- name: (\S+)", text) == re.findall(r"- name: (\S+)", printed("extra") + printed("core"))


class TestOptions:
    @pytest.mark.parametrize("name", THRESHOLDS)
    def test_every_threshold_changes_something(self, name: str) -> None:
        threshold = THRESHOLDS[name]
        value = threshold.most if threshold.default != threshold.most else threshold.least
        assert printed("--set", f"{name}={value}") != printed()

    def test_a_threshold_stands_in_its_alert_alone(self) -> None:
        text = printed("--set", "failure_ratio_warning=0.125")
        assert alert(text, "CeleryTaskFailureRatioHigh") == alert(printed(), "CeleryTaskFailureRatioHigh").replace(
            "> 0.05", "> 0.125"
        )
        assert alert(text, "CeleryTaskRetryStorm") == alert(printed(), "CeleryTaskRetryStorm")

    def test_thresholds_are_listed_with_their_bounds(self) -> None:
        lines = printed("--thresholds").splitlines()
        assert [line.split()[0] for line in lines] == list(THRESHOLDS)
        assert lines[0].endswith("(15 to 3600)")

    @pytest.mark.parametrize("name", sorted(command.alert_names()))
    def test_every_alert_takes_a_duration(self, name: str) -> None:
        holds = re.findall(r"^ +for: (.*)", alert(printed("--for", f"{name}=77m"), name), re.MULTILINE)
        assert holds
        assert set(holds) == {"77m"}

    def test_an_alert_may_fire_at_once(self) -> None:
        assert "for:" not in alert(printed("--for", "CeleryBrokerDown=0s"), "CeleryBrokerDown")

    @pytest.mark.parametrize("name", sorted(command.alert_names()))
    def test_every_alert_can_be_left_out(self, name: str) -> None:
        names = re.findall(r"- alert: (\S+)", printed("--disable", name))
        assert set(names) == command.alert_names() - {name}

    @pytest.mark.parametrize("name", sorted(command.excluding_names()))
    def test_tasks_are_left_out(self, name: str) -> None:
        text = printed("--exclude-task", rf"{name}=app\.poll\..*")
        escaped = re.compile(r"app(?:\\{2}|\\{4})\.poll")  # for PromQL, and for YAML where the expression is quoted
        assert escaped.search(alert(text, name))
        assert len(escaped.findall(text)) == len(escaped.findall(alert(text, name)))

    def test_what_is_left_out_by_design_stays_so(self) -> None:
        text = alert(printed("--exclude-task", "CeleryTaskRetryStorm=app.poll"), "CeleryTaskRetryStorm")
        assert r'task!~"celery\\.chord_unlock|app.poll"' in text

    def test_queues_that_must_have_workers(self) -> None:
        text = alert(printed("--required-queues", r'fast\..*|"odd"'), "CeleryQueueWithoutWorkers")
        assert text.count(r'{queue=~"fast\\..*|\"odd\""}') == 2

    def test_every_alert_gets_a_label(self) -> None:
        text = printed("--label", "team=data platform")
        assert text.count('      team: "data platform"\n') == len(re.findall("- alert:", text))

    def test_clusters_are_told_apart(self) -> None:
        text = printed("--group-by", "cluster", "--group-by", "job")
        assert "on (job, cluster, queue)" in text
        assert "record: job_cluster_queue:celery_queue_length:max" in text
        assert not re.search(r"(?:by|on) \(job(?!, cluster)", text)
        assert not re.search(r"\bjob(?!_cluster)\w*:celery", text)

    def test_exporters_are_told_apart(self) -> None:
        text = printed("--replica-label", "pod")
        assert "sum by (job, pod)" in text
        assert not re.search(r"(?:by|on) \([^)]*\binstance\b", text)

    def test_links(self) -> None:
        text = printed("--runbooks", "https://wiki/celery", "--dashboards", "https://grafana/")
        assert 'runbook_url: "https://wiki/celery/CeleryBrokerDown"' in text
        assert 'dashboard_url: "https://grafana/d/celeryscope-queues?var-job={{ $labels.job | urlquery }}"' in text
        assert "localhost" not in text

    @pytest.mark.system("promtool")
    @needs("promtool")
    def test_all_of_them_together_are_valid(self, tmp_path: Path) -> None:
        arguments = [
            *("--group-by", "cluster", "--replica-label", "pod", "--label", 'team=a "b"', "--label", "tier={x}: #1"),
            *("--required-queues", r'fast\..*|"odd"', "--disable", "CeleryWatchdog", "--runbooks", "https://r"),
            *("--for", "CeleryBrokerDown=90s", "--for", "CeleryWorkerProcessKilled=2h", "--dashboards", "https://g"),
        ]
        for name in sorted(command.excluding_names()):
            arguments += ["--exclude-task", rf'{name}=a\.b|"c"|\d+']
        for name, threshold in THRESHOLDS.items():
            arguments += ["--set", f"{name}={threshold.least}"]
        check(printed(*arguments), tmp_path)


class TestKubernetes:
    def test_the_manifest_holds_the_same_rules(self) -> None:
        head, separator, spec = printed("--kubernetes", "--name", "my-rules", "--namespace", "1st").partition("spec:\n")
        assert separator
        assert head.splitlines() == [
            "apiVersion: monitoring.coreos.com/v1",
            "kind: PrometheusRule",
            "metadata:",
            "  name: my-rules",
            '  namespace: "1st"',
        ]
        assert textwrap.dedent(spec) == printed()

    def test_without_a_namespace_it_is_left_to_who_applies_it(self) -> None:
        text = printed("core", "--kubernetes")
        assert "namespace:" not in text
        assert "  name: celeryscope\n" in text


BAD = (
    (["nothing"], "nothing"),
    (["--set", "nothing=1"], "nothing"),
    (["--set", "memory_warning"], "memory_warning"),
    (["--set", "memory_warning=2"], "memory_warning=2"),
    (["--set", "memory_warning=much"], "memory_warning=much"),
    (["--set", "memory_warning=nan"], "memory_warning=nan"),
    (["--for", "CeleryNothing=5m"], "CeleryNothing"),
    (["--for", "CeleryBrokerDown=5"], "CeleryBrokerDown=5"),
    (["--for", "CeleryBrokerDown=soon"], "CeleryBrokerDown=soon"),
    (["--for", "CeleryBrokerDown=0m"], "CeleryBrokerDown=0m"),
    (["--for", "CeleryBrokerDown"], "CeleryBrokerDown"),
    (["--disable", "CeleryNothing"], "CeleryNothing"),
    (["--exclude-task", "CeleryNothing=a"], "CeleryNothing"),
    (["--exclude-task", "CeleryBrokerDown=a"], "CeleryBrokerDown"),
    (["--exclude-task", "CeleryTaskExpired=("], "CeleryTaskExpired"),
    (["--exclude-task", "CeleryTaskExpired=(?!a)"], "CeleryTaskExpired"),
    (["--required-queues", "["], "--required-queues"),
    (["--required-queues", r"(a)\1"], "--required-queues"),
    (["--label", "not-a-label=x"], "not-a-label"),
    (["--label", "__name__=x"], "__name__"),
    (["--label", "severity=x"], "severity"),
    (["--label", "team"], "team"),
    (["--group-by", "not a label"], "not a label"),
    (["--group-by", "queue"], "queue"),
    (["--group-by", "instance"], "instance"),
    (["--replica-label", "1"], "1"),
    (["--replica-label", "job"], "job"),
    (["--disable", "CeleryBrokerDwon"], "did you mean CeleryBrokerDown?"),
    (["--set", "memory_waning=0.5"], "did you mean memory_warning?"),
    (["--name", "mine"], "--name is that of a manifest: add --kubernetes"),
    (["--namespace", "mine"], "--namespace is that of a manifest: add --kubernetes"),
)


@pytest.mark.parametrize(("arguments", "named"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_named_in_one_line(arguments: list[str], named: str) -> None:
    result = asked(*arguments)
    assert result.exit_code != 0
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1
    assert result.stderr.splitlines()[-1] == errors[0]
    assert named in errors[0]
    assert "Traceback" not in result.output


RULES = [rule for part in command.PARTS.values() for group in part(Settings()) for rule in group.rules]
NAMES = {
    name: spec
    for spec in ALL
    for name in (
        [f"{spec.name}_{end}" for end in ("bucket", "sum", "count")] if spec.kind is Kind.HISTOGRAM else [spec.name]
    )
}
ELSEWHERE = {"up", "process_start_time_seconds"}
RECORDED = {rule.name for rule in RULES if isinstance(rule, Record)}
TARGETS = {"job", "instance"}
LABELS = {label for spec in ALL for label in spec.labels} | TARGETS
SELECTOR = re.compile(r"(?<![\w:$.])((?:[a-z_]+:)?(?:celery_\w+|up\b|process_\w+)(?::\w+)?)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\b(?:by|on|group_left|group_right|ignoring) \(([^)]*)\)")


def labels_of(metric: str) -> set[str]:
    """The labels that a metric or a recorded series has."""
    if metric in RECORDED:
        level = metric.partition(":")[0]
        return {label for label in LABELS if re.search(rf"(?:^|_){label}(?:_|$)", level)}
    if metric in ELSEWHERE:
        return TARGETS
    spec = NAMES[metric]
    return {*spec.labels, *TARGETS} | ({"le"} if metric.endswith("_bucket") else set())


@pytest.mark.parametrize("rule", [pytest.param(rule, id=f"{number} {rule.name}") for number, rule in enumerate(RULES)])
class TestExpressions:
    def test_name_only_what_there_is(self, rule: Record | Alert) -> None:
        for metric, _ in SELECTOR.findall(rule.expr):
            assert metric in NAMES.keys() | RECORDED | ELSEWHERE

    def test_match_only_labels_that_the_metric_has(self, rule: Record | Alert) -> None:
        for metric, matchers in SELECTOR.findall(rule.expr):
            assert set(re.findall(r'(\w+)(?:=~|!~|!=|=)"', matchers)) <= labels_of(metric)

    def test_group_only_by_labels_that_one_of_the_metrics_has(self, rule: Record | Alert) -> None:
        metrics = [metric for metric, _ in SELECTOR.findall(rule.expr)]
        there = set().union(*map(labels_of, metrics)) if metrics else set()
        for labels in GROUPING.findall(rule.expr):
            assert set(re.findall(r"\w+", labels)) <= there

    def test_texts_show_only_labels_that_the_alert_has(self, rule: Record | Alert) -> None:
        if isinstance(rule, Alert):
            kept = {label for labels in GROUPING.findall(rule.expr) for label in re.findall(r"\w+", labels)}
            metrics = [metric for metric, _ in SELECTOR.findall(rule.expr)]
            there = kept.union(*map(labels_of, metrics)) if metrics else kept
            assert set(re.findall(r"\$labels\.(\w+)", rule.summary + rule.description)) <= there


def test_no_recorded_series_is_recorded_twice() -> None:
    names = [rule.name for rule in RULES if isinstance(rule, Record)]
    assert sorted(names) == sorted(set(names))
