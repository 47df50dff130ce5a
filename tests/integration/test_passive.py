"""An exporter that only listens and reads, on a Valkey that would let it do nothing else."""

from pathlib import Path
from typing import Any

import pytest

from support.channel import event, publish
from support.exporter import Exporter, Metrics, exporter
from support.servers import Valkey
from support.truth import new_ledger
from support.waiting import wait_until
from support.workers import worker
from support.workload.producer import Producer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

NAME = "worker1@example"
WAIT = 40.0  # seconds
TASKS = 20
# What a connection says of itself, the subscription, and what polls of the queues ask: none of these writes.
LISTENING = ("psubscribe", "ping", "hello", "client|setinfo", "select", "info")
READING = ("scan", "smembers", "llen", "lindex", "hlen", "hscan", "zrange", "memory|usage")


@pytest.fixture
def listener_url(valkey_server: Valkey) -> str:
    """The URL of a user who may listen to events and read, and nothing else."""
    with valkey_server.client() as client:
        allowed = [f"+{command}" for command in (*LISTENING, *READING)]
        keys = ("resetkeys", "%R~*", "resetchannels", "&/0.celeryev/*")
        acl(client, "SETUSER", "listener", "on", ">secret", *keys, *allowed)
        acl(client, "LOG", "RESET")
    return f"redis://listener:secret@127.0.0.1:{valkey_server.port}/0"


def acl(client: Any, *words: str) -> Any:
    return client.execute_command("ACL", *words)


def test_it_counts_tasks_and_tries_nothing_that_writes(
    valkey_server: Valkey, listener_url: str, tmp_path: Path
) -> None:
    ledger = new_ledger(tmp_path / "ledger")
    options = ("--passive", "--queues-poll-interval", "500ms")
    with exporter(listener_url, *options, log=tmp_path / "exporter.log") as running:
        wait_until(lambda: running.get("/-/ready").status == 200, WAIT, "it is ready")
        unconnected = deaf(running.scrape())  # there may have been a scrape before the connection was open
        with worker(valkey_server.url, ledger, name=NAME, queues=["alpha"], log=tmp_path / "worker.log"):
            producer = Producer(valkey_server.url, ledger)
            for number in range(TASKS):
                producer.send("add", "alpha", number, 1)
            running.wait_until(lambda metrics: succeeded(metrics) == TASKS, WAIT, "all tasks are counted")
            running.wait_for("celery_worker_task_events_enabled", 1, WAIT, worker=NAME)
        running.wait_for("celery_queue_length", 0, WAIT, queue="alpha")
        metrics = running.wait_for("celery_worker_up", 0, WAIT, worker=NAME)
        with valkey_server.client() as client:
            refused = acl(client, "LOG")
            mine = [entry for entry in client.client_list() if entry["user"] == "listener"]
        assert refused == []
        assert len(mine) == 2  # the stream, and the polls of the queues
        assert {entry["cmd"] for entry in mine} <= set(LISTENING) | set(READING)
        assert metrics.value("celery_exporter_poll_success", poller="queues") == 1
        assert metrics.value("celery_broker_up") == 1
        assert deaf(metrics) == unconnected
        assert what_cannot_be_known(metrics) == set()
        assert "level=warning" not in running.process.log


def test_the_default_would_have_been_refused(valkey_server: Valkey, listener_url: str, tmp_path: Path) -> None:
    with exporter(listener_url, log=tmp_path / "exporter.log") as running, valkey_server.client() as client:
        running.wait_for("celery_broker_up", 0, WAIT)
        wait_until(lambda: acl(client, "LOG"), WAIT, "a command was refused")


def test_a_worker_that_falls_silent_is_lost_while_others_are_heard(
    valkey_server: Valkey, listener_url: str, tmp_path: Path
) -> None:
    options = ("--passive", "--worker-timeout", "3s", "--canary-interval", "1s")
    with exporter(listener_url, *options, log=tmp_path / "exporter.log") as running, valkey_server.client() as client:
        unconnected = deaf(running.scrape())

        def beat(name: str) -> None:
            publish(client, event("worker-heartbeat", hostname=name, freq=2.0, active=0, processed=0))

        beat("silent@example")
        running.wait_for("celery_worker_up", 1, WAIT, worker="silent@example")

        def is_lost() -> bool:
            beat("other@example")
            return running.scrape().value("celery_worker_up", worker="silent@example") == 0

        wait_until(is_lost, WAIT, "the silent one is lost")
        metrics = running.scrape()
        assert metrics.value("celery_worker_up", worker="other@example") == 1
        assert metrics.value("celery_worker_lost_total", worker="silent@example") == 1
        assert deaf(metrics) == unconnected


def test_a_lost_connection_is_deaf(valkey_server: Valkey, tmp_path: Path) -> None:
    with exporter(valkey_server.url, "--passive", log=tmp_path / "exporter.log") as running:
        valkey_server.stop()
        running.wait_for("celery_broker_up", 0, WAIT)
        running.wait_until(lambda metrics: deaf(metrics) > 0, WAIT, "it says that it is deaf")
        valkey_server.start()
        running.wait_for("celery_broker_up", 1, WAIT)
        seconds = deaf(running.scrape())
        hears(running, valkey_server)
        assert deaf(running.scrape()) == seconds


def succeeded(metrics: Metrics) -> float:
    return metrics.sum("celery_task_succeeded_total")


def deaf(metrics: Metrics) -> float:
    return metrics.sum("celery_exporter_deaf_seconds_total")


def hears(running: Exporter, server: Valkey) -> None:
    with server.client() as client:
        publish(client, event("worker-heartbeat", hostname="probe@example", freq=2.0, active=0, processed=0))
    running.wait_for("celery_worker_up", 1, WAIT, worker="probe@example")


def what_cannot_be_known(metrics: Metrics) -> set[str]:
    """The names, where there are any, of what only canaries and inspection tell."""
    told = (
        "_canary_",
        "queue_workers",
        "queue_concurrency",
        "worker_concurrency",
        "worker_processes",
        "worker_prefetch",
        "worker_main_process",
    )
    return {name for name in metrics.names if any(part in name for part in told)}
