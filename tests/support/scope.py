"""`celery -A APP scope`, started as its user starts it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from support.exporter import Exporter
from support.processes import REPOSITORY, python, pythonpath, started
from support.servers import free_port
from support.waiting import NeverAgain, wait_until

START_TIMEOUT = 30.0  # seconds


@contextmanager
def scope(
    app: str, folder: Path, *options: str, celery: tuple[str, ...] = (), env: Mapping[str, str] | None = None
) -> Iterator[Exporter]:
    """The exporter of an app in a folder, for the length of a block. `celery`: options before the command."""
    port = free_port()
    command = python("-m", "celery", "-A", app, *celery, "scope", "--listen-address", f"127.0.0.1:{port}", *options)
    environ = {"PYTHONPATH": pythonpath(REPOSITORY / "exporter"), "PYTHONUNBUFFERED": "1", **(env or {})}
    with started(command, folder / "scope.log", environ) as process:
        running = Exporter(process, port)

        def serves() -> bool:
            if process.returncode is not None:
                raise NeverAgain(f"it ended with {process.returncode}: {process.tail()}")
            return running.get("/-/ready").status == 200

        wait_until(serves, START_TIMEOUT, f"celery scope serves {running.url}")
        yield running
