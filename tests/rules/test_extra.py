"""Every alert of extra fires in its situation, is silent in its trap, and resolves."""

from collections import Counter

import pytest

from celeryscope.rules import extra, recording
from celeryscope.rules.model import Alert, Group
from celeryscope.rules.settings import Settings
from rules import extra_queues, extra_slos, extra_tasks, extra_workers, promtool
from rules.promtool import Outcome, Scenario
from support.programs import needs

pytestmark = [pytest.mark.system("promtool"), needs("promtool")]

SCENARIOS: tuple[Scenario, ...] = (
    *extra_slos.SCENARIOS,
    *extra_queues.SCENARIOS,
    *extra_workers.SCENARIOS,
    *extra_tasks.SCENARIOS,
)
ALERTS = [rule for group in extra.groups(Settings()) for rule in group.rules if isinstance(rule, Alert)]


def groups(settings: Settings) -> tuple[Group, ...]:
    return (*recording.groups(settings), *extra.groups(settings))


@pytest.fixture(scope="module")
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return promtool.outcome(request, tmp_path_factory.mktemp("promtool"), groups)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("scenario", "variant"), promtool.parameters(SCENARIOS))
def test_ends_as_it_should(scenario: Scenario, variant: str, outcome: Outcome) -> None:
    assert (scenario.title, variant) not in outcome, outcome[scenario.title, variant]


def test_titles_tell_scenarios_apart() -> None:
    assert [name for name, count in Counter(scenario.title for scenario in SCENARIOS).items() if count > 1] == []


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: " ".join([alert.name, *dict(alert.labels).values()]))
def test_every_alert_is_seen_firing_resolving_and_silent(alert: Alert) -> None:
    labels = {"severity": alert.severity, **dict(alert.labels)}
    scenarios = [scenario for scenario in SCENARIOS if scenario.alert == alert.name]
    ends = {
        (scenario.name, fires.last < scenario.minutes)
        for scenario in scenarios
        for fires in scenario.fires
        if labels.items() <= fires.labels.items()
    }
    assert any(resolves for _, resolves in ends)
    assert any(not scenario.fires for scenario in scenarios)
