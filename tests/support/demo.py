"""A demo as its user runs it, in a subprocess: started, watched through its exporter, disturbed by incidents."""

import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from celeryscope_demo import scrape
from support.exporter import Metrics
from support.processes import REPOSITORY, Process, python, pythonpath, started
from support.servers import free_port
from support.waiting import NeverAgain, wait_until

UP_TIMEOUT = 60.0  # seconds until tasks are counted
END_TIMEOUT = 25.0  # seconds from a signal to the end, the comparison with the ledger included
COMMAND_TIMEOUT = 60.0  # seconds for `celeryscope demo incident`
PATH = pythonpath(REPOSITORY / "exporter", REPOSITORY / "demo")


class Demo:
    """A demo with a TMPDIR of its own, which tells everything that it starts from other processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tmp"
        self.folder.mkdir()
        self.port = free_port()
        self.log = folder / "demo.log"
        self.command = python("-m", "celeryscope", "demo", "--listen-address", f"127.0.0.1:{self.port}")
        self.command.append("--no-monitoring")  # a test that wants Prometheus asks for it
        self.environ = {"TMPDIR": str(self.folder), "PYTHONPATH": PATH, "TERM": "xterm"}
        self._process: Process | None = None

    @contextlib.contextmanager
    def running(self, *options: str) -> Iterator[Process]:
        """Start it for the length of a block."""
        with started([*self.command, *options], self.log, self.environ, stop_timeout=END_TIMEOUT) as process:
            self._process = process
            yield process

    def metrics(self) -> Metrics:
        """Scrape its exporter."""
        if self._process is not None and self._process.returncode is not None:
            raise NeverAgain(f"the demo ended with {self._process.returncode}")
        status, body = scrape.get("127.0.0.1", self.port, "/metrics")
        assert status == 200
        return Metrics(body)

    def wait_until(self, condition: Callable[[Metrics], object], timeout: float, message: str) -> Metrics:
        """Scrape until a condition on the exposition is true; return that exposition."""

        def reached() -> Metrics | None:
            found = self.metrics()
            return found if condition(found) else None

        found = wait_until(reached, timeout, message)
        assert found is not None
        return found

    def wait_for_tasks(self) -> Metrics:
        """Wait until tasks have succeeded."""
        return self.wait_until(
            lambda found: found.sum("celery_task_succeeded_total") > 0, UP_TIMEOUT, "tasks succeeded"
        )

    def incident(self, *arguments: str) -> str:
        """Run `celeryscope demo incident ARGUMENTS`; return what it says. Fails where it does."""
        result = subprocess.run(
            python("-m", "celeryscope", "demo", "incident", *arguments),
            env={**psutil.Process().environ(), **self.environ},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    @contextlib.contextmanager
    def during(self, incident: str, seconds: float = 300.0) -> Iterator[None]:
        """An incident that is on for the length of a block, and stopped at its end."""
        self.incident("start", incident, "--seconds", f"{seconds:g}")
        try:
            yield
        finally:
            self.incident("stop", incident)

    def server(self, name: str) -> tuple[str, int]:
        """Where one of the servers that it started listens, as its output says."""
        found = re.search(rf"^ +{name} +http://([0-9.]+):(\d+)/", self.log.read_text(), re.MULTILINE)
        assert found is not None
        return found[1], int(found[2])

    def broker_url(self) -> str:
        """Where its broker listens, as its output says."""
        found = re.search(r"^ +broker .+ at (redis://\S+),", self.log.read_text(), re.MULTILINE)
        assert found is not None
        return found[1]

    def pages(self) -> list[dict[str, Any]]:
        """What Alertmanager has sent, in order."""
        status, body = scrape.get(*self.server("pager"), "/pages")
        assert status == 200
        found: list[dict[str, Any]] = json.loads(body)
        return found

    def firing(self) -> list[dict[str, str]]:
        """The labels of every alert that fires in Prometheus."""
        status, body = scrape.get(*self.server("prometheus"), "/api/v1/alerts")
        assert status == 200
        return [alert["labels"] for alert in json.loads(body)["data"]["alerts"] if alert["state"] == "firing"]

    def processes(self) -> list[psutil.Process]:
        """Everything that it started and that still runs, pool processes included."""
        return [process for process in psutil.process_iter() if self._started(process)]

    def find(self, *words: str) -> psutil.Process:
        """The first started of its processes with these words in the command line."""
        found = [process for process in self.processes() if set(words) <= set(process.cmdline())]
        return min(found, key=psutil.Process.create_time)

    def assert_nothing_left(self) -> None:
        """No process, no file, no listener."""
        wait_until(lambda: not self.processes(), END_TIMEOUT, "no process is left")
        wait_until(lambda: not list(self.folder.iterdir()), END_TIMEOUT, "no file is left")
        with pytest.raises(OSError, match="refused"):
            scrape.get("127.0.0.1", self.port, "/metrics")

    def close(self) -> None:
        """End what is left of it."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _started(self, process: psutil.Process) -> bool:
        try:
            ours = process.environ().get("TMPDIR", "").startswith(str(self.folder))
            return ours and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


@contextlib.contextmanager
def steady_demo(folder: Path, *options: str) -> Iterator[Demo]:
    """A demo under load for the length of a block: yielded once tasks have succeeded."""
    demo = Demo(folder)
    try:
        with demo.running(*options):
            demo.wait_for_tasks()
            yield demo
    finally:
        demo.close()
