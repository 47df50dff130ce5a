"""What is installed from a wheel, away from any checkout, has everything that belongs to it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from celeryscope.rules.command import PARTS, alert_names, committed
from support.exporter import exporter
from support.processes import REPOSITORY, pythonpath
from support.servers import Valkey

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

BUILD_TIMEOUT = 60.0  # seconds


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel: what pip puts into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True, timeout=BUILD_TIMEOUT)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_it_has_the_rules_that_it_prints_and_every_runbook(installed: Path) -> None:
    data = installed / "celeryscope/data"
    for part in PARTS:
        assert (data / f"alerts/{part}.rules.yml").read_text() == committed(part)
    assert {path.stem for path in (data / "runbooks").glob("*.md")} == alert_names()
    assert (data / "alerts/alertmanager.yml").is_file()
    assert list((data / "alerts/templates").glob("*.tmpl"))


def test_it_writes_the_dashboards(installed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "celeryscope", "dashboards", str(tmp_path / "out")]
    environ = {"PYTHONPATH": str(installed)}
    subprocess.run(command, cwd=tmp_path, env=environ, check=True, capture_output=True, timeout=BUILD_TIMEOUT)
    shipped = {path.name: path.read_text() for path in (REPOSITORY / "dashboards/generated").glob("*.json")}
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == shipped != {}


def test_its_exporter_serves_runbooks(installed: Path, valkey_server: Valkey, tmp_path: Path) -> None:
    environ = {"PYTHONPATH": pythonpath(installed)}
    with exporter(valkey_server.url, log=tmp_path / "exporter.log", env=environ) as running:
        for alert in alert_names():
            answer = running.get(f"/runbooks/{alert}")
            assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
            assert f"<h1>{alert}</h1>" in answer.body.decode()
        assert running.get("/runbooks/CeleryNothing").status == 404
        assert running.get("/runbooks/../app.py").status == 404
        listing = running.get("/runbooks/").body.decode()
        assert all(f'href="{alert}"' in listing for alert in alert_names())


def test_its_demo_knows_its_settings(installed: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from celeryscope_demo.cluster import SETTINGS; print(SETTINGS.is_file(), SETTINGS)",
    ]
    result = subprocess.run(
        command, env={"PYTHONPATH": str(installed)}, capture_output=True, text=True, check=True, timeout=BUILD_TIMEOUT
    )
    assert result.stdout.split() == ["True", str(installed / "celeryscope_demo/celeryscope.toml")]
