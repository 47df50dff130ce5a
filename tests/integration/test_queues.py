"""The whole exporter and what it says of queues, on a real Valkey and a real RabbitMQ."""

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from support.exporter import Exporter, Metrics, exporter
from support.rabbitmq import RabbitMQ, needs_rabbitmq
from support.servers import Valkey
from support.sqs import OPTIONS, sqs
from support.truth import new_ledger
from support.waiting import wait_until
from support.workers import worker
from support.workload.producer import Producer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

WAIT = 40.0  # seconds
NAME = "worker1@example"
OLDEST = "celery_queue_oldest_task_timestamp_seconds"
QUICK = ("--queues-poll-interval", "500ms", "--workers-poll-interval", "1s")
SCRAPES = 20
STOP_LIMIT = 6.0  # seconds: it is 2 on a machine that does nothing else
POLLED = re.compile("celery_(queue_(?!wait_objective)|broker_(memory|evic|alarm|oldest|visib))")


def producer(url: str) -> Celery:
    app = Celery("producer", broker=url, set_as_current=False)
    app.conf.update(task_send_sent_event=False)
    return app


def send(app: Celery, queue: str, number: int, **options: Any) -> list[str]:
    return [app.send_task("shop.pay", queue=queue, **options).id for _ in range(number)]


def length(metrics: Metrics, queue: str) -> float | None:
    return metrics.value("celery_queue_length", queue=queue)


def polled(metrics: Metrics) -> set[str]:
    """The names of all that polls of broker and workers tell of queues."""
    return {name for name in metrics.names if POLLED.match(name)}


def last_poll(metrics: Metrics) -> float:
    return metrics.value("celery_exporter_poll_last_success_timestamp_seconds", poller="queues") or 0.0


def after_a_poll(running: Exporter) -> Metrics:
    """An exposition with a poll that began after this call."""
    before = last_poll(running.scrape())
    first = running.wait_until(lambda metrics: last_poll(metrics) > before, WAIT, "a poll")
    return running.wait_until(lambda metrics: last_poll(metrics) > last_poll(first), WAIT, "another poll")


def test_lengths_by_priority_with_no_worker_alive(valkey_server: Valkey, tmp_path: Path) -> None:
    with producer(valkey_server.url) as app:
        send(app, "fast", 3)
        send(app, "fast", 2, priority=9)
        send(app, "slow", 4, priority=3)
        app.conf.task_send_sent_event = True
        send(app, "empty", 1)
    with valkey_server.client() as client:
        client.delete("empty")
    with exporter(valkey_server.url, *QUICK, log=tmp_path / "exporter.log") as running:
        wait_until(lambda: running.get("/-/ready").status == 200, WAIT, "it is ready")
        metrics = running.wait_until(lambda m: length(m, "slow") == 4 and length(m, "fast") == 5, WAIT, "lengths")
        running.wait_for("celery_queue_length", 0, WAIT, queue="empty")
        by_priority = {
            (labels["queue"], labels["priority"]): metrics.value("celery_queue_priority_length", **labels)
            for labels in metrics.labels("celery_queue_priority_length")
        }
        assert {key: value for key, value in by_priority.items() if value} == {
            ("fast", "0"): 3, ("fast", "9"): 2, ("slow", "3"): 4,
        }  # fmt: skip
        metrics = running.wait_for("celery_queue_workers", 0, WAIT, queue="fast")
        assert metrics.value("celery_queue_concurrency", queue="fast") == 0
        assert metrics.value("celery_queue_wait_objective_seconds", queue="slow") == 900
        assert metrics.value("celery_exporter_poll_success", poller="queues") == 1
        assert (metrics.value("celery_broker_memory_used_bytes") or 0) > 0
        assert metrics.value("celery_broker_visibility_timeout_seconds") == 3600
        (info,) = metrics.labels("celery_broker_info")
        assert info["transport"] == "redis"
        assert re.fullmatch(r"\d+\.\d+\.\d+", info["version"])
        assert metrics.value("celery_broker_eviction_policy_info", policy="noeviction") == 1


def test_the_age_of_the_oldest_task_with_and_without_task_sent(valkey_server: Valkey, tmp_path: Path) -> None:
    named = (
        *QUICK,
        "--queue",
        "unsaid",
    )  # which no event tells of: else it is found by a look at all keys, now and then
    with (
        exporter(valkey_server.url, *named, log=tmp_path / "exporter.log") as running,
        producer(valkey_server.url) as app,
    ):
        before = time.time()
        send(app, "unsaid", 1)
        metrics = running.wait_until(lambda m: m.value(OLDEST, queue="unsaid"), WAIT, "it is seen")
        seen = metrics.value(OLDEST, queue="unsaid")
        assert seen is not None
        assert seen >= before
        app.conf.task_send_sent_event = True
        sent_at = time.time()
        send(app, "said", 1)
        eta = datetime.now(UTC) + timedelta(hours=1)
        send(app, "later", 1, eta=eta)
        running.wait_until(lambda m: m.value(OLDEST, queue="later"), WAIT, "all are seen")
        metrics = after_a_poll(running)
        assert metrics.value(OLDEST, queue="unsaid") == seen
        said = metrics.value(OLDEST, queue="said")
        assert said is not None
        assert said >= sent_at
        assert said < (metrics.value("celery_exporter_poll_last_success_timestamp_seconds", poller="queues") or 0)
        assert said == metrics.value("celery_task_last_sent_timestamp_seconds", task="shop.pay", queue="said")
        assert metrics.value(OLDEST, queue="later") == pytest.approx(eta.timestamp())
        with valkey_server.client() as client:
            client.delete("said")
        metrics = running.wait_for("celery_queue_length", 0, WAIT, queue="said")
        assert metrics.value(OLDEST, queue="said") is None


def test_a_worker_comes_and_goes(valkey_server: Valkey, tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path / "ledger")
    with exporter(valkey_server.url, *QUICK, "--queue", "alpha", log=tmp_path / "exporter.log") as running:
        running.wait_for("celery_queue_workers", 0, WAIT, queue="alpha")
        options: dict[str, Any] = {"queues": ["alpha", "beta"], "concurrency": 3, "log": tmp_path / "worker.log"}
        with worker(valkey_server.url, ledger, name=NAME, **options):
            for queue in ("alpha", "beta"):
                metrics = running.wait_for("celery_queue_workers", 1, WAIT, queue=queue)
                assert metrics.value("celery_queue_concurrency", queue=queue) == 3
            Producer(valkey_server.url, ledger).send("add", "alpha", 1, 1)
            running.wait_until(lambda m: m.sum("celery_task_succeeded_total"), WAIT, "the task is done")
        running.wait_for("celery_worker_up", 0, WAIT, worker=NAME)
        metrics = after_a_poll(running)
        for queue in ("alpha", "beta"):
            assert metrics.value("celery_queue_workers", queue=queue) == 0
            assert metrics.value("celery_queue_concurrency", queue=queue) == 0


def hang(server: Valkey) -> None:
    server.pause()


def die(server: Valkey) -> None:
    server.kill()


@pytest.mark.parametrize("trouble", [hang, pytest.param(die, marks=pytest.mark.full)])
def test_what_a_broker_told_that_answers_no_more_goes_and_no_zero_comes(
    trouble: Callable[[Valkey], None], valkey_server: Valkey, tmp_path: Path
) -> None:
    quick = (*QUICK, "--poll-stale-after", "3s", "--queue", "fast")
    with producer(valkey_server.url) as app:
        send(app, "fast", 3)
    with exporter(valkey_server.url, *quick, log=tmp_path / "exporter.log") as running:
        running.wait_for("celery_queue_length", 3, WAIT, queue="fast")
        running.wait_for("celery_queue_workers", 0, WAIT, queue="fast")
        told = after_a_poll(running)
        trouble(valkey_server)
        try:
            expositions: list[Metrics] = []

            def has_gone() -> bool:
                expositions.append(running.scrape())
                return not polled(expositions[-1])

            wait_until(has_gone, WAIT, "all that was polled is gone")
            assert polled(told) >= {"celery_queue_length", "celery_queue_workers", "celery_broker_memory_used_bytes"}
            for metrics in expositions:
                assert length(metrics, "fast") in {3, None}
            gone = expositions[-1]
            assert time.time() - last_poll(gone) >= 3
            assert gone.value("celery_queue_wait_objective_seconds", queue="fast") == 900  # it is configured
            running.wait_for("celery_exporter_poll_success", 0, WAIT, poller="queues")
            running.wait_for("celery_broker_up", 0, WAIT)
            assert polled(running.scrape()) == set()
            assert running.get("/-/ready").status == 200
        finally:
            valkey_server.resume() if trouble is hang else valkey_server.start()
        running.wait_for("celery_exporter_poll_success", 1, WAIT, poller="queues")
        running.wait_for("celery_queue_length", 3 if trouble is hang else 0, WAIT, queue="fast")
        running.wait_for("celery_broker_up", 1, WAIT)


def test_sigterm_is_prompt_while_a_poll_hangs(valkey_server: Valkey, tmp_path: Path) -> None:
    options = ("--queues-poll-interval", "100ms")
    with exporter(valkey_server.url, *options, log=tmp_path / "exporter.log") as running:
        after_a_poll(running)
        valkey_server.pause()
        try:
            running.wait_until(lambda m: time.time() - last_poll(m) > 1, WAIT, "a poll hangs")
            running.process.terminate()
            assert running.process.wait(STOP_LIMIT) == 0
        finally:
            valkey_server.resume()
        assert "celeryscope-poll-queues" in running.process.log


def commands(server: Valkey) -> dict[str, int]:
    with server.client() as client:
        statistics: Any = client.info("commandstats")
        return {name.removeprefix("cmdstat_"): facts["calls"] for name, facts in statistics.items()}


def test_no_scrape_reaches_the_broker(valkey_server: Valkey, tmp_path: Path) -> None:
    rare = ("--queues-poll-interval", "10m", "--workers-poll-interval", "10m", "--canary-interval", "10m")
    with producer(valkey_server.url) as app:
        send(app, "fast", 3)
    with exporter(valkey_server.url, *rare, "--poll-stale-after", "20m", log=tmp_path / "exporter.log") as running:
        wait_until(lambda: running.get("/-/ready").status == 200, WAIT, "it is ready")
        running.wait_until(lambda m: m.sum("celery_exporter_canary_round_trip_seconds"), WAIT, "the canary is back")

        def asked() -> dict[str, int]:
            # Without those of the counting itself, and of idle connections.
            own = {"info", "hello", "client|setinfo", "client|setname", "ping"}
            return {name: calls for name, calls in commands(valkey_server).items() if name not in own}

        def nothing_is_asked() -> bool:
            before = asked()
            assert before["llen"] > 0
            for _ in range(SCRAPES):
                assert length(running.scrape(), "fast") == 3
            return asked() == before

        wait_until(nothing_is_asked, WAIT, "scrapes ask nothing, once the first polls are over")


@needs_rabbitmq
def test_rabbitmq_without_and_with_the_management_api(rabbitmq_server: RabbitMQ, tmp_path: Path) -> None:
    url = rabbitmq_server.url_of(rabbitmq_server.add_vhost())
    with producer(url) as app:
        app.conf.task_queue_max_priority = 9
        send(app, "fast", 3, priority=1)
        send(app, "slow", 2)
        with exporter(url, *QUICK, "--queue", "fast", log=tmp_path / "named.log") as running:
            running.wait_for("celery_queue_length", 3, WAIT, queue="fast")
            metrics = running.wait_for("celery_queue_workers", 0, WAIT, queue="fast")
            assert metrics.value("celery_queue_consumers", queue="fast") == 0
            assert metrics.labels("celery_queue_length") == [{"queue": "fast"}]  # nobody has named the other
            assert metrics.value("celery_broker_up") == 1
            assert metrics.series(OLDEST) == {}
        management = rabbitmq_server.management_url()
        with exporter(url, *QUICK, "--management-url", management, log=tmp_path / "management.log") as running:
            running.wait_for("celery_queue_length", 3, WAIT, queue="fast")
            running.wait_for("celery_queue_length", 2, WAIT, queue="slow")
            metrics = running.wait_for("celery_queue_workers", 0, WAIT, queue="slow")
            assert metrics.value("celery_broker_alarm", alarm="memory") == 0
            assert (metrics.value("celery_broker_memory_used_bytes") or 0) > 0


def test_sqs_shows_its_queues_and_says_once_that_it_has_no_more(tmp_path: Path) -> None:
    with sqs(tmp_path) as server:
        server.client().create_queue(QueueName="fast")
        transport = [
            part
            for name, value in OPTIONS.items()
            for part in ("--broker-transport-option", f"{name}={json.dumps(value)}")
        ]
        options = (*QUICK, *transport, "--queue", "fast")
        with exporter(server.url, *options, log=tmp_path / "exporter.log", wait_connected=False) as running:
            wait_until(lambda: running.get("/-/ready").status == 200, WAIT, "it is ready")
            running.wait_for("celery_queue_length", 0, WAIT, queue="fast")
            metrics = after_a_poll(running)
            assert metrics.value("celery_broker_up") == 1
            for absent in ("celery_exporter_connected", "celery_exporter_deaf_seconds_total", "celery_queue_workers"):
                assert metrics.series(absent) == {}
            assert metrics.labels("celery_exporter_poll_success") == [{"poller": "queues"}]
            (complaint,) = running.complaints
            assert "the transport sqs carries neither events nor remote control" in complaint
