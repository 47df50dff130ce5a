"""Every core alert fires in its situation, is silent in its trap, and resolves; recorded series have their values."""

from collections import Counter

import pytest

from celeryscope.rules import core
from celeryscope.rules.model import Alert
from celeryscope.rules.settings import Settings
from rules import of_exporters, of_queues, of_records, of_tasks, of_workers, promtool
from rules.promtool import Outcome, Scenario
from support.programs import needs

pytestmark = [pytest.mark.system("promtool"), needs("promtool")]

SCENARIOS: tuple[Scenario, ...] = (
    *of_exporters.SCENARIOS,
    *of_queues.SCENARIOS,
    *of_workers.SCENARIOS,
    *of_tasks.SCENARIOS,
    *of_records.SCENARIOS,
)


@pytest.fixture(scope="module")
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return promtool.outcome(request, tmp_path_factory.mktemp("promtool"), promtool.everything)


@pytest.mark.parametrize(("scenario", "variant"), promtool.parameters(SCENARIOS))
def test_ends_as_it_should(scenario: Scenario, variant: str, outcome: Outcome) -> None:
    assert (scenario.title, variant) not in outcome, outcome[scenario.title, variant]


def test_titles_tell_scenarios_apart() -> None:
    assert [name for name, count in Counter(scenario.title for scenario in SCENARIOS).items() if count > 1] == []


ALERTS = sorted(
    {(rule.name, rule.severity) for group in core.groups(Settings()) for rule in group.rules if isinstance(rule, Alert)}
)


@pytest.mark.parametrize(("name", "severity"), ALERTS)
def test_every_alert_is_seen_firing_resolving_and_silent(name: str, severity: str) -> None:
    scenarios = [scenario for scenario in SCENARIOS if scenario.alert == name]
    ends = [
        (fires.last, scenario.minutes)
        for scenario in scenarios
        for fires in scenario.fires
        if fires.labels["severity"] == severity
    ]
    assert ends
    if severity != "none":
        assert any(last < minutes for last, minutes in ends)
        assert any(not scenario.fires for scenario in scenarios)
