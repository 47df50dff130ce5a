"""The same comparison where less is known, clocks are wrong, or workers are built differently."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.expectation import EVERYTHING_KNOWN, View
from support.exporter import Exporter, exporter
from support.programs import faketime_environment, needs
from support.servers import Valkey
from support.truth import assert_nothing_in_flight, assert_true, assert_waits, new_ledger
from support.workers import worker
from support.workload.ledger import Ledger
from support.workload.producer import Producer
from support.workload.scenario import send_portable_kinds, send_timeless_kinds

WORKER = "worker1@example"
WORK_TIMEOUT = 60.0  # seconds
SKEW = 400.0  # seconds

pytestmark = [pytest.mark.truth, pytest.mark.timeout(180)]


@dataclass
class Cluster:
    """One worker, one producer, one exporter, and their ledger."""

    exporter: Exporter
    ledger: Ledger
    producer: Producer
    queues: Sequence[str]

    def run(self, view: View = EVERYTHING_KNOWN, send: Callable[[Producer, str], None] = send_portable_kinds) -> None:
        """Send tasks of every kind that every pool can do, and compare."""
        self._announce()
        for queue in self.queues:
            for _ in range(2):
                send(self.producer, queue)
        assert_true(self.exporter, self.ledger, view, work_timeout=WORK_TIMEOUT)

    def _announce(self) -> None:
        # A received event can overtake its task-sent, and waits for it only where there is known to be one.
        if self.producer.sent_events:
            self.producer.send("eventless", self.queues[0], fate="eventless")
            self.exporter.wait_until(
                lambda metrics: metrics.sum("celery_task_sent_total") == 1,
                10.0,
                "a task-sent event was heard",
            )


@contextmanager
def cluster(
    server: Valkey,
    folder: Path,
    *,
    queues: Sequence[str] = ("alpha",),
    sent_events: bool = True,
    pool: str = "prefork",
    concurrency: int = 2,
    env: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """A cluster whose exporter has heard from the worker and asked it for its queues."""
    ledger = new_ledger(folder / "ledger")
    with ExitStack() as stack:
        running = stack.enter_context(
            exporter(server.url, "--workers-poll-interval", "1s", log=folder / "exporter.log")
        )
        stack.enter_context(
            worker(
                server.url,
                ledger,
                name=WORKER,
                queues=queues,
                log=folder / "worker.log",
                pool=pool,
                concurrency=concurrency,
                sent_events=sent_events,
                env=env,
            )
        )
        running.wait_for("celery_worker_concurrency", concurrency, 30.0, worker=WORKER)
        yield Cluster(running, ledger, Producer(server.url, ledger, sent_events=sent_events), queues)


def test_without_task_sent_the_queue_is_that_of_a_worker_with_a_single_one(
    valkey_server: Valkey, tmp_path: Path
) -> None:
    with cluster(valkey_server, tmp_path, queues=("alpha",), sent_events=False) as one:
        one.run(View(sent_events=False, queue="alpha"))


def test_without_task_sent_the_queue_is_unknown_on_a_worker_with_two(valkey_server: Valkey, tmp_path: Path) -> None:
    with cluster(valkey_server, tmp_path, queues=("alpha", "beta"), sent_events=False) as one:
        one.run(View(sent_events=False))


@pytest.mark.parametrize("zone", ["Asia/Bangkok", pytest.param("America/Denver", marks=pytest.mark.full)])
def test_a_worker_seven_hours_away_in_time_zone_has_right_waits(
    valkey_server: Valkey, tmp_path: Path, zone: str
) -> None:
    with cluster(valkey_server, tmp_path, env={"TZ": zone}) as one:
        one.run()
        assert_waits(one.exporter.scrape(), list(one.ledger.records()))
        skew = one.exporter.scrape().value("celery_worker_clock_skew_seconds", worker=WORKER)
        assert skew is None or abs(skew) < 1.0


@needs("faketime")
@pytest.mark.system("faketime")
@pytest.mark.parametrize("ahead", [SKEW, pytest.param(-SKEW, marks=pytest.mark.full)])
def test_a_worker_with_a_wrong_clock_has_right_waits(valkey_server: Valkey, tmp_path: Path, ahead: float) -> None:
    with cluster(valkey_server, tmp_path, env=faketime_environment(ahead)) as one:
        one.exporter.wait_until(
            # A clock that is behind looks like a late heartbeat, until there are three.
            lambda metrics: (
                _near(metrics.value("celery_worker_clock_skew_seconds", worker=WORKER), -ahead)
                and (metrics.value("celery_exporter_events_total", type="worker-heartbeat") or 0) >= 3
            ),
            40.0,
            f"the clock skew of the worker is known to be {-ahead:g} s",
        )
        one.run(send=send_timeless_kinds)
        assert_waits(one.exporter.scrape(), list(one.ledger.records()), clock_ahead=ahead)


@pytest.mark.parametrize(
    ("pool", "concurrency"),
    [
        ("solo", 1),
        pytest.param("threads", 4, marks=pytest.mark.full),
        pytest.param("gevent", 20, marks=pytest.mark.full),
    ],
)
def test_every_pool_is_counted_alike(valkey_server: Valkey, tmp_path: Path, pool: str, concurrency: int) -> None:
    with cluster(valkey_server, tmp_path, pool=pool, concurrency=concurrency) as one:
        one.run()
        assert_nothing_in_flight(one.exporter, timeout=20.0)


def _near(value: float | None, wanted: float) -> bool:
    return value is not None and abs(value - wanted) < 1.0
