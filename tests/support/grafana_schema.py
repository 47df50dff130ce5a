"""What dashboards may be made of: types and options that Grafana has known from 9.3 to its newest, and no others.

Shapes are those of shapes.py.

What is left out on purpose: `cellOptions` of tables (9.5; `displayMode` is read by 9.3, and newer ones migrate it where
`schemaVersion` is below 38), `wideLayout` and `showPercentChange` of stats, `qryType` and `allowCustomValue` of
variables, `filter` of annotations and transformations, `placement` of links.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from support.shapes import ANY, unknown

NUMBER = float
TEXTS = [str]
SCHEMA_VERSIONS = {37}  # of 9.3: what newer ones have changed, they migrate from there

DATASOURCE = {"type": {"prometheus", "datasource", "grafana"}, "uid": str}
REDUCERS = {"lastNotNull", "last", "first", "firstNotNull", "min", "max", "mean", "sum", "count", "range", "delta"}
LEGEND = {
    "displayMode": {"list", "table"},
    "placement": {"bottom", "right"},
    "showLegend": bool,
    "calcs": [REDUCERS],
    "sortBy": {"Last *", "Last", "Max", "Mean", "Min", "Total", "Name"},
    "sortDesc": bool,
    "width": NUMBER,
}
TOOLTIP = {"mode": {"single", "multi", "none"}, "sort": {"none", "asc", "desc"}}
REDUCE = {"reduceOptions": {"calcs": [REDUCERS], "fields": str, "values": bool, "limit": NUMBER}}
TEXT_SIZES = {"text": {"titleSize": NUMBER, "valueSize": NUMBER}}
ORIENTATION = {"orientation": {"auto", "horizontal", "vertical"}}
HIDE = {"hideFrom": {"legend": bool, "tooltip": bool, "viz": bool}}

OPTIONS: Mapping[str, Mapping[str, object]] = {
    "timeseries": {"legend": LEGEND, "tooltip": TOOLTIP},
    "stat": {
        **REDUCE,
        **TEXT_SIZES,
        **ORIENTATION,
        "graphMode": {"none", "area"},
        "colorMode": {"none", "value", "background"},
        "justifyMode": {"auto", "center"},
        "textMode": {"auto", "value", "value_and_name", "name", "none"},
    },
    "gauge": {**REDUCE, **TEXT_SIZES, **ORIENTATION, "showThresholdLabels": bool, "showThresholdMarkers": bool},
    "bargauge": {
        **REDUCE,
        **TEXT_SIZES,
        **ORIENTATION,
        "displayMode": {"basic", "gradient", "lcd"},
        "minVizHeight": NUMBER,
        "minVizWidth": NUMBER,
        "showUnfilled": bool,
    },
    "table": {
        "showHeader": bool,
        "frameIndex": NUMBER,
        "sortBy": [{"displayName": str, "desc": bool}],
        "footer": {
            "show": bool, "reducer": [REDUCERS], "fields": ANY, "enablePagination": bool, "countRows": bool,
        },
    },
    "state-timeline": {
        "mergeValues": bool,
        "showValue": {"auto", "always", "never"},
        "alignValue": {"left", "center", "right"},
        "rowHeight": NUMBER,
        "legend": LEGEND,
        "tooltip": TOOLTIP,
    },
    "heatmap": {
        "calculate": bool,
        "calculation": ANY,
        "color": {
            "mode": {"scheme", "opacity"},
            "scheme": str,
            "fill": str,
            "scale": {"linear", "exponential"},
            "exponent": NUMBER,
            "steps": NUMBER,
            "min": NUMBER,
            "max": NUMBER,
            "reverse": bool,
        },
        "cellGap": NUMBER,
        "cellRadius": NUMBER,
        "cellValues": {"unit": str, "decimals": NUMBER},
        "exemplars": {"color": str},
        "filterValues": {"le": NUMBER, "ge": NUMBER},
        "legend": {"show": bool},
        "rowsFrame": {"layout": {"auto", "le", "ge", "unknown"}, "value": str},
        "showValue": {"auto", "always", "never"},
        # `show` up to 10.2, `mode` since.
        "tooltip": {"show": bool, "mode": {"single", "multi", "none"}, "yHistogram": bool},
        "yAxis": {
            "axisPlacement": {"auto", "left", "right", "hidden"}, "axisLabel": str, "axisWidth": NUMBER, "unit": str,
            "decimals": NUMBER, "min": NUMBER, "max": NUMBER, "reverse": bool,
        },
    },
    "text": {"mode": {"markdown"}, "content": str},
}  # fmt: skip

CUSTOM: Mapping[str, Mapping[str, object]] = {
    "timeseries": {
        **HIDE,
        "axisColorMode": {"text", "series"},
        "axisGridShow": bool,
        "axisLabel": str,
        "axisPlacement": {"auto", "left", "right", "hidden"},
        "axisSoftMax": NUMBER,
        "axisSoftMin": NUMBER,
        "axisWidth": NUMBER,
        "barAlignment": {-1, 0, 1},
        "drawStyle": {"line", "bars", "points"},
        "fillBelowTo": str,
        "fillOpacity": NUMBER,
        "gradientMode": {"none", "opacity", "hue", "scheme"},
        "lineInterpolation": {"linear", "smooth", "stepBefore", "stepAfter"},
        "lineStyle": {"fill": {"solid", "dash", "dot"}, "dash": [NUMBER]},
        "lineWidth": NUMBER,
        "pointSize": NUMBER,
        "scaleDistribution": {"type": {"linear", "log", "symlog"}, "log": {2, 10}, "linearThreshold": NUMBER},
        "showPoints": {"auto", "always", "never"},
        "spanNulls": {True, False, *range(1_000, 86_400_001, 1_000)},  # or so many milliseconds
        "stacking": {"mode": {"none", "normal", "percent"}, "group": str},
        "thresholdsStyle": {"mode": {"off", "line", "line+area", "area", "dashed", "dashed+area", "series"}},
        "transform": {"constant", "negative-Y"},
    },
    "stat": {},
    "gauge": {},
    "bargauge": {},
    "table": {
        "align": {"auto", "left", "center", "right"},
        "displayMode": {
            "auto", "color-text", "color-background", "color-background-solid", "gradient-gauge", "lcd-gauge", "basic",
        },
        "filterable": bool,
        "hidden": bool,
        "inspect": bool,
        "minWidth": NUMBER,
        "width": NUMBER,
    },
    "state-timeline": {**HIDE, "fillOpacity": NUMBER, "lineWidth": NUMBER},
    "heatmap": {**HIDE, "scaleDistribution": {"type": {"linear", "log"}, "log": {2, 10}}},
    "text": {},
}  # fmt: skip

LINK = {"title": str, "url": str, "targetBlank": bool}
FIELDS = {
    "unit": str,
    "decimals": NUMBER,
    "min": NUMBER,
    "max": NUMBER,
    "displayName": str,
    "noValue": str,
    "description": str,
    "filterable": bool,
    "links": [LINK],
    "color": {
        "mode": {
            "thresholds", "palette-classic", "fixed", "continuous-GrYlRd", "continuous-RdYlGr", "continuous-BlPu",
            "continuous-YlRd", "continuous-blues", "continuous-greens", "continuous-reds", "continuous-purples",
        },
        "fixedColor": str,
        "seriesBy": {"last", "min", "max"},
    },
    "mappings": [{"type": {"value", "range", "regex", "special"}, "options": ANY}],
    "thresholds": {"mode": {"absolute", "percentage"}, "steps": [{"color": str, "value": ANY}]},
}  # fmt: skip

MATCHERS = {"byName", "byNames", "byRegexp", "byType", "byFrameRefID"}

TARGET = {
    "refId": str,
    "expr": str,
    "legendFormat": str,
    "instant": bool,
    "range": bool,
    "format": {"time_series", "table", "heatmap"},
    "interval": str,
    "intervalFactor": {1},
    "exemplar": bool,
    "editorMode": {"code", "builder"},
    "hide": bool,
    "datasource": DATASOURCE,
}

TRANSFORMATIONS: Mapping[str, object] = {
    "organize": {"excludeByName": {"*": bool}, "indexByName": {"*": NUMBER}, "renameByName": {"*": str}},
    "merge": {},
    "joinByField": {"byField": str, "mode": {"outer", "inner"}},
    "renameByRegex": {"regex": str, "renamePattern": str},
    "filterFieldsByName": {
        "include": {"names": TEXTS, "pattern": str}, "exclude": {"names": TEXTS, "pattern": str},
    },
    "sortBy": {"fields": ANY, "sort": [{"field": str, "desc": bool}]},
    "labelsToFields": {"mode": {"columns", "rows"}, "keepLabels": TEXTS, "valueLabel": str},
    "seriesToRows": {},
    "reduce": {"reducers": [REDUCERS], "mode": str, "includeTimeField": bool, "labelsToFields": bool},
    "groupBy": {"fields": ANY},
    "limit": {"limitField": NUMBER},
}  # fmt: skip

GRID = {"x": NUMBER, "y": NUMBER, "w": NUMBER, "h": NUMBER}

PANEL = {
    "id": NUMBER,
    "type": set(OPTIONS),
    "title": str,
    "description": str,
    "gridPos": GRID,
    "datasource": DATASOURCE,
    "targets": [TARGET],
    "options": ANY,
    "fieldConfig": {
        "defaults": {**FIELDS, "custom": ANY},
        "overrides": [{"matcher": {"id": MATCHERS, "options": ANY}, "properties": [{"id": str, "value": ANY}]}],
    },
    "transformations": [{"id": set(TRANSFORMATIONS), "options": ANY, "disabled": bool}],
    "links": [LINK],
    "interval": str,
    "maxDataPoints": NUMBER,
    "timeFrom": str,
    "hideTimeOverride": bool,
    "transparent": bool,
    "pluginVersion": str,
    "repeat": str,
    "repeatDirection": {"h", "v"},
    "maxPerRow": NUMBER,
}

ROW = {
    "id": NUMBER,
    "type": {"row"},
    "title": str,
    "collapsed": bool,
    "gridPos": GRID,
    "panels": [ANY],
    "repeat": str,
    "datasource": DATASOURCE,
    "targets": [ANY],
}

CURRENT = {"selected": bool, "text": ANY, "value": ANY}
VARIABLE = {
    "name": str,
    "label": str,
    "description": str,
    "type": {"datasource", "query", "interval", "custom", "constant", "textbox"},
    "query": ANY,
    "definition": str,
    "datasource": DATASOURCE,
    "regex": str,
    "refresh": {0, 1, 2},
    "multi": bool,
    "includeAll": bool,
    "allValue": ANY,  # a string or null
    "current": CURRENT,
    "options": [{"selected": bool, "text": ANY, "value": ANY}],
    "hide": {0, 1, 2},
    "skipUrlSync": bool,
    "sort": set(range(7)),
    "auto": bool,
    "auto_min": str,
    "auto_count": NUMBER,
}
QUERY_OF_VARIABLE = {"query": str, "refId": str}

ANNOTATION = {
    "name": str,
    "type": {"dashboard"},
    "builtIn": {0, 1},
    "datasource": DATASOURCE,
    "enable": bool,
    "hide": bool,
    "iconColor": str,
    "expr": str,
    "step": str,
    "tagKeys": str,
    "textFormat": str,
    "titleFormat": str,
    "useValueForTime": ANY,  # a boolean, or "on"
    "target": ANY,
}

DASHBOARD_LINK = {
    "title": str,
    "type": {"dashboards", "link"},
    "icon": {"external link", "dashboard", "question", "info", "bolt", "doc", "cloud"},
    "tooltip": str,
    "url": str,
    "tags": TEXTS,
    "asDropdown": bool,
    "targetBlank": bool,
    "includeVars": bool,
    "keepTime": bool,
}

DASHBOARD = {
    "uid": str,
    "title": str,
    "description": str,
    "tags": TEXTS,
    "style": {"dark"},
    "timezone": {"browser", "", "utc"},
    "editable": bool,
    "graphTooltip": {0, 1, 2},
    "schemaVersion": SCHEMA_VERSIONS,
    "version": NUMBER,
    "refresh": {"", "30s", "1m", "5m"},
    "time": {"from": str, "to": str},
    "timepicker": {"refresh_intervals": TEXTS, "hidden": bool, "time_options": TEXTS, "nowDelay": str},
    "fiscalYearStartMonth": {0},
    "liveNow": bool,
    "weekStart": str,
    "templating": {"list": [VARIABLE]},
    "annotations": {"list": [ANNOTATION]},
    "links": [DASHBOARD_LINK],
    "panels": [ANY],
}

# Of Grafana's list; a `suffix:` or `prefix:` may be anything.
UNITS = {
    "none", "short", "percent", "percentunit", "string", "locale", "bytes", "decbytes", "Bps", "binBps", "s", "ms", "m",
    "h", "d", "dtdurations", "dthms", "dtdhms", "clocks", "hertz", "cps", "ops", "reqps", "cpm", "opm", "dateTimeAsIso",
    "dateTimeAsIsoNoDateIfToday", "dateTimeFromNow", "bool_yes_no", "bool_on_off", "bool",
}  # fmt: skip
AFFIXED = re.compile(r"(?:suffix|prefix):.+")

COLORS = re.compile(
    r"(?:(?:super-light|light|semi-dark|dark)-)?(?:green|yellow|orange|red|blue|purple)|text|transparent|#[0-9a-fA-F]{6}"
)


def known_unit(unit: str) -> bool:
    return unit in UNITS or bool(AFFIXED.fullmatch(unit))


def unknown_in_panel(panel: Mapping[str, Any]) -> Iterator[str]:
    """All of a panel that is no row, with the options and field properties of its type."""
    yield from unknown(dict(panel), PANEL, "panel")
    kind = panel["type"]
    if kind not in OPTIONS:
        return
    custom = CUSTOM[kind]
    properties = {**FIELDS, **{f"custom.{name}": shape for name, shape in custom.items()}}
    yield from unknown(panel.get("options", {}), OPTIONS[kind], "options")
    fields = panel.get("fieldConfig", {})
    yield from unknown(fields.get("defaults", {}).get("custom", {}), custom, "custom")
    for override in fields.get("overrides", ()):
        for found in override["properties"]:
            yield from unknown({found["id"]: found["value"]}, properties, f"override {override['matcher']}")
    for transformation in panel.get("transformations", ()):
        kind = transformation["id"]
        yield from unknown(transformation["options"], TRANSFORMATIONS.get(kind, ANY), f"transformation {kind}")
