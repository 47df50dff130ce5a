"""What is committed is what the code makes, to the byte: dashboards, the page about them, and what Grafana is told."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from celeryscope_dashboards import files
from celeryscope_dashboards.asking import About, Query
from celeryscope_dashboards.board import FIRST_PAINT, Board, CrowdedDashboard, Row
from celeryscope_dashboards.panels import Panel, numbers
from celeryscope_dashboards.queries import Scope, UnknownMetric
from celeryscope_dashboards.variables import SOURCE_UID
from celeryscope_demo.address import Address
from celeryscope_demo.monitoring import provisioning

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "deploy/grafana/provisioning"
COMMAND = "PYTHONPATH=exporter:dashboards python -m celeryscope_dashboards"


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """Every generated file, made anew."""
    return files.all_files()


def told(folder: str) -> dict[str, Any]:
    """What deploy/grafana has in a folder."""
    found: dict[str, Any] = yaml.safe_load((GRAFANA / folder / "celeryscope.yml").read_text())
    return found


class TestWhatIsCommitted:
    def test_is_what_the_code_makes(self, made: dict[str, str]) -> None:
        drifted = [name for name, text in made.items() if (ROOT / name).read_bytes() != text.encode()]
        assert drifted == [], COMMAND

    def test_has_no_orphans(self, made: dict[str, str]) -> None:
        there = {path.relative_to(ROOT).as_posix() for path in (ROOT / files.GENERATED).rglob("*")}
        assert there == {name for name in made if name.startswith(files.GENERATED)}, COMMAND

    def test_is_the_same_whenever_it_is_made(self, made: dict[str, str]) -> None:
        assert files.all_files() == made

    def test_is_written_for_those_who_read_differences(self, made: dict[str, str]) -> None:
        for name, text in made.items():
            assert text.endswith("\n"), name
            assert not text.endswith("\n\n"), name
            if name.endswith(".json"):
                assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n", name


class TestPage:
    def test_tells_of_every_panel(self, made: dict[str, str]) -> None:
        page = made["docs/dashboards.md"]
        for board in files.boards():
            for row in board.rows:
                for panel in row.panels:
                    assert f"| {panel.title} | {panel.about.asks} |" in page, panel.title

    def test_links_of_its_contents_lead_to_headings(self, made: dict[str, str]) -> None:
        page = made["docs/dashboards.md"]
        headings = {found.lower().replace(" ", "-") for found in re.findall(r"^## (.+)$", page, re.MULTILINE)}
        wanted = re.findall(r"\]\(#([\w-]+)\)", page)
        assert len(wanted) == len(files.boards())
        assert set(wanted) <= headings


class TestProvisioning:
    def test_has_the_data_source_with_which_dashboards_open(self) -> None:
        sources = {source["uid"]: source for source in told("datasources")["datasources"]}
        assert set(sources) == {SOURCE_UID, "alertmanager"}
        assert not any(source["editable"] for source in sources.values())
        prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
        data = sources[SOURCE_UID]["jsonData"]
        assert data["timeInterval"] == prometheus["global"]["scrape_interval"]
        assert [link["name"] for link in data["exemplarTraceIdDestinations"]] == ["task_id"]

    def test_dashboards_cannot_be_changed_where_they_are_provisioned(self) -> None:
        (provider,) = told("dashboards")["providers"]
        assert provider["folder"] == "Celery"
        assert provider["allowUiUpdates"] is False
        assert provider["disableDeletion"] is True

    def test_the_demo_tells_its_grafana_the_same(self) -> None:
        """But for addresses, places and how often it scrapes; the demo has no page about single tasks to link to."""
        demo = provisioning(Address("127.0.0.1", 9090), Address("127.0.0.1", 9093), 1.0)
        shared = {"name", "uid", "type", "access", "isDefault", "editable"}
        of_demo, of_stack = (found["datasources"] for found in (demo["datasources"], told("datasources")))
        for one, other in zip(of_demo, of_stack, strict=True):
            assert {name: one.get(name) for name in shared} == {name: other.get(name) for name in shared}
            assert one["jsonData"].keys() == other["jsonData"].keys() - {"exemplarTraceIdDestinations"}
        (of_demo,), (of_stack,) = (found["providers"] for found in (demo["dashboards"], told("dashboards")))
        assert Path(of_demo["options"].pop("path")) == ROOT / files.GENERATED
        del of_stack["options"]["path"], of_stack["updateIntervalSeconds"]
        assert of_demo == of_stack

    def test_the_demo_has_no_source_that_was_not_started(self) -> None:
        assert provisioning(None, None, 1.0)["datasources"]["datasources"] == []


def panel(title: str, queries: int = 1) -> Panel:
    about = About("Why?", "Because.", "nothing")
    return numbers(title, about, *(Query("vector(1)", f"query {number}") for number in range(queries)))


class TestBoard:
    """A mistake in a dashboard is told when it is made."""

    def test_two_panels_of_one_title_are_refused(self) -> None:
        with pytest.raises(CrowdedDashboard, match="'Same'"):
            Board("made", "Made", "Why?", (Row("Row", (panel("Same"), panel("Same"))),)).build()

    def test_too_many_queries_at_once_are_refused_unless_their_row_is_collapsed(self) -> None:
        panels = tuple(panel(f"Panel {number}") for number in range(FIRST_PAINT))
        with pytest.raises(CrowdedDashboard, match="collapse a row"):
            Board("made", "Made", "Why?", (Row("Row", panels),)).build()
        Board("made", "Made", "Why?", (Row("Row", panels, collapsed=True),)).build()

    def test_a_metric_that_nobody_has_is_refused(self) -> None:
        for name in ("celery_task_vanished_total", "job:celery_task_sent:rate7m", "celery_task_wait_seconds"):
            with pytest.raises(UnknownMetric, match=name):
                Scope().select(name)

    def test_a_panel_keeps_its_number_when_others_come(self) -> None:
        def number(*titles: str) -> int | None:
            built = Board("made", "Made", "Why?", (Row("Row", tuple(map(panel, titles))),)).build()
            (found,) = (found.id_val for found in built.panels or () if found.title == "Old")
            return found

        assert number("Old") == number("New", "Old")
