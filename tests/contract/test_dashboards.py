"""What holds for every generated dashboard before a server has seen it: Grafana knows all of it, nothing overlaps,
everything is told, and links lead somewhere with what they should carry.

The rules of grafana/dashboard-linter are among these; those about queries are in test_dashboard_queries.py.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from urllib.parse import parse_qsl, urlsplit

import promql_parser as ast
import pytest

from celeryscope.rules.command import PARTS
from celeryscope.rules.model import Alert, Group
from celeryscope.rules.render import prometheus
from celeryscope.rules.settings import Settings
from support.dashboards import NAMES, PREFIX, Dashboard, Json, Panel, dashboards, paths
from support.grafana_schema import (
    COLORS,
    DASHBOARD,
    QUERY_OF_VARIABLE,
    ROW,
    known_unit,
    unknown_in_panel,
)
from support.grafana_variables import ALL, references, seconds
from support.processes import REPOSITORY
from support.promql import Analysis, known
from support.shapes import unknown

COLUMNS = 24
AT_ONCE = 30  # queries of a dashboard as it opens
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WITH_UNITS = {"timeseries", "stat", "gauge", "bargauge", "heatmap"}
DASHBOARD_URL = re.compile(r'dashboard_url: "[^"]*?/d/([\w-]+)(?:\?([^"]*))?"')
CELL = re.compile(r"__data\.fields(?:\.(?=\w)|\[\")([^\]}\":]+)")
CARRIED = ("datasource", "job")  # by every link between dashboards

each = pytest.mark.parametrize("dashboard", dashboards(), ids=lambda found: found.name)


def boxes(found: Sequence[Json]) -> Iterator[tuple[str, int, int, int, int]]:
    """Title and edges of panels: left, right, top, bottom."""
    for panel in found:
        grid = panel["gridPos"]
        yield panel.get("title", ""), grid["x"], grid["x"] + grid["w"], grid["y"], grid["y"] + grid["h"]


def names_in(panel: Panel) -> set[str]:
    """What overrides and links of a panel may name: columns as they are called at last, legends without labels."""
    renamed = {
        name: title
        for found in panel.data.get("transformations", ())
        if found["id"] == "organize"
        for name, title in found["options"].get("renameByName", {}).items()
    }
    return {target.legend for target in panel.targets if target.legend and "{{" not in target.legend} | {
        *renamed.values()
    }


def alert_links() -> Iterator[tuple[str, str, dict[str, str]]]:
    """File, uid and variables of every `dashboard_url` of an alert."""
    for path in sorted((REPOSITORY / "alerts").glob("*.rules.yml")):
        for uid, query in DASHBOARD_URL.findall(path.read_text()):
            yield path.name, uid, dict(parse_qsl(query, keep_blank_values=True))


def by_uid(uid: str) -> Dashboard | None:
    return next((found for found in dashboards() if found.uid == uid), None)


def test_the_seven_are_there() -> None:
    assert {path.name for path in paths()} == {f"{PREFIX}{name}.json" for name in NAMES}


def test_uids_and_titles_are_unique() -> None:
    assert len({found.uid for found in dashboards()}) == len(dashboards())
    assert len({found.data["title"] for found in dashboards()}) == len(dashboards())


@each
class TestDashboard:
    def test_grafana_knows_all_of_it(self, dashboard: Dashboard) -> None:
        assert list(unknown(dict(dashboard.data), DASHBOARD, dashboard.name)) == []
        for row in dashboard.rows:
            assert list(unknown(dict(row), ROW, f"row {row['title']}")) == []

    def test_uid_is_its_name(self, dashboard: Dashboard) -> None:
        assert dashboard.uid == PREFIX + dashboard.name

    def test_cannot_be_edited_where_it_is_provisioned(self, dashboard: Dashboard) -> None:
        assert dashboard.data["editable"] is False

    def test_is_not_tied_to_one_grafana(self, dashboard: Dashboard) -> None:
        assert not {"id", "gnetId", "iteration"} & dashboard.data.keys()

    def test_shares_its_crosshair(self, dashboard: Dashboard) -> None:
        assert dashboard.data["graphTooltip"] == 1

    def test_time_is_a_range_up_to_now(self, dashboard: Dashboard) -> None:
        assert dashboard.data["time"]["to"] == "now"
        assert seconds(dashboard.data["time"]["from"].removeprefix("now-")) >= 900

    def test_panels_have_ids_of_their_own(self, dashboard: Dashboard) -> None:
        ids = [row["id"] for row in dashboard.rows] + [panel.data["id"] for panel in dashboard.panels]
        assert [found for found, count in Counter(ids).items() if count > 1] == []
        assert min(ids) > 0

    def test_panels_have_titles_of_their_own(self, dashboard: Dashboard) -> None:
        titles = [panel.title for panel in dashboard.panels]
        assert [found for found, count in Counter(titles).items() if count > 1] == []

    def test_panels_do_not_overlap(self, dashboard: Dashboard) -> None:
        for group in (dashboard.data["panels"], *(row.get("panels", ()) for row in dashboard.rows)):
            for (one, left, right, top, bottom), (other, *edges) in combinations(boxes(group), 2):
                beside = right <= edges[0] or edges[1] <= left
                assert beside or bottom <= edges[2] or edges[3] <= top, f"{one} and {other}"

    def test_panels_fit_the_grid(self, dashboard: Dashboard) -> None:
        for group in (dashboard.data["panels"], *(row.get("panels", ()) for row in dashboard.rows)):
            for title, left, right, top, bottom in boxes(group):
                assert 0 <= left < right <= COLUMNS, title
                assert 0 <= top < bottom, title

    def test_rows_follow_on_what_is_above_them(self, dashboard: Dashboard) -> None:
        # What is in a collapsed row takes no room before it is opened.
        bottom = 0
        for _, _, _, top, end in boxes(dashboard.data["panels"]):
            assert top <= bottom
            bottom = max(bottom, end)

    def test_panels_stand_in_reading_order(self, dashboard: Dashboard) -> None:
        # So Grafana places them where it stacks them, on a phone.
        for group in (dashboard.data["panels"], *(row.get("panels", ()) for row in dashboard.rows)):
            corners = [(panel["gridPos"]["y"], panel["gridPos"]["x"]) for panel in group]
            assert all(first < second for first, second in pairwise(corners))

    def test_rows_hold_panels_where_they_are_collapsed_alone(self, dashboard: Dashboard) -> None:
        for row in dashboard.rows:
            assert bool(row.get("panels")) is row["collapsed"], row["title"]

    def test_opens_with_few_queries(self, dashboard: Dashboard) -> None:
        seen = [target for target in dashboard.targets if target.panel.row is None]
        assert len(seen) + len(dashboard.annotations) <= AT_ONCE

    def test_refresh_is_no_faster_than_rules_are_evaluated(self, dashboard: Dashboard) -> None:
        assert not dashboard.data["refresh"] or seconds(dashboard.data["refresh"]) >= 30


@each
class TestPanels:
    def test_grafana_knows_all_of_it(self, dashboard: Dashboard) -> None:
        for panel in dashboard.panels:
            assert list(unknown_in_panel(panel.data)) == [], panel.name

    def test_has_a_title_and_says_what_it_shows(self, dashboard: Dashboard) -> None:
        for panel in dashboard.panels:
            assert panel.title, panel.name
            assert panel.type == "text" or len(str(panel.data.get("description", ""))) >= 40, panel.name

    def test_says_why_it_may_be_empty(self, dashboard: Dashboard) -> None:
        for panel in dashboard.panels:
            assert panel.type == "text" or panel.defaults.get("noValue") or "mpty" in panel.data["description"], (
                panel.name
            )

    def test_has_queries(self, dashboard: Dashboard) -> None:
        for panel in dashboard.panels:
            assert panel.type == "text" or panel.targets, panel.name
            letters = [target.data["refId"] for target in panel.targets]
            assert len(set(letters)) == len(letters), panel.name
            assert not any(target.data.get("hide") for target in panel.targets), panel.name

    def test_asks_the_datasource_that_is_chosen(self, dashboard: Dashboard) -> None:
        for panel in dashboard.panels:
            sources = [target.data.get("datasource", SOURCE) for target in panel.targets]
            assert all(source == SOURCE for source in sources), panel.name
            assert panel.type == "text" or panel.data["datasource"] == SOURCE, panel.name

    def test_has_a_unit(self, dashboard: Dashboard) -> None:
        for panel in dashboard.panels:
            units = [*panel.properties("unit"), panel.options.get("yAxis", {}).get("unit")]
            found = [unit for unit in units if unit is not None]
            assert all(known_unit(unit) for unit in found), found
            assert found or panel.type not in WITH_UNITS, panel.name

    def test_thresholds_begin_at_nothing_and_rise(self, dashboard: Dashboard) -> None:
        for panel in dashboard.panels:
            for thresholds in panel.properties("thresholds"):
                first, *values = [step.get("value") for step in thresholds["steps"]]
                assert first is None, panel.name
                assert values == sorted(set(values)), panel.name

    def test_colors_are_grafanas(self, dashboard: Dashboard) -> None:
        for panel in dashboard.panels:
            colors = [step["color"] for found in panel.properties("thresholds") for step in found["steps"]]
            colors += [found["fixedColor"] for found in panel.properties("color") if "fixedColor" in found]
            assert all(COLORS.fullmatch(color) for color in colors), colors

    def test_time_series_ask_for_ranges_and_tables_for_moments(self, dashboard: Dashboard) -> None:
        for panel in dashboard.panels:
            for target in panel.targets:
                if panel.type == "table":
                    assert target.instant, target.name
                    assert target.format == "table", target.name
                elif panel.type in {"timeseries", "heatmap", "state-timeline"}:
                    assert not target.instant, target.name
                    assert target.format == ("heatmap" if panel.type == "heatmap" else "time_series"), target.name
                assert target.data.get("range", not target.instant) is not target.instant, target.name

    def test_a_moment_has_no_graph(self, dashboard: Dashboard) -> None:
        for panel in dashboard.panels:
            if panel.type == "stat" and any(target.instant for target in panel.targets):
                assert panel.options["graphMode"] == "none", panel.name

    def test_heatmaps_show_a_tooltip_in_every_grafana(self, dashboard: Dashboard) -> None:
        for panel in dashboard.panels:
            if panel.type == "heatmap":
                assert panel.options["tooltip"].get("show") is True, panel.name
                assert panel.options["calculate"] is False, panel.name

    def test_overrides_of_queries_name_queries_that_are_there(self, dashboard: Dashboard) -> None:
        for panel in dashboard.panels:
            letters = {target.data["refId"] for target in panel.targets}
            for override in panel.overrides:
                if override["matcher"]["id"] == "byFrameRefID":
                    assert override["matcher"]["options"] in letters, panel.name

    def test_what_is_named_by_a_column_or_a_legend_is_there(self, dashboard: Dashboard) -> None:
        for panel in dashboard.panels:
            there = names_in(panel)
            named = [found["matcher"]["options"] for found in panel.overrides if found["matcher"]["id"] == "byName"]
            named += [found["displayName"] for found in panel.options.get("sortBy", ())]
            for link in panel.data_links:
                named += CELL.findall(link["url"])
                # Of a graph's series, only labels are known.
                assert panel.type == "table" or "__data.fields" not in link["url"], panel.name
            assert set(named) <= there, panel.name


@each
class TestVariables:
    def test_the_datasource_comes_first(self, dashboard: Dashboard) -> None:
        first = dashboard.variables[0]
        assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
        # Without it, some versions open with no datasource at all.
        assert first["current"]["value"]
        assert not first.get("multi")

    def test_have_names_of_their_own_and_labels(self, dashboard: Dashboard) -> None:
        names = [found["name"] for found in dashboard.variables]
        assert len(set(names)) == len(names)
        assert all(found.get("label") for found in dashboard.variables if found.get("hide") != 2)

    def test_jobs_are_chosen(self, dashboard: Dashboard) -> None:
        assert dashboard.variable("job")["type"] == "query"

    def test_follow_the_time_range(self, dashboard: Dashboard) -> None:
        for found in dashboard.variables:
            assert found["type"] != "query" or found["refresh"] == 2, found["name"]

    def test_all_is_everything(self, dashboard: Dashboard) -> None:
        for found in dashboard.variables:
            if found["type"] == "query":
                assert found["multi"], found["name"]
                assert found["includeAll"], found["name"]
                assert found["allValue"] == ".*", found["name"]
                assert found["current"]["value"] in (ALL, [ALL]), found["name"]

    def test_ask_the_datasource_that_is_chosen(self, dashboard: Dashboard) -> None:
        for found in dashboard.variables:
            if found["type"] == "query":
                assert found["datasource"] == SOURCE, found["name"]
                assert list(unknown(found["query"], QUERY_OF_VARIABLE, found["name"])) == []

    def test_are_all_used(self, dashboard: Dashboard) -> None:
        used = {name for target in dashboard.targets for name in references(target.expr)}
        assert {found["name"] for found in dashboard.variables} - used - {"datasource"} == set()

    def test_are_told_nothing_of_later_ones(self, dashboard: Dashboard) -> None:
        before: set[str] = set()
        for found in dashboard.variables:
            text = str(found["query"]) if found["type"] == "query" else ""
            assert set(references(text)) <= before, found["name"]
            before.add(found["name"])


@each
class TestAnnotations:
    def test_show_alerts_and_restarts(self, dashboard: Dashboard) -> None:
        exprs = " ".join(found["expr"] for found in dashboard.annotations)
        assert "ALERTS" in exprs
        assert "celery_worker_restarts_total" in exprs

    def test_ask_the_datasource_that_is_chosen(self, dashboard: Dashboard) -> None:
        assert all(found["datasource"] == SOURCE for found in dashboard.annotations)

    def test_have_titles(self, dashboard: Dashboard) -> None:
        assert all(found.get("titleFormat") for found in dashboard.annotations)

    def test_texts_name_labels_that_are_always_there(self, dashboard: Dashboard) -> None:
        # Grafana writes the name of a label that is missing. An alert may be of no queue, task or worker.
        for found in dashboard.annotations:
            named = set(re.findall(r"\{\{(\w+)\}\}", found["titleFormat"] + found.get("textFormat", "")))
            assert named <= ({"alertname", "severity"} if "ALERTS" in found["expr"] else {"worker"}), found["name"]


def between(links: Iterator[Json]) -> Iterator[tuple[str, str]]:
    """Path and query of links to dashboards."""
    for link in links:
        parts = urlsplit(link.get("url", ""))
        if not parts.netloc and "/d/" in f"/{parts.path}":
            yield parts.path, parts.query


class TestLinks:
    @each
    def test_of_a_dashboard_keep_variables_and_time(self, dashboard: Dashboard) -> None:
        assert dashboard.links
        for link in dashboard.links:
            if link["type"] == "dashboards" or link["url"].startswith(("/d/", "d/")):
                assert link["includeVars"] is link["keepTime"] is True, link["title"]

    @each
    def test_of_a_dashboard_lead_to_all_others(self, dashboard: Dashboard) -> None:
        reached = {path.rstrip("/").split("/")[-1] for path, _ in between(iter(dashboard.links))}
        for link in dashboard.links:
            if link["type"] == "dashboards":
                assert link["tags"]
                reached |= {found.uid for found in dashboards() if set(link["tags"]) <= set(found.data["tags"])}
        assert {found.uid for found in dashboards()} - {dashboard.uid} <= reached

    @each
    def test_of_a_panel_lead_to_dashboards_and_carry_what_they_need(self, dashboard: Dashboard) -> None:
        for panel in dashboard.panels:
            for path, query in between(panel.links):
                uid = path.split("/d/")[1].split("/")[0]
                target = by_uid(uid)
                assert target is not None, uid
                assert "${__url_time_range}" in query or {"from", "to"} <= dict(parse_qsl(query)).keys(), query
                named = set(re.findall(r"(?:^|&)var-([\w-]+)=", query)) | set(
                    re.findall(r"\$\{(\w+):queryparam\}", query)
                )
                assert named <= {found["name"] for found in target.variables}, query
                assert "${__all_variables}" in query or named >= set(CARRIED), query

    @each
    def test_of_a_panel_name_fields_and_variables_that_exist(self, dashboard: Dashboard) -> None:
        for panel in dashboard.panels:
            variables = {found["name"] for found in panel.dashboard.variables}
            for link in panel.links:
                assert set(references(link["url"])) <= variables, link["url"]
                assert link["title"], link["url"]

    def test_overview_leads_into_task_and_queues(self) -> None:
        (overview,) = (found for found in dashboards() if found.name == "overview")
        reached = {path.split("/d/")[1].split("/")[0] for panel in overview.panels for path, _ in between(panel.links)}
        assert {f"{PREFIX}task", f"{PREFIX}queues"} <= reached

    @pytest.mark.parametrize(("file", "uid", "variables"), list(alert_links()))
    def test_of_an_alert_lead_somewhere(self, file: str, uid: str, variables: dict[str, str]) -> None:
        target = by_uid(uid)
        assert target is not None
        assert {name.removeprefix("var-") for name in variables} <= {found["name"] for found in target.variables}

    def test_of_an_alert_carry_what_it_is_about(self) -> None:
        names, of_no_cluster = known(), set()
        for group in (group for part in PARTS.values() for group in part(Settings())):
            for rule in group.rules:
                if isinstance(rule, Alert):
                    labels = Analysis(names).of(ast.parse(rule.expr)).labels
                    (url,) = re.findall(r"dashboard_url: .*", prometheus([Group("one", (rule,))], Settings()))
                    carried = set(re.findall(r"var-(\w+)=", url))
                    assert carried <= labels, rule.name  # or it is chosen that nothing be shown
                    assert "job" in carried or not labels, rule.name
                    of_no_cluster |= set() if labels else {rule.name}
        assert of_no_cluster == {"CeleryExporterAbsent", "CeleryWatchdog"}


def test_overview_answers_in_its_top_row() -> None:
    """Are we coping, is it slower, how long does work hang, what breaks: figures, seen without scrolling."""
    (overview,) = (found for found in dashboards() if found.name == "overview")
    seen = [panel for panel in overview.panels if panel.row is None]
    top = min(panel.data["gridPos"]["y"] for panel in seen)
    first = [panel for panel in seen if panel.data["gridPos"]["y"] == top]
    assert len(first) >= 4
    assert {panel.type for panel in first} <= {"stat", "gauge"}
    assert all("?" in panel.data["description"] for panel in first)
