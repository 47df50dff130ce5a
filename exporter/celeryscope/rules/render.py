"""Rule files as text: for Prometheus, and as a manifest for its operator."""

import json
import re
from collections.abc import Iterable, Iterator

from celeryscope.rules.model import Alert, Group, Record
from celeryscope.rules.promql import indent
from celeryscope.rules.settings import Settings

COMPONENT = "celery"
LABEL = re.compile(r"\$labels\.(\w+)")
VARIABLES = ("job", "queue", "task", "worker")  # of dashboards


def prometheus(groups: Iterable[Group], settings: Settings, head: str = "") -> str:
    """A rule file."""
    return head + "\n".join(_groups(groups, settings)) + "\n"


def manifest(groups: Iterable[Group], settings: Settings, name: str, namespace: str | None) -> str:
    """A PrometheusRule. A namespace of None is left to whoever applies it."""
    lines = ["apiVersion: monitoring.coreos.com/v1", "kind: PrometheusRule", "metadata:", f"  name: {_text(name)}"]
    if namespace is not None:
        lines.append(f"  namespace: {_text(namespace)}")
    return "\n".join([*lines, "spec:", indent("\n".join(_groups(groups, settings)))]) + "\n"


def _groups(groups: Iterable[Group], settings: Settings) -> Iterator[str]:
    yield "groups:"
    for group in groups:
        rules = [rule for rule in group.rules if not (isinstance(rule, Alert) and rule.name in settings.disabled)]
        if not rules:
            continue
        yield f"  - name: {group.name}"
        yield "    rules:"
        for rule in rules:
            yield indent("\n".join(_rule(rule, settings)), 6)


def _rule(rule: Record | Alert, settings: Settings) -> Iterator[str]:
    yield f"- record: {rule.name}" if isinstance(rule, Record) else f"- alert: {rule.name}"
    if "\n" in rule.expr:
        yield "  expr: |"
        yield indent(rule.expr, 4)
    else:
        yield f"  expr: {_text(rule.expr)}"
    if isinstance(rule, Record):
        return
    hold = settings.holds.get(rule.name, rule.hold)
    if hold != "0s":
        yield f"  for: {hold}"
    yield "  labels:"
    for name, value in [
        ("severity", rule.severity),
        ("component", COMPONENT),
        *rule.labels,
        *settings.labels.items(),
    ]:
        yield f"    {name}: {_text(value)}"
    yield "  annotations:"
    yield f"    summary: {_text(rule.summary)}"
    yield f"    description: {_text(rule.description)}"
    yield f"    runbook_url: {_text(settings.runbooks + rule.name)}"
    yield f"    dashboard_url: {_text(_dashboard(rule, settings))}"


def _dashboard(rule: Alert, settings: Settings) -> str:
    """A link that shows what the alert is about."""
    labels = {*LABEL.findall(rule.description)}
    if labels:  # then it is about one cluster, whether its text says which or not
        labels.add("job")
    named = [name for name in VARIABLES if name in labels]
    query = "&".join(f"var-{name}={{{{ $labels.{name} | urlquery }}}}" for name in named)
    return f"{settings.dashboards}/d/{rule.dashboard}" + (f"?{query}" if query else "")


def _text(value: str) -> str:
    """A scalar: plain where YAML cannot mistake it, quoted as JSON else."""
    return value if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", value) else json.dumps(value, ensure_ascii=False)
