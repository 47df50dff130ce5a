"""The demo's calls to a third party, made by real workers: its limits are never passed, by its own count."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery

from celeryscope_demo import environment, queues
from celeryscope_demo.provider import PLACES, PREVIEWS, TRANSLATIONS
from celeryscope_demo.provider.server import TALLIES
from celeryscope_demo.workloads.calls import ACCOUNT
from support.processes import REPOSITORY, Process, python, pythonpath, started
from support.servers import Valkey, free_port
from support.waiting import NeverAgain, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

WORKERS = 3
WINDOW = 2.0  # seconds
WAIT = 150.0  # seconds
TASKS = """
from celeryscope_demo.app import app
from celeryscope_demo.limiters.adaptive import Adaptive
from celeryscope_demo.limiters.fixed import FixedWindow
from celeryscope_demo.limiters.rolling import RollingWindow
from celeryscope_demo.provider import PLACES, PREVIEWS, TRANSLATIONS
from celeryscope_demo.queues import CALLS
from celeryscope_demo.store import store
from celeryscope_demo.workloads.calls import ProviderTask

LIMITERS = {{
    PLACES: FixedWindow(store, PLACES, {limit}, {window}),
    TRANSLATIONS: RollingWindow(store, TRANSLATIONS, {limit}, {window}),
    PREVIEWS: Adaptive(store, PREVIEWS, pause={pause}),
}}

for endpoint, limiter in LIMITERS.items():

    @app.task(base=ProviderTask, bind=True, name=endpoint, queue=CALLS, endpoint=endpoint, limiter=limiter)
    def call(self, number):
        self.call(number)
"""


class Calls:
    """Workers that make calls, and the provider that counts them."""

    def __init__(self, folder: Path, broker: Valkey, limit: int) -> None:
        self.port = free_port()
        self._folder = folder
        self._limit = limit
        (folder / "limited_tasks.py").write_text(TASKS.format(limit=limit, window=WINDOW, pause=WINDOW / 10))
        self._environ = {
            "PYTHONPATH": pythonpath(REPOSITORY / "exporter", REPOSITORY / "demo", folder),
            "CELERY_BROKER_URL": broker.database_url(5),
            environment.STORE_URL: broker.url.removesuffix("/0"),
            environment.PROVIDER_URL: f"http://127.0.0.1:{self.port}",
        }
        self._app = Celery(broker=broker.database_url(5), set_as_current=False)
        self._app.conf.update(task_queues=queues.QUEUES, task_send_sent_event=False)
        self._processes: list[Process] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        limits = [f"--limit={name}={self._limit}/{WINDOW}" for name in (PLACES, TRANSLATIONS, PREVIEWS)]
        command = python("-m", "celeryscope_demo.provider.server", "--port", str(self.port), "--latency", "0.1")
        with started([*command, *limits], self._folder / "provider.log", self._environ) as provider:
            self._processes = [provider]
            for number in range(WORKERS):
                name = f"{number}@host"
                command = python("-m", "celery", "-A", "celeryscope_demo.app", "worker", "-I", "limited_tasks")
                command += ["-n", name, "-Q", queues.CALLS, "-P", "threads", "-c", "8", "-l", "ERROR"]
                command += ["--without-mingle", "--without-gossip"]
                self._processes.append(Process(command, self._folder / f"{name}.log", self._environ))
            try:
                wait_until(lambda: self.tally(PLACES) == {}, WAIT, "the provider answers")
                wait_until(lambda: len(self._app.control.ping(timeout=1.0)) == WORKERS, WAIT, "all workers are there")
                yield
            finally:
                for process in self._processes[1:]:
                    process.stop()
                self._app.close()

    def make(self, endpoint: str, number: int) -> dict[str, int]:
        """Have so many calls made, each by a task; return what the provider counted so far."""
        wanted = self.tally(endpoint).get("accepted", 0) + number
        with self._app.producer_pool.acquire(block=True) as producer:
            for argument in range(number):
                self._app.send_task(endpoint, (argument,), queue=queues.CALLS, producer=producer)

        def made() -> bool:
            for process in self._processes:
                if process.returncode is not None:
                    raise NeverAgain(process.tail())
            return self.tally(endpoint).get("accepted", 0) >= wanted

        wait_until(made, WAIT, "all calls were made")
        return self.tally(endpoint)

    def tally(self, endpoint: str) -> dict[str, int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{TALLIES}", timeout=5.0) as answer:
            tallies: dict[str, dict[str, int]] = json.load(answer)
        return tallies.get(f"{ACCOUNT} {endpoint}", {})


@pytest.mark.full
@pytest.mark.parametrize("endpoint", [PLACES, TRANSLATIONS])
@pytest.mark.parametrize(("number", "limit"), [(1000, 150), (10_000, 500)])
def test_the_calls_of_three_workers_never_pass_the_limit(
    valkey_server: Valkey, tmp_path: Path, endpoint: str, number: int, limit: int
) -> None:
    calls = Calls(tmp_path, valkey_server, limit)
    with calls.running():
        found = calls.make(endpoint, number)
    assert found["refused"] == 0
    assert found["accepted"] == number
    assert limit / 2 < found["most"] <= limit


@pytest.mark.full
def test_an_unknown_limit_is_found_with_few_refusals(valkey_server: Valkey, tmp_path: Path) -> None:
    calls = Calls(tmp_path, valkey_server, limit=100)
    with calls.running():
        first = calls.make(PREVIEWS, 600)
        then = calls.make(PREVIEWS, 1200 - first["accepted"])
    # Though every call is wanted at once, from the first moment.
    assert first["refused"] <= 0.1 * first["accepted"]
    assert then["refused"] - first["refused"] <= 0.1 * (then["accepted"] - first["accepted"])
