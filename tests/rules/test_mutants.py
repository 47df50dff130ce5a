"""A rule in which one thing is changed makes a scenario end otherwise; what does not is listed, with the reason."""

import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from rules import mutants, promtool
from rules.test_core import SCENARIOS
from support.programs import needs

pytestmark = [pytest.mark.full, pytest.mark.timeout(3000), pytest.mark.system("promtool"), needs("promtool")]

LISTED = {
    title: entry["reason"]
    for entry in tomllib.loads(Path(__file__).with_name("survivors.toml").read_text())["survivor"]
    for title in entry["mutants"]
}
LEAST_NOTICED = 0.9  # of all mutants, those included that cannot be noticed


def listed(title: str) -> bool:
    return any(fnmatchcase(title, pattern) for pattern in LISTED)


def test_what_is_listed_has_a_reason_and_is_a_mutant() -> None:
    titles = [mutant.title for mutant in mutants.mutants(promtool.everything())]
    assert all(LISTED.values())
    assert [pattern for pattern in LISTED if not any(fnmatchcase(title, pattern) for title in titles)] == []


def test_every_other_one_is_noticed() -> None:
    found = mutants.mutants(promtool.everything())
    alive = mutants.survivors(found, SCENARIOS)
    print(f"{len(alive)} of {len(found)} mutants survive")
    assert [title for title in alive if not listed(title)] == []
    assert [pattern for pattern in LISTED if not any(fnmatchcase(title, pattern) for title in alive)] == []
    assert len(alive) <= (1 - LEAST_NOTICED) * len(found)


def test_none_of_them_is_nonsense(tmp_path: Path) -> None:
    """What Prometheus would not load proves nothing."""
    path = tmp_path / "mutants.rules.yml"
    path.write_text(mutants.as_rules(mutants.mutants(promtool.everything())))
    assert promtool.complaints(path) == ""
