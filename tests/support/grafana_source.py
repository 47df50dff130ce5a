"""A Prometheus asked as Grafana asks it for a panel, and what is wrong with an answer."""

import json
import math
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from support.dashboards import Dashboard, Json, Target
from support.grafana_queries import VALUES
from support.grafana_variables import Resolver, Window

TIMEOUT = 30.0  # seconds


@dataclass(frozen=True)
class Series:
    """One series of an answer."""

    labels: Mapping[str, str]
    values: Sequence[float]


@dataclass(frozen=True)
class Answer:
    """What a query returned."""

    expr: str
    series: Sequence[Series]
    samples: float  # that it read for one moment, on average over a range
    seconds: float

    @property
    def trouble(self) -> str:
        """Empty, not a number, or infinite; "" where it is none of these."""
        if not self.series:
            return "empty"
        broken = [found.labels for found in self.series if not all(map(math.isfinite, found.values))]
        return f"not finite: {broken[:3]}" if broken else ""

    @property
    def moved(self) -> bool:
        """Whether anything is not 0."""
        return any(value for found in self.series for value in found.values if math.isfinite(value))


@dataclass(frozen=True)
class Source:
    """A datasource, and the time range that is looked at."""

    port: int
    window: Window
    chosen: Mapping[str, str | Sequence[str]] = field(default_factory=dict)

    def resolver(self, dashboard: Dashboard) -> Resolver:
        return Resolver(dashboard, self.window, self.chosen)

    def options(self, dashboard: Dashboard, variable: Json) -> list[str]:
        """What a variable offers."""
        found = VALUES.fullmatch(variable["query"]["query"])
        assert found is not None, variable["name"]
        selector = self.resolver(dashboard).resolved(found["selector"])
        times = {"start": self.window.start, "end": self.window.end, "match[]": selector}
        values: list[str] = self._ask(f"label/{found['label']}/values", times)["data"]
        return values

    def ask(self, target: Target) -> Answer:
        """What a panel's query returns over the time range, or at its end."""
        step = target.data.get("interval") or target.panel.data.get("interval")
        expr = self.resolver(target.panel.dashboard).resolved(target.expr, step)
        return self.at_end(expr) if target.instant else self.over_range(expr)

    def at_end(self, expr: str) -> Answer:
        return self._answer(expr, "query", {"time": self.window.end}, 1)

    def over_range(self, expr: str) -> Answer:
        window = self.window
        step = max(1.0, window.interval)
        moments = int((window.end - window.start) / step) + 1
        return self._answer(expr, "query_range", {"start": window.start, "end": window.end, "step": step}, moments)

    def exemplars(self, target: Target) -> list[Json]:
        """Those of the series of a query."""
        expr = self.resolver(target.panel.dashboard).resolved(target.expr)
        times = {"query": expr, "start": self.window.start, "end": self.window.end}
        found: list[Json] = self._ask("query_exemplars", times)["data"]
        return found

    def _answer(self, expr: str, path: str, times: Mapping[str, float], moments: int) -> Answer:
        data = self._ask(path, {"query": expr, "stats": "all", **times})["data"]
        result = data["result"]
        if data["resultType"] == "scalar":
            result = [{"metric": {}, "value": result}]
        series = [
            Series(
                {name: value for name, value in found["metric"].items() if name != "__name__"},
                [float(value) for _, value in found.get("values", [found.get("value")])],
            )
            for found in result
        ]
        stats = data["stats"]
        read = stats["samples"]["totalQueryableSamples"] / moments
        return Answer(expr, series, read, stats["timings"]["evalTotalTime"])

    def _ask(self, path: str, parameters: Mapping[str, Any]) -> Any:
        query = urlencode({name: str(value) for name, value in parameters.items()})
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}", timeout=TIMEOUT) as told:
                return json.load(told)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None
