"""What panels are made of beside their looks: what they are about, and what they ask."""

from dataclasses import dataclass

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from celeryscope_dashboards import palette

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
Steps = tuple[tuple[float, str], ...]  # from which value on a colour holds


@dataclass(frozen=True)
class About:
    """`asks`: the question that a panel answers. `reads`: what good and bad look like. `empty`: why it may be empty."""

    asks: str
    reads: str
    empty: str

    @property
    def description(self) -> str:
        """What stands behind the panel's i."""
        return f"{self.asks}\n\n{self.reads}\n\nMay be empty: {self.empty}."


@dataclass(frozen=True)
class Query:
    """An expression and its name in the legend, which may hold labels: `{{queue}}`.

    `unit`, `steps` and `colour` are this query's own where the panel's do not fit. `step` is the least resolution.
    """

    expr: str
    legend: str
    unit: str = ""
    steps: Steps = ()
    colour: str = ""
    dashed: bool = False
    exemplars: bool = False
    step: str = ""


def target(query: Query, letter: str, *, now: bool = False, form: PromQueryFormat) -> prometheus.Dataquery:
    """A query as Grafana has it. `now`: its last value alone."""
    built = (
        prometheus.Dataquery()
        .datasource(SOURCE)
        .ref_id(letter)
        .expr(query.expr)
        .legend_format(query.legend)
        .format(form)
    )
    built = built.instant() if now else built.range()
    if query.exemplars:
        built = built.exemplar(True)
    return built.interval(query.step) if query.step else built


def rising(warning: float, bad: float) -> Steps:
    """Colours of a value that is bad where it is high."""
    return ((float("-inf"), palette.GOOD), (warning, palette.WARNING), (bad, palette.BAD))


def falling(warning: float, bad: float) -> Steps:
    """Colours of a value that is bad where it is low: below `warning`, and below `bad`."""
    return ((float("-inf"), palette.BAD), (bad, palette.WARNING), (warning, palette.GOOD))


def bad_from(value: float) -> Steps:
    """Colours of a value that must not get so high."""
    return ((float("-inf"), palette.GOOD), (value, palette.BAD))


def bad_below(value: float) -> Steps:
    """Colours of a value that must not get lower."""
    return ((float("-inf"), palette.BAD), (value, palette.GOOD))


PLAIN: Steps = ((float("-inf"), palette.PLAIN),)
