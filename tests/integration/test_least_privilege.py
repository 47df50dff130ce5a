"""The users that docs/operations.md names: with their rights every metric arrives, and nothing is refused."""

import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from celeryscope.pollers.mailbox import Mailbox
from support.exporter import Exporter, Metrics, exporter
from support.processes import REPOSITORY
from support.rabbitmq import RabbitMQ, needs_rabbitmq
from support.redis_polling import application
from support.servers import Valkey
from support.truth import new_ledger
from support.waiting import wait_until
from support.workers import worker
from support.workload.producer import Producer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

NAME = "worker1@example"
WAIT = 60.0  # seconds
TASKS = 5
USER, SECRET = "celeryscope", "correct-horse"
# Often enough that what is asked once a minute in production is asked here too.
OPTIONS = ("--canary-interval", "500ms", "--workers-poll-interval", "1s", "--queues-poll-interval", "1s")
# What only canaries and inspection tell, and what only polls of the queues do.
ACTIVE = {"celery_exporter_canary_round_trip_seconds", "celery_worker_concurrency", "celery_queue_workers"}
BOTH = {"celery_task_succeeded_total", "celery_task_wait_seconds_count", "celery_queue_length"}
OF_REDIS = {"celery_queue_unacked", "celery_queue_priority_length", "celery_broker_memory_used_bytes"}
OF_MANAGEMENT = {"celery_queue_unacked", "celery_broker_memory_used_bytes", "celery_broker_alarm"}


def documented(start: str) -> list[list[list[str]]]:
    """The blocks of commands that begin so, each line as words, of the section on least privilege."""
    text = (REPOSITORY / "docs" / "operations.md").read_text().partition("### Least privilege\n")[2]
    blocks = re.findall(rf"(?:^    {re.escape(start)} .*\n)+", text, re.MULTILINE)
    return [[shlex.split(line) for line in block.splitlines()] for block in blocks]


@contextmanager
def compared(
    owner: str, user: str, listener: str, folder: Path, *options: str
) -> Iterator[tuple[Exporter, Exporter, Exporter, Exporter]]:
    """Four exporters that watch one worker: of the owner and of the user, of the owner and of the passive listener."""
    ledger = new_ledger(folder / "ledger")
    with ExitStack() as stack:
        running = [
            stack.enter_context(exporter(url, *OPTIONS, *options, *mode, log=folder / f"exporter-{number}.log"))
            for number, (url, mode) in enumerate(
                ((owner, ()), (user, ()), (owner, ("--passive",)), (listener, ("--passive",)))
            )
        ]
        log = folder / "worker.log"
        stack.enter_context(worker(owner, ledger, name=NAME, queues=["alpha"], log=log, pool="threads"))
        producer = Producer(owner, ledger)
        for number in range(TASKS):
            producer.send("add", "alpha", number, 1)
        yield running[0], running[1], running[2], running[3]


def assert_alike(owners: Exporter, users: Exporter, expected: set[str]) -> None:
    """Wait until both show all that is expected, and the same families; nothing may have been refused to the user."""

    def alike() -> bool:
        metrics = users.scrape()
        first, second = names(owners.scrape()), names(metrics)
        assert expected <= first, sorted(expected - first)
        assert first == second, sorted(first ^ second)
        return set(metrics.series("celery_exporter_poll_success").values()) == {1.0}

    wait_until(alike, WAIT, "both show the same")
    # A worker that is slow to start may be complained of.
    assert not [line for line in users.complaints if re.search("permission|refuse", line)]


def names(metrics: Metrics) -> set[str]:
    return {name for name in metrics.names if name.startswith("celery_")}


class TestRedis:
    def test_every_metric_arrives_and_nothing_is_refused(self, valkey_server: Valkey, tmp_path: Path) -> None:
        listening, asking = documented("ACL SETUSER celeryscope")
        server = valkey_server
        urls = {name: f"redis://{name}:{SECRET}@127.0.0.1:{server.port}/0" for name in (USER, "listener")}
        with closing(server.client()) as client:
            for name, lines in ((USER, [*listening, *asking]), ("listener", listening)):
                for words in lines:
                    command(client, "ACL", "SETUSER", name, *(word.replace("PASSWORD", SECRET) for word in words[3:]))
            command(client, "ACL", "LOG", "RESET")
            with compared(server.url, urls[USER], urls["listener"], tmp_path) as running:
                assert_alike(running[0], running[1], ACTIVE | BOTH | OF_REDIS)
                assert_alike(running[2], running[3], BOTH | OF_REDIS)
                connected = {entry["user"] for entry in client.client_list()}
                refused = command(client, "ACL", "LOG")
            assert connected == {"default", USER, "listener"}
            assert refused == []

    def test_bindings_that_others_left_are_left_to_others(self, valkey_server: Valkey) -> None:
        with closing(valkey_server.client()) as client:
            for words in (words for block in documented("ACL SETUSER celeryscope") for words in block):
                command(client, *(word.replace("PASSWORD", SECRET) for word in words))
            client.sadd("_kombu.binding.other", "")
            client.zadd("_kombu.binding_deadlines", {"other": 1})
            app = application(f"redis://{USER}:{SECRET}@127.0.0.1:{valkey_server.port}/0")
            mailbox = Mailbox(app, app.connection_for_read, timeout=0.05)
            mailbox.ask({"ping": {}}, ["nobody@example"])
            mailbox.close()
            assert client.zscore("_kombu.binding_deadlines", "other") == 1
            assert command(client, "ACL", "LOG") == []

    def test_a_passive_user_can_write_nothing(self, valkey_server: Valkey) -> None:
        listening, asking = documented("ACL SETUSER celeryscope")
        words = [word for line in listening for word in line[3:]]
        with closing(valkey_server.client()) as client:
            writing = {name.decode() for name in command(client, "ACL", "CAT", "write")} | {"publish"}
        allowed = {word.removeprefix("+") for word in words if word.startswith("+")}
        assert not allowed & writing
        assert [word for word in words if "~" in word] == ["%R~*"]
        assert {word.removeprefix("+") for line in asking for word in line} & writing  # as opposed to the other


@needs_rabbitmq
@pytest.mark.system("rabbitmq-server")
@pytest.mark.full
class TestRabbitMQ:
    def test_every_metric_arrives_and_nothing_is_refused(self, rabbitmq_server: RabbitMQ, tmp_path: Path) -> None:
        (((*_, configure, write, read),), ((*_, own_configure, own_write, own_read),)) = documented(
            "rabbitmqctl set_permissions"
        )
        (((*_, tag),),) = documented("rabbitmqctl set_user_tags")
        server, vhost = rabbitmq_server, rabbitmq_server.add_vhost()
        for name in (USER, "listener"):
            server.add_user(name, SECRET, tag)
        server.grant(USER, vhost, configure, write, read)
        server.grant("listener", vhost, own_configure, own_write, own_read)
        user, listener = (server.url_of(vhost, name, SECRET) for name in (USER, "listener"))
        options = ("--management-url", server.management_url(USER, SECRET))
        with compared(server.url_of(vhost), user, listener, tmp_path, *options) as running:
            assert_alike(running[0], running[1], ACTIVE | BOTH | OF_MANAGEMENT)
            assert_alike(running[2], running[3], BOTH | OF_MANAGEMENT)


def command(client: Any, *words: str) -> Any:
    return client.execute_command(*words)
