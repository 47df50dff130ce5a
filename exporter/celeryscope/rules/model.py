"""What a rule file is made of."""

from dataclasses import dataclass

CRITICAL = "critical"  # pages somebody
WARNING = "warning"  # opens a ticket
INFO = "info"  # is seen on dashboards
NONE = "none"  # the dead man's switch
SEVERITIES = (CRITICAL, WARNING, INFO, NONE)


@dataclass(frozen=True)
class Record:
    """A recording rule: `name` is level:metric:operation."""

    name: str
    expr: str


@dataclass(frozen=True)
class Alert:
    """An alerting rule. Several of one name differ in severity.

    `summary` is static; `description` may show values (`{{ $value }}`, `{{ $labels.queue }}`). `hold` is how long the
    expression has to hold, as Prometheus writes durations. `dashboard` is the uid of the dashboard to look at.
    """

    name: str
    expr: str
    severity: str
    summary: str
    description: str
    hold: str = "0s"
    dashboard: str = "celeryscope-overview"
    labels: tuple[tuple[str, str], ...] = ()  # beside severity and component


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated together, in order."""

    name: str
    rules: tuple[Record | Alert, ...]
