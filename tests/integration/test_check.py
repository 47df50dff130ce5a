"""`celeryscope check` against real brokers and workers that have what each check looks for."""

import contextlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from celery import Celery

from celeryscope.check import events, look, workers
from celeryscope.check.judge import CHECKS
from celeryscope.check.model import Severity
from support.checked import (
    CAREFUL,
    PROOFS,
    above_info,
    by_code,
    checked,
    load,
    look_at,
    node,
    producer,
    proves,
    wait_ready,
)  # fmt: skip
from support.demo import steady_demo
from support.processes import python, started
from support.rabbitmq import RabbitMQ, needs_rabbitmq
from support.servers import Valkey, free_port, valkey
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

WAIT = 60.0  # seconds
GATE = "gate"
EXTRA = {"EXTRA": "checked.extra"}
WRONG = {**EXTRA, "CLOCK": "-30", "VERSION": "5.2.7"}
PROMISED = 10.0  # seconds in which a check ends, whatever happens

PROJECT = """
from celery import Celery

app = Celery("checked", broker="URL", include=["slow_to_import"])
app.conf.task_routes = {"checked.quick": "orders", "checked.wait": "forgotten", "checked.lost": "reports"}
app.conf.beat_schedule = {
    "good": {"task": "checked.quick", "schedule": 60},
    "bad": {"task": "checked.lost", "schedule": 60},
}


@app.task(name="checked.quick")
def quick():
    pass


@app.task(name="checked.wait")
def wait():
    pass
"""


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at a broker alone need not wait for heartbeats."""
    monkeypatch.setattr(look, "LISTEN", 0.5)
    monkeypatch.setattr(look, "ASK_AGAIN", 0.0)


def network(server: Valkey) -> str:
    """The server's address as one that is not the machine's own: it leads there all the same."""
    return server.url.replace("127.0.0.1", "0.0.0.0")


def left(client: redis.Redis) -> dict[bytes, bytes | None]:
    """What lies in the broker, but for kombu's note of when bindings of replies go: one entry for all clients."""
    return {key: client.dump(key) for key in client.scan_iter() if key != b"_kombu.binding_deadlines"}


def test_every_check_is_provoked_for_real_and_silent_for_real() -> None:
    codes = {check.code for check in CHECKS}
    assert frozenset().union(*(proof.provoked for proof in PROOFS.values())) == codes
    assert frozenset().union(*(proof.silent for proof in PROOFS.values())) == codes


@proves(
    provoked="no-workers queue-without-workers task-late task-expired message-large eviction-policy results-in-broker "
    "results-without-expiry reply-keys broker-without-password"
)
def test_a_neglected_broker(tmp_path: Path, short: None) -> None:
    with (
        valkey(tmp_path / "valkey") as server,
        producer(server.url) as app,
        contextlib.closing(server.client()) as client,
    ):
        past = datetime.now(UTC) - timedelta(hours=2)
        app.send_task("shop.pay", queue="orders", eta=past, expires=past + timedelta(minutes=1))
        app.send_task("shop.photo", args=["x" * 300_000], queue="photos")
        keep_results(server.url, 30, result_expires=None)
        for number in range(150):
            client.rpush(f"{number:032x}.reply.celery.pidbox", "{}")
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        before = left(client)
        _, found = look_at(network(server), queues=("later",))
        assert left(client) == before
        codes = by_code(found)
        assert not found.incomplete
        assert {(each.subject, each.severity) for each in codes["queue-without-workers"]} == {
            ("queue orders", Severity.ERROR), ("queue photos", Severity.ERROR), ("queue later", Severity.WARNING),
        }  # fmt: skip
        assert codes["task-late"][0].evidence == "the next task, shop.pay, was due 2.0 h ago, and may wait 15 min"
        assert "a shop.photo, has 39" in codes["message-large"][0].evidence
        assert "150 lists" in codes["reply-keys"][0].evidence
        assert "of 30 looked at 30 have no time to live" in codes["results-without-expiry"][0].evidence
        assert "allkeys-lru" in codes["eviction-policy"][0].evidence
        assert codes["eviction-policy"][0].severity is Severity.ERROR


@pytest.mark.full
@proves(
    provoked="eviction-policy memory-headroom memory-unlimited",
    silent="eviction-policy memory-headroom memory-unlimited",
)
def test_memory_of_the_broker(valkey_server: Valkey, short: None) -> None:
    def found() -> dict[str, Severity]:
        memory = {"eviction-policy", "memory-headroom", "memory-unlimited"}
        return {each.code: each.severity for each in look_at(valkey_server.url)[1].findings if each.code in memory}

    with contextlib.closing(valkey_server.client()) as client:
        assert found() == {"memory-unlimited": Severity.INFO}
        client.config_set("maxmemory", "100mb")
        assert found() == {}
        client.config_set("maxmemory-policy", "volatile-lru")
        assert found() == {"eviction-policy": Severity.WARNING}
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] / 0.9))
        assert found().keys() == {"memory-headroom"}


@proves(provoked="results-in-broker", silent="broker-without-password reply-keys results-without-expiry")
def test_a_broker_without_fault_is_left_as_it_was(tmp_path: Path, short: None) -> None:
    limits = ("--maxmemory", "100mb", "--maxmemory-policy", "noeviction")
    with (
        valkey(tmp_path / "valkey", extra=limits, password="correct-horse") as server,
        producer(server.url) as app,
        contextlib.closing(server.client()) as client,
    ):
        keep_results(server.url, 30)
        before = left(client)
        _, found = look_at(network(server))
        assert by_code(found).keys() == {"no-workers", "results-in-broker"}
        assert left(client) == before
        app.send_task("checked.quick", queue="orders")
        before = {key: client.dump(key) for key in client.scan_iter()}
        look_at(server.url, passive=True)
        assert {key: client.dump(key) for key in client.scan_iter()} == before


@proves(
    provoked="pickle-accepted task-events-off task-sent-off broker-without-tls single-worker time-limit-ignored",
    silent="results-in-broker heartbeat-off",
)
def test_a_careless_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A worker that beats often needs no long look.
    monkeypatch.setattr(look, "LISTEN", 2.6)
    monkeypatch.setattr(look, "ASK_AGAIN", 0.0)
    monkeypatch.setattr(events, "LONG_ENOUGH", 1.0)
    careless = {"accept_content": ["json", "pickle"], "task_time_limit": 60}
    limits = ("--maxmemory", "100mb", "--maxmemory-policy", "noeviction")
    beats = ("--heartbeat-interval", "1")
    with (
        valkey(tmp_path / "valkey", extra=limits) as server,
        node(network(server), tmp_path / "nodes", "one@h", *beats, queues="orders", settings=careless) as process,
        producer(server.url) as app,
        contextlib.closing(server.client()) as client,
    ):
        wait_ready(process)
        app.conf.task_send_sent_event = False
        before = left(client)
        with load(app, "checked.quick", "orders"):
            _, found = look_at(server.url)
        wait_until(lambda: left(client) == before, WAIT, "the queue is empty, and nothing is left behind")
    assert by_code(found).keys() == PROOFS["test_a_careless_worker"].provoked
    assert not found.incomplete


@pytest.mark.full
@proves(
    provoked="node-name-duplicate worker-mute versions-mixed time-zones-mixed transport-options-mixed "
    "worker-without-queues visibility-timeout-short broker-without-tls pickle-accepted tasks-differ time-limit-missing "
    "reject-without-acks-late acks-late-worker-lost rate-limit-per-worker time-limit-ignored task-events-off "
    "task-sent-off heartbeat-off clock-skew",
    silent="no-workers single-worker",
)
def test_careless_workers(tmp_path: Path) -> None:
    careless = {
        "accept_content": ["json", "pickle"],
        "timezone": "Europe/Berlin",
        "broker_transport_options": {"visibility_timeout": 600},
        "task_reject_on_worker_lost": True,
    }
    late = {**CAREFUL, "task_reject_on_worker_lost": None, "task_soft_time_limit": None, "task_time_limit": 7200}
    deaf = {**CAREFUL, "worker_enable_remote_control": False}
    folder = tmp_path / "nodes"
    with (
        valkey(tmp_path / "valkey", extra=("--maxmemory", "100mb")) as server,
        node(network(server), folder, "careless@h", queues="orders", settings=careless, pool=("prefork", "1")) as first,
        node(
            network(server), folder, "late@h", queues="orders", settings=late, pool=("prefork", "1"), environ=EXTRA
        ) as second,
        node(network(server), folder, "still@h", "--without-heartbeat", queues="mail", environ=EXTRA) as third,
        node(network(server), folder, "slow@h", queues="mail", environ=WRONG) as fourth,
        node(network(server), folder, "mute@h", queues="mail", settings=deaf) as fifth,
        node(network(server), folder, "twin@h", queues="twins") as sixth,
        node(network(server), folder, "twin@h", queues="twins") as seventh,
        producer(server.url) as app,
    ):
        for process in (first, second, third, fourth, fifth, sixth, seventh):
            wait_ready(process)
        app.conf.task_send_sent_event = False
        app.control.cancel_consumer("mail", destination=["slow@h"], reply=True)
        app.send_task("checked.quick", queue="orders", countdown=7200)
        with load(app, "checked.quick", "orders"):
            _, found = look_at(server.url)
    codes = by_code(found)
    assert {code: sorted(each.subject for each in findings) for code, findings in codes.items()} == {
        "node-name-duplicate": ["worker twin@h"],
        "worker-mute": ["worker mute@h"],
        "versions-mixed": ["5 workers"],
        "time-zones-mixed": ["5 workers"],
        "transport-options-mixed": ["5 workers"],
        "worker-without-queues": ["worker slow@h"],
        "visibility-timeout-short": ["3 tasks", "task checked.quick"],
        "broker-without-tls": ["5 workers"],
        "pickle-accepted": ["worker careless@h"],
        "tasks-differ": ["queue orders"],
        "time-limit-missing": ["2 tasks"],
        "reject-without-acks-late": ["2 tasks"],
        "acks-late-worker-lost": ["3 tasks"],
        "rate-limit-per-worker": ["task checked.extra"],
        "time-limit-ignored": ["3 workers"],
        "task-events-off": ["worker careless@h"],
        "task-sent-off": ["worker careless@h"],
        "heartbeat-off": ["worker still@h"],
        "clock-skew": ["worker slow@h"],
    }
    assert [each.severity for each in codes["visibility-timeout-short"]] == [Severity.ERROR, Severity.WARNING]
    assert codes["rate-limit-per-worker"][0].evidence.endswith("up to 30/m in all")
    assert codes["tasks-differ"][0].evidence == "of its 2 workers careless@h lacks checked.extra"
    assert not found.incomplete


@pytest.mark.full
@proves(
    silent="node-name-duplicate worker-mute versions-mixed time-zones-mixed transport-options-mixed solo-pool "
    "worker-without-queues visibility-timeout-short broker-without-tls pickle-accepted tasks-differ time-limit-missing "
    "reject-without-acks-late acks-late-worker-lost rate-limit-per-worker time-limit-ignored task-events-off "
    "task-sent-off heartbeat-off clock-skew queue-without-workers unacked-overdue"
)
def test_careful_workers_at_work(tmp_path: Path) -> None:
    limits = ("--maxmemory", "100mb", "--maxmemory-policy", "noeviction")
    folder = tmp_path / "nodes"
    with (
        valkey(tmp_path / "valkey", extra=limits, password="correct-horse") as server,
        node(server.url, folder, "one@h", queues="orders", pool=("prefork", "1")) as first,
        node(server.url, folder, "two@h", queues="orders", pool=("prefork", "1")) as second,
        producer(server.url) as app,
    ):
        wait_ready(first)
        wait_ready(second)
        app.send_task("checked.quick", queue="orders", countdown=1800)
        with load(app, "checked.quick", "orders"):
            facts, found = look_at(server.url, queues=("orders",))
    assert (found.findings, found.incomplete) == ((), False)
    # It was silent about what it saw.
    assert (found.workers, found.queues) == (2, 1)
    assert facts.heard is not None
    assert facts.heard.proven
    assert set(facts.heard.task_events) == {"one@h", "two@h"}
    assert {worker.name: bool(worker.settings and worker.tasks) for worker in facts.answered} == {
        "one@h": True,
        "two@h": True,
    }
    assert facts.keys is not None
    assert sum(len(worker.reading.held) for worker in facts.answered) >= 1


@pytest.mark.full
@proves(provoked="prefetch-hoarding single-worker worker-idle", silent="prefetch-hoarding single-worker worker-idle")
def test_tasks_behind_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LONG_TASK", 0.5)
    monkeypatch.setattr(workers, "IDLE", 1.0)
    hoard = {**CAREFUL, "worker_prefetch_multiplier": 4}
    folder = tmp_path / "nodes"
    gate = tmp_path / GATE
    with (
        valkey(tmp_path / "valkey") as server,
        producer(server.url) as app,
        node(server.url, folder, "hoard@h", queues="orders", settings=hoard, pool=("threads", "1")) as first,
    ):
        wait_ready(first)
        for _ in range(4):
            app.send_task("checked.wait", args=[str(gate)], queue="orders")
        wait_until(lambda: length(server, "orders") == 0, WAIT, "it has taken all")
        alone = by_code(look_at(server.url)[1])
        assert [each.severity for each in alone["prefetch-hoarding"]] == [Severity.INFO]
        assert alone["single-worker"]
        with node(server.url, folder, "free@h", queues="orders") as second:
            wait_ready(second)
            codes = by_code(look_at(server.url)[1])
            assert "free@h could run them now" in codes["prefetch-hoarding"][0].evidence
            assert [each.subject for each in codes["worker-idle"]] == ["worker free@h"]
            gate.touch()
            wait_until(lambda: "succeeded" in first.log, WAIT, "it goes on")
            assert "prefetch-hoarding" not in by_code(look_at(server.url)[1])


@pytest.mark.full
@proves(
    provoked="queue-stuck task-unregistered solo-pool",
    silent="queue-stuck task-unregistered task-expired task-late message-large",
)
def test_what_nobody_takes(tmp_path: Path) -> None:
    apart = {**CAREFUL, "broker_transport_options": {"priority_steps": [0]}}
    busy = {**CAREFUL, "task_acks_late": True}
    folder = tmp_path / "nodes"
    gate = tmp_path / GATE
    with (
        valkey(tmp_path / "valkey") as server,
        producer(server.url) as app,
        node(server.url, folder, "apart@h", queues="ranked", settings=apart, pool=("solo", "1")) as first,
        node(server.url, folder, "busy@h", queues="orders", settings=busy, pool=("threads", "1")) as second,
    ):
        wait_ready(first)
        wait_ready(second)
        app.send_task("checked.quick", queue="ranked", priority=9)
        app.send_task("checked.wait", args=[str(gate)], queue="orders")
        wait_until(lambda: length(server, "orders") == 0, WAIT, "it works")
        app.send_task("checked.new", queue="orders")
        codes = by_code(look_at(server.url)[1])
        assert [each.subject for each in codes["queue-stuck"]] == ["queue ranked"]
        assert "1 message, at priority 9" in codes["queue-stuck"][0].evidence
        assert [each.subject for each in codes["task-unregistered"]] == ["queue orders"]
        assert "next in it is checked.new" in codes["task-unregistered"][0].evidence
        assert [each.subject for each in codes["solo-pool"]] == ["worker apart@h"]
        with contextlib.closing(server.client()) as client:
            client.delete("orders", *client.keys("ranked*"))
        now = datetime.now(UTC)
        app.send_task("checked.quick", queue="orders", eta=now, expires=now + timedelta(hours=1))
        look_at(server.url)
        assert length(server, "orders") == 1
        gate.touch()


@pytest.mark.full
@proves(provoked="unacked-overdue", silent="unacked-overdue")
def test_messages_of_a_worker_that_was_killed(tmp_path: Path, short: None) -> None:
    options = {"broker_transport_options": ["visibility_timeout=1"]}
    with valkey(tmp_path / "valkey") as server, producer(server.url) as app:
        with node(server.url, tmp_path / "nodes", "gone@h", queues="orders") as process:
            wait_ready(process)
            app.send_task("checked.wait", args=[str(tmp_path / GATE)], queue="orders")
            wait_until(lambda: held(server) == 1, WAIT, "it works")
            process.kill()
        assert "unacked-overdue" not in by_code(look_at(server.url)[1])  # whose timeout it is nobody told

        def overdue() -> bool:
            return "unacked-overdue" in by_code(look_at(server.url, **options)[1])

        wait_until(overdue, WAIT, "the timeout has passed")
        assert held(server) == 1  # we do not put it back ourselves


@pytest.mark.full
@proves(provoked="schedule-unregistered route-without-workers", silent="schedule-unregistered route-without-workers")
def test_a_project_that_sends_what_nobody_takes(tmp_path: Path) -> None:
    with (
        valkey(tmp_path / "valkey") as server,
        node(server.url, tmp_path / "nodes", "one@h", queues="orders") as process,
    ):
        (tmp_path / "checked_project.py").write_text(PROJECT.replace("URL", server.url))
        (tmp_path / "slow_to_import.py").write_text("import time\n\ntime.sleep(2)\n")
        wait_ready(process)
        log = tmp_path / "check.log"
        code, text = checked("-A", "checked_project", "--json", log=log)
        told = json.loads(text)
        found = {(each["code"], each["severity"], each["subject"]) for each in told["findings"]}
        assert {each for each in found if each[0] in {"schedule-unregistered", "route-without-workers"}} == {
            ("schedule-unregistered", "error", "schedule entry bad"),
            ("route-without-workers", "error", "queue reports"),
            ("route-without-workers", "warning", "queue forgotten"),
        }
        assert (code, told["failed"], told["complete"]) == (1, True, True)
        tidy = PROJECT.replace("URL", server.url).replace("forgotten", "orders")
        tidy = tidy.replace("checked.lost", "checked.wait").replace("reports", "orders")
        (tmp_path / "tidy_project.py").write_text(tidy)
        code, text = checked("-A", "tidy_project", "--json", log=tmp_path / "tidy.log")
        assert (code, json.loads(text)["complete"]) == (0, True)


@pytest.mark.full
@needs_rabbitmq
@proves(provoked="eta-beyond-consumer-timeout broker-alarm", silent="eta-beyond-consumer-timeout broker-alarm")
def test_rabbitmq(rabbitmq_server: RabbitMQ, tmp_path: Path) -> None:
    vhost = rabbitmq_server.add_vhost()
    url = rabbitmq_server.url_of(vhost)
    options = {"management_url": rabbitmq_server.management_url()}
    with (
        producer(url) as app,
        node(url, tmp_path / "nodes", "one@h", queues="orders", pool=("prefork", "1")) as process,
    ):
        wait_ready(process)
        app.send_task("checked.quick", queue="orders")
        assert above_info(look_at(url, queues=("orders",), **options)[1]) == []
        app.send_task("checked.quick", queue="orders", countdown=7200)
        wait_until(lambda: "received" in process.log, WAIT, "it holds the task")
        codes = by_code(look_at(url)[1])
        assert [each.subject for each in codes["eta-beyond-consumer-timeout"]] == ["task checked.quick"]
        rabbitmq_server.control("set_vm_memory_high_watermark", "0.0001")
        try:

            def raised() -> bool:
                return "broker-alarm" in by_code(look_at(url, **options)[1])

            wait_until(raised, WAIT, "the alarm is told")
        finally:
            rabbitmq_server.control("set_vm_memory_high_watermark", "0.4")


@pytest.mark.full
def test_a_broker_that_is_not_there(tmp_path: Path) -> None:
    url = f"redis://:correct-horse@127.0.0.1:{free_port()}/0"
    code, text = checked("--broker-url", url, log=tmp_path / "check.log")
    assert code == 2
    assert "the broker refused the connection" in text
    assert "is it running" in text
    assert "correct-horse" not in text


def test_a_broker_that_is_frozen(valkey_server: Valkey, tmp_path: Path) -> None:
    valkey_server.pause()
    try:
        # The limit is the promise of docs/check.md.
        code, text = checked("--broker-url", valkey_server.url, log=tmp_path / "check.log", timeout=PROMISED)
    finally:
        valkey_server.resume()
    assert code == 2
    assert "did not answer" in text


@pytest.mark.full
def test_a_broker_that_freezes_while_it_is_looked_at(valkey_server: Valkey, tmp_path: Path) -> None:
    with contextlib.closing(valkey_server.client()) as client:
        command = python("-m", "celeryscope", "check", "--broker-url", valkey_server.url)
        with started(command, tmp_path / "check.log") as process:
            wait_until(lambda: int(client.pubsub_numpat()) > 0, WAIT, "it listens")
            valkey_server.pause()
            try:
                assert process.wait(PROMISED) == 2
            finally:
                valkey_server.resume()
    assert "not looked at" in process.log


@pytest.mark.full
def test_workers_that_are_frozen(valkey_server: Valkey, tmp_path: Path) -> None:
    with (
        node(valkey_server.url, tmp_path / "nodes", "one@h", queues="orders") as process,
        producer(valkey_server.url) as app,
    ):
        wait_ready(process)
        process.freeze()
        app.send_task("checked.quick", queue="orders")
        log = tmp_path / "check.log"
        code, text = checked("--broker-url", valkey_server.url, log=log, timeout=PROMISED)
        assert (code, "[no-workers]" in text) == (1, True)


@pytest.mark.full
def test_passive_says_what_it_does_not_know(valkey_server: Valkey, tmp_path: Path) -> None:
    with node(valkey_server.url, tmp_path / "nodes", "one@h", queues="orders") as process:
        wait_ready(process)
        code, text = checked("--broker-url", valkey_server.url, "--passive", log=tmp_path / "check.log")
        assert code == 0
        assert "--passive asks them nothing" in text
        assert "1 worker, " in text


@pytest.mark.full
def test_the_demo_is_healthy(tmp_path: Path) -> None:
    with steady_demo(tmp_path) as demo:
        facts, found = look_at(demo.broker_url())
    assert above_info(found) == []
    # Its solo worker answers nobody while it works.
    assert (len(facts.answered) + len(facts.silent), len(facts.silent) <= 1) == (3, True)
    assert not found.incomplete


def keep_results(url: str, number: int, **settings: object) -> None:
    """Let so many results lie in the broker's database."""
    with Celery("results", broker=url, backend=url, set_as_current=False) as app:
        app.conf.update(settings)
        for index in range(number):
            app.backend.store_result(f"{index}", 1, "SUCCESS")


def length(server: Valkey, queue: str) -> int:
    with contextlib.closing(server.client()) as client:
        return int(client.llen(queue))


def held(server: Valkey) -> int:
    with contextlib.closing(server.client()) as client:
        return int(client.hlen("unacked"))
