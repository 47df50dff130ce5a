"""Prometheus, Alertmanager and Grafana, where they are installed: what they are told, and how they are started.

Each is configured in the demo's temporary folder and keeps its data there.
"""

import json
import re
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from celeryscope import resources
from celeryscope_demo import programs
from celeryscope_demo.address import Address, UnusableAddress, free_port, require_free
from celeryscope_demo.hurry import hurried
from celeryscope_demo.processes import Children, Program, Stage

SCRAPE_INTERVAL = "5s"  # shorter than production needs: somebody is watching
SHORTEST_INTERVAL = "1s"
RETENTION = "1d"
RULES = "*.rules.yml"

Which = Callable[[str], str | None]


@dataclass(frozen=True)
class Tool:
    """A server that may be installed, the names of its program, and what to do where it is not."""

    name: str
    programs: tuple[str, ...]
    port: int  # where people look for it
    remedy: str

    def find(self, which: Which) -> str | None:
        """The program's path; None where it is not installed."""
        return next((path for program in self.programs if (path := which(program)) is not None), None)


PROMETHEUS = Tool("prometheus", ("prometheus",), 9090, "apt-get install prometheus")
ALERTMANAGER = Tool(
    "alertmanager", ("prometheus-alertmanager", "alertmanager"), 9093, "apt-get install prometheus-alertmanager"
)
GRAFANA = Tool("grafana", ("grafana",), 3000, "see Grafana's installation manual")


class Monitoring:
    """What is started of them."""

    def __init__(self, children: Children, tell: Callable[[str, str], None], which: Which, hurry: float = 1.0) -> None:
        """`tell` is told each one's name, and where it is or what to do. Alerts come `hurry` times sooner."""
        self._children = children
        self._tell = tell
        self._which = which
        self._hurry = hurry
        self.urls: dict[str, str] = {}
        self.pager: Address | None = None  # takes the notifications

    def start(self, exporter: Address) -> None:
        """Start what is installed."""
        pager = Address("127.0.0.1", free_port())
        alertmanager = self._start(ALERTMANAGER, partial(_alertmanager, pager=pager, hurry=self._hurry))
        if alertmanager is not None:
            self._children.start(programs.pager(pager.port))
            self._tell("pager", f"{pager.url}pages: what would have been paged")
            self.pager = pager
        server = partial(_prometheus, exporter=exporter, alertmanager=alertmanager, hurry=self._hurry)
        prometheus = self._start(PROMETHEUS, server)
        grafana = partial(_grafana, prometheus=prometheus, alertmanager=alertmanager, hurry=self._hurry)
        self._start(GRAFANA, grafana)

    def _start(self, tool: Tool, program: Callable[[str, Path, Address], Program]) -> Address | None:
        path = tool.find(self._which)
        if path is None:
            self._tell(tool.name, f"not on the PATH, so it is not started: {tool.remedy}")
            return None
        address = Address("127.0.0.1", _port(tool.port))
        folder = self._children.folder / tool.name
        folder.mkdir()
        child = self._children.start(program(path, folder, address))
        self.urls[tool.name] = address.url
        self._tell(tool.name, f"{address.url}, pid {child.pid}")
        return address


def _port(usual: int) -> int:
    """The port where people look for it, or a free one."""
    with suppress(UnusableAddress):
        require_free(Address("127.0.0.1", usual))
        return usual
    return free_port()


def _prometheus(
    path: str, folder: Path, address: Address, *, exporter: Address, alertmanager: Address | None, hurry: float
) -> Program:
    """Scrapes the exporter, and sends alerts where an Alertmanager was started."""
    for rules in resources.folder("alerts").glob(RULES):
        (folder / rules.name).write_text(hurried(rules.read_text(), hurry))
    interval = SCRAPE_INTERVAL if hurry == 1 else SHORTEST_INTERVAL
    settings: dict[str, object] = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(folder / RULES)],
        "scrape_configs": [{"job_name": "celeryscope", "static_configs": [{"targets": [str(exporter.reachable)]}]}],
    }
    if alertmanager is not None:
        settings["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [str(alertmanager)]}]}]}
    command = [path, "--config.file", _written(folder / "prometheus.yml", settings)]
    command += ["--storage.tsdb.path", str(folder / "data"), "--storage.tsdb.retention.time", RETENTION]
    return Program(
        PROMETHEUS.name, [*command, "--web.listen-address", str(address)], Stage.WATCHERS, [(signal.SIGTERM, 2.0)]
    )


def _alertmanager(path: str, folder: Path, address: Address, *, pager: Address, hurry: float) -> Program:
    """Routes and inhibits as in production, and tells the demo's own receiver."""
    alerts = resources.folder("alerts")
    shutil.copytree(alerts / "templates", folder / "templates")
    config = folder / "alertmanager.yml"
    config.write_text(hurried(with_receivers((alerts / "alertmanager.yml").read_text(), pager.url), hurry))
    command = [path, "--config.file", str(config)]
    command += ["--storage.path", str(folder / "data"), "--cluster.listen-address="]
    return Program(
        ALERTMANAGER.name, [*command, "--web.listen-address", str(address)], Stage.WATCHERS, [(signal.SIGTERM, 1.0)]
    )


def with_receivers(config: str, url: str) -> str:
    """An Alertmanager configuration with the same receivers, all of which tell a webhook."""
    before, marker, receivers = config.partition("\nreceivers:")
    names = re.findall(r"^  - name: (.+)$", receivers, re.MULTILINE)
    told = [{"name": name, "webhook_configs": [{"url": f"{url}{name}"}]} for name in names if name != "nobody"]
    return f"{before}{marker} {json.dumps([{'name': 'nobody'}, *told])}\n"


def _grafana(
    path: str, folder: Path, address: Address, *, prometheus: Address | None, alertmanager: Address | None, hurry: float
) -> Program:
    """Everybody may look, with the Prometheus and the Alertmanager of the demo as sources."""
    for name, settings in provisioning(prometheus, alertmanager, hurry).items():
        (folder / "provisioning" / name).mkdir(parents=True)
        _written(folder / "provisioning" / name / "celeryscope.yaml", settings)
    home = Path(path).resolve().parent.parent
    if not (home / "conf").is_dir():
        home = Path("/usr/share/grafana")  # where packages of Linux distributions put it
    environ = {
        "GF_SERVER_HTTP_ADDR": address.host,
        "GF_SERVER_HTTP_PORT": str(address.port),
        "GF_PATHS_DATA": str(folder / "data"),
        "GF_PATHS_LOGS": str(folder / "logs"),
        "GF_PATHS_PROVISIONING": str(folder / "provisioning"),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    }
    command = [path, "server", "--homepath", str(home)]
    return Program(GRAFANA.name, command, Stage.WATCHERS, [(signal.SIGTERM, 2.0)], environ=environ)


def provisioning(prometheus: Address | None, alertmanager: Address | None, hurry: float) -> dict[str, dict[str, Any]]:
    """What Grafana is told, by folder of its provisioning: what deploy/grafana tells, with the demo's own addresses."""
    interval = SCRAPE_INTERVAL if hurry == 1 else SHORTEST_INTERVAL
    sources: list[dict[str, object]] = []
    if prometheus is not None:
        data: dict[str, object] = {"httpMethod": "POST", "timeInterval": interval}
        source = {"name": "Prometheus", "uid": "prometheus", "type": "prometheus", "url": prometheus.url}
        sources.append({**source, "access": "proxy", "isDefault": True, "editable": False, "jsonData": data})
    if alertmanager is not None:
        data = {"implementation": "prometheus", "handleGrafanaManagedAlerts": False}
        source = {"name": "Alertmanager", "uid": "alertmanager", "type": "alertmanager", "url": alertmanager.url}
        sources.append({**source, "access": "proxy", "editable": False, "jsonData": data})
    provider = {
        "name": "celeryscope",
        "type": "file",
        "folder": "Celery",
        "folderUid": "celery",
        "disableDeletion": True,
        "allowUiUpdates": False,
        "options": {"path": str(resources.folder("dashboards"))},
    }
    return {
        "datasources": {"apiVersion": 1, "datasources": sources},
        "dashboards": {"apiVersion": 1, "providers": [provider]},
    }


def _written(path: Path, settings: object) -> str:
    """Write settings as JSON, which is YAML too; return where."""
    path.write_text(json.dumps(settings, indent=2))
    return str(path)
