"""Inspection of real workers on a real Valkey."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celeryscope.clock import SystemClock
from celeryscope.errors import PollError, StreamError
from celeryscope.pollers.mailbox import Mailbox
from celeryscope.pollers.workers import WorkersPoller
from celeryscope.readings import WorkerReading
from support.crowd import crowd
from support.processes import Process, python, pythonpath
from support.servers import Valkey, free_port
from support.waiting import wait_until

pytestmark = pytest.mark.integration

WAIT = 40.0  # seconds: four workers start at once
TASKS = """
import os
from celery import Celery

app = Celery("observed", broker=os.environ["OBSERVED_BROKER"])


@app.task(name="shop.pay")
def pay():
    return "paid"


@app.task(name="shop.log", send_events=False)
def log():
    return "logged"
"""


def application(url: str, **options: Any) -> Celery:
    app = Celery("asking", broker=url, set_as_current=False)
    app.conf.broker_transport_options = {"socket_timeout": 2.0, "socket_connect_timeout": 2.0} | options
    return app


def poller(app: Celery, known: Sequence[str], timeout: float = 1.0) -> WorkersPoller:
    mailbox = Mailbox(app, app.connection_for_write, timeout=timeout)
    return WorkersPoller(mailbox, lambda: known, lambda _: "Linux", SystemClock())


def discovered(app: Celery, known: Sequence[str], timeout: float = 1.0) -> WorkersPoller:
    """A poller whose first poll, that of everybody, is over."""
    made = poller(app, known, timeout)
    made.poll()
    return made


def command(name: str, pool: str, queues: str, *options: str) -> list[str]:
    start = python("-m", "celery", "-A", "observed_tasks", "worker", "-n", name, "-P", pool, "-c", "2")
    return [*start, "-Q", queues, "--without-gossip", "--without-mingle", *options]


@contextmanager
def workers(url: str, folder: Path, pools: Sequence[str]) -> Iterator[dict[str, Process]]:
    """A worker of each pool, named after it, consuming a queue of that name and the queue `both`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "observed_tasks.py").write_text(TASKS)
    environ = {"OBSERVED_BROKER": url, "PYTHONPATH": pythonpath(folder)}
    app = application(url)
    with ExitStack() as stack:
        running = {}
        for pool in pools:
            name = f"{pool}@host"
            process = Process(command(name, pool, f"{pool},both"), folder / f"{pool}.log", environ)
            stack.callback(process.stop)
            running[name] = process

        def all_answer() -> bool:
            return len(app.control.ping(destination=list(running), timeout=1.0)) == len(running)

        wait_until(all_answer, WAIT, "all workers answer")
        yield running
    app.close()


@pytest.fixture
def prefork(valkey_server: Valkey, tmp_path: Path) -> Iterator[dict[str, Process]]:
    with workers(valkey_server.url, tmp_path / "workers", ["prefork"]) as running:
        yield running


@pytest.fixture
def two(valkey_server: Valkey, tmp_path: Path) -> Iterator[dict[str, Process]]:
    with workers(valkey_server.url, tmp_path / "workers", ["threads", "solo"]) as running:
        yield running


@pytest.mark.full
def test_every_pool_tells_of_itself(valkey_server: Valkey, tmp_path: Path) -> None:
    pools = ["prefork", "solo", "threads", "gevent"]
    app = application(valkey_server.url)
    with workers(valkey_server.url, tmp_path / "workers", pools) as running:
        app.send_task("shop.pay", queue="prefork")
        app.send_task("shop.log", queue="solo")
        asking = discovered(app, list(running))

        def ran() -> dict[str, WorkerReading]:
            readings = {reading.pool or "": reading for reading in asking.poll()}
            return readings if readings["prefork"].accepted and readings["solo"].accepted else {}

        readings = wait_until(ran, WAIT, "both tasks ran")
        asking.close()
    assert set(readings) == set(pools)
    for pool, reading in readings.items():
        assert reading.worker == f"{pool}@host"
        assert reading.concurrency == (1 if pool == "solo" else 2)
        assert reading.queues == tuple(sorted([pool, "both"]))
        assert reading.silent_tasks == frozenset({"shop.log"})
        assert reading.pid == running[reading.worker].pid
        assert reading.memory_max_bytes is not None
        assert 10e6 < reading.memory_max_bytes < 1e9
        assert reading.cpu_user is not None
        assert reading.cpu_user > 0
        assert reading.uptime is not None
        assert reading.prefetch is not None
    processes = {pool: reading.processes for pool, reading in readings.items()}
    assert processes == {"prefork": 2, "solo": 1, "threads": None, "gevent": None}
    assert readings["prefork"].accepted == {"shop.pay": 1}
    assert readings["solo"].accepted == {"shop.log": 1}
    assert readings["gevent"].accepted == {}


def test_the_first_poll_finds_workers_and_later_ones_ask_the_known(
    valkey_server: Valkey, two: dict[str, Process]
) -> None:
    known: list[str] = []
    asking = poller(application(valkey_server.url), known)
    assert {reading.worker for reading in asking.poll()} == {"threads@host", "solo@host"}
    assert asking.poll() == []
    known.append("solo@host")
    asking._mailbox._timeout = 10 * WAIT  # it waits for nobody else
    assert [reading.worker for reading in asking.poll()] == ["solo@host"]
    asking.close()


def test_a_worker_that_does_not_answer_is_left_out_and_disturbs_nobody(
    valkey_server: Valkey, two: dict[str, Process]
) -> None:
    asking = discovered(application(valkey_server.url), list(two))
    two["threads@host"].freeze()
    assert [reading.worker for reading in asking.poll()] == ["solo@host"]
    two["threads@host"].signal(signal.SIGCONT)
    # Answers to the question before arrive late and disturb nobody.
    wait_until(lambda: len(asking.poll()) == 2, WAIT, "both answer")
    assert len(asking.poll()) == 2
    asking.close()


@pytest.mark.full
def test_a_thousand_workers_answer_in_one_poll(valkey_server: Valkey) -> None:
    names = [f"celery@worker{number}" for number in range(1_000)]
    app = application(valkey_server.url)
    mailbox = Mailbox(app, app.connection_for_write, timeout=2.0)
    # One thread answers for all of them, as slowly as this machine is busy.
    asking = WorkersPoller(mailbox, lambda: names, lambda _: "Linux", SystemClock(), longest=40.0)
    with crowd(valkey_server.url, names, mute=frozenset(names[500:501])):
        everybody = asking.poll()
        known = asking.poll()
    asking.close()
    app.close()
    assert {reading.worker for reading in everybody} == set(names) - {names[500]}
    assert {reading.worker for reading in known} == set(names) - {names[500]}
    assert all(reading.holds_listed for reading in known)


@pytest.mark.parametrize("polls", [50, pytest.param(1_000, marks=pytest.mark.full)])
def test_polls_leave_no_key_and_no_connection(valkey_server: Valkey, prefork: dict[str, Process], polls: int) -> None:
    asking = discovered(application(valkey_server.url), list(prefork))
    with valkey_server.client() as client:
        keys, connections = set(client.keys()), len(client.client_list())
        for _ in range(polls):
            assert len(asking.poll()) == 1
        assert set(client.keys()) == keys
        assert len(client.client_list()) <= connections + 1
        # The one thing that is left, once for all: when kombu may sweep the bindings of the reply exchange.
        assert not [key for key in keys if b"reply" in key]
        members = client.zrange("_kombu.binding_deadlines", 0, -1)
        assert set(members) <= {b"celery.pidbox", b"celeryev", b"reply.celery.pidbox"}
        asking.close()
        assert set(client.keys()) == keys


def test_a_key_prefix(valkey_server: Valkey) -> None:
    app = application(valkey_server.url, global_keyprefix="shop:")
    asking = poller(app, ["a@host"], timeout=0.1)
    assert asking.poll() == []
    assert asking.poll() == []
    with valkey_server.client() as client:
        assert client.keys("[^s]*") == []
    asking.close()


@pytest.mark.parametrize("transport", ["redis", "nosuchtransport"])
def test_a_broker_that_is_not_there_is_an_error(transport: str) -> None:
    asking = poller(application(f"{transport}://127.0.0.1:{free_port()}/0"), ["a@host"])
    for _ in range(2):
        with pytest.raises(PollError) as caught:
            asking.poll()
        assert "\n" not in str(caught.value)


def test_an_impossible_url_is_an_error(valkey_server: Valkey) -> None:
    def impossible() -> Any:
        raise StreamError("the broker URL cannot be read")

    app = application(valkey_server.url)
    asking = WorkersPoller(Mailbox(app, impossible), list, lambda _: None, SystemClock())
    with pytest.raises(PollError, match="cannot be read"):
        asking.poll()


def test_a_restarted_broker_is_an_error_and_then_none(valkey_server: Valkey) -> None:
    asking = discovered(application(valkey_server.url), ["a@host"], timeout=0.1)
    valkey_server.kill()
    with pytest.raises(PollError):
        asking.poll()
    valkey_server.start()
    assert asking.poll() == []
    # A connection that was closed while it was idle is replaced without a word.
    valkey_server.restart()
    assert asking.poll() == []
    asking.close()


def test_a_frozen_broker_is_an_error_in_bounded_time(valkey_server: Valkey) -> None:
    app = application(valkey_server.url, socket_timeout=0.3, socket_connect_timeout=0.3)
    asking = discovered(app, ["a@host"], timeout=0.1)
    valkey_server.pause()
    with pytest.raises(PollError):
        asking.poll()
    valkey_server.resume()
    wait_until(lambda: asking.poll() == [], WAIT, "polls work again")
    asking.close()
