"""Variables in queries, put in as Grafana and its Prometheus datasource do.

A variable with several values, or with All, is a regular expression: its values are escaped twice, once for the
expression and once for the string that it stands in, and joined as (a|b). Any other is escaped for the string alone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from support.dashboards import Dashboard, Json

ALL = "$__all"
MULTIPLE = 4  # scrapes that a rate spans at least
# As Grafana's own: $name, [[name]], [[name:format]], ${name}, ${name.field:format}.
REFERENCE = re.compile(r"\$(\w+)|\[\[(\w+?)(?::(\w+))?\]\]|\$\{(\w+)(?:\.([^:}]+))?(?::([^}]+))?\}")
# Of the query's own time, and of Grafana.
OWN = {
    "__interval", "__interval_ms", "__rate_interval", "__rate_interval_ms", "__range", "__range_s", "__range_ms",
    "__from", "__to",
}  # fmt: skip
# What only links have: a field, a row, a series, the address of the time range.
IN_LINKS = {"__url_time_range", "__all_variables", "__field", "__series", "__value", "__data"}


class UnknownReference(AssertionError):
    """A query names a variable or a format that Grafana would leave as it is."""


@dataclass(frozen=True)
class Window:
    """A time range, and what follows from it. Seconds; `points` are as many as the panel is wide."""

    start: float
    end: float
    scrape: float  # the datasource's scrape interval
    points: int = 1000

    @property
    def interval(self) -> float:
        """$__interval: no shorter than a scrape."""
        return max(self.scrape, (self.end - self.start) / self.points)

    def rate_interval(self, shortest: float | None = None) -> float:
        """$__rate_interval; `shortest` is the query's own minimum step, which takes the scrape interval's place."""
        scrape = self.scrape if shortest is None else shortest
        return max(self.interval + scrape, MULTIPLE * scrape)


@dataclass(frozen=True)
class Resolver:
    """Puts values in. `values` has what is chosen, by name; a variable that is not in it stands at All."""

    dashboard: Dashboard
    window: Window
    values: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)  # what there is to choose from, for All

    def resolved(self, text: str, step: str | None = None) -> str:
        """The text of a query. `step` is the query's own minimum step. Raises UnknownReference."""

        def value(found: re.Match[str]) -> str:
            name = found[1] or found[2] or found[4]
            form = found[3] or found[6]
            if found[5]:
                raise UnknownReference(f"{found[0]} takes a field, which queries do not have")
            if name in OWN:
                return self._own(name, step)
            return self._chosen(name, form)

        return REFERENCE.sub(value, text)

    def _own(self, name: str, step: str | None) -> str:
        window = self.window
        span = window.end - window.start
        rate = window.rate_interval(seconds(step) if step else None)
        return {
            "__interval": f"{round(window.interval)}s",
            "__interval_ms": f"{round(window.interval * 1000)}",
            "__rate_interval": f"{round(rate)}s",
            "__rate_interval_ms": f"{round(rate * 1000)}",
            "__range": f"{round(span)}s",
            "__range_s": f"{round(span)}",
            "__range_ms": f"{round(span * 1000)}",
            "__from": f"{round(window.start * 1000)}",
            "__to": f"{round(window.end * 1000)}",
        }[name]

    def _chosen(self, name: str, form: str | None) -> str:
        try:
            variable = self.dashboard.variable(name)
        except KeyError as error:
            raise UnknownReference(str(error)) from None
        several = bool(variable.get("multi") or variable.get("includeAll"))
        chosen = self.values.get(name, ALL if variable.get("includeAll") else _current(variable))
        if chosen == ALL and variable.get("allValue"):
            return str(variable["allValue"])  # as it is: the author's own expression
        if chosen == ALL:
            chosen = self.options[name]
        if isinstance(chosen, str):
            return _formatted([chosen], form, several=several)
        return _formatted(chosen, form, several=several)


def _current(variable: Json) -> str | Sequence[str]:
    value: str | Sequence[str] = variable.get("current", {}).get("value", variable.get("query", ""))
    return value


def _formatted(values: Sequence[str], form: str | None, *, several: bool) -> str:
    match form:
        case None if several:
            escaped = [_escaped_twice(value) for value in values]
            return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
        case None:
            return _escaped(values[0])
        case "regex":
            escaped = [re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", value) for value in values]
            return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
        case "pipe":
            return "|".join(values)
        case "raw" | "csv":
            return ",".join(values)
        case _:
            raise UnknownReference(f"the format {form} has no place in a query")


def _escaped(value: str) -> str:
    """For a string of PromQL; a double quote in it would end the string, here as there."""
    return value.replace("\\", "\\\\").replace("'", "\\\\'")


def _escaped_twice(value: str) -> str:
    """For a regular expression in a string of PromQL."""
    return re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", value.replace("\\", "\\\\\\\\"))


def references(text: str) -> list[str]:
    """The names of the variables that a text refers to, Grafana's own left out."""
    names = [found[1] or found[2] or found[4] for found in REFERENCE.finditer(text)]
    return [name for name in names if name not in OWN | IN_LINKS]


def seconds(duration: str) -> float:
    """A duration as Grafana and Prometheus write it, such as 1m30s."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_536_000.0}
    parts = re.findall(r"(\d+)(ms|[smhdwy])", duration)
    if "".join(number + unit for number, unit in parts) != duration or not parts:
        raise ValueError(f"not a duration: {duration}")
    return sum(int(number) * units[unit] for number, unit in parts)
