"""Questions to a real worker on a real RabbitMQ; those on Valkey are in the tests of the pollers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from celery import Celery

from celeryscope.clock import SystemClock
from celeryscope.errors import PollError
from celeryscope.pollers.mailbox import Mailbox
from celeryscope.pollers.task_events import TaskEventsSwitch
from celeryscope.pollers.workers import WorkersPoller
from celeryscope.readings import EventSender
from support.processes import Process, python, pythonpath, started
from support.rabbitmq import RabbitMQ, needs_rabbitmq
from support.waiting import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(180),
    pytest.mark.system("rabbitmq-server"),
    needs_rabbitmq,
]

NAME = "quiet@host"
WAIT = 60.0  # seconds
TASKS = """
import os
from celery import Celery

app = Celery("quiet", broker=os.environ["OBSERVED_BROKER"])
"""


@contextmanager
def worker(url: str, folder: Path) -> Iterator[Process]:
    """A worker without -E, for the length of a block, that answers."""
    (folder / "quiet_tasks.py").write_text(TASKS)
    command = python("-m", "celery", "-A", "quiet_tasks", "worker", "-n", NAME, "-P", "threads", "-c", "2")
    environ = {"OBSERVED_BROKER": url, "PYTHONPATH": pythonpath(folder)}
    with started([*command, "-l", "INFO"], folder / "worker.log", environ) as process:
        app = Celery("asking", broker=url, set_as_current=False)
        wait_until(lambda: app.control.ping(destination=[NAME], timeout=1.0), WAIT, "the worker answers")
        app.close()
        yield process


def sender(**known: Any) -> EventSender:
    facts = {"life": 0, "sends": None, "processed": 0, "beat_at": float("inf"), "can_answer": True} | known
    return EventSender(NAME, **facts)


@pytest.mark.full
def test_workers_answer_and_a_connection_closed_by_the_broker_is_replaced_silently(
    rabbitmq_server: RabbitMQ, tmp_path: Path
) -> None:
    vhost = rabbitmq_server.add_vhost()
    url = rabbitmq_server.url_of(vhost)
    app = Celery("asking", broker=url, set_as_current=False)
    with worker(url, tmp_path) as process:
        mailbox = Mailbox(app, app.connection_for_read)
        poller = WorkersPoller(mailbox, lambda: [NAME], lambda _: "Linux", SystemClock())
        (reading,) = poller.poll()
        assert (reading.worker, reading.pool, reading.concurrency) == (NAME, "threads", 2)
        assert reading.pid == process.pid
        queues = sorted(queue["name"] for queue in rabbitmq_server.queues(vhost))
        for _ in range(10):
            assert len(poller.poll()) == 1
        assert sorted(queue["name"] for queue in rabbitmq_server.queues(vhost)) == queues
        assert not [name for name in queues if "reply" in name]

        rabbitmq_server.control("close_all_connections", "-p", vhost, "the broker closes what is idle")
        assert len(poller.poll()) <= 1  # the worker may not be back yet, but nothing is raised
        wait_until(lambda: len(poller.poll()) == 1, WAIT, "the worker is back and answers")

        switch, clock = TaskEventsSwitch(mailbox), SystemClock()
        assert switch.switch_on([sender()], clock.now().elapsed).switched_on == (NAME,)
        wait_until(lambda: "Events of group {task} enabled by remote" in process.log, WAIT, "they are on")
        assert switch.switch_on([sender(life=1)], clock.now().elapsed).switched_on == ()
        mailbox.close()
    app.close()


def test_a_user_who_may_not_ask_is_an_error(rabbitmq_server: RabbitMQ) -> None:
    vhost = rabbitmq_server.add_vhost()
    user = f"listener-{vhost}"
    rabbitmq_server.add_user(user, "secret")
    rabbitmq_server.grant(user, vhost, configure="^celeryev", write="^celeryev", read="^celeryev")
    url = f"amqp://{user}:secret@127.0.0.1:{rabbitmq_server.port}/{quote(vhost, safe='')}"
    app = Celery("asking", broker=url, set_as_current=False)
    mailbox = Mailbox(app, app.connection_for_read)
    for _ in range(2):
        with pytest.raises(PollError, match=r"refused|ACCESS_REFUSED"):
            mailbox.ask({"stats": {}}, [NAME])
    app.close()
