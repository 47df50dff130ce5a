"""A running exporter, and what its `/metrics` says."""

import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from support.processes import REPOSITORY, Process, python, pythonpath, started
from support.servers import free_port
from support.waiting import NeverAgain, wait_until

START_TIMEOUT = 20.0  # seconds
HTTP_TIMEOUT = 10.0  # seconds

LabelSet = frozenset[tuple[str, str]]


class Metrics:
    """One parsed exposition: samples by name and labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples: dict[str, dict[LabelSet, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value

    @property
    def names(self) -> set[str]:
        """The names of all samples."""
        return set(self._samples)

    def value(self, name: str, **labels: str) -> float | None:
        """The one series with exactly these labels, or None."""
        return self._samples.get(name, {}).get(frozenset(labels.items()))

    def sum(self, name: str, **labels: str) -> float:
        """The sum of all series that have at least these labels; 0 where there is none."""
        wanted = frozenset(labels.items())
        return sum(value for found, value in self._samples.get(name, {}).items() if wanted <= found)

    def labels(self, name: str) -> list[dict[str, str]]:
        """The label sets of a name."""
        return [dict(found) for found in self._samples.get(name, {})]

    def series(self, name: str) -> dict[LabelSet, float]:
        """All series of a name, by their labels."""
        return dict(self._samples.get(name, {}))


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Exporter:
    """A started exporter process and its address."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @property
    def complaints(self) -> list[str]:
        """The warnings and errors of its log."""
        return [line for line in self.process.log.splitlines() if re.search(r"level=(warning|error)", line)]

    @property
    def different_complaints(self) -> set[str]:
        """The same without what differs between repetitions: time, and how often it was said."""
        return {re.sub(r"[0-9.]+", "", line) for line in self.complaints}

    def get(self, path: str = "/metrics", headers: Mapping[str, str] | None = None) -> Answer:
        """Ask over HTTP; an error status is an answer too."""
        request = urllib.request.Request(self.url + path, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT) as response:
                return Answer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())

    def scrape(self) -> Metrics:
        """Fetch and parse `/metrics`."""
        answer = self.get()
        if answer.status != 200:
            raise AssertionError(f"/metrics answered {answer.status}: {answer.body[:500]!r}")
        return Metrics(answer.body.decode())

    def wait_until(self, condition: Callable[[Metrics], object], timeout: float, message: str) -> Metrics:
        """Scrape until a condition on the exposition is true; return that exposition."""

        def reached() -> Metrics | None:
            metrics = self.scrape()
            return metrics if condition(metrics) else None

        metrics = wait_until(reached, timeout, message)
        assert metrics is not None
        return metrics

    def wait_for(self, name: str, value: float, timeout: float, **labels: str) -> Metrics:
        """Scrape until a series has a value; return that exposition."""
        try:
            return self.wait_until(lambda m: m.value(name, **labels) == value, timeout, f"{name}{labels} is {value:g}")
        except AssertionError as error:
            error.add_note(f"{name}: {self.scrape().series(name)}")
            raise


@contextmanager
def exporter(
    broker_url: str,
    *options: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    wait_connected: bool = True,
) -> Iterator[Exporter]:
    """An exporter of this broker for the length of a block.

    It is yielded once `/metrics` answers and, where `wait_connected`, once its event stream is open.
    """
    port = free_port()
    command = python("-m", "celeryscope", "run", "--broker-url", broker_url)
    command += ["--listen-address", f"127.0.0.1:{port}", *options]
    environ = {"PYTHONPATH": pythonpath(REPOSITORY / "exporter"), "PYTHONUNBUFFERED": "1", **(env or {})}
    with started(command, log, environ) as process:
        running = Exporter(process, port)
        wait_until(lambda: _serves(running), START_TIMEOUT, f"the exporter serves {running.url}/metrics")
        if wait_connected:
            running.wait_for("celery_exporter_connected", 1.0, START_TIMEOUT)
        yield running


def _serves(running: Exporter) -> bool:
    if running.process.returncode is not None:
        raise NeverAgain(f"the exporter ended with {running.process.returncode}")
    return running.get().status == 200
