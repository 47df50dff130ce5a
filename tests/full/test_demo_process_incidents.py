"""Incidents that take processes and the broker: each is seen as it says, and afterwards all is as before."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeryscope_demo import queues
from celeryscope_demo.programs import WORKERS
from support.demo import END_TIMEOUT, UP_TIMEOUT, Demo, steady_demo
from support.exporter import Metrics
from support.programs import needs
from support.waiting import wait_until

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

SEEN = 90.0  # seconds until an incident is seen: heartbeats that stay away for 30 s, polls every 10 s
RECOVERED = 90.0  # seconds until all is as before
BACKLOG = 10  # tasks: a queue with fewer drains


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with steady_demo(tmp_path_factory.mktemp("demo")) as found:
        healthy(found)
        yield found


@pytest.fixture
def demo(running: Demo) -> Iterator[Demo]:
    """The demo, which is as healthy after the test as it was before."""
    yield running
    healthy(running)


def healthy(demo: Demo) -> None:
    """Wait until every worker is up, every queue is consumed, no backlog is left, and tasks go on."""

    def well(found: Metrics) -> bool:
        workers = found.series("celery_worker_up")
        return (
            found.sum("celery_worker_up") == len(workers) - hasty(found) == len(WORKERS)
            and found.value("celery_broker_up") == found.value("celery_exporter_connected") == 1
            and all(found.sum("celery_queue_workers", queue=name) >= 1 for name in queue_names())
            and found.sum("celery_queue_length", queue=queues.DEFAULT) < BACKLOG
        )

    before = demo.wait_until(well, RECOVERED, "every worker is up, every queue is consumed")
    for queue in (queues.DEFAULT, queues.CALLS, queues.URGENT):
        counts_on(demo, before, "celery_task_succeeded_total", queue=queue)


def hasty(found: Metrics) -> int:
    """Workers of an incident that are known and gone."""
    up = found.series("celery_worker_up")
    return sum(value == 0 for labels, value in up.items() if dict(labels)["worker"].startswith("demo-hasty@"))


def queue_names() -> list[str]:
    return sorted({name for kind in WORKERS for name in kind.queues})


def node(found: Metrics, kind: str) -> str:
    """The full name of a worker."""
    names = [labels["worker"] for labels in found.labels("celery_worker_up")]
    return next(name for name in names if name.startswith(f"{queues.PREFIX}-{kind}@"))


def counts_on(demo: Demo, before: Metrics, name: str, **labels: str) -> Metrics:
    """Wait until a counter has risen since."""
    return demo.wait_until(
        lambda found: found.sum(name, **labels) > before.sum(name, **labels), RECOVERED, f"{name}{labels} rises"
    )


def grows(demo: Demo, queue: str) -> None:
    """Wait until a queue that nobody consumes has grown."""
    before = demo.metrics()
    demo.wait_until(
        lambda found: found.sum("celery_queue_length", queue=queue) > before.sum("celery_queue_length", queue=queue),
        SEEN,
        f"{queue} grows",
    )


def test_no_workers(demo: Demo) -> None:
    before = demo.metrics()
    heavy = node(before, "heavy")
    with demo.during("no-workers"):
        found = demo.wait_until(
            lambda found: (
                found.sum("celery_worker_up", worker=heavy) == 0
                and found.value("celery_queue_workers", queue=queues.HEAVY) == 0
            ),
            SEEN,
            "nobody consumes the queue",
        )
        grows(demo, queues.HEAVY)
        assert found.sum("celery_worker_lost_total") == before.sum("celery_worker_lost_total")
    counts_on(demo, found, "celery_task_succeeded_total", queue=queues.HEAVY)


def test_worker_killed(demo: Demo) -> None:
    before = demo.metrics()
    general = node(before, "general")
    with demo.during("worker-killed"):
        demo.wait_until(
            lambda found: (
                found.sum("celery_worker_up", worker=general) == 0
                and found.value("celery_queue_workers", queue=queues.DEFAULT) == 0
                and found.value("celery_queue_workers", queue=queues.ETL) == 0
            ),
            SEEN,
            "the worker is lost",
        )
        found = counts_on(demo, before, "celery_worker_lost_total", worker=general)
        grows(demo, queues.DEFAULT)
        assert found.value("celery_queue_workers", queue=queues.URGENT) == 1
        assert not [process for process in demo.processes() if "--autoscale" in process.cmdline()]
    counts_on(demo, before, "celery_worker_restarts_total", worker=general)


def test_worker_frozen(demo: Demo) -> None:
    before = demo.metrics()
    general = node(before, "general")
    with demo.during("worker-frozen"):
        demo.wait_until(lambda found: found.sum("celery_worker_up", worker=general) == 0, SEEN, "the worker is lost")
        grows(demo, queues.DEFAULT)
    after = counts_on(demo, before, "celery_worker_lost_total", worker=general)
    assert after.sum("celery_worker_restarts_total", worker=general) == before.sum(
        "celery_worker_restarts_total", worker=general
    )


def test_consumer_lost(demo: Demo) -> None:
    before = demo.metrics()
    general, calls = node(before, "general"), node(before, "calls")
    with demo.during("consumer-lost"):
        # It may still have what it had taken.
        idle = demo.wait_until(
            lambda found: (
                found.value("celery_worker_tasks_active", worker=general) == 0
                and found.sum("celery_queue_length", queue=queues.DEFAULT) > 10
            ),
            SEEN,
            "the worker has nothing to do while its queue grows",
        )
        grows(demo, queues.DEFAULT)
        counts_on(demo, idle, "celery_worker_tasks_processed_total", worker=calls)
        found = counts_on(demo, idle, "celery_task_succeeded_total", queue=queues.URGENT)
        assert found.value("celery_worker_up", worker=general) == 1
        assert found.value("celery_queue_workers", queue=queues.DEFAULT) == 1


def test_events_off(demo: Demo) -> None:
    calls = node(demo.metrics(), "calls")
    events = "celery_worker_task_events_enabled"
    with demo.during("events-off"):
        off = demo.wait_until(lambda found: found.value(events, worker=calls) == 0, SEEN, "it sends no task events")
        counts_on(demo, off, "celery_worker_tasks_processed_total", worker=calls)
        found = counts_on(demo, off, "celery_task_accepted_total", task="webhooks.deliver")
        succeeded = "celery_task_succeeded_total"
        assert found.sum(succeeded, queue=queues.CALLS) == off.sum(succeeded, queue=queues.CALLS)
    demo.wait_until(lambda found: found.value(events, worker=calls) == 1, RECOVERED, "it sends them again")


@needs("faketime")
@pytest.mark.system("faketime")
def test_clock_skew(demo: Demo) -> None:
    before = demo.metrics()
    heavy = node(before, "heavy")
    skew = "celery_worker_clock_skew_seconds"
    with demo.during("clock-skew"):
        demo.wait_until(
            lambda found: found.sum(skew, worker=heavy) == pytest.approx(300, abs=2), SEEN, "its clock is behind"
        )
        found = counts_on(demo, demo.metrics(), "celery_task_succeeded_total", queue=queues.HEAVY)
        revoked = "celery_task_revoked_total"
        assert found.sum(revoked, queue=queues.HEAVY) == before.sum(revoked, queue=queues.HEAVY)
    found = demo.wait_until(
        lambda found: found.sum(skew, worker=heavy) == pytest.approx(0, abs=2), RECOVERED, "its clock is right"
    )
    wait = "celery_task_wait_seconds_sum"
    assert found.sum(wait, queue=queues.HEAVY) - before.sum(wait, queue=queues.HEAVY) < 300


def test_beat_stopped(demo: Demo) -> None:
    interval = demo.metrics().sum("celery_task_expected_interval_seconds", task="trickle.feed")
    assert interval > 0
    last = "celery_task_last_succeeded_timestamp_seconds"
    now = "celery_exporter_last_event_timestamp_seconds"
    with demo.during("beat-stopped"):
        demo.wait_until(
            lambda found: found.sum(now) - found.sum(last, task="trickle.feed") > 3 * interval,
            SEEN,
            "what runs by the clock is overdue",
        )
    counts_on(demo, demo.metrics(), "celery_task_succeeded_total", task="trickle.feed")


def test_broker_restart(demo: Demo) -> None:
    before = demo.metrics()
    with demo.during("broker-restart"):
        demo.wait_until(
            lambda found: found.value("celery_broker_up") == found.value("celery_exporter_connected") == 0,
            SEEN,
            "the broker is away",
        )
        found = demo.wait_until(
            lambda found: found.value("celery_broker_up") == found.value("celery_exporter_connected") == 1,
            RECOVERED,
            "the broker is back",
        )
        deaf = "celery_exporter_deaf_seconds_total"
        assert found.sum(deaf) - before.sum(deaf) > 5
        counts_on(demo, before, "celery_exporter_reconnects_total")
        healthy(demo)


def test_eviction_policy(demo: Demo) -> None:
    policy = "celery_broker_eviction_policy_info"
    assert demo.metrics().value(policy, policy="noeviction") == 1
    with demo.during("eviction-policy"):
        found = demo.wait_until(lambda found: found.value(policy, policy="allkeys-lru"), SEEN, "keys may be evicted")
        assert found.value(policy, policy="noeviction") is None
    demo.wait_until(lambda found: found.value(policy, policy="noeviction"), RECOVERED, "none may be evicted")


def test_lost_events(demo: Demo) -> None:
    before = demo.metrics()
    with demo.during("lost-events"):
        demo.wait_until(
            lambda found: all(
                found.sum(name) > before.sum(name)
                for name in (
                    "celery_exporter_reconnects_total",
                    "celery_exporter_deaf_seconds_total",
                    "celery_worker_events_lost_total",
                )
            ),
            SEEN,
            "events get lost",
        )
    assert demo.metrics().sum("celery_worker_lost_total") == before.sum("celery_worker_lost_total")


def test_duplicate_delivery(demo: Demo) -> None:
    before = demo.metrics()
    with demo.during("duplicate-delivery"):
        counts_on(demo, before, "celery_task_redelivered_total", task="exports.build")
        counts_on(demo, before, "celery_task_succeeded_total", task="exports.build")
    demo.wait_until(lambda found: hasty(found) == 1, RECOVERED, "the worker of the incident is gone")


@pytest.mark.parametrize("incident", ["worker-frozen", "no-workers", "broker-restart"])
def test_ctrl_c_during_an_incident_ends_the_demo_with_nothing_left(tmp_path: Path, incident: str) -> None:
    demo = Demo(tmp_path)
    try:
        with demo.running() as process:
            demo.wait_for_tasks()
            demo.incident("start", incident)
            process.signal(signal.SIGINT)
            assert process.wait(END_TIMEOUT) == 0
        wait_until(lambda: "nothing is left running" in demo.log.read_text(), UP_TIMEOUT, "it says goodbye")
        demo.assert_nothing_left()
    finally:
        demo.close()
        shutil.rmtree(demo.folder, ignore_errors=True)
