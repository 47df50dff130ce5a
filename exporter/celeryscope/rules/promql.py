"""The words in which rules are written: sums per replica, then one value for all replicas.

Several exporters may watch one broker. Each of them sees everything, so their numbers are never added: a rule sums the
series of each replica to its own labels first, and then takes the largest (of timestamps the smallest). The largest of
single series would count twice what one replica puts under queue="unknown" and another under the queue's name.
"""

import textwrap
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """`base`: labels that tell one cluster from another; `replica`: the label that tells its exporters apart."""

    base: tuple[str, ...] = ("job",)
    replica: str = "instance"

    def by(self, *labels: str) -> str:
        """The labels of a rule, for `by (...)` or `on (...)`."""
        return ", ".join((*self.base, *labels))

    def by_replica(self, *labels: str) -> str:
        """The same for each replica."""
        return ", ".join((*self.base, self.replica, *labels))

    def level(self, *labels: str) -> str:
        """The first part of a recorded name."""
        return "_".join((*self.base, *labels))

    def most(self, expr: str, *labels: str) -> str:
        """The largest over replicas of what each of them sums up."""
        return f"max by ({self.by(*labels)}) (\n  sum by ({self.by_replica(*labels)}) (\n{indent(expr, 4)}\n  )\n)"

    def largest(self, expr: str, *labels: str) -> str:
        """The largest over everything, for gauges that are not added up."""
        return f"max by ({self.by(*labels)}) ({expr})"

    def least(self, expr: str, *labels: str) -> str:
        """The smallest over everything: for timestamps of what is oldest."""
        return f"min by ({self.by(*labels)}) ({expr})"

    def busy(self) -> str:
        """How many tasks each worker runs, for each replica.

        A solo worker that works is mute, and what it runs is then absent.
        """
        solo = f'celery_worker_up == 1\nand on ({self.by_replica("worker")}) celery_worker_info{{pool="solo"}}'
        return f"celery_worker_tasks_active\nor\n{solo}"

    def rate(self, metric: str, window: str, *labels: str) -> str:
        """How fast a counter grows, per second."""
        return self.most(f"rate({metric}[{window}])", *labels)

    def increase(self, metric: str, window: str, *labels: str) -> str:
        """By how much a counter grew, the first sample of a series that is new included."""
        return self.most(self.grown(metric, window), *labels)

    def grown(self, metric: str, window: str) -> str:
        """By how much each series of a counter grew.

        A series appears with its first event, so `increase` alone would miss that one. What was not there a window ago
        counts whole, if the exporter was seen then, or is young: what it tells then has only just begun to be told.
        One that was merely out of sight comes back with all that it has ever counted, which is not new.
        """
        replica = self.by_replica()
        return (
            f"(\n"
            f"  ({metric} unless {metric} offset {window})\n"
            f"  and on ({replica}) (\n"
            f"    celery_exporter_build_info offset {window}\n"
            f"    or on ({replica}) (time() - process_start_time_seconds < {2 * seconds(window)})\n"
            f"  )\n"
            f")\n"
            f"or increase({metric}[{window}])"
        )


COUNT = '{{ $value | printf "%.0f" }}'  # Prometheus extrapolates: what was counted need not be whole
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds(duration: str) -> int:
    """A duration such as 5m in seconds."""
    return int(duration[:-1]) * UNITS[duration[-1]]


def indent(expr: str, width: int = 2) -> str:
    """An expression, moved to the right."""
    return textwrap.indent(expr, " " * width)
