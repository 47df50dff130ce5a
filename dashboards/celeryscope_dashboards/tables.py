"""Tables: a row for each thing, and a column for each query."""

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from celeryscope_dashboards.asking import PLAIN, SOURCE, About, Query, Steps, target
from celeryscope_dashboards.panels import Panel, prop, thresholds

MISSING = "-"


@dataclass(frozen=True)
class Column:
    """A value of every row. `steps` colour it."""

    title: str
    expr: str
    unit: str = "short"
    steps: Steps = ()


@dataclass(frozen=True)
class Label:
    """A label that is a column. `link` is where its cells lead."""

    name: str
    title: str
    link: dict[str, object] | None = None


JOB = Label("job", "Job")


def rows(
    title: str,
    about: About,
    labels: Sequence[Label],
    *columns: Column,
    sort: str,
    ascending: bool = False,
    hidden: Sequence[str] = (),
    width: int = 24,
    height: int = 9,
) -> Panel:
    """A table. Every query has the same labels, which say what a row is about; `sort` names a column.

    `hidden` columns are asked for to make rows, and not shown.
    """
    panel = (
        table.Panel()
        .title(title)
        .description(about.description)
        .datasource(SOURCE)
        .no_value(about.empty)
        .unit("short")
        .thresholds(thresholds(PLAIN))
        .filterable(True)
        .show_header(True)
        .sort_by([common_builders.TableSortByFieldState().display_name(sort).desc(not ascending)])
    )
    for letter, column in zip(ascii_uppercase, columns, strict=False):
        panel = panel.with_target(target(Query(column.expr, ""), letter, now=True, form=PromQueryFormat.TABLE))
    values = _names(len(columns))
    shown = [*(label.name for label in labels), *values]
    left_out = {"Time": True} | {
        name: True for name, column in zip(values, columns, strict=True) if column.title in hidden
    }
    panel = panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel = panel.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": left_out,
                "indexByName": {name: index for index, name in enumerate(shown)},
                "renameByName": {label.name: label.title for label in labels}
                | {name: column.title for name, column in zip(values, columns, strict=True)},
            },
        )
    )
    # A cell without a value is no reason to repeat why a whole table may have none.
    panel = panel.override_by_regexp(".*", [prop("noValue", MISSING)])
    for label in labels:
        if label.link is not None:
            panel = panel.override_by_name(label.title, [prop("links", [label.link])])
    for column in columns:
        if column.title in hidden:
            continue
        properties = [prop("unit", column.unit)]
        if column.steps:
            properties += [
                prop("thresholds", thresholds(column.steps).build()),
                prop("color", {"mode": "thresholds"}),
                prop("custom.displayMode", "color-text"),
            ]
        panel = panel.override_by_name(column.title, properties)
    return Panel(about, panel.build(), width, height)


def facts(title: str, about: About, labels: Sequence[Label], expr: str, *, sort: str, width: int) -> Panel:
    """A table of what labels alone say: of an `_info` metric."""
    info = Column("Info", expr)
    return rows(title, about, labels, info, sort=sort, ascending=True, hidden=(info.title,), width=width, height=8)


def _names(count: int) -> list[str]:
    """The columns that Grafana makes of so many queries."""
    return ["Value"] if count == 1 else [f"Value #{letter}" for letter in ascii_uppercase[:count]]
