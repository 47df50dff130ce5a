"""The compose file, run by a real engine: started, asked, and taken down."""

import json
import re
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from celeryscope_demo.hurry import hurried
from support.engine import Engine, run
from support.images import alertmanager_image, prometheus_image, python_image, valkey_image
from support.processes import REPOSITORY
from support.servers import free_port

FILE = REPOSITORY / "docker-compose.yml"
# The program itself: the wrapper that its package puts beside it ends with exit code 0 whatever happens.
COMPOSE = Path(sys.prefix) / "stack/compose/docker-compose"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PYTHON = "python:3.13-slim"
PORTS = ("EXPORTER_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT", "PAGER_PORT", "GRAFANA_PORT")
# Grafana's image cannot be made of what a machine has.
WITHOUT_IMAGE = {"grafana"}
HEALTHY_TIMEOUT = 240.0  # seconds


@dataclass(frozen=True)
class Stack:
    """A project of docker-compose on an engine. `ports` are those of this machine, by variable."""

    engine: Engine
    folder: Path
    ports: Mapping[str, int]

    def compose(self, *arguments: str, timeout: float = 600.0) -> str:
        """What docker-compose prints."""
        files = ["--file", str(FILE), "--file", str(self.folder / "override.yml")]
        return run([str(COMPOSE), *files, "--progress", "plain", *arguments], self.environ, timeout)

    @property
    def environ(self) -> dict[str, str]:
        """The engine's variables, free ports, and rules and routes that do not take their time."""
        return {
            **self.engine.environ,
            **{name: str(port) for name, port in self.ports.items()},
            "RULES_DIR": str(self.folder / "rules"),
            "ALERTMANAGER_CONFIG": str(self.folder / "alertmanager.yml"),
        }

    def containers(self) -> dict[str, dict[str, Any]]:
        """The containers that there are, by service."""
        lines = self.compose("--profile", "*", "ps", "--all", "--format", "json").splitlines()
        return {found["Service"]: found for found in map(json.loads, lines)}

    def get(self, port: str, path: str) -> Any:
        """The JSON that a published port answers with."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[port]}{path}", timeout=10.0) as answer:
            return json.load(answer)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query, as Prometheus gives them."""
        result: list[dict[str, Any]] = self.get("PROMETHEUS_PORT", f"/api/v1/query?query={quote(expression)}")["data"][
            "result"
        ]
        return result

    def value(self, expression: str) -> float | None:
        """The value of an expression that has one."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def pages(self) -> list[dict[str, Any]]:
        """What reached the demo's receiver."""
        pages: list[dict[str, Any]] = self.get("PAGER_PORT", "/pages")
        return pages


def services() -> list[str]:
    """What starts without a profile, and can be run here."""
    declared = yaml.safe_load(FILE.read_text())["services"]
    return [name for name, service in declared.items() if "profiles" not in service and name not in WITHOUT_IMAGE]


def image(service: str) -> str:
    """The image of a service, where no variable says another."""
    declared = yaml.safe_load(FILE.read_text())["services"][service]["image"]
    return re.sub(r"\$\{\w+:-(.*)\}", r"\1", declared)


def builders() -> dict[str, list[str]]:
    """By image of this project, the services that build it."""
    built: dict[str, list[str]] = {}
    for name, service in yaml.safe_load(FILE.read_text())["services"].items():
        if not service["image"].startswith("$"):
            built.setdefault(service["image"], []).extend([name] if "build" in service else [])
    return built


@contextmanager
def stack(engine: Engine, hurry: float) -> Iterator[Stack]:
    """Make the base images, build those of the project, and take down afterwards what was brought up.

    Alerts come `hurry` times sooner.
    """
    folder = engine.folder / "project"
    folder.mkdir()
    python_image(engine, PYTHON, folder / "rootfs")
    valkey_image(engine, image("broker"), folder / "rootfs")
    prometheus_image(engine, image("prometheus"), folder / "rootfs")
    alertmanager_image(engine, image("alertmanager"), folder / "rootfs")
    made = Stack(engine, folder, {name: free_port() for name in PORTS})
    # In a build, pip asks from this machine's network and trusts whom this machine trusts.
    built = {"build": {"network": "host", "secrets": ["ca"]}}
    building = [name for names in builders().values() for name in names]
    override = {"services": dict.fromkeys(building, built), "secrets": {"ca": {"file": str(CERTIFICATES)}}}
    (folder / "override.yml").write_text(json.dumps(override))
    (folder / "rules").mkdir()
    for rules in (REPOSITORY / "alerts").glob("*.rules.yml"):
        (folder / "rules" / rules.name).write_text(hurried(rules.read_text(), hurry))
    routes = (REPOSITORY / "deploy/compose/alertmanager.yml").read_text()
    (folder / "alertmanager.yml").write_text(hurried(routes, hurry))
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # servers read it as users of their own
    made.compose("build")
    try:
        yield made
    finally:
        made.compose("--profile", "*", "down", "--volumes", "--timeout", "10")
