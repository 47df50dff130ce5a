"""A past that nobody has to wait for: what an exporter showed over hours or days, as blocks of a Prometheus.

A story of events goes through the real tracker, store and exposition with a clock of its own, is sampled as if it were
scraped, and is turned into blocks by promtool; then the recording rules are evaluated over it, by promtool too.
"""

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celeryscope.clock import Moment
from celeryscope.metrics.collector import expose, registry
from celeryscope.rules import recording
from celeryscope.rules.model import Record
from celeryscope.rules.settings import Settings
from support.prometheus import Prometheus, prometheus
from support.story import Story

JOB, INSTANCE = "celeryscope", "127.0.0.1:9808"
TARGET = f'job="{JOB}",instance="{INSTANCE}"'
TIMEOUT = 240.0  # seconds for promtool
RECORDED = re.compile(r"\b[a-z_]+:\w+:\w+")
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? ([^ ]+)(?: #.*)?$")


class Past(Story):
    """A story that began some time ago, and what its exporter showed at each scrape. Times are Unix seconds."""

    def __init__(self, began: float, **settings: Any) -> None:
        self.epoch = began
        super().__init__(**settings)
        self._registry = registry(self.store)
        self.store.before_snapshot.append(lambda: self.tracker.refresh(self.now))
        self._lines: list[str] = []

    @property
    def now(self) -> Moment:
        return Moment(self.epoch + self.seconds, 1_000 + self.seconds)

    def event(self, kind: str, *, at: float | None = None, **fields: Any) -> dict[str, Any]:
        timestamp = self.epoch + (self.seconds if at is None else at)
        return {**super().event(kind, at=at, **fields), "timestamp": timestamp}

    def skip_to(self, moment: float) -> None:
        """Let time pass in which nothing happens, in one step."""
        self.seconds = moment - self.epoch
        self.tracker.tick(self.now)

    def scrape(self) -> None:
        """Note what is shown now."""
        moment = self.now.wall
        text = expose(self._registry, "application/openmetrics-text; version=1.0.0")[0].decode()
        told = {"up": "1", "process_start_time_seconds": f"{self.epoch:.0f}"}
        self._lines += (f"{name}{{{TARGET}}} {value} {moment:.3f}" for name, value in told.items())
        for line in text.splitlines():
            found = SAMPLE.match(line)
            if found is not None and found[1] not in told:
                labels = f"{TARGET},{found[2]}" if found[2] else TARGET
                self._lines.append(f"{found[1]}{{{labels}}} {found[3]} {moment:.3f}")

    def write(self, path: Path) -> int:
        """Write all that was noted, for promtool; return the number of samples."""
        with path.open("w") as file:
            file.writelines(f"{line}\n" for line in self._lines)
            file.write("# EOF\n")
        return len(self._lines)


def _promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode or "level=error" in done.stdout:
        raise AssertionError(f"promtool tsdb create-blocks-from {arguments}: {done.stdout[-2000:]}")


def levels() -> Iterator[Sequence[Record]]:
    """The recording rules, those first that build on none, then those that build on these, and so on."""
    pending = [rule for group in recording.groups(Settings()) for rule in group.rules if isinstance(rule, Record)]
    while pending:
        names = {rule.name for rule in pending}
        ready = [rule for rule in pending if not (set(RECORDED.findall(rule.expr)) - {rule.name}) & names]
        assert ready, names
        yield ready
        pending = [rule for rule in pending if rule not in ready]


@contextmanager
def remembered(folder: Path, past: Past, spans: Sequence[tuple[float, float]], step: int = 60) -> Iterator[Prometheus]:
    """A Prometheus that remembers a past, with all rules recorded over these spans of Unix times."""
    folder.mkdir(parents=True)
    samples = folder / "past.txt"
    past.write(samples)
    data = folder / "data"
    _promtool("openmetrics", "--quiet", samples, data)
    samples.unlink()
    for number, rules in enumerate(levels()):
        file = folder / f"level{number}.yml"
        found = [{"record": rule.name, "expr": rule.expr} for rule in rules]
        file.write_text(json.dumps({"groups": [{"name": f"level{number}", "rules": found}]}))
        with prometheus(folder, []) as server:
            for start, end in spans:
                _promtool(
                    "rules", "--url", f"http://127.0.0.1:{server.port}", "--start", f"{start:.0f}",
                    "--end", f"{end:.0f}", "--eval-interval", f"{step}s", "--output-dir", data, file,
                )  # fmt: skip
    with prometheus(folder, []) as server:
        yield server
