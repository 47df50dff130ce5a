"""What holds for the runbooks: each alert has one, and all that they name and ask for exists."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeryscope.metrics.catalog import ALL, Kind
from celeryscope.rules import recording
from celeryscope.rules.command import alert_names
from celeryscope.rules.model import Record
from celeryscope.rules.settings import Settings
from celeryscope_demo.incidents.all import INCIDENTS
from support.programs import needs

RUNBOOKS = sorted((Path(__file__).resolve().parents[2] / "docs/runbooks").glob("*.md"))
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "See also"]
CODE = " " * 4

# What a line of a shell begins with.
PROGRAMS = {
    "amtool", "celery", "celeryscope", "chronyc", "curl", "date", "journalctl", "promtool", "ps", "py-spy",
    "rabbitmq-diagnostics", "rabbitmqctl", "redis-cli", "ss", "timedatectl",
}  # fmt: skip
# What Prometheus, Alertmanager and every process tell of themselves.
FOREIGN = {
    "ALERTS", "alertmanager_notifications_failed_total", "process_resident_memory_bytes",
    "prometheus_notifications_alertmanagers_discovered", "prometheus_notifications_dropped_total",
    "prometheus_rule_evaluation_failures_total", "up",
}  # fmt: skip
# A setting of Celery or of the exporter's file, or the head of a table of that.
SETTING = re.compile(r"\[\w+\.\"[^\"]+\"\]\n|\w+ = \S")
# A metric of ours, recorded or not.
NAME = re.compile(r"(?:\b\w+:)?\bcelery_\w+(?::\w+)?")
# What stands in a query beside names of metrics: strings, groupings, ranges and matchers.
BESIDE = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|group_left|group_right) \([^)]*\)|\boffset \w+")

each = pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)


def blocks(path: Path) -> list[str]:
    """The parts between blank lines."""
    return re.split(r"\n\n+", path.read_text().strip("\n"))


def prose(path: Path) -> str:
    return "\n".join(block for block in blocks(path) if not block.startswith(CODE))


def code(path: Path) -> Iterator[str]:
    for block in blocks(path):
        if block.startswith(CODE):
            yield "\n".join(line.removeprefix(CODE) for line in block.splitlines())


def commands(path: Path) -> Iterator[str]:
    """Every line of a shell, and what prose says of celeryscope and Celery as `code`."""
    for block in code(path):
        if block.split()[0] in PROGRAMS:
            yield from block.splitlines()
    for inline in re.findall(r"`([^`]+)`", prose(path)):
        if inline.startswith(("celeryscope ", "celery ")):
            yield " ".join(inline.split())


def queries(path: Path) -> Iterator[str]:
    """Code that is neither for a shell nor a setting."""
    return (block for block in code(path) if block.split()[0] not in PROGRAMS and not SETTING.match(block))


def recorded() -> set[str]:
    return {rule.name for group in recording.groups(Settings()) for rule in group.rules if isinstance(rule, Record)}


def exported() -> set[str]:
    names = {spec.name for spec in ALL}
    for spec in ALL:
        if spec.kind is Kind.HISTOGRAM:
            names |= {f"{spec.name}_{suffix}" for suffix in ("bucket", "sum", "count")}
    return names


@each
class TestText:
    def test_has_its_sections_in_order(self, path: Path) -> None:
        headings = re.findall(r"^(#+) (.+)$", path.read_text(), re.MULTILINE)
        assert headings == [("#", path.stem), *(("##", section) for section in SECTIONS)]

    def test_says_first_how_severe_it_is(self, path: Path) -> None:
        first = path.read_text().partition("## Meaning")[0]
        assert re.search(r"\*\*(critical|warning|info|severity none)\*\*", first)

    def test_is_short(self, path: Path) -> None:
        lines = path.read_text().splitlines()
        assert 25 <= len(lines) <= 70
        assert max(map(len, lines)) <= 120

    def test_uses_only_the_markdown_that_is_rendered(self, path: Path) -> None:
        for block in blocks(path):
            lines = block.splitlines()
            if block.startswith(CODE):
                assert all(line.startswith(CODE) for line in lines), block
                continue
            if block.startswith("#"):
                assert len(lines) == 1, block
                assert re.match(r"#{1,3} \S", block), block
                continue
            if block.startswith("- "):
                assert all(line.startswith(("- ", "  ")) for line in lines), block
            else:
                assert not re.search(r"^(?:\s|- |\* |\d+\. |\||>|```|#)", block, re.MULTILINE), block
            text = re.sub(r"`[^`]+`", "", block)
            assert "`" not in text, block
            assert not re.search(r"!\[|</?\w", text), block
            assert not re.search(r"\*\*|(?<!\w)[_*](?=\w)", re.sub(r"\*\*[^*]+\*\*", "", text)), block

    def test_steps_are_numbered_without_gaps(self, path: Path) -> None:
        diagnosis = path.read_text().partition("## Diagnosis")[2].partition("## Mitigation")[0]
        steps = [int(number) for number in re.findall(r"^\*\*(\d+)\.\*\*", diagnosis, re.MULTILINE)]
        assert len(steps) >= 3
        assert steps == list(range(1, len(steps) + 1))

    def test_links_lead_to_other_runbooks(self, path: Path) -> None:
        links = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", prose(path))
        assert links
        for text, target in links:
            assert text == target
            assert target != path.stem
            assert path.with_name(f"{target}.md").exists(), target


@each
class TestQueries:
    def test_name_only_metrics_that_exist(self, path: Path) -> None:
        known = recorded() | exported()
        for name in re.findall(NAME, path.read_text()):
            assert name in known, name

    def test_select_nothing_else(self, path: Path) -> None:
        known = recorded() | exported() | FOREIGN
        for query in queries(path):
            bare = BESIDE.sub("", re.sub(r'"[^"]*"', '""', query))
            names = set(re.findall(r"(?<![\w.:])[a-zA-Z_][\w:]*(?![\w:]|\s*\()", bare))
            assert names - {"and", "or", "unless"} <= known, query

    def test_match_only_labels_that_exist(self, path: Path) -> None:
        labels = {label for spec in ALL for label in spec.labels} | {"le", "alertname", "alertstate", "component"}
        for query in queries(path):
            for matchers in re.findall(r"\{([^}]*)\}", query):
                assert set(re.findall(r"(\w+)\s*(?:=|!)", re.sub(r"\"[^\"]*\"", "", matchers))) <= labels, query


@each
class TestCommands:
    def test_incidents_exist(self, path: Path) -> None:
        for name in re.findall(r"celeryscope demo incident start ([\w-]+)", path.read_text()):
            assert name in INCIDENTS

    def test_commands_and_options_of_celeryscope_exist(self, path: Path) -> None:
        for command in commands(path):
            words = command.split()
            if words[0] != "celeryscope":
                continue
            names = words[1:4] if words[1] == "demo" else words[1:2]
            options = re.findall(r"--[a-z-]+", command)
            assert not missing(tuple(names), options), command

    def test_options_of_the_exporter_exist(self, path: Path) -> None:
        for option in re.findall(r"`(--[a-z-]+)", prose(path)):
            elsewhere = {"--statedb"}  # Celery's
            assert any(not missing((name,), [option]) for name in ("run", "rules")) or option in elsewhere, option

    def test_remote_control_of_celery_exists(self, path: Path) -> None:
        from celery.worker.control import Panel

        for command in commands(path):
            kind = re.match(r"celery -A proj (inspect|control) (\w+)", command)
            if kind:
                assert Panel.meta[kind[2]].type == kind[1], command

    def test_settings_of_celery_exist(self, path: Path) -> None:
        from celery.app.defaults import DEFAULTS

        known = exported() | recorded()
        text = re.sub(NAME, "", path.read_text())
        # `worker_pid` is a field of an answer, not a setting.
        named = set(re.findall(r"\b(?:task|worker|broker|result)_[a-z_]+\b", text)) - known
        elsewhere = {"worker_pid", "task_rename", "task_routes", "task_annotations", "task_exclude"}
        assert named - elsewhere <= set(DEFAULTS)


def test_every_alert_has_one() -> None:
    assert {path.stem for path in RUNBOOKS} == alert_names()


@needs("prometheus")
def test_all_queries_parse(tmp_path: Path) -> None:
    rules = [
        {"record": f"runbook:{path.stem}:query{number}", "expr": query}
        for path in RUNBOOKS
        for number, query in enumerate(queries(path), start=1)
    ]
    file = tmp_path / "runbooks.rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "runbooks", "rules": rules}]}))  # JSON is YAML
    checked = subprocess.run(["promtool", "check", "rules", file], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout


HELP: dict[tuple[str, ...], str] = {}


def missing(names: tuple[str, ...], options: list[str]) -> list[str]:
    """The options that this command of celeryscope does not have; raises where there is no such command."""
    if names not in HELP:
        words = [sys.executable, "-m", "celeryscope", *names, "--help-all" if names == ("run",) else "--help"]
        told = subprocess.run(words, check=True, capture_output=True, text=True, timeout=50)
        HELP[names] = told.stdout.replace("--[no-]", "--")
    return [option for option in options if option not in HELP[names]]
