"""The demo on RabbitMQ: every pool works, delays wait in the broker, and it is left as it was."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection

from celeryscope_demo import queues
from support.demo import END_TIMEOUT, Demo
from support.rabbitmq import RabbitMQ, needs_rabbitmq

pytestmark = [needs_rabbitmq, pytest.mark.integration, pytest.mark.timeout(120)]

WORK_TIMEOUT = 60.0  # seconds until every kind of work was seen


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    yield demo
    demo.close()


@pytest.fixture
def vhost(rabbitmq_server: RabbitMQ) -> str:
    """A virtual host for this test alone."""
    return rabbitmq_server.add_vhost()


@pytest.mark.full
def test_it_runs_on_rabbitmq_and_leaves_it_clean(demo: Demo, rabbitmq_server: RabbitMQ, vhost: str) -> None:
    broker = ["--broker-url", rabbitmq_server.url_of(vhost), "--management-url", rabbitmq_server.management_url()]
    with demo.running(*broker, "--workload", "clips=0.5", "--workload", "stories=2") as process:
        pools = (queues.DEFAULT, queues.CALLS, queues.HEAVY)
        demo.wait_until(
            lambda found: all(found.sum("celery_task_succeeded_total", queue=queue) > 0 for queue in pools),
            WORK_TIMEOUT,
            "tasks of every pool succeeded",
        )
        demo.wait_until(
            lambda found: found.value("celery_queue_delayed", queue=queues.DEFAULT), WORK_TIMEOUT, "tasks are delayed"
        )
        assert {delay.name for delay in queues.DELAYS.values()} <= names(rabbitmq_server, vhost)
        found = demo.wait_until(
            lambda found: found.sum("celery_task_wait_seconds_count", task="stories.vanish") > 3,
            WORK_TIMEOUT,
            "delayed tasks run",
        )
        # What is in arguments shows to everybody on the machine.
        assert rabbitmq_server.management_url() not in demo.find("celeryscope", "run").cmdline()
        # They wait from when they are due, in the queue of work; where they were delayed shows nowhere else.
        assert found.sum("celery_task_wait_seconds_bucket", task="stories.vanish", queue=queues.DEFAULT, le="1.0") > 0
        assert not [name for label in found.labels("celery_queue_length") if "delay" in (name := label["queue"])]
        assert found.sum("celery_task_failed_total", task="stories.vanish") == 0
        process.signal(signal.SIGINT)
        assert process.wait(END_TIMEOUT) == 0
    output = demo.log.read_text()
    assert "ledger and exporter agree" in output, output
    assert names(rabbitmq_server, vhost) == set()
    exchanges = rabbitmq_server.manage("GET", f"exchanges/{vhost}")
    assert not [found["name"] for found in exchanges if found["name"].startswith(queues.PREFIX)]
    demo.assert_nothing_left()


@pytest.mark.parametrize("name", ["demo-mail", "demo-delay-5s"])
def test_a_virtual_host_that_has_a_queue_of_its_names_is_refused_and_left_alone(
    demo: Demo, rabbitmq_server: RabbitMQ, vhost: str, name: str
) -> None:
    url = rabbitmq_server.url_of(vhost)
    with Connection(url) as connection, connection.SimpleQueue(name) as theirs:
        theirs.put("somebody's message")
        with demo.running("--broker-url", url) as process:
            assert process.wait(END_TIMEOUT) == 1
        assert theirs.get(timeout=END_TIMEOUT).payload == "somebody's message"
    assert f"a queue '{name}'" in demo.log.read_text()
    assert names(rabbitmq_server, vhost) == {name}


def test_an_exchange_of_its_name_is_refused_too(demo: Demo, rabbitmq_server: RabbitMQ, vhost: str) -> None:
    url = rabbitmq_server.url_of(vhost)
    with Connection(url) as connection:
        queues.EXCHANGE(connection.channel()).declare()
    with demo.running("--broker-url", url) as process:
        assert process.wait(END_TIMEOUT) == 1
    assert "an exchange 'demo'" in demo.log.read_text()


def names(server: RabbitMQ, vhost: str) -> set[str]:
    """The demo's own queues in a virtual host."""
    return {queue["name"] for queue in server.queues(vhost) if queue["name"].startswith(queues.PREFIX)}
