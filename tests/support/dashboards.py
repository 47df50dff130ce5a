"""The generated dashboards: their panels, queries, variables, annotations and links, as Grafana finds them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from support.processes import REPOSITORY

FOLDER = REPOSITORY / "dashboards" / "generated"
NAMES = ("overview", "task", "queues", "workers", "limits", "slo", "exporter")
PREFIX = "celeryscope-"

Json = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Target:
    """One query of a panel."""

    panel: "Panel"
    data: Json

    @property
    def expr(self) -> str:
        return str(self.data["expr"])

    @property
    def legend(self) -> str:
        return str(self.data.get("legendFormat", ""))

    @property
    def instant(self) -> bool:
        return bool(self.data.get("instant", False))

    @property
    def format(self) -> str:
        return str(self.data.get("format", "time_series"))

    @property
    def name(self) -> str:
        """Dashboard, panel and letter: what a failure shows."""
        return f"{self.panel.name} {self.data['refId']}"


@dataclass(frozen=True, eq=False)
class Panel:
    """One panel that is no row. `row` is the collapsed row that it is in, None where it is seen at first."""

    dashboard: "Dashboard"
    data: Json
    row: str | None

    @property
    def type(self) -> str:
        return str(self.data["type"])

    @property
    def title(self) -> str:
        return str(self.data.get("title", ""))

    @property
    def name(self) -> str:
        """Dashboard and title: unique, and stable where ids are not."""
        return f"{self.dashboard.name}/{self.title or self.data.get('id')}"

    @cached_property
    def targets(self) -> Sequence[Target]:
        return tuple(Target(self, target) for target in self.data.get("targets", ()))

    @property
    def options(self) -> Json:
        found: Json = self.data.get("options", {})
        return found

    @property
    def defaults(self) -> Json:
        """What its fields have unless an override says otherwise."""
        found: Json = self.data.get("fieldConfig", {}).get("defaults", {})
        return found

    @property
    def overrides(self) -> Sequence[Json]:
        found: Sequence[Json] = self.data.get("fieldConfig", {}).get("overrides", ())
        return found

    def properties(self, name: str) -> Iterator[Any]:
        """The values of a field's property, such as `unit` or `custom.align`: its default first, then overrides."""
        value: Any = self.defaults
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            yield value
        for override in self.overrides:
            yield from (found["value"] for found in override["properties"] if found["id"] == name)

    @property
    def data_links(self) -> Iterator[Json]:
        """Links from its values."""
        for links in self.properties("links"):
            yield from links

    @property
    def links(self) -> Iterator[Json]:
        """Links of its own and from its values."""
        yield from self.data.get("links", ())
        yield from self.data_links


@dataclass(frozen=True, eq=False)
class Dashboard:
    """One generated file."""

    name: str  # without prefix and suffix
    data: Json

    @property
    def uid(self) -> str:
        return str(self.data["uid"])

    @property
    def rows(self) -> Sequence[Json]:
        return [panel for panel in self.data["panels"] if panel["type"] == "row"]

    @cached_property
    def panels(self) -> Sequence[Panel]:
        """All panels but rows, those of collapsed rows included, in order."""
        return tuple(self._panels())

    def _panels(self) -> Iterator[Panel]:
        for panel in self.data["panels"]:
            if panel["type"] != "row":
                yield Panel(self, panel, None)
            for inner in panel.get("panels", ()):
                yield Panel(self, inner, str(panel["title"]))

    @property
    def targets(self) -> Iterator[Target]:
        for panel in self.panels:
            yield from panel.targets

    @property
    def variables(self) -> Sequence[Json]:
        found: Sequence[Json] = self.data["templating"]["list"]
        return found

    def variable(self, name: str) -> Json:
        """The variable of a name. Raises KeyError."""
        for variable in self.variables:
            if variable["name"] == name:
                return variable
        raise KeyError(f"{self.name} has no variable {name}")

    @property
    def annotations(self) -> Sequence[Json]:
        """Those that ask a datasource; Grafana's own is left out."""
        return [found for found in self.data["annotations"]["list"] if found.get("builtIn") != 1]

    @property
    def links(self) -> Sequence[Json]:
        found: Sequence[Json] = self.data.get("links", ())
        return found


def paths() -> Sequence[Path]:
    """The generated files."""
    return sorted(FOLDER.glob("*.json"))


@cache
def dashboards() -> Sequence[Dashboard]:
    """All of them, in the order in which they are told."""
    found = {path.stem.removeprefix(PREFIX): json.loads(path.read_text(encoding="utf-8")) for path in paths()}
    order = [name for name in NAMES if name in found] + sorted(found.keys() - set(NAMES))
    return tuple(Dashboard(name, found[name]) for name in order)


def dashboard(name: str) -> Dashboard:
    """The dashboard of a name, such as `overview`. Raises LookupError."""
    for found in dashboards():
        if found.name == name:
            return found
    raise LookupError(f"{FOLDER} has no {PREFIX}{name}.json")


def targets() -> Iterator[Target]:
    for found in dashboards():
        yield from found.targets
