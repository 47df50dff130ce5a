"""An exporter that is started again while tasks run: their ends are counted under their names and queues."""

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from celery import Celery

from support.exporter import Exporter, Metrics, exporter
from support.processes import python, pythonpath, started
from support.servers import Valkey
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

WAIT = 60.0  # seconds
QUEUES = ("alpha", "beta")
TASKS = """
import os
import time
from pathlib import Path

from celery import Celery
from kombu import Exchange, Queue

app = Celery("backfill", broker=os.environ["OBSERVED_BROKER"])
# Neither worker may take so many of the ten tasks that the other is left with less than it has slots.
app.conf.worker_prefetch_multiplier = 3
app.conf.task_queues = [Queue("alpha"), Queue("beta"), Queue("keyed", Exchange("shop"), routing_key="shop.key")]
GATE = Path(os.environ["GATE"])


def wait_for_gate():
    while not GATE.exists():
        time.sleep(0.05)


@app.task(name="shop.pay")
def pay():
    wait_for_gate()


@app.task(name="shop.mail", max_retries=1)
def mail():
    wait_for_gate()
    raise OSError("no route")
"""


class Shop:
    """Two workers of two slots each, which consume three queues; tasks end once the gate is open."""

    def __init__(self, server: Valkey, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.gate = folder / "gate"
        (folder / "backfill_tasks.py").write_text(TASKS)
        self.environ = {
            "OBSERVED_BROKER": server.url,
            "GATE": str(self.gate),
            "PYTHONPATH": pythonpath(folder),
        }
        self.exporters = 0

    def command(self, name: str, pool: str) -> list[str]:
        start = python("-m", "celery", "-A", "backfill_tasks", "worker", "-n", name, "-P", pool, "-c", "2", "-E")
        return [*start, "-Q", "alpha,beta,keyed", "--without-gossip", "--without-mingle"]

    def exporter(self, stack: ExitStack) -> Exporter:
        self.exporters += 1
        log = self.folder / f"exporter{self.exporters}.log"
        return stack.enter_context(exporter(self.server.url, "--workers-poll-interval", "1s", log=log))


@pytest.fixture(params=[pytest.param("threads", marks=pytest.mark.full), "prefork"])
def shop(valkey_server: Valkey, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Shop]:
    folder = tmp_path / "shop"
    folder.mkdir()
    made = Shop(valkey_server, folder)
    with ExitStack() as stack:
        for name in ("one@host", "two@host"):
            stack.enter_context(started(made.command(name, request.param), folder / f"{name}.log", made.environ))
        yield made


def cut_connections(server: Valkey, running: Exporter) -> None:
    """Let the server close all connections of an exporter, and nobody else's."""
    ports = {connection.laddr.port for connection in psutil.Process(running.process.pid).net_connections()}
    with server.client() as client:
        for other in client.client_list():
            if int(other["addr"].rpartition(":")[2]) in ports:
                client.client_kill_filter(_id=other["id"])


def in_flight(metrics: Metrics, state: str) -> float:
    return metrics.sum("celery_tasks_in_flight", state=state)


def counted(metrics: Metrics, name: str) -> Counter[tuple[str, str]]:
    series = metrics.series(f"celery_task_{name}_total")
    found = {(dict(labels)["task"], dict(labels)["queue"]): int(value) for labels, value in series.items()}
    return +Counter(found)


def test_ends_of_tasks_that_were_taken_before_are_counted_under_their_names(shop: Shop) -> None:
    app = Celery("producer", broker=shop.server.url, set_as_current=False)
    wait_until(lambda: len(app.control.ping(timeout=0.5)) == 2, WAIT, "both workers answer")
    with ExitStack() as stack:
        first = shop.exporter(stack)
        first.wait_until(lambda metrics: metrics.sum("celery_worker_concurrency") == 4, WAIT, "the workers are known")
        for queue in QUEUES:
            for task in ("shop.pay", "shop.mail"):
                for _ in range(2):
                    app.send_task(task, queue=queue)
        for _ in range(2):
            app.send_task("shop.pay", exchange="shop", routing_key="shop.key")
        first.wait_until(
            lambda metrics: (in_flight(metrics, "started"), in_flight(metrics, "received")) == (4, 6), WAIT, "4 run"
        )
    with ExitStack() as stack:
        second = shop.exporter(stack)
        before = second.wait_until(
            lambda metrics: (in_flight(metrics, "started"), in_flight(metrics, "received")) == (4, 6),
            WAIT,
            "what the workers hold is known",
        )
        assert before.sum("celery_worker_tasks_reserved") == 6
        for name in ("received", "started", "succeeded", "failed", "redelivered", "wait_unknown"):
            assert counted(before, name) == Counter(), name
        shop.gate.touch()
        after = second.wait_until(
            lambda metrics: counted(metrics, "succeeded").total() + counted(metrics, "failed").total() == 10,
            WAIT,
            "all ended",
        )
    app.close()
    assert counted(after, "succeeded") == {("shop.pay", "alpha"): 2, ("shop.pay", "beta"): 2, ("shop.pay", "keyed"): 2}
    assert counted(after, "failed") == {("shop.mail", "alpha"): 2, ("shop.mail", "beta"): 2}
    # What waited then was started while we listened.
    assert counted(after, "started").total() == 6
    assert counted(after, "wait_unknown").total() == 6
    assert counted(after, "received") == counted(after, "redelivered") == Counter()
    assert after.sum("celery_exporter_disorder_total") == 0
    assert after.sum("celery_tasks_in_flight") == 0
    assert after.sum("celery_exporter_tracked_tasks_evicted_total") == 0


@pytest.mark.full
def test_a_lost_connection_loses_no_name(shop: Shop) -> None:
    app = Celery("producer", broker=shop.server.url, set_as_current=False)
    wait_until(lambda: len(app.control.ping(timeout=0.5)) == 2, WAIT, "both workers answer")
    with ExitStack() as stack:
        running = shop.exporter(stack)
        running.wait_until(lambda metrics: metrics.sum("celery_worker_concurrency") == 4, WAIT, "the workers are known")
        running.process.freeze()
        cut_connections(shop.server, running)
        for queue in QUEUES:
            app.send_task("shop.pay", queue=queue)
        inspect = app.control.inspect(timeout=0.5)
        wait_until(
            lambda: sum(len(tasks) for tasks in (inspect.active() or {}).values()) == 2, WAIT, "both run, unheard"
        )
        running.process.signal(signal.SIGCONT)
        running.wait_until(lambda metrics: in_flight(metrics, "started") == 2, WAIT, "what runs is known")
        shop.gate.touch()
        after = running.wait_until(lambda metrics: counted(metrics, "succeeded").total() == 2, WAIT, "both ended")
    app.close()
    assert counted(after, "succeeded") == {("shop.pay", "alpha"): 1, ("shop.pay", "beta"): 1}
