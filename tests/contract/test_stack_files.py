"""The files of the stack: no finding of their linters, and they agree with the code."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from script.lib.stack_files import COMMAND, drifted

import celeryscope
from celeryscope_demo.programs import WORKERS, worker
from support.chart import CHART
from support.stack import builders

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
RABBITMQ = ROOT / "deploy/compose/rabbitmq.env"
LOCK = ROOT / "deploy/image/requirements.txt"
BUILD_LOCK = ROOT / "deploy/image/build-requirements.txt"
UNIT = ROOT / "deploy/systemd/celeryscope.service"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
BUILDERS = builders()
BIN = Path(sys.executable).parent


def run(*command: str | Path, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end; the caller looks at the exit code."""
    return subprocess.run(command, env=environ, cwd=ROOT, check=False, capture_output=True, text=True, timeout=50)


def assert_no_finding(*command: str | Path) -> None:
    done = run(*command)
    assert done.returncode == 0, done.stdout + done.stderr


def composed(*options: str) -> dict[str, Any]:
    """The compose file as docker-compose understands it: merged, with all variables at their defaults."""
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    done = run(BIN / "docker-compose", "--file", COMPOSE, *options, "config", environ=environ)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = composed("--profile", "*")["services"]
    return found


class TestLinters:
    def test_hadolint_finds_nothing(self) -> None:
        assert_no_finding(BIN / "hadolint", "--failure-threshold", "style", "Dockerfile")

    def test_the_compose_file_is_one_by_its_schema(self) -> None:
        assert_no_finding(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")

    def test_yamllint_finds_nothing(self) -> None:
        written = [COMPOSE, ROOT / "deploy/prometheus/prometheus.yml", ROOT / "deploy/yamllint.yml"]
        written += [CHART / "Chart.yaml", CHART / "values.yaml", *(CHART / "ci").glob("*.yaml")]
        written += (ROOT / "deploy/grafana").rglob("*.yml")
        assert_no_finding(BIN / "yamllint", "--strict", "-c", "deploy/yamllint.yml", *written)

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: Linux with systemd")
    def test_the_unit_is_valid_and_exposes_little(self, tmp_path: Path) -> None:
        unit = tmp_path / UNIT.name
        # The program is not installed where tests run.
        unit.write_text(re.sub(r"(?m)^ExecStart=.*$", "ExecStart=/bin/true", UNIT.read_text()))
        assert_no_finding("systemd-analyze", "verify", unit)
        assert_no_finding("systemd-analyze", "security", "--offline=true", "--threshold=20", unit)


class TestLocks:
    def locked(self, path: Path) -> dict[str, str]:
        text = path.read_text().replace("\\\n", " ")
        entries = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
        assert all("--hash=sha256:" in entry for entry in entries)
        return {name: version for entry in entries for name, version in re.findall(r"^(\S+)==(\S+)", entry)}

    def test_hold_all_that_the_exporter_needs_in_versions_that_it_allows(self) -> None:
        locked = self.locked(LOCK)
        for wanted in map(Requirement, PROJECT["project"]["dependencies"]):
            assert wanted.specifier.contains(locked.get(wanted.name, "0")), f"{wanted}: run deploy/image/lock"

    @pytest.mark.parametrize("python", ["3.11.0", "3.13.9"])
    def test_hold_what_the_locked_need_on_every_python(self, python: str) -> None:
        environment = {"python_full_version": python, "python_version": python.rpartition(".")[0], "extra": ""}
        locked = self.locked(LOCK)
        for name in locked:
            try:
                needed = requires(name) or []
            except PackageNotFoundError:  # it is for another Python or system than this one
                continue
            for wanted in map(Requirement, needed):
                if wanted.marker is None or wanted.marker.evaluate(environment):
                    assert canonicalize_name(wanted.name) in locked, f"{name} needs {wanted}: run deploy/image/lock"

    def test_hold_what_builds_the_wheel(self) -> None:
        locked = self.locked(BUILD_LOCK)
        for wanted in map(Requirement, PROJECT["build-system"]["requires"]):
            assert wanted.specifier.contains(locked.get(wanted.name, "0")), f"{wanted}: run deploy/image/lock"


class TestImage:
    def test_says_the_version_of_the_package(self) -> None:
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        assert f"ARG VERSION={celeryscope.__version__}\n" in (ROOT / "Dockerfile").read_text()
        assert (chart["version"], chart["appVersion"]) == (celeryscope.__version__, celeryscope.__version__)

    def test_is_sent_all_that_the_wheel_is_made_of(self) -> None:
        ignored = (ROOT / ".dockerignore").read_text().splitlines()
        wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
        sources = [*wheel["packages"], *wheel["force-include"], "pyproject.toml", "README.md", "LICENSE"]
        allowed = tuple(line.removeprefix("!") for line in ignored if line.startswith("!"))
        assert ignored[1] == "*"
        assert [source for source in sources if not f"{source}/".startswith(tuple(f"{a}/" for a in allowed))] == []


class TestSourceDistribution:
    def test_has_all_that_the_wheel_and_the_stack_are_made_of(self) -> None:
        targets = PROJECT["tool"]["hatch"]["build"]["targets"]
        included = tuple(f"{path}/" for path in targets["sdist"]["only-include"])
        wheel = [*targets["wheel"]["packages"], *targets["wheel"]["force-include"]]
        stack = [
            "Dockerfile",
            ".dockerignore",
            "docker-compose.yml",
            "deploy/image/requirements.txt",
            str(CHART.relative_to(ROOT)),
        ]
        assert [path for path in (*wheel, *stack) if not f"{path}/".startswith(included)] == []


class TestCopies:
    def test_are_as_their_sources(self) -> None:
        assert drifted(ROOT) == [], f"run .venv/bin/python {COMMAND}"

    def test_differences_are_found(self, tmp_path: Path) -> None:
        for name in ("alerts", "deploy"):
            shutil.copytree(ROOT / name, tmp_path / name)
        orphan, changed = CHART / "files/rules/old.rules.yml", CHART / "files/rules/core.rules.yml"
        (tmp_path / orphan.relative_to(ROOT)).touch()
        with (tmp_path / changed.relative_to(ROOT)).open("a") as file:
            file.write("# by hand\n")
        found = drifted(tmp_path)
        assert orphan.relative_to(ROOT) in found
        assert changed.relative_to(ROOT) in found


class TestCompose:
    def test_every_service_is_hardened(self, services: dict[str, Any]) -> None:
        for name, service in services.items():
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name
            assert int(service["mem_limit"]) <= 2**30, name
            assert "privileged" not in service, name

    def test_only_loopback_ports_are_published(self, services: dict[str, Any]) -> None:
        published = {name: service["ports"] for name, service in services.items() if "ports" in service}
        assert set(published) == {"exporter", "prometheus", "alertmanager", "pager", "grafana"}
        assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}

    def test_the_broker_is_reached_from_the_demo_alone(self, services: dict[str, Any]) -> None:
        assert composed()["networks"]["cluster"]["internal"] is True
        for name in ("broker", "store"):
            assert list(services[name]["networks"]) == ["cluster"]

    def test_foreign_images_are_pinned_and_can_be_replaced(self) -> None:
        images = {name: service["image"] for name, service in SERVICES.items() if service["image"] not in BUILDERS}
        assert images.keys() == {"broker", "store", "rabbitmq", "prometheus", "alertmanager", "grafana"}
        for image in images.values():
            assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[a-z/]+:v?\d+\.\d+\.\d+(-[a-z]+)?\}", image)

    def test_each_image_is_built_once_and_asked_of_no_registry(self) -> None:
        assert BUILDERS == {"celeryscope": ["exporter"], "celeryscope-demo": ["pager"]}
        for name, service in SERVICES.items():
            assert (service.get("pull_policy") == "never") == (service["image"] in BUILDERS), name

    def test_docker_compose_tells_of_mistakes_by_its_exit_code(self, tmp_path: Path) -> None:
        wrong = tmp_path / "wrong.yml"
        wrong.write_text("services: {a: {image: a, depends_on: [b]}}\n")
        with pytest.raises(AssertionError, match="undefined service"):
            composed("--file", str(wrong))

    @pytest.mark.parametrize("kind", WORKERS, ids=lambda kind: kind.name)
    def test_workers_are_those_of_the_demo(self, kind: Any, services: dict[str, Any]) -> None:
        arguments = [*worker(kind, {}).command][5:]  # after python -m celery -A APP
        wanted = re.sub(r" (?=[^-])", "=", " ".join(arguments).replace(" -E ", " "))
        names = {"-n=": "--hostname=", "-Q=": "--queues=", "-c=": "--concurrency="}
        for short, long in names.items():
            wanted = wanted.replace(f" {short}", f" {long}")
        given = services[f"worker-{kind.name}"]["command"]
        assert given[:2] == ["celery", "--app=celeryscope_demo.app"]
        assert set(given[2:]) - {"-E"} == set(wanted.split())

    def test_on_rabbitmq_everybody_has_the_same_broker_and_waits_for_it(self) -> None:
        found = composed("--env-file", str(RABBITMQ))["services"]
        told = {
            name: service["environment"].get("CELERY_BROKER_URL")
            for name, service in found.items()
            if service["image"] in BUILDERS
        }
        assert set(told.values()) == {"amqp://demo:demo@rabbitmq:5672//"}
        assert found["worker-general"]["depends_on"]["rabbitmq"]["condition"] == "service_healthy"

    def test_what_is_mounted_is_there(self, services: dict[str, Any]) -> None:
        sources = [mount["source"] for service in services.values() for mount in service.get("volumes", ())]
        assert [source for source in sources if source.startswith("/") and not Path(source).exists()] == []
