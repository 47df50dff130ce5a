"""Real Celery workers of the workload, as subprocesses."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from celery import Celery

from support.processes import REPOSITORY, Process, python, pythonpath
from support.waiting import NeverAgain, wait_until
from support.workload import BROKER_VARIABLE, LEDGER_VARIABLE, SENT_EVENTS_VARIABLE
from support.workload.ledger import Ledger

START_TIMEOUT = 40.0  # seconds
STOP_TIMEOUT = 20.0  # seconds
RESTART_CHECK = 0.2  # seconds between looks at a supervised worker


class Worker:
    """One worker node. `start` may be called again after it ended."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
        self.name = name
        self.starts = 0
        self._command, self._log, self._environ = command, log, environ
        self.process: Process

    def start(self) -> None:
        """Start the process; does not wait."""
        self.process = Process(self._command, self._log, self._environ)
        self.starts += 1

    def wait_ready(self, broker_url: str) -> None:
        """Wait until it answers a ping under its name."""
        app = Celery("ping", broker=broker_url, set_as_current=False)

        def answers() -> bool:
            if self.process.returncode is not None:
                raise NeverAgain(f"the worker ended with {self.process.returncode}")
            return bool(app.control.ping(destination=[self.name], timeout=1.0))

        try:
            wait_until(answers, START_TIMEOUT, f"worker {self.name} answers")
        except AssertionError as error:
            error.add_note(self.process.tail())
            raise
        finally:
            app.close()


@contextmanager
def worker(
    broker_url: str,
    ledger: Ledger,
    *,
    name: str,
    queues: Sequence[str],
    log: Path,
    pool: str = "prefork",
    concurrency: int = 2,
    sent_events: bool = True,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    supervised: bool = False,
) -> Iterator[Worker]:
    """A worker for the length of a block, ready when yielded; `supervised`: started again when it ends."""
    command = python("-m", "celery", "-A", "support.workload.tasks", "worker", "-n", name, "-Q", ",".join(queues))
    command += ["-P", pool, "-c", str(concurrency), "-E", "-l", "INFO", *options]
    environ = {
        "PYTHONPATH": pythonpath(REPOSITORY / "tests"),
        BROKER_VARIABLE: broker_url,
        SENT_EVENTS_VARIABLE: "1" if sent_events else "0",
        LEDGER_VARIABLE: str(ledger.folder),
        **(env or {}),
    }
    running = Worker(name, command, log, environ)
    over = threading.Event()
    guard = threading.Thread(target=_keep_running, args=(running, over), name=f"guard of {name}", daemon=True)
    running.start()
    try:
        running.wait_ready(broker_url)
        if supervised:
            guard.start()
        yield running
    except Exception as error:
        error.add_note(running.process.tail())
        raise
    finally:
        over.set()
        if guard.is_alive():
            guard.join()
        running.process.stop(STOP_TIMEOUT)


def _keep_running(running: Worker, over: threading.Event) -> None:
    while not over.wait(RESTART_CHECK):
        if running.process.returncode is not None:
            running.start()
