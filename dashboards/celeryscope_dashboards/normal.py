"""Dashboards as text: the same to the byte whenever they are the same, and only what Grafana knows from 9.3 on."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

SCHEMA_VERSION = 37  # Grafana 9.3's; newer ones migrate it

# Options that the SDK writes of its own accord and that are younger than Grafana 9.3, or say nothing, by kind of panel.
YOUNGER: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "heatmap": frozenset({"filterValues", "selectionMode"}),
        "stat": frozenset({"percentChangeColorMode", "showPercentChange", "wideLayout"}),
        "state-timeline": frozenset({"perPage"}),
        "table": frozenset({"cellHeight", "footer", "frameIndex", "showTypeIcons"}),
    }
)
YOUNGER_VARIABLE = frozenset({"allowCustomValue", "auto", "auto_count", "auto_min"})


def text(built: Dashboard) -> str:
    """A dashboard as JSON, with a newline at its end."""
    data: dict[str, Any] = json.loads(json.dumps(built, cls=JSONEncoder))
    data["schemaVersion"] = SCHEMA_VERSION
    for panel in data["panels"]:
        _panel(panel)
        for inner in panel.get("panels", ()):
            _panel(inner)
    for variable in data["templating"]["list"]:
        for name in YOUNGER_VARIABLE & variable.keys():
            del variable[name]
    for found in (*data["annotations"]["list"], *data["links"]):
        found.pop("placement", None)
    for found in data["annotations"]["list"]:
        found.pop("builtIn", None)
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _panel(panel: dict[str, Any]) -> None:
    panel.pop("repeatDirection", None)
    options = panel.get("options", {})
    for name in YOUNGER.get(panel["type"], frozenset()) & options.keys():
        del options[name]
    if panel["type"] == "heatmap":
        # As 9.3 has it; newer ones migrate it to a mode.
        options["tooltip"] = {"show": True, "yHistogram": False}
