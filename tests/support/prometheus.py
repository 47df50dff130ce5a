"""A real Prometheus server with the committed rules, for the length of a block."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from celeryscope_demo import scrape
from celeryscope_demo.hurry import hurried
from support.processes import REPOSITORY, started
from support.servers import free_port
from support.waiting import NeverAgain, wait_until

START_TIMEOUT = 20.0  # seconds

Sample = tuple[dict[str, str], float]


class Prometheus:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.port = port

    def query(self, expr: str) -> list[Sample]:
        """An instant vector: labels and values."""
        result = self._ask(f"query?query={quote(expr)}")["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in result]

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts that are pending or fire."""
        found: list[dict[str, Any]] = self._ask("alerts")["alerts"]
        return found

    def _ask(self, path: str) -> Any:
        status, body = scrape.get("127.0.0.1", self.port, f"/api/v1/{path}")
        assert status == 200, body
        return json.loads(body)["data"]


@contextmanager
def prometheus(
    folder: Path, targets: Sequence[str], *, hurry: float = 1.0, interval: str = "1s"
) -> Iterator[Prometheus]:
    """A server that scrapes these targets as one job, with rules whose durations are divided by `hurry`."""
    program = shutil.which("prometheus")
    assert program is not None
    folder.mkdir(parents=True, exist_ok=True)
    for path in (REPOSITORY / "alerts").glob("*.rules.yml"):
        (folder / path.name).write_text(hurried(path.read_text(), hurry))
    settings = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(folder / "*.rules.yml")],
        "scrape_configs": [{"job_name": "celeryscope", "static_configs": [{"targets": list(targets)}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(settings))
    port = free_port()
    command = [program, "--config.file", str(folder / "prometheus.yml"), "--storage.tsdb.path", str(folder / "data")]
    with started([*command, "--web.listen-address", f"127.0.0.1:{port}"], folder / "prometheus.log") as process:

        def ready() -> bool:
            if process.returncode is not None:
                raise NeverAgain(f"Prometheus ended with {process.returncode}")
            return scrape.get("127.0.0.1", port, "/-/ready")[0] == 200

        wait_until(ready, START_TIMEOUT, "Prometheus is ready")
        yield Prometheus(port)
