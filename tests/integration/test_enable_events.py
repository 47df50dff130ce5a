"""Task events of real workers that were started without them, switched on by a running exporter."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from support.channel import event, publish
from support.exporter import Exporter, Metrics, exporter
from support.processes import Process, python, pythonpath, started
from support.record import listening
from support.servers import Valkey
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

NAME = "quiet@host"
WAIT = 40.0  # seconds
OFTEN = ("--enable-events", "--canary-interval", "2s")
SWITCHED = "Events of group {task} enabled by remote"  # what Celery's worker writes
TASKS = """
import os, time
from celery import Celery

app = Celery("quiet", broker=os.environ["OBSERVED_BROKER"])


@app.task(name="shop.pay", ignore_result=True)
def pay():
    pass


@app.task(name="shop.think", ignore_result=True)
def think(path):
    while not os.path.exists(path):
        time.sleep(0.05)
"""


class Cluster:
    """A broker, and a way to start a worker that sends no task events."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.app = Celery("asking", broker=url, set_as_current=False)
        self._url = url
        folder.mkdir()
        (folder / "quiet_tasks.py").write_text(TASKS)

    @contextmanager
    def worker(self, *options: str, pool: str = "threads", log: str = "worker.log") -> Iterator[Process]:
        """A worker without -E for the length of a block; it may not be ready yet."""
        command = python("-m", "celery", "-A", "quiet_tasks", "worker", "-n", NAME, "-P", pool, "-c", "2", *options)
        environ = {"OBSERVED_BROKER": self._url, "PYTHONPATH": pythonpath(self.folder)}
        with started([*command, "-l", "INFO"], self.folder / log, environ) as process:
            yield process

    def pay(self, number: int) -> None:
        for _ in range(number):
            self.app.send_task("shop.pay")

    def wait_until_processed(self, number: int) -> None:
        def processed() -> bool:
            stats: Any = self.app.control.inspect(destination=[NAME], timeout=1.0).stats()
            return bool(stats) and stats[NAME]["total"].get("shop.pay", 0) == number

        wait_until(processed, WAIT, f"the worker has done {number} tasks")


@pytest.fixture
def cluster(valkey_server: Valkey, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(valkey_server.url, tmp_path / "worker")
    yield made
    made.app.close()


def succeeded(metrics: Metrics) -> float:
    return metrics.sum("celery_task_succeeded_total", task="shop.pay")


def wait_until_switched(process: Process) -> None:
    wait_until(lambda: SWITCHED in process.log, WAIT, "the worker's task events are on")


def said(running: Exporter) -> int:
    return running.process.log.count(f"switched on the task events of {NAME}")


def test_tasks_of_a_worker_without_events_are_counted_and_again_after_its_restart(
    valkey_server: Valkey, tmp_path: Path, cluster: Cluster
) -> None:
    with exporter(valkey_server.url, "--enable-events", log=tmp_path / "exporter.log") as running:
        with cluster.worker(log="first.log") as first:
            wait_until_switched(first)
            cluster.pay(5)
            running.wait_until(lambda metrics: succeeded(metrics) == 5, WAIT, "5 tasks are counted")
            running.wait_for("celery_worker_task_events_enabled", 1, WAIT, worker=NAME)
        with cluster.worker(log="second.log") as second:
            wait_until_switched(second)
            cluster.pay(5)
            metrics = running.wait_until(lambda metrics: succeeded(metrics) == 10, WAIT, "5 more are counted")
        assert metrics.value("celery_worker_restarts_total", worker=NAME) == 1
        assert metrics.value("celery_worker_events_lost_total", worker=NAME) == 0
        assert metrics.value("celery_broker_up") == 1
        assert first.log.count(SWITCHED) == second.log.count(SWITCHED) == 1
        assert said(running) == 1


@pytest.mark.full
def test_without_the_option_nothing_is_sent(valkey_server: Valkey, tmp_path: Path, cluster: Cluster) -> None:
    with listening(valkey_server) as heard, cluster.worker() as process:
        with exporter(valkey_server.url, "--workers-poll-interval", "1s", log=tmp_path / "exporter.log") as running:
            running.wait_for("celery_worker_concurrency", 2, WAIT, worker=NAME)
            cluster.pay(5)
            cluster.wait_until_processed(5)
            running.wait_for("celery_worker_tasks_processed_total", 5, WAIT, worker=NAME)
            assert succeeded(running.scrape()) == 0
        types = {content["type"] for message in heard for content in message.events}
        assert {kind for kind in types if kind.startswith("task-")} == set()
        assert SWITCHED not in process.log


@pytest.mark.full
def test_a_worker_that_sends_events_anyway_is_asked_once(
    valkey_server: Valkey, tmp_path: Path, cluster: Cluster
) -> None:
    with (
        cluster.worker("-E") as process,
        requests(valkey_server) as asked,
        exporter(valkey_server.url, *OFTEN, log=tmp_path / "exporter.log") as running,
    ):
        wait_until(lambda: asked() == 1, WAIT, "the worker is asked, since it has done nothing yet")
        cluster.pay(5)
        running.wait_until(lambda metrics: succeeded(metrics) == 5, WAIT, "5 tasks are counted")
        wait_some_seconds(running)
        assert asked() == 1
        assert SWITCHED not in process.log
        assert said(running) == 0


@pytest.mark.full
def test_a_solo_worker_that_is_busy_is_asked_once_and_obeys_afterwards(
    valkey_server: Valkey, tmp_path: Path, cluster: Cluster
) -> None:
    over = tmp_path / "over"
    with cluster.worker(pool="solo") as process, requests(valkey_server) as asked, valkey_server.client() as client:
        wait_until(lambda: " ready." in process.log, WAIT, "the worker is ready")
        cluster.app.send_task("shop.think", [str(over)])
        wait_until(lambda: "shop.think" in process.log.partition(" ready.")[2], WAIT, "the worker thinks")
        with exporter(valkey_server.url, *OFTEN, log=tmp_path / "exporter.log") as running:
            beat = event("worker-heartbeat", hostname=NAME, freq=2.0, active=1, processed=1, pid=process.pid)
            publish(client, beat)  # its last one; from now on it is silent
            wait_until(lambda: asked() == 1, WAIT, "it is asked")
            wait_some_seconds(running)
            assert asked() == 1
            assert SWITCHED not in process.log
            over.touch()
            wait_until_switched(process)
            cluster.pay(3)
            running.wait_until(lambda metrics: succeeded(metrics) == 3, WAIT, "3 tasks are counted")


def wait_some_seconds(running: Exporter) -> None:
    """Wait for as long as it takes to ask a worker several times."""

    def canaries() -> float:
        return running.scrape().value("celery_exporter_events_total", type="celeryscope-canary") or 0

    enough = canaries() + 4
    wait_until(lambda: canaries() >= enough, WAIT, "some seconds have passed")


@contextmanager
def requests(server: Valkey) -> Iterator[Callable[[], int]]:
    """A count of the requests for task events that anybody publishes during a block."""
    client = server.client()
    subscription = client.pubsub()  # type: ignore[no-untyped-call]
    subscription.subscribe("/0.celery.pidbox")
    wait_until(lambda: subscription.get_message(timeout=1.0), 5.0, "the subscription is confirmed")
    found = 0

    def count() -> int:
        nonlocal found
        while message := subscription.get_message(ignore_subscribe_messages=True):
            request = json.loads(base64.b64decode(json.loads(message["data"])["body"]))
            found += request["method"] == "enable_events"
        return found

    try:
        yield count
    finally:
        client.close()
