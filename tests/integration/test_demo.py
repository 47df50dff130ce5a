"""`celeryscope demo` as its user runs it: it shows a cluster, ends however it may end, and leaves nothing."""

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from celeryscope_demo import broker, queues, scrape
from celeryscope_demo.processes import Children
from celeryscope_demo.stopping import StopSignal
from support.demo import END_TIMEOUT, UP_TIMEOUT, Demo
from support.processes import python
from support.programs import needs
from support.servers import Valkey, free_port
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    yield demo
    demo.close()


def test_it_shows_a_cluster_and_stops_by_itself(demo: Demo) -> None:
    with demo.running("--seconds", "8") as process:
        metrics = demo.wait_for_tasks()
        assert metrics.sum("celery_worker_up") == 3
        assert metrics.sum("celery_task_wait_seconds_count", queue=queues.DEFAULT) > 0
        assert metrics.sum("celery_task_sent_total", queue="unknown") == 0
        assert process.wait(UP_TIMEOUT) == 0
    output = demo.log.read_text()
    assert f"http://127.0.0.1:{demo.port}/metrics" in output
    assert "succeeded" in output
    assert "\x1b" not in output
    demo.assert_nothing_left()


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(demo: Demo, number: signal.Signals) -> None:
    with demo.running() as process:
        demo.wait_for_tasks()
        process.signal(number)
        assert process.wait(END_TIMEOUT) == 0
    assert (
        "stopping: worker-heavy, worker-calls, worker-general, exporter, provider, store, broker"
        in demo.log.read_text()
    )
    demo.assert_nothing_left()


def test_a_signal_while_it_starts_ends_it_too(demo: Demo) -> None:
    with demo.running() as process:
        wait_until(lambda: "broker" in demo.log.read_text(), UP_TIMEOUT, "it has a broker")
        process.signal(signal.SIGINT)
        assert process.wait(END_TIMEOUT) == 0
    demo.assert_nothing_left()


def test_a_busy_port_is_told_before_anything_is_started(demo: Demo) -> None:
    with socket.create_server(("127.0.0.1", demo.port)), demo.running() as process:
        assert process.wait(UP_TIMEOUT) == 1
    output = demo.log.read_text()
    assert f"cannot listen on 127.0.0.1:{demo.port}" in output
    assert "celeryscope demo --listen-address 127.0.0.1:" in output
    assert "broker" not in output
    assert not list(demo.folder.iterdir())


@pytest.mark.full
def test_a_killed_worker_is_started_again_and_a_crash_loop_ends_the_demo(demo: Demo) -> None:
    worker = ("celery", "worker", "--autoscale")
    with demo.running() as process:
        demo.wait_for_tasks()
        killed: set[int] = set()

        def kill_the_next() -> bool:
            if process.returncode is None:
                with contextlib.suppress(ValueError, psutil.Error):
                    found = demo.find(*worker)
                    # Its pool has the same command line: a child of an earlier worker is not a new one.
                    if found.pid not in killed and found.ppid() == process.pid:
                        killed.add(found.pid)
                        found.kill()
            return process.returncode is not None

        wait_until(kill_the_next, UP_TIMEOUT, "the demo gave up")
        assert process.returncode == 1
    output = demo.log.read_text()
    assert output.count("started again") == 3
    assert "the worker-general was killed by SIGKILL, 4 times within 30 s; its last lines:" in output
    demo.assert_nothing_left()


@pytest.mark.full
def test_an_exporter_that_dies_ends_the_demo(demo: Demo) -> None:
    with demo.running() as process:
        demo.wait_for_tasks()
        demo.find("celeryscope", "run").kill()
        assert process.wait(END_TIMEOUT) == 1
    assert "the exporter was killed by SIGKILL" in demo.log.read_text()
    demo.assert_nothing_left()


@pytest.mark.full
def test_what_hangs_is_killed(demo: Demo) -> None:
    with demo.running() as process:
        demo.wait_for_tasks()
        demo.find("celery", "worker").suspend()
        demo.find("celeryscope", "run").suspend()
        process.signal(signal.SIGINT)
        assert process.wait(END_TIMEOUT) == 0
    demo.assert_nothing_left()


@pytest.mark.full
def test_nothing_outlives_a_demo_that_is_killed(demo: Demo) -> None:
    with demo.running() as process:
        demo.wait_for_tasks()
        process.signal(signal.SIGKILL)
        assert process.wait(END_TIMEOUT) == -signal.SIGKILL
        demo.assert_nothing_left()


@pytest.mark.full
def test_a_closed_pipe_ends_it_without_a_word(demo: Demo) -> None:
    reader, writer = os.pipe()
    with (
        demo.log.open("wb") as errors,
        subprocess.Popen(
            demo.command,
            env={**os.environ, **demo.environ},
            stdout=writer,
            stderr=errors,
            start_new_session=True,
        ) as process,
    ):
        os.close(writer)
        assert os.read(reader, 1)
        os.close(reader)
        assert process.wait(UP_TIMEOUT) == 0
    assert demo.log.read_text() == ""
    demo.assert_nothing_left()


@pytest.mark.full
def test_on_a_terminal_the_lines_are_refreshed_and_ctrl_c_ends_it(demo: Demo) -> None:
    terminal, its_end = pty.openpty()
    os.set_blocking(terminal, False)
    shown = b""

    def shows(text: bytes) -> bool:
        nonlocal shown
        with contextlib.suppress(BlockingIOError):
            shown += os.read(terminal, 65536)
        return text in shown

    # A shell would make the terminal the controlling one of its job: only then does a Ctrl-C become a signal.
    command = [
        *python(
            "-c",
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])",
        ),
        *demo.command,
    ]
    with subprocess.Popen(
        command,
        env={**os.environ, **demo.environ},
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
    ) as process:
        os.close(its_end)
        wait_until(lambda: shows(b"\x1b[J"), UP_TIMEOUT, "lines are refreshed")
        wait_until(lambda: shows(b"3 up, 17 tasks at once"), UP_TIMEOUT, "the worker is shown")
        os.write(terminal, b"\x03")
        wait_until(lambda: shows(b"nothing is left running"), END_TIMEOUT, "it says goodbye")
        assert process.wait(END_TIMEOUT) == 0
    os.close(terminal)
    demo.assert_nothing_left()


@needs("prometheus")
@needs("prometheus-alertmanager")
@pytest.mark.full
def test_prometheus_and_alertmanager_are_started_where_they_are_installed(demo: Demo) -> None:
    with demo.running("--monitoring") as process:
        demo.wait_for_tasks()

        host, port = wait_until(lambda: demo.server("prometheus"), UP_TIMEOUT, "Prometheus was started")

        def scraped() -> bool:
            status, body = scrape.get(host, port, "/api/v1/query?query=celery_worker_up")
            return status == 200 and len(json.loads(body)["data"]["result"]) == 3

        wait_until(scraped, UP_TIMEOUT, "Prometheus scrapes the exporter")
        status, body = scrape.get(*demo.server("alertmanager"), "/api/v2/status")
        assert (status, json.loads(body)["config"]["original"] != "") == (200, True)
        process.signal(signal.SIGINT)
        assert process.wait(END_TIMEOUT) == 0
    demo.assert_nothing_left()


@needs("redis-server")
def test_the_redis_of_the_system_will_do() -> None:
    path = shutil.which("redis-server")
    assert path is not None
    with StopSignal() as stop:
        children = Children(os.environ, stop)
        try:
            started_broker = broker.start(broker.Server(path, path), children, "broker", broker.BROKER_OPTIONS)
            assert started_broker.version.startswith("redis ")
        finally:
            children.end()
    assert not children.folder.exists()
    assert not psutil.pid_exists(started_broker.child.pid)


@pytest.mark.full
def test_a_broker_that_runs_already_is_used_and_left_clean(demo: Demo, protected_valkey_server: Valkey) -> None:
    with demo.running("--broker-url", protected_valkey_server.url) as process:
        demo.wait_for_tasks()
        process.signal(signal.SIGINT)
        assert process.wait(END_TIMEOUT) == 0
    output = demo.log.read_text()
    assert "yours, so none is started" in output
    assert "correct-horse" not in output
    assert "stopping: worker-heavy, worker-calls, worker-general, exporter, provider, store\n" in output
    with protected_valkey_server.client() as client:
        assert client.ping()
        assert [key for key in client.scan_iter() if queues.PREFIX.encode() in key] == []
    demo.assert_nothing_left()


@pytest.mark.parametrize(
    ("key", "kind"),
    [("demo", "queue"), ("demo-low\x06\x169", "queue"), ("_kombu.binding.demo", "exchange"), ("_kombu.binding.x", "b")],
)
def test_a_broker_that_has_something_of_the_demo_s_names_is_refused_and_left_alone(
    demo: Demo, protected_valkey_server: Valkey, key: str, kind: str
) -> None:
    with protected_valkey_server.client() as client:
        if kind == "queue":
            client.rpush(key, "somebody's message")
        else:
            client.sadd(key, "key\x06\x16\x06\x16" + ("theirs" if kind == "exchange" else "demo-mail"))
        before = client.dump(key)
        with demo.running("--broker-url", protected_valkey_server.url) as process:
            assert process.wait(UP_TIMEOUT) == 1
        assert client.dump(key) == before
        assert client.keys() == [key.encode()]
    output = demo.log.read_text()
    named = {
        "queue": f"a queue '{key.partition(chr(6))[0]}'",
        "exchange": "an exchange 'demo'",
        "b": "queue 'demo-mail'",
    }
    assert named[kind] in output
    assert "name another database" in output
    assert "correct-horse" not in output
    assert not list(demo.folder.iterdir())


@pytest.mark.full
def test_a_store_that_hangs_ends_in_a_line_not_in_a_traceback(demo: Demo) -> None:
    with demo.running() as process:
        demo.wait_for_tasks()
        found = re.search(r"^ +store .+ pid (\d+)$", demo.log.read_text(), re.MULTILINE)
        assert found is not None
        psutil.Process(int(found[1])).suspend()
        process.signal(signal.SIGINT)
        assert process.wait(END_TIMEOUT) == 0
    output = demo.log.read_text()
    assert "the store does not answer" in output
    assert "Traceback" not in output
    demo.assert_nothing_left()


def test_a_broker_that_does_not_answer_is_one_clear_line(demo: Demo) -> None:
    with demo.running("--broker-url", f"redis://:secret@127.0.0.1:{free_port()}/0") as process:
        assert process.wait(UP_TIMEOUT) == 1
    output = demo.log.read_text()
    assert output.startswith("Error: --broker-url redis://***@127.0.0.1:")
    assert output.count("\n") == 1
    assert not list(demo.folder.iterdir())
