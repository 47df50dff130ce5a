"""The kinds of panels that dashboards have, with the looks that all of them share.

Only kinds and options that Grafana knows from 9.3 on.
"""

from dataclasses import dataclass
from math import isinf
from string import ascii_uppercase
from typing import TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from celeryscope_dashboards import palette
from celeryscope_dashboards.asking import PLAIN, SOURCE, About, Query, Steps, target

LAST = "lastNotNull"
SCARCE = 60  # points of a graph whose queries read every bucket of a histogram
Mapping = dict[float, tuple[str, str]]  # what values mean: a text and a colour
B = TypeVar("B", timeseries.Panel, stat.Panel, heatmap.Panel, statetimeline.Panel)


@dataclass(frozen=True)
class Panel:
    """A panel that has no place yet. `width` is of 24 columns, `height` in rows of the grid."""

    about: About
    built: models.Panel
    width: int
    height: int

    @property
    def title(self) -> str:
        """Unique on its dashboard."""
        return self.built.title or ""


def numbers(
    title: str,
    about: About,
    *queries: Query,
    unit: str = "short",
    steps: Steps = PLAIN,
    meaning: Mapping | None = None,
    filled: bool = False,
    width: int = 4,
    height: int = 4,
) -> Panel:
    """Values of now in large type. `filled`: on a ground of their colour."""
    panel = (
        _common(stat.Panel(), title, about)
        .unit(unit)
        .thresholds(thresholds(steps))
        .reduce_options(common_builders.ReduceDataOptions().calcs([LAST]).fields("").values(False))
        .color_mode(common.BigValueColorMode.BACKGROUND if filled else common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .orientation(common.VizOrientation.AUTO)
        .justify_mode(common.BigValueJustifyMode.AUTO)
        .text_mode(common.BigValueTextMode.VALUE_AND_NAME if len(queries) > 1 else common.BigValueTextMode.VALUE)
        .mappings(_meanings(meaning))
    )
    for letter, query in zip(ascii_uppercase, queries, strict=False):
        panel = panel.with_target(target(query, letter, now=True, form=PromQueryFormat.TIME_SERIES))
        panel = _distinguished(panel, query, letter)
    return Panel(about, panel.build(), width, height)


def lines(
    title: str,
    about: About,
    *queries: Query,
    unit: str = "short",
    steps: Steps = (),
    stacked: bool = False,
    least: float | None = 0,
    most: float | None = None,
    points: int = 0,
    width: int = 12,
    height: int = 8,
) -> Panel:
    """Values over time. `steps` are drawn as dashed lines where they begin.

    `points` are as many as are asked for at most, where each costs much; else as many as the panel is wide.
    """
    legend = common_builders.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM)
    legend = legend.display_mode(common.LegendDisplayMode.TABLE).calcs([LAST, "max"])
    panel = (
        _common(timeseries.Panel(), title, about)
        .unit(unit)
        .legend(legend)
        .tooltip(_tooltip())
        .draw_style(common.GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(30 if stacked else 0)
        .show_points(common.VisibilityMode.AUTO)
        .span_nulls(False)
        .thresholds(thresholds(steps or PLAIN))
    )
    if steps:
        mode = common.GraphThresholdsStyleMode.DASHED
        panel = panel.thresholds_style(common_builders.GraphThresholdsStyleConfig().mode(mode))
    if stacked:
        panel = panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if least is not None:
        panel = panel.min(least)
    if most is not None:
        panel = panel.max(most)
    if points:
        panel = panel.max_data_points(points)
    for letter, query in zip(ascii_uppercase, queries, strict=False):
        panel = panel.with_target(target(query, letter, form=PromQueryFormat.TIME_SERIES))
        panel = _distinguished(panel, query, letter)
    return Panel(about, panel.build(), width, height)


def heat(title: str, about: About, query: Query, *, width: int = 12, height: int = 8) -> Panel:
    """How a histogram of times changes: time to the right, its buckets upwards, darker where more fell."""
    colour = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").exponent(0.5).steps(64)
    panel = (
        _common(heatmap.Panel(), title, about)
        .calculate(False)
        .max_data_points(SCARCE)
        .color(colour.fill("dark-orange").reverse(False))
        .y_axis(heatmap.YAxisConfig().unit("s").axis_placement(common.AxisPlacement.LEFT).reverse(False))
        .cell_values(heatmap.CellValues().unit("cps"))
        .show_legend()
        .with_target(target(query, "A", form=PromQueryFormat.HEATMAP))
    )
    return Panel(about, panel.build(), width, height)


def states(title: str, about: About, query: Query, meaning: Mapping, *, width: int = 24, height: int = 8) -> Panel:
    """What each of several things was, over time."""
    panel = (
        _common(statetimeline.Panel(), title, about)
        .unit("short")
        .thresholds(thresholds(PLAIN))
        .mappings(_meanings(meaning))
        .show_value(common.VisibilityMode.NEVER)
        .merge_values(True)
        .row_height(0.8)
        .line_width(0)
        .fill_opacity(80)
        .legend(common_builders.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM))
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.SINGLE))
        .with_target(target(query, "A", form=PromQueryFormat.TIME_SERIES))
    )
    return Panel(about, panel.build(), width, height)


def thresholds(steps: Steps) -> builders.ThresholdsConfig:
    """Steps as Grafana has them: the first is what holds from the bottom on."""
    found = [models.Threshold(None if isinf(value) else value, colour) for value, colour in steps]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(found)


def prop(name: str, value: object) -> models.DynamicConfigValue:
    """A property that a field has of its own."""
    return models.DynamicConfigValue(name, value)


def fixed(colour: str) -> models.DynamicConfigValue:
    """A colour that says nothing of the value."""
    return prop("color", {"mode": "fixed", "fixedColor": colour})


def _common(panel: B, title: str, about: About) -> B:
    return panel.title(title).description(about.description).datasource(SOURCE).no_value(about.empty)


def _tooltip() -> common_builders.VizTooltipOptions:
    options = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    return options.sort(common.SortOrder.DESCENDING)


def _distinguished(panel: B, query: Query, letter: str) -> B:
    """A query's own looks. Not by its legend: where that holds labels, no series is called so."""
    properties = _own(query)
    return panel.override_by_query(letter, properties) if properties else panel


def _own(query: Query) -> list[models.DynamicConfigValue]:
    """What of a query's fields differs from the panel's."""
    found = []
    if query.unit:
        found.append(prop("unit", query.unit))
    if query.steps:
        found.append(prop("thresholds", thresholds(query.steps).build()))
    if query.colour:
        found.append(fixed(query.colour))
    if query.dashed:
        found.append(prop("custom.lineStyle", {"dash": [8, 8], "fill": "dash"}))
    return found


def _meanings(
    meaning: Mapping | None,
) -> list[models.ValueMap | models.RangeMap | models.RegexMap | models.SpecialValueMap]:
    results = {
        f"{value:g}": models.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate((meaning or {}).items())
    }
    return [models.ValueMap(results)] if results else []


UP_DOWN: Mapping = {1: ("up", palette.GOOD), 0: ("down", palette.BAD)}
