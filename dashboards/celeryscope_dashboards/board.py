"""A dashboard: its rows of panels, the variables that it uses, its annotations and links."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.models import dashboard as models

from celeryscope_dashboards import links, palette, variables
from celeryscope_dashboards.asking import SOURCE
from celeryscope_dashboards.panels import Panel
from celeryscope_dashboards.queries import Scope

COLUMNS = 24
FIRST_PAINT = 30  # queries at most that a dashboard asks when it is opened


class CrowdedDashboard(ValueError):
    """Panels of one dashboard have the same title, or ask too much at once."""


@dataclass(frozen=True)
class Row:
    """Panels under a heading. Those of a collapsed row are asked for when somebody opens it."""

    title: str
    panels: tuple[Panel, ...]
    collapsed: bool = False


@dataclass(frozen=True)
class Board:
    """A dashboard. `asks` is the question that it answers; `scope` has the variables that it uses."""

    name: str
    title: str
    asks: str
    rows: tuple[Row, ...]
    scope: Scope = field(default_factory=Scope)
    hours: int = 1  # that it shows at first

    def build(self) -> models.Dashboard:
        """As Grafana has it. Raises CrowdedDashboard."""
        self._check()
        built = (
            builders.Dashboard(f"Celery / {self.title}")
            .uid(links.uid(self.name))
            .readonly()
            .description(self.asks)
            .tags([links.TAG, "celery"])
            .time(f"now-{self.hours}h", "now")
            .refresh("30s")
            .timezone("browser")
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .variables(variables.of(self.scope))
            .annotations([make(self.scope) for make in ANNOTATIONS])
            .link(links.menu())
            .build()
        )
        built.panels = list(_placed(self.rows))
        return built

    def _check(self) -> None:
        titles = [row.title for row in self.rows] + [panel.title for row in self.rows for panel in row.panels]
        twice = {title for title in titles if titles.count(title) > 1}
        if twice:
            raise CrowdedDashboard(f"{self.name}: two are called {min(twice)!r}")
        asked = sum(len(panel.built.targets or ()) for row in self.rows if not row.collapsed for panel in row.panels)
        asked += len(self.scope.variables) + 1 + len(ANNOTATIONS)
        if asked > FIRST_PAINT:
            raise CrowdedDashboard(f"{self.name}: {asked} queries at once, {FIRST_PAINT} at most: collapse a row")


def _placed(rows: Sequence[Row]) -> list[models.Panel | models.RowPanel]:
    """Panels from left to right and from top to bottom; rows as wide as the page."""
    found: list[models.Panel | models.RowPanel] = []
    top = 0
    for row in rows:
        heading = models.RowPanel(
            title=row.title,
            collapsed=row.collapsed,
            id_val=_id(row.title),
            grid_pos=models.GridPos(h=1, w=COLUMNS, x=0, y=top),
            panels=[],
        )
        found.append(heading)
        x, y, height = 0, top + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            panel.built.grid_pos = models.GridPos(h=panel.height, w=panel.width, x=x, y=y)
            panel.built.id_val = _id(panel.title)
            x, height = x + panel.width, max(height, panel.height)
            if row.collapsed:
                heading.panels.append(panel.built)
            else:
                found.append(panel.built)
        # What is collapsed takes no room until it is opened.
        top = top + 1 if row.collapsed else y + height
    return found


def _id(title: str) -> int:
    """A panel's number, which does not change when others come and go: links to the panel have it."""
    return 1 + zlib.crc32(title.encode()) % 1_000_000


def _alerts(_: Scope) -> builders.AnnotationQuery:
    told = 'alertname=~"Celery.*", alertstate="firing", severity!="none", job=~"$job"'
    labels = "severity, queue, task, worker"
    expr = f"max by (alertname, {labels}) (ALERTS{{{told}}})"
    # As tags, which are left out where an alert has no such label; a text would show the label's name in its place.
    return _annotation("Alerts", expr, palette.BAD, "{{alertname}}", labels.replace(" ", ""))


def _restarts(scope: Scope) -> builders.AnnotationQuery:
    expr = f"max by (worker) (increase({scope.select('celery_worker_restarts_total')}[$__rate_interval])) > 0"
    return _annotation("Worker restarts", expr, palette.PLAIN, "{{worker}} came back as another process", "worker")


def _annotation(name: str, expr: str, colour: str, title: str, tags: str) -> builders.AnnotationQuery:
    # Grafana 9.3 reads the expression beside the name, newer ones in the target.
    return (
        builders.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(True)
        .hide(False)
        .icon_color(colour)
        .expr(expr)
        .step("60s")
        .title_format(title)
        .tag_keys(tags)
        .target(prometheus.Dataquery().expr(expr).ref_id("Anno").range().interval("60s"))
    )


ANNOTATIONS = (_alerts, _restarts)
