"""Every core alert fires in its situation, is silent in its trap, and resolves; recorded series have their values."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from celeryscope.rules import core
from celeryscope.rules.model import Alert
from celeryscope.rules.settings import Settings
from rules import of_exporters, of_queues, of_records, of_tasks, of_workers, promtool
from rules.promtool import Scenario
from support.programs import needs

pytestmark = [pytest.mark.system("promtool"), needs("promtool")]

SCENARIOS: tuple[Scenario, ...] = (
    *of_exporters.SCENARIOS,
    *of_queues.SCENARIOS,
    *of_workers.SCENARIOS,
    *of_tasks.SCENARIOS,
    *of_records.SCENARIOS,
)
TOLD = [(scenario, variant) for scenario in SCENARIOS for variant in scenario.variants]


def title(scenario: Scenario) -> str:
    return f"{scenario.alert or 'records'}: {scenario.name}"


Outcome = dict[tuple[str, str], str]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What promtool has to say of each scenario as each variant tells it, where it fails."""
    folder: Path = tmp_path_factory.mktemp("promtool")
    written = {}
    for number, scenario in enumerate(SCENARIOS):
        groups = promtool.everything(scenario.settings)
        for path, variant in promtool.write(folder, number, scenario, groups).items():
            written[path] = (title(scenario), variant)
    paths = list(written)
    with ThreadPoolExecutor(2) as pool:
        failed = [*pool.map(promtool.run, (paths[::2], paths[1::2]))]
    return {written[path]: said for part in failed for path, said in part.items()}


@pytest.mark.parametrize(
    ("scenario", "variant"), [pytest.param(*told, id=f"{title(told[0])}, {told[1]}") for told in TOLD]
)
def test_ends_as_it_should(scenario: Scenario, variant: str, outcome: Outcome) -> None:
    assert (title(scenario), variant) not in outcome, outcome[title(scenario), variant]


def test_titles_tell_scenarios_apart() -> None:
    assert [name for name, count in Counter(map(title, SCENARIOS)).items() if count > 1] == []


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
