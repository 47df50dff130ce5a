"""Rules with one thing changed in each: a comparison, a number, a window, a matcher, a join, or how long they hold.

For every one of them a scenario must end otherwise: else nobody would notice that mistake. Run by test_mutants.py,
which belongs to script/test --full; by hand, with words that a mutant's title must contain:

    PYTHONPATH=exporter:tests python tests/rules/mutants.py CeleryBrokerDown
"""

import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from celeryscope.rules import render
from celeryscope.rules.model import Alert, Group, Record
from celeryscope.rules.promql import seconds
from rules import promtool
from rules.promtool import ONE, Scenario

TOKEN = re.compile(
    r"""(?P<matchers>\{[^}]*\})
    |\[(?P<window>\d+[smhdw])\]
    |offset\ (?P<offset>\d+[smhdw])
    |(?P<join>\b(?:and|unless)\b)
    |(?P<name>[a-zA-Z_:][\w:]*)
    |(?P<number>\d+(?:\.\d+)?)
    |(?P<comparison>[=!<>]=|[<>])""",
    re.VERBOSE,
)
MATCHER = re.compile(r'(?P<label>\w+)(?P<operator>=~|!~|!=|=)(?P<value>"[^"]*")')
COMPARISONS = {">": (">=", "<"), ">=": (">", "<"), "<": ("<=", ">"), "<=": ("<", ">"), "==": ("!=",), "!=": ("==",)}
OPPOSITES = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~", "and": "unless", "unless": "and"}


@dataclass(frozen=True)
class Mutant:
    """A rule that is not what it was."""

    title: str
    original: Record | Alert
    mutated: Record | Alert


def durations(duration: str) -> tuple[str, ...]:
    """Half of a duration, and twice as long."""
    return f"{seconds(duration) // 2}s", f"{seconds(duration) * 2}s"


def changes(expr: str) -> Iterator[tuple[str, str]]:
    """What is changed in an expression, and the expression that comes of it."""
    seen: Counter[str] = Counter()
    for found in TOKEN.finditer(expr):
        kind = found.lastgroup
        assert kind is not None
        text = found[kind]
        if kind == "name":
            continue
        seen[text] += 1
        for new in instead(kind, text):
            yield (
                f"{kind} {text}" + (f" ({seen[text]})" if seen[text] > 1 else "") + f" -> {new or 'nothing'}",
                expr[: found.start(kind)] + new + expr[found.end(kind) :],
            )


def instead(kind: str, text: str) -> Iterator[str]:
    """What could stand there."""
    if kind == "matchers":
        matchers = [*MATCHER.finditer(text)]
        for chosen in matchers:
            others = [matcher[0] for matcher in matchers if matcher is not chosen]
            opposite = chosen["label"] + OPPOSITES[chosen["operator"]] + chosen["value"]
            yield "{" + ", ".join([*others, opposite]) + "}"
            yield "{" + ", ".join(others) + "}" if others else ""
    elif kind in {"window", "offset"}:
        yield from durations(text)
    elif kind == "join":
        yield OPPOSITES[text]
    elif kind == "comparison":
        yield from COMPARISONS[text]
    elif float(text) == 0:
        yield "1"
    else:
        yield from (f"{float(text) * factor:.6g}" for factor in (1.5, 1 / 1.5))


def mutants(groups: Sequence[Group]) -> list[Mutant]:
    """All mutants of the core alerts and of what they build on."""
    alerts = {rule.name for group in groups for rule in group.rules if isinstance(rule, Alert)}
    used = {rule for alert in alerts for group in promtool.needed(groups, alert) for rule in group.rules}
    found = []
    for rule in (rule for group in groups for rule in group.rules if rule in used):
        name = f"{rule.name} {rule.severity}" if isinstance(rule, Alert) else rule.name
        found += [Mutant(f"{name}: {what}", rule, replace(rule, expr=expr)) for what, expr in changes(rule.expr)]
        if isinstance(rule, Alert):
            holds = durations(rule.hold) if rule.hold != "0s" else ("300s",)
            found += [Mutant(f"{name}: for {rule.hold} -> {hold}", rule, replace(rule, hold=hold)) for hold in holds]
    return found


def as_rules(found: Sequence[Mutant]) -> str:
    """A rule file of mutants, each in a group of its own."""
    groups = [Group(f"mutant {number}", (mutant.mutated,)) for number, mutant in enumerate(found)]
    return render.prometheus([Group(json.dumps(group.name), group.rules) for group in groups], promtool.DEFAULT)


def is_noticed(mutant: Mutant, scenarios: Sequence[Scenario]) -> bool:
    """Whether a scenario ends otherwise. The quick ones are asked first: those that one exporter tells."""
    with tempfile.TemporaryDirectory(prefix="celeryscope-mutant.") as folder:
        written: dict[Path, str] = {}
        for number, scenario in enumerate(scenarios):
            groups = promtool.everything(scenario.settings)
            # Of the same rule with other settings it is the same change, where that is to be had.
            if not any(mutant.original in group.rules for group in groups):
                continue
            needed = {
                rule for group in promtool.needed(groups, scenario.alert, scenario.records) for rule in group.rules
            }
            if mutant.original in needed:
                changed = [
                    Group(
                        group.name, tuple(mutant.mutated if rule == mutant.original else rule for rule in group.rules)
                    )
                    for group in groups
                ]
                written |= promtool.write(Path(folder), number, scenario, changed)
        first = [path for path, variant in written.items() if variant == ONE]
        rest = [path for path in written if path not in first]
        return any(paths and promtool.run(paths) for paths in (first, rest))


def survivors(found: Sequence[Mutant], scenarios: Sequence[Scenario], workers: int = 2) -> list[str]:
    """The titles of the mutants that nobody notices."""
    with ThreadPoolExecutor(workers) as pool:
        noticed = pool.map(lambda mutant: is_noticed(mutant, scenarios), found)
        return [mutant.title for mutant, known in zip(found, noticed, strict=True) if not known]


def main() -> None:
    """Print the survivors among the mutants whose titles contain all the words that are given."""
    from rules.test_core import SCENARIOS

    chosen = [mutant for mutant in mutants(promtool.everything()) if all(word in mutant.title for word in sys.argv[1:])]
    alive = survivors(chosen, SCENARIOS)
    print(*alive, f"{len(alive)} of {len(chosen)} mutants survive", sep="\n")


if __name__ == "__main__":
    main()
