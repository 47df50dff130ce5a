"""The words in which dashboards ask: series that the variables choose, replicas taken as one, clusters put together.

Several exporters may watch one broker, and each sees everything. As in the rules, what each of them sums up comes
first, and then the largest over all of them; only then are clusters (jobs) put together, since these do add up.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from celeryscope.metrics.catalog import ALL, Kind
from celeryscope.rules import recording
from celeryscope.rules.model import Record
from celeryscope.rules.promql import Words, indent
from celeryscope.rules.settings import Settings

WORDS = Words()
CLUSTER = "job"
# Of targets and processes, and of Prometheus itself: they know of no queue or task.
FOREIGN = frozenset(
    {
        "ALERTS",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "scrape_duration_seconds",
        "up",
    }
)


class UnknownMetric(LookupError):
    """A dashboard asks for a metric that nobody exports or records."""


@cache
def labels_of(name: str) -> frozenset[str]:
    """The labels of a metric, a histogram's sample or a recorded series, without those of the target."""
    if name in FOREIGN:
        return frozenset()
    if ":" in name:
        recorded = {
            rule.name for group in recording.groups(Settings()) for rule in group.rules if isinstance(rule, Record)
        }
        if name in recorded:
            return frozenset(name.partition(":")[0].split("_")) - {CLUSTER}
    for spec in ALL:
        if spec.kind is Kind.HISTOGRAM:
            for suffix, more in (("bucket", {"le"}), ("sum", set()), ("count", set())):
                if name == f"{spec.name}_{suffix}":
                    return frozenset(spec.labels) | more
        elif name == spec.name:
            return frozenset(spec.labels)
    raise UnknownMetric(name)


@dataclass(frozen=True)
class Scope:
    """What the variables of a dashboard choose. `variables` are its labels beside the cluster's.

    Every expression has the labels that are asked for and no other. Where `job` is one of them, clusters stay apart.
    """

    variables: tuple[str, ...] = ()

    def select(self, name: str, also: str = "") -> str:
        """The series of a name that are chosen. `also` are further matchers."""
        known = labels_of(name)
        chosen = [CLUSTER, *(variable for variable in self.variables if variable in known)]
        matchers = [*(f'{label}=~"${label}"' for label in chosen), *([also] if also else [])]
        return f"{name}{{{', '.join(matchers)}}}"

    def rate(self, counter: str, *labels: str, also: str = "") -> str:
        """How fast a counter grows, per second."""
        return _added(self.select(counter, also), labels, "rate(%s[$__rate_interval])")

    def increase(self, counter: str, *labels: str, also: str = "", window: str = "") -> str:
        """By how much a counter grew in a window, else the time range; the first sample of a new series included."""
        series = self.select(counter, also)
        if window:
            return _combined(WORDS.increase(series, window, *_own(labels)), labels)
        # As `Words.grown`, for a window that only Grafana knows.
        replica = WORDS.by_replica()
        return _added(
            series,
            labels,
            f"(\n"
            f"  (%s unless %s offset $__range)\n"
            f"  and on ({replica}) (\n"
            f"    celery_exporter_build_info offset $__range\n"
            f"    or on ({replica}) (time() - process_start_time_seconds < 2 * $__range_s)\n"
            f"  )\n"
            f")\n"
            f"or increase(%s[$__range])",
        )

    def total(self, gauge: str, *labels: str, also: str = "") -> str:
        """The sum of a gauge."""
        return _added(self.select(gauge, also), labels)

    def largest(self, gauge: str, *labels: str, also: str = "") -> str:
        """The largest of a gauge that is not added up."""
        return over("max", self.select(gauge, also), labels)

    def least(self, gauge: str, *labels: str, also: str = "") -> str:
        """The smallest of a gauge: of timestamps the oldest."""
        return over("min", self.select(gauge, also), labels)

    def age(self, timestamp: str, *labels: str, also: str = "") -> str:
        """How long ago the newest of timestamps is, in seconds."""
        return f"clamp_min(time() - {self.largest(timestamp, *labels, also=also)}, 0)"

    def oldest_age(self, timestamp: str, *labels: str, also: str = "") -> str:
        """How long ago the oldest of timestamps is, in seconds."""
        return f"clamp_min(time() - {self.least(timestamp, *labels, also=also)}, 0)"

    def recorded(self, name: str, *labels: str, also: str = "", offset: str = "", of: str = "sum") -> str:
        """What a rule records, in which replicas are one already. `of` says how clusters are put together."""
        # Always put together, so that the name goes: in a table it would keep the columns of one row apart.
        return over(of, self.select(name, also) + (f" offset {offset}" if offset else ""), labels)

    def quantile(self, share: float, histogram: str, *labels: str, also: str = "") -> str:
        """A quantile of a histogram; absent where nothing was observed."""
        buckets = f"rate({self.select(f'{histogram}_bucket', also)}[$__rate_interval])"
        per_replica = WORDS.by_replica(*_own(labels), "le")
        return (
            over(
                "max",
                f"\n  histogram_quantile({share:g},\n    sum by ({per_replica}) (\n      {buckets}\n    )\n  )\n",
                labels,
            )
            + " >= 0"
        )

    def buckets(self, histogram: str, *, also: str = "") -> str:
        """How fast each bucket of a histogram grows, for a heatmap."""
        return self.rate(f"{histogram}_bucket", "le", also=also)


def over(operator: str, expr: str, labels: Iterable[str] = ()) -> str:
    """One value for each combination of labels."""
    by = ", ".join(labels)
    return f"{operator} by ({by}) ({expr})" if by else f"{operator}({expr})"


def share(part: str, whole: str) -> str:
    """One by the other; absent where the whole is 0."""
    return f"{part}\n/\n({whole} > 0)"


def either(*exprs: str) -> str:
    """The first of them that is there."""
    return "\nor\n".join(exprs)


def _own(labels: Iterable[str]) -> tuple[str, ...]:
    return tuple(label for label in labels if label != CLUSTER)


def _added(series: str, labels: tuple[str, ...], template: str = "%s") -> str:
    """Sums of each replica, of these the largest, and of those the sum over clusters."""
    return _combined(WORDS.most(template.replace("%s", series), *_own(labels)), labels)


def _combined(expr: str, labels: tuple[str, ...]) -> str:
    """The sum over clusters, unless they stay apart."""
    return expr if CLUSTER in labels else over("sum", f"\n{indent(expr)}\n", labels)
