"""How another terminal finds the demo that runs: a file in the demo's temporary folder, which goes away with it."""

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from celeryscope.errors import CeleryscopeError

FOLDERS = "celeryscope-demo-"
NAME = "demo.json"


class NoDemo(CeleryscopeError):
    """No demo was found, or more than one: says what to do."""


@dataclass(frozen=True)
class Found:
    """A demo that runs: its process, its store, and where its metrics are."""

    pid: int
    store_url: str
    metrics_url: str


def write(folder: Path, found: Found) -> None:
    """Let others find this demo."""
    path = folder / NAME
    path.write_text(json.dumps(asdict(found)))


def find(pid: int | None) -> Found:
    """The one that runs, or the one with this process id. Raises NoDemo."""
    running = [found for found in _all() if pid is None or found.pid == pid]
    if len(running) == 1:
        return running[0]
    if running:
        listed = "".join(f"\n  --pid {found.pid}   {found.metrics_url}" for found in running)
        raise NoDemo(f"{len(running)} demos run here; say which:{listed}")
    which = "no demo runs here" if pid is None else f"no demo runs here with process id {pid}"
    raise NoDemo(f"{which}: start one with `celeryscope demo` in another terminal")


def _all() -> list[Found]:
    running = []
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{FOLDERS}*/{NAME}")):
        # A folder may go away while it is looked at, be somebody else's, or be left by a machine that lost its power.
        with suppress(OSError, ValueError, TypeError):
            found = Found(**json.loads(path.read_text()))
            os.kill(found.pid, 0)
            running.append(found)
    return running
