"""Every alert of extra fires in its situation, is silent in its trap, and resolves."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from celeryscope.rules import extra, recording
from celeryscope.rules.model import Alert
from celeryscope.rules.settings import Settings
from rules import extra_queues, extra_slos, extra_tasks, extra_workers, promtool
from rules.promtool import Scenario
from support.programs import needs

pytestmark = [pytest.mark.system("promtool"), needs("promtool")]

SCENARIOS: tuple[Scenario, ...] = (
    *extra_slos.SCENARIOS,
    *extra_queues.SCENARIOS,
    *extra_workers.SCENARIOS,
    *extra_tasks.SCENARIOS,
)
TOLD = [(scenario, variant) for scenario in SCENARIOS for variant in scenario.variants]
ALERTS = [rule for group in extra.groups(Settings()) for rule in group.rules if isinstance(rule, Alert)]

Outcome = dict[tuple[str, str], str]


def title(scenario: Scenario) -> str:
    return f"{scenario.alert}: {scenario.name}"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What promtool has to say of each scenario as each variant tells it, where it fails."""
    folder: Path = tmp_path_factory.mktemp("promtool")
    written = {}
    for number, scenario in enumerate(SCENARIOS):
        groups = (*recording.groups(scenario.settings), *extra.groups(scenario.settings))
        for path, variant in promtool.write(folder, number, scenario, groups).items():
            written[path] = (title(scenario), variant)
    paths = list(written)
    with ThreadPoolExecutor(2) as pool:
        failed = [*pool.map(promtool.run, (paths[::2], paths[1::2]))]
    return {written[path]: said for part in failed for path, said in part.items()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("scenario", "variant"), [pytest.param(*told, id=f"{title(told[0])}, {told[1]}") for told in TOLD]
)
def test_ends_as_it_should(scenario: Scenario, variant: str, outcome: Outcome) -> None:
    assert (title(scenario), variant) not in outcome, outcome[title(scenario), variant]


def test_titles_tell_scenarios_apart() -> None:
    assert [name for name, count in Counter(map(title, SCENARIOS)).items() if count > 1] == []


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
