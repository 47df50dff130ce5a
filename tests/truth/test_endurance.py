"""What a real exporter holds in memory, under more than it can keep and under what nobody should send."""

import json
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import psutil
import pytest

from support.channel import envelope, event
from support.exporter import Exporter, exporter
from support.flood import batch_of, batches, flood
from support.servers import Valkey

MB = 10**6
TRACKED = 50_000
QUEUE = "alpha"
TIMEOUT = 120.0  # seconds

pytestmark = pytest.mark.integration


@pytest.fixture
def running(valkey_server: Valkey, tmp_path: Path) -> Iterator[Exporter]:
    with exporter(valkey_server.url, log=tmp_path / "exporter.log") as process:
        process.scrape()
        yield process
        assert process.process.returncode is None
        assert "Traceback" not in process.process.log


def memory(running: Exporter) -> int:
    """Resident memory of the process, in bytes."""
    rss: int = psutil.Process(running.process.pid).memory_info().rss
    return rss


def test_50_000_tracked_tasks_take_at_most_60_megabytes_over_the_idle_process(
    valkey_server: Valkey, running: Exporter
) -> None:
    idle = memory(running)
    ids = [f"{number:032x}" for number in range(TRACKED)]
    with valkey_server.client() as client:
        flood(client, batches(event("task-received", uuid=uuid, name="proj.work", retries=0) for uuid in ids))
        flood(client, batches(event("task-started", uuid=uuid) for uuid in ids))
    running.wait_until(
        lambda metrics: metrics.sum("celery_tasks_in_flight", state="started") == TRACKED,
        TIMEOUT,
        "all are tracked",
    )
    assert running.scrape().sum("celery_exporter_tracked_tasks_evicted_total") == 0
    assert memory(running) - idle <= 60 * MB


@pytest.mark.full
@pytest.mark.timeout(900)
def test_memory_is_flat_over_two_million_tasks(valkey_server: Valkey, running: Exporter) -> None:
    def lives(first: int, last: int) -> Iterator[bytes]:
        now = time.time()
        common = f'"hostname":"worker1@example","timestamp":{now}'
        for start in range(first, last, 10):
            yield batch_of(
                [
                    text
                    for number in range(start, start + 10)
                    for text in (
                        f'{{"type":"task-sent","uuid":"{number:032x}","name":"proj.work","queue":"alpha",{common}}}',
                        f'{{"type":"task-received","uuid":"{number:032x}","name":"proj.work","retries":0,{common}}}',
                        f'{{"type":"task-started","uuid":"{number:032x}",{common}}}',
                        f'{{"type":"task-succeeded","uuid":"{number:032x}","runtime":0.1,{common}}}',
                    )
                ]
            )

    def run(first: int, last: int) -> int:
        with valkey_server.client() as client:
            flood(client, lives(first, last))
        running.wait_for("celery_task_succeeded_total", last, TIMEOUT, task="proj.work", queue=QUEUE)
        return memory(running)

    early = run(0, 400_000)  # by now every bound is reached
    late = run(400_000, 2_000_000)
    assert running.scrape().sum("celery_exporter_reconnects_total") == 0
    assert late - early <= 10 * MB, f"{early / MB:.1f} MB after 400,000 tasks, {late / MB:.1f} MB after 2,000,000"


BROKEN = (
    b"nonsense",
    b'{"data": 1}',
    b'{"body": "%%%", "content-type": "application/json", "properties": {"body_encoding": "base64"}}',
    envelope(b""),
    envelope(b'[{"type": "task-started", "uuid'),
    envelope(b"[" * 2000),
    envelope(b"\x80\x04cos\nsystem\n(S'exit'\ntR.", "application/x-python-serialize", "binary"),
    envelope(b"type: task-started", "application/x-yaml"),
    envelope(b'{"type": "task-started"}'),
    envelope(b'{"type": "task-started", "uuid": "x", "hostname": "h", "timestamp": 1e300}'),
    envelope(b'{"type": 7}'),
    envelope(b"\xff\xfe\xfd"),
)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_million_broken_messages_cost_nothing_but_their_count(valkey_server: Valkey, running: Exporter) -> None:
    spacing, most = 1000, 1_000_000  # broken messages between two good ones, and in all

    def mixed(first: int, last: int) -> Iterator[bytes]:
        broken = cycle(BROKEN)
        for number in range(first, last, spacing):
            yield from islice(broken, spacing)
            life = [
                event("task-received", uuid=f"good-{number}", name="proj.good", retries=0),
                event("task-started", uuid=f"good-{number}"),
                event("task-succeeded", uuid=f"good-{number}", runtime=0.1),
            ]
            yield envelope(json.dumps(life).encode())

    def run(first: int, last: int) -> int:
        with valkey_server.client() as client:
            flood(client, mixed(first, last))
        running.wait_until(
            lambda metrics: metrics.sum("celery_task_succeeded_total", task="proj.good") == last / spacing,
            TIMEOUT,
            "the good ones count",
        )
        return memory(running)

    early = run(0, most // 10)
    late = run(most // 10, most)
    metrics = running.scrape()
    assert metrics.sum("celery_exporter_invalid_events_total") == most
    assert metrics.sum("celery_exporter_reconnects_total") == 0
    assert late - early <= 10 * MB, f"{early / MB:.1f} MB after 100,000 messages, {late / MB:.1f} MB after a million"
    assert len(running.process.log) < 20_000
