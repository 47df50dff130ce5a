"""Whatever is published on the event channel is counted by reason, its neighbours count, nothing dies."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.channel import CHANNEL, envelope, event, publish
from support.exporter import Exporter, exporter
from support.programs import needs
from support.servers import Valkey

QUEUE = "alpha"
TIMEOUT = 10.0  # seconds
INVALID = "celery_exporter_invalid_events_total"

pytestmark = pytest.mark.integration


@pytest.fixture
def running(valkey_server: Valkey, tmp_path: Path) -> Iterator[Exporter]:
    with exporter(valkey_server.url, log=tmp_path / "exporter.log") as process:
        yield process
        assert process.process.returncode is None
        assert "Traceback" not in process.process.log


def life(name: str, uuid: str) -> list[dict[str, Any]]:
    """A task from its sending to its success."""
    return [
        event("task-sent", uuid=uuid, name=name, queue=QUEUE, retries=0),
        event("task-received", uuid=uuid, name=name, retries=0),
        event("task-started", uuid=uuid),
        event("task-succeeded", uuid=uuid, result="None", runtime=0.5),
    ]


def succeeded(running: Exporter, task: str) -> None:
    running.wait_for("celery_task_succeeded_total", 1, TIMEOUT, task=task, queue=QUEUE)


BAD_EVENTS: dict[str, Any] = {
    "no-object": 7,
    "null": None,
    "empty": {},
    "no-type": {"uuid": "x", "timestamp": 1.0},
    "type-is-a-number": event("task-started", uuid="x") | {"type": 3},
    "no-uuid": event("task-started"),
    "uuid-is-a-list": event("task-started", uuid=[1, 2]),
    "uuid-is-null": event("task-started", uuid=None),
    "timestamp-is-text": event("task-started", uuid="x", timestamp="now"),
    "timestamp-is-nan": event("task-started", uuid="x", timestamp=float("nan")),
    "timestamp-is-infinite": event("task-started", uuid="x", timestamp=float("inf")),
    "timestamp-is-huge": event("task-started", uuid="x", timestamp=1e300),
    "timestamp-is-negative": event("task-started", uuid="x", timestamp=-5),
    "retries-is-an-object": event("task-received", uuid="x", name="n", retries={}),
    "retries-is-huge": event("task-received", uuid="x", name="n", retries=10**400),
    "runtime-is-huge": event("task-succeeded", uuid="x", runtime=1e308),
    "runtime-is-negative": event("task-succeeded", uuid="x", runtime=-1),
    "processed-is-text": event("worker-heartbeat", processed="many", freq=2.0, active=0),
}


@pytest.mark.parametrize("kind", BAD_EVENTS)
def test_a_bad_event_is_counted_by_reason_and_its_neighbours_count(
    valkey_server: Valkey, running: Exporter, kind: str
) -> None:
    first, *rest = life("good", "good-1")
    with valkey_server.client() as client:
        publish(client, [first, BAD_EVENTS[kind], *rest])
    succeeded(running, "good")
    metrics = running.scrape()
    assert metrics.sum(INVALID) == 1, metrics.series(INVALID)


def test_values_that_are_no_numbers_do_not_spoil_an_event(valkey_server: Valkey, running: Exporter) -> None:
    *begin, end = life("good", "good-1")
    with valkey_server.client() as client:
        publish(client, [*begin, end | {"runtime": float("nan")}])
    succeeded(running, "good")
    total = running.scrape().value("celery_task_runtime_seconds_sum", task="good", queue=QUEUE, outcome="succeeded")
    assert total is not None
    assert 0 <= total < 5


BAD_MESSAGES = {
    "no-envelope": b"nonsense",
    "envelope-of-another-kind": b'{"data": 1}',
    "envelope-with-a-bad-body": b'{"body": 7, "content-type": "application/json", "properties": {}}',
    "body-no-base64": b'{"body": "%%%", "content-type": "application/json", "content-encoding": "utf-8",'
    b' "properties": {"body_encoding": "base64"}, "headers": {}}',
    "broken-json": envelope(b'[{"type": "task-started", "uuid'),
    "empty-body": envelope(b""),
    "deep": envelope(b"[" * 100_000),
    "pickle": envelope(b"\x80\x04cos\nsystem\n(S'exit'\ntR.", "application/x-python-serialize", "binary"),
    "yaml": envelope(b"type: task-started", "application/x-yaml"),
    "msgpack-not-accepted": envelope(
        msgspec.msgpack.encode(event("task-started", uuid="x")), "application/x-msgpack", "binary"
    ),
    "ten-megabytes": envelope(json.dumps(event("task-started", uuid="x" * 10_000_000)).encode()),
}


@pytest.mark.parametrize("kind", BAD_MESSAGES)
def test_a_bad_message_is_counted_by_reason_and_the_next_one_counts(
    valkey_server: Valkey, running: Exporter, kind: str
) -> None:
    with valkey_server.client() as client:
        client.publish(CHANNEL, BAD_MESSAGES[kind])
        publish(client, life("good", "good-1"))
    succeeded(running, "good")
    metrics = running.scrape()
    assert metrics.sum(INVALID) == 1, metrics.series(INVALID)


def test_a_bad_byte_in_one_string_does_not_cost_the_batch(valkey_server: Valkey, running: Exporter) -> None:
    spoilt = json.dumps(life("spoilt", "spoilt-1")).encode().replace(b'"None"', b'"\xff\xfe"')
    with valkey_server.client() as client:
        publish(client, spoilt)
        publish(client, life("good", "good-1"))
    succeeded(running, "spoilt")
    succeeded(running, "good")


HOSTILE_NAMES = {
    "quotes": 'na"me\\with\\"escapes"',
    "newlines": "first\nsecond\r\nthird",
    "braces": 'x"} 1\ncelery_broker_up 0\n#',
    "control": "bell\x07 null\x00 escape\x1b[31m",
    "long": "n" * 5000,
    "surrogate": "lone \ud800 surrogate",
    "separators": "line\u2028separator\u0085next",
    "astral": "\U0001f955 carrot",
    "blank": "   ",
}


@needs("promtool")
@pytest.mark.system("promtool")
def test_hostile_names_leave_the_exposition_valid(valkey_server: Valkey, running: Exporter) -> None:
    with valkey_server.client() as client:
        for number, name in enumerate(HOSTILE_NAMES.values()):
            sent, received, started, _ = life(name, f"task-{number}")
            worker = {"hostname": f"worker-{name[:200]}@example"}
            failed = event("task-failed", uuid=f"task-{number}", exception=f"{name}('x')", traceback=name)
            limited = event("task-rate-limited", uuid=f"task-{number}", limiter=name, delay=1.0)
            heartbeat = event("worker-heartbeat", freq=2.0, active=0, processed=1, **worker)
            batch = [sent | {"queue": name}, received | worker, started | worker, limited, failed | worker]
            publish(client, [*batch, heartbeat, event(f"task-{name}", uuid="x"), event(name)])
        publish(client, life("good", "good-1"))
    succeeded(running, "good")
    metrics = running.wait_until(
        lambda metrics: metrics.sum("celery_task_failed_total") == len(HOSTILE_NAMES),
        TIMEOUT,
        "every task with a hostile name failed",
    )
    assert metrics.value("celery_broker_up") == 1
    assert all(len(label) <= 1000 for labels in metrics.labels("celery_task_failed_total") for label in labels.values())
    assert check_metrics(metrics.text) == ""
    openmetrics = running.get(headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert openmetrics.body.decode().endswith("# EOF\n")


def test_event_types_without_end_do_not_make_series_without_end(valkey_server: Valkey, running: Exporter) -> None:
    with valkey_server.client() as client:
        for start in range(0, 2000, 100):
            publish(client, [event(f"task-made-up-{number}", uuid="x") for number in range(start, start + 100)])
        publish(client, life("good", "good-1"))
    succeeded(running, "good")
    metrics = running.scrape()
    assert metrics.sum("celery_exporter_events_total") >= 2004
    assert len(metrics.labels("celery_exporter_events_total")) < 200


def check_metrics(text: str) -> str:
    """What `promtool check metrics` has to say; empty where all is well."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text.encode(), capture_output=True, check=False, timeout=30
    )
    return (done.stdout + done.stderr).decode()
