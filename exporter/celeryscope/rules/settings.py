"""What can be chosen when rules are printed, checked once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from celeryscope.errors import ConfigError
from celeryscope.rules.promql import Words
from celeryscope.settings import suggestion

DURATION = re.compile(r"[1-9][0-9]*[smhdw]")
LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
# What Python's regular expressions have and Prometheus's do not: looking around, and back.
FOREIGN = re.compile(r"\(\?(?:[=!(>]|<[=!]|P=)|\\[1-9]")
OURS = frozenset({"task", "queue", "worker"})  # labels by which rules tell things apart

RUNBOOKS = "http://localhost:9808/runbooks/"  # an exporter serves them
DASHBOARDS = "http://localhost:3000"  # Grafana's usual address


@dataclass(frozen=True)
class Threshold:
    """A number that rules compare with: its default, its bounds, and what it means."""

    default: float
    least: float
    most: float
    meaning: str


THRESHOLDS: Mapping[str, Threshold] = MappingProxyType(
    {
        "deaf_seconds": Threshold(60, 15, 3600, "age of the last canary at which an exporter counts as deaf"),
        "memory_warning": Threshold(0.85, 0.1, 1, "share of the broker's memory limit"),
        "memory_critical": Threshold(0.95, 0.1, 1, "the same, that pages"),
        "objective_factor_critical": Threshold(4, 1, 100, "times its wait objective at which a queue pages"),
        "failure_ratio_warning": Threshold(0.05, 0, 1, "share of the tasks that end in a failure"),
        "failure_count_warning": Threshold(5, 0, 1e6, "failures in 5 minutes that must be exceeded with it"),
        "failure_ratio_critical": Threshold(0.25, 0, 1, "the same share, that pages"),
        "failure_count_critical": Threshold(20, 0, 1e6, "failures in 5 minutes at least, that page"),
        "retry_ratio": Threshold(0.5, 0, 100, "retries for each start"),
        "retry_count": Threshold(20, 0, 1e6, "retries in 10 minutes at least"),
        "overdue_factor": Threshold(2, 1, 100, "times its expected interval after which a task is overdue"),
        "unknown_share": Threshold(
            0.05, 0, 1, "share of the starts in no known queue up to which queues are judged by them"
        ),
        "saturation": Threshold(0.95, 0.1, 1, "share of a queue's concurrency that is in use"),
        "pool_share": Threshold(0.7, 0.01, 1, "share of the last hour's workers that have to be there"),
        "restarts": Threshold(2, 0, 1000, "restarts of a worker in an hour that must be exceeded"),
        "child_count": Threshold(5, 1, 1e6, "replaced processes in 30 minutes at least"),
        "slo_count": Threshold(20, 1, 1e9, "judged tasks in the long window at least"),
        "child_tasks": Threshold(25, 1, 1e6, "tasks for each replaced process, below which replacing is churn"),
        "scheduled_factor": Threshold(20, 1, 1e6, "tasks with an ETA for each slot of a worker that hoards them"),
        "regression_factor": Threshold(2, 1, 1000, "times yesterday's runtime"),
        "regression_seconds": Threshold(1, 0, 86400, "runtime below which a regression does not matter"),
        "regression_count": Threshold(30, 1, 1e9, "runs in 30 minutes at least"),
        "running_seconds": Threshold(3600, 1, 1e7, "time that a task may run"),
        "reserved_seconds": Threshold(900, 1, 1e7, "time that a due task may lie in a worker"),
        "throttled_share": Threshold(0.2, 0, 1, "share of the starts that an outside limit throttles"),
        "visibility_share": Threshold(
            0.8, 0.01, 1, "share of the visibility timeout that a message may lie unacknowledged"
        ),
        "message_bytes": Threshold(262_144, 1, 1e9, "size of a message"),
        "skew_seconds": Threshold(5, 0.1, 1e6, "difference between two clocks"),
        "poll_age_seconds": Threshold(300, 30, 1e6, "age of the last poll that succeeded"),
    }
)


@dataclass(frozen=True)
class Settings:
    """Everything that can be chosen. Build it with `choose`, which checks."""

    thresholds: Mapping[str, float] = field(
        default_factory=lambda: {name: found.default for name, found in THRESHOLDS.items()}
    )
    holds: Mapping[str, str] = field(default_factory=dict)  # durations by alert
    disabled: frozenset[str] = frozenset()  # alerts that are left out
    excluded: Mapping[str, str] = field(default_factory=dict)  # regular expressions of tasks, by alert
    required_queues: str = ""  # a regular expression of queues that must have workers always
    labels: Mapping[str, str] = field(default_factory=dict)  # of every alert
    runbooks: str = RUNBOOKS
    dashboards: str = DASHBOARDS
    words: Words = field(default_factory=Words)

    def __getitem__(self, name: str) -> str:
        """A threshold as PromQL writes it."""
        return f"{self.thresholds[name]:.15g}"

    def without(self, alert: str, usually: str = "", also: str = "") -> str:
        """The matchers of a selector that leave out an alert's excluded tasks: those chosen, and `usually`."""
        patterns = [pattern for pattern in (usually, quoted(self.excluded.get(alert, ""))) if pattern]
        matchers = [also] if also else []
        if patterns:
            matchers.append(f'task!~"{"|".join(patterns)}"')
        return "{" + ", ".join(matchers) + "}" if matchers else ""


def quoted(pattern: str) -> str:
    """A regular expression as it stands between the quotes of PromQL."""
    return pattern.replace("\\", "\\\\").replace('"', '\\"')


def choose(
    *,
    alerts: frozenset[str],
    excluding: frozenset[str],
    thresholds: Mapping[str, str] = MappingProxyType({}),
    holds: Mapping[str, str] = MappingProxyType({}),
    disabled: frozenset[str] = frozenset(),
    excluded: Mapping[str, str] = MappingProxyType({}),
    required_queues: str = "",
    labels: Mapping[str, str] = MappingProxyType({}),
    group_by: tuple[str, ...] = (),
    replica_label: str = "instance",
    runbooks: str = RUNBOOKS,
    dashboards: str = DASHBOARDS,
) -> Settings:
    """Check what was chosen. Raises ConfigError, which names what is wrong.

    `alerts` are the names that there are, `excluding` those of alerts that can leave tasks out.
    """
    for option, names in (("--for", holds), ("--disable", disabled), ("--exclude-task", excluded)):
        for name in names:
            if name not in alerts:
                close = suggestion(name, alerts) or f"; there are {', '.join(sorted(alerts))}"
                raise ConfigError(f"{option}: there is no alert {name!r}{close}")
    for name in excluded.keys() - excluding:
        raise ConfigError(f"--exclude-task: {name} leaves no task out; {', '.join(sorted(excluding))} can")
    for name, hold in holds.items():
        if not DURATION.fullmatch(hold) and hold != "0s":
            raise ConfigError(f"--for {name}={hold}: expected a duration such as 90s, 10m or 2h")
    for name, pattern in {**excluded, "--required-queues": required_queues}.items():
        _check_pattern(name, pattern)
    for name in (*group_by, replica_label, *labels):
        if not LABEL.fullmatch(name):
            raise ConfigError(f"{name!r} is no name of a label")
    if taken := (OURS | {replica_label}) & {*group_by} or {"job"} & {replica_label}:
        raise ConfigError(f"{min(taken)!r} does not tell clusters apart from each other and from their exporters")
    if taken := {"severity", "component", "alertname"} & set(labels):
        raise ConfigError(f"--label {min(taken)}: every alert has that label already")
    return Settings(
        thresholds={name: found.default for name, found in THRESHOLDS.items()} | _numbers(thresholds),
        holds=dict(holds),
        disabled=disabled,
        excluded=dict(excluded),
        required_queues=required_queues,
        labels=dict(labels),
        runbooks=runbooks.rstrip("/") + "/",
        dashboards=dashboards.rstrip("/"),
        words=Words(("job", *(name for name in group_by if name != "job")), replica_label),
    )


def _numbers(chosen: Mapping[str, str]) -> dict[str, float]:
    found = {}
    for name, text in chosen.items():
        threshold = THRESHOLDS.get(name)
        if threshold is None:
            close = suggestion(name, THRESHOLDS) or f"; there are {', '.join(THRESHOLDS)}"
            raise ConfigError(f"--set: there is no threshold {name!r}{close}")
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not threshold.least <= value <= threshold.most:
            bounds = f"{threshold.least:g} to {threshold.most:g}"
            raise ConfigError(f"--set {name}={text}: expected a number from {bounds} ({threshold.meaning})")
        found[name] = value
    return found


def _check_pattern(name: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{name}: {pattern!r} is no regular expression: {error}") from error
    if found := FOREIGN.search(pattern):
        raise ConfigError(f"{name}: {pattern!r}: Prometheus's regular expressions have no {found[0]}")
