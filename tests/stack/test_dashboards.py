"""Every panel of every dashboard shows data, from a real Prometheus that scrapes the real exporter of a demo.

What a healthy cluster has to show is there while nothing is wrong. What tells of trouble is quiet then (empty, or all
0), and speaks during its incident. What reaches back for days is in test_dashboards_history.py, what only RabbitMQ
tells in test_dashboards_rabbitmq.py. Scrapes and rules are hurried: recorded series keep their names, and the ranges
that panels write out keep their lengths.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from celeryscope.metrics.catalog import NO_NAMES
from support.dashboard_proofs import of_rabbitmq, of_the_past
from support.dashboards import Dashboard, Target, dashboards, targets
from support.demo import Demo, steady_demo
from support.disturbances import HOSTNAME, events_by_hand, squeezed
from support.exporter import exporter
from support.grafana_source import Answer, Source
from support.grafana_variables import Window
from support.programs import needs
from support.prometheus import prometheus
from support.waiting import NotReached, wait_until

pytestmark = [pytest.mark.full, pytest.mark.timeout(1_500), needs("prometheus")]

HURRY = 20.0
SCRAPE = 1.0  # seconds
POINTS = 100  # of a graph: fewer than in a browser, enough to meet every window
LOAD = ("--workload", "photos=2", "--workload", "translations=0.6", "--workload", "pings=0.1")
HEALTHY = 200.0  # seconds in which health shows all that it has
TOLD = 150.0  # seconds in which an incident is seen on its panels
AFTER = 90.0  # seconds after it in which its consequences are

# Of the tests' own making, where the demo has no incident.
BY_HAND = "events told by hand"
SQUEEZED = "a broker without memory"
CRAMPED = "an exporter without room"

# What is quiet in health, and what makes it speak: panels, or single queries of panels, by dashboard and title.
TROUBLE: Mapping[str, str] = {
    "overview/Firing alerts": "error-spike",
    "overview/What breaks? B": "error-spike",
    "task/Attempts by outcome D": "expired",
    "task/Attempts by outcome E": BY_HAND,
    "task/Attempts by outcome F": BY_HAND,
    "task/Starts whose wait is unknown A": "lost-events",
    "queues/Queues without workers": "no-workers",
    "queues/Evicted keys": SQUEEZED,
    "workers/Lost in the time range": "worker-killed",
    "workers/Restarts in the time range": "clock-skew",
    "workers/Workers without task events": "events-off",
    "workers/Restarts and losses in 5 minutes A": "clock-skew",
    "workers/Restarts and losses in 5 minutes B": "worker-killed",
    "workers/Processes killed under a task": "process-killed",
    "workers/Started again in 5 minutes, by task": "duplicate-delivery",
    "limits/Expired in the time range": "expired",
    "limits/Expired in 5 minutes, by task": "expired",
    "limits/Redelivered in 5 minutes, by task": "duplicate-delivery",
    "limits/Revoked in 5 minutes, by reason": "expired",
    "limits/Rejected in 5 minutes": BY_HAND,
    "exporter/Events lost in the time range": "lost-events",
    "exporter/Deaf in the time range": "lost-events",
    "exporter/Contradictions by kind": "lost-events",
    "exporter/Events lost in 5 minutes, by worker": "lost-events",
    "exporter/Invalid events in 5 minutes, by reason": BY_HAND,
    "exporter/Reconnects in 5 minutes": "lost-events",
    "exporter/Tasks forgotten": "lost-events",
    "exporter/Series without room": CRAMPED,
}

# What is on at once: each group is started together, and stopped before the next.
GROUPS: tuple[tuple[str, ...], ...] = (
    ("error-spike", "expired", "process-killed", "duplicate-delivery", "no-workers", "events-off"),
    ("worker-killed", "clock-skew"),
    ("lost-events",),
    (BY_HAND, SQUEEZED),
)

# 0 in health as often as not: what a limiter has left, and what two connections tell in another order.
SOMETIMES = {"limits/Left of each limiter A", "exporter/Contradictions by kind A"}

SHOWN = [target for target in targets() if not (of_the_past(target) or of_rabbitmq(target))]


def trouble_of(target: Target) -> str | None:
    """What makes a query speak that is quiet in health."""
    return TROUBLE.get(target.name) or TROUBLE.get(target.panel.name)


@dataclass
class Seen:
    """What came of each query, by its name; and of each variable, by dashboard and name."""

    healthy: dict[str, Answer] = field(default_factory=dict)
    troubled: dict[str, Answer] = field(default_factory=dict)
    whole: dict[str, Answer] = field(default_factory=dict)  # over the whole story
    chosen: dict[str, Answer] = field(default_factory=dict)  # the same with every value of every variable chosen
    alone: dict[str, Answer] = field(default_factory=dict)  # of one exporter
    pair: dict[str, Answer] = field(default_factory=dict)  # of two, at the same time
    annotations: dict[str, Answer] = field(default_factory=dict)
    options: dict[str, list[str]] = field(default_factory=dict)


def source(port: int, since: float) -> Source:
    """A Prometheus, looked at from a moment on."""
    return Source(port, Window(since, time.time(), SCRAPE, POINTS))


def speaks(target: Target, answer: Answer) -> bool:
    may_be_zero = target.name in SOMETIMES and trouble_of(target) is None
    return not answer.trouble and (answer.moved or may_be_zero)


def ask_until(
    wanted: Mapping[str, Target], port: int, since: float, timeout: float, meanwhile: Callable[[], None] | None = None
) -> dict[str, Answer]:
    """Ask until each query has spoken, or time is up; return the last answers. Each is judged by its own test."""
    answers: dict[str, Answer] = {}
    pending = dict(wanted)

    def all_spoke() -> bool:
        if meanwhile is not None:
            meanwhile()
        server = source(port, since)
        for name, target in list(pending.items()):
            answers[name] = server.ask(target)
            if speaks(target, answers[name]):
                del pending[name]
        return not pending

    with suppress(NotReached):
        wait_until(all_spoke, timeout, "all have spoken")
    return answers


def troubled(demo: Demo, port: int, group: tuple[str, ...]) -> dict[str, Answer]:
    """What is seen of a group of troubles."""
    wanted = {target.name: target for target in SHOWN if trouble_of(target) in group}
    since = time.time()
    by_hand: list[Callable[[], None]] = []

    def disturb() -> None:
        for act in by_hand:
            act()

    with ExitStack() as stack:
        for name in group:
            if name == BY_HAND:
                by_hand.append(stack.enter_context(events_by_hand(demo.broker_url())).tell)
            elif name == SQUEEZED:
                by_hand.append(stack.enter_context(squeezed(demo.broker_url())).write)
            else:
                stack.enter_context(demo.during(name))
        found = ask_until(wanted, port, since, TOLD, disturb)
    late = {name: target for name, target in wanted.items() if not speaks(target, found[name])}
    return found | ask_until(late, port, since, AFTER)


def cramped(demo: Demo, folder: Path) -> dict[str, Answer]:
    """What is seen of a second exporter that may show few series."""
    wanted = {target.name: target for target in SHOWN if trouble_of(target) == CRAMPED}
    since = time.time()
    with (
        exporter(demo.broker_url(), "--series-limit", "300", log=folder / "cramped.log") as running,
        prometheus(folder / "cramped", [running.url.removeprefix("http://")]) as server,
    ):
        return ask_until(wanted, server.port, since, TOLD)


def of_two(demo: Demo, port: int, folder: Path, found: Seen) -> None:
    """What one exporter and two of them show of the same moments."""
    wanted = {target.name: target for target in SHOWN if target.panel.dashboard.name != "exporter"}
    with (
        exporter(demo.broker_url(), log=folder / "second.log") as second,
        prometheus(
            folder / "pair", [f"127.0.0.1:{demo.port}", second.url.removeprefix("http://")], hurry=HURRY
        ) as server,
    ):
        since = time.time()
        both = 'count(rate(celery_exporter_events_total{type="task-started"}[10s]) > 0) == 2'
        wait_until(lambda: server.query(both), TOLD, "both exporters have heard tasks")
        two = source(server.port, since)
        found.pair = {name: two.ask(target) for name, target in wanted.items()}
        found.alone = {name: replace(two, port=port).ask(target) for name, target in wanted.items()}


def at_the_end(port: int, since: float, found: Seen) -> None:
    """What is to be seen of the whole story."""
    everything = {target.name: target for target in SHOWN}
    end = source(port, since)
    for dashboard in dashboards():
        own = {}
        for variable in dashboard.variables:
            if variable["type"] == "query":
                own[variable["name"]] = end.options(dashboard, variable)
                found.options[f"{dashboard.name}/{variable['name']}"] = own[variable["name"]]
        narrowed = replace(end, chosen=own)
        for target in dashboard.targets:
            if target.name in everything:
                found.whole[target.name] = end.ask(target)
                found.chosen[target.name] = narrowed.ask(target)
        for annotation in dashboard.annotations:
            expr = end.resolver(dashboard).resolved(annotation["expr"])
            found.annotations[f"{dashboard.name}/{annotation['name']}"] = end.over_range(expr)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """The whole story, told once: health, then one group of troubles after the other."""
    folder = tmp_path_factory.mktemp("dashboards")
    found = Seen()
    everything = {target.name: target for target in SHOWN}
    with (
        steady_demo(folder, *LOAD) as demo,
        prometheus(folder / "prometheus", [f"127.0.0.1:{demo.port}"], hurry=HURRY) as server,
    ):
        start = time.time()
        calm = {name: target for name, target in everything.items() if trouble_of(target) is None}
        found.healthy = ask_until(calm, server.port, start, HEALTHY)
        now = source(server.port, start)
        found.healthy |= {name: now.ask(target) for name, target in everything.items() if name not in calm}
        of_two(demo, server.port, folder, found)
        for group in GROUPS:
            found.troubled |= troubled(demo, server.port, group)
        found.troubled |= cramped(demo, folder)
        at_the_end(server.port, start, found)
    return found


each = pytest.mark.parametrize("target", SHOWN, ids=lambda found: found.name)


@each
def test_it_shows_data(seen: Seen, target: Target) -> None:
    trouble = trouble_of(target)
    answer = (seen.troubled if trouble else seen.healthy)[target.name]
    assert not answer.trouble, f"{answer.trouble}: {answer.expr}"
    assert speaks(target, answer), f"only 0 during {trouble or 'health'}: {answer.expr}"
    quiet = not seen.healthy[target.name].moved
    assert not trouble or quiet or target.name in SOMETIMES, f"it needs no {trouble}"


@each
def test_it_is_a_number_all_along(seen: Seen, target: Target) -> None:
    answer = seen.whole[target.name]
    assert answer.trouble in {"", "empty"}, answer.expr


def labels_of(answer: Answer) -> list[tuple[tuple[str, str], ...]]:
    """The label sets of an answer, without those of what has no name of its own, or told by hand."""
    left_out = {*NO_NAMES, HOSTNAME}
    return sorted(
        tuple(sorted(series.labels.items())) for series in answer.series if not left_out & set(series.labels.values())
    )


@each
def test_choosing_every_value_is_choosing_all(seen: Seen, target: Target) -> None:
    assert labels_of(seen.chosen[target.name]) == labels_of(seen.whole[target.name])


@pytest.mark.parametrize(
    "target", [found for found in SHOWN if found.panel.dashboard.name != "exporter"], ids=lambda found: found.name
)
def test_two_exporters_show_what_one_does(seen: Seen, target: Target) -> None:
    pair = seen.pair[target.name]
    assert pair.trouble in {"", "empty"}
    # What is running at one moment differs between two scrapes.
    assert target.instant or set(labels_of(pair)) <= set(labels_of(seen.alone[target.name]))


ANNOTATIONS = [f"{found.name}/{annotation['name']}" for found in dashboards() for annotation in found.annotations]


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_an_annotation_marks_what_happened(seen: Seen, name: str) -> None:
    answer = seen.annotations[name]
    assert not answer.trouble, f"{answer.trouble}: {answer.expr}"


CHOICES = [
    (found, variable["name"]) for found in dashboards() for variable in found.variables if variable["type"] == "query"
]


@pytest.mark.parametrize(("dashboard", "name"), CHOICES, ids=lambda found: getattr(found, "name", found))
def test_a_variable_offers_values(seen: Seen, dashboard: Dashboard, name: str) -> None:
    assert seen.options[f"{dashboard.name}/{name}"]


def test_the_tables_name_what_exists() -> None:
    assert {*TROUBLE, *SOMETIMES} <= {name for found in SHOWN for name in (found.name, found.panel.name)}
    told = [name for group in GROUPS for name in group]
    assert {*TROUBLE.values()} == {*told, CRAMPED}
    assert len(set(told)) == len(told)
