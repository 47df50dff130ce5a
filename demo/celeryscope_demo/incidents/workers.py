"""Workers that die, freeze, or go on without working."""

import signal
import time
from collections.abc import Generator
from contextlib import suppress

from kombu.exceptions import OperationalError

from celeryscope_demo.cluster import Cluster, Node
from celeryscope_demo.incidents import HEAVY, Incident, lasting

# A worker that is started again, or connects again, is as it should be; the incident goes on.
AGAIN = 5.0  # seconds until a worker is told again

GENERAL, CALLS = "worker-general", "worker-calls"


def _no_workers(cluster: Cluster) -> Generator[None]:
    yield from _down(cluster, cluster.workers["heavy"], signal.SIGTERM)


def _worker_killed(cluster: Cluster) -> Generator[None]:
    yield from _down(cluster, cluster.workers["general"], signal.SIGKILL)


def _down(cluster: Cluster, node: Node, number: signal.Signals) -> Generator[None]:
    cluster.children.hold(node.child, number)
    try:
        yield from lasting()
    finally:
        cluster.children.renew(node.child)


def _worker_frozen(cluster: Cluster) -> Generator[None]:
    child = cluster.workers["general"].child
    child.signal_group(signal.SIGSTOP)
    try:
        yield from lasting()
    finally:
        child.signal_group(signal.SIGCONT)


def _consumer_lost(cluster: Cluster) -> Generator[None]:
    yield from _told(cluster, cluster.workers["general"], "lose_consumer", "regain_consumer")


def _events_off(cluster: Cluster) -> Generator[None]:
    yield from _told(cluster, cluster.workers["calls"], "mute_tasks", "enable_events")


def _told(cluster: Cluster, node: Node, do: str, undo: str) -> Generator[None]:
    cluster.command(node, do)
    # A worker that lost the broker connects again as it should be, so whoever cannot be told need not be.
    try:
        while True:
            again = time.monotonic() + AGAIN
            while time.monotonic() < again:
                yield
            with suppress(OperationalError):
                cluster.command(node, do)
    finally:
        with suppress(OperationalError):
            cluster.command(node, undo)


def _beat_stopped(cluster: Cluster) -> Generator[None]:
    assert cluster.beat is not None
    cluster.children.hold(cluster.beat, signal.SIGTERM)
    try:
        yield from lasting()
    finally:
        cluster.children.renew(cluster.beat)


INCIDENTS = (
    Incident(
        "no-workers",
        "The only worker of a queue is stopped in order, and nobody starts it again: a deployment that forgot it.",
        "celery_worker_up of demo-heavy is 0 at once, since it said farewell: celery_worker_lost_total stays. "
        "celery_queue_workers of demo-heavy is 0 while its celery_queue_length grows.",
        action=_no_workers,
        part=HEAVY,
    ),
    Incident(
        "worker-killed",
        "A worker is killed with all that it runs, and does not come back: kill -9, or the machine is gone.",
        "celery_worker_up of demo-general is 0 after 30 s without a heartbeat, celery_worker_lost_total and "
        "celery_task_orphaned_total rise, celery_queue_workers of demo and demo-etl is 0 while celery_queue_length "
        "grows. What it held stays in celery_queue_unacked, and is delivered again (celery_task_redelivered_total) "
        "only after celery_broker_visibility_timeout_seconds: an hour.",
        action=_worker_killed,
        part=GENERAL,
    ),
    Incident(
        "worker-frozen",
        "A worker and its pool stop where they are, and stay: a machine without memory, a disk that does not answer.",
        "celery_worker_up of demo-general is 0 after 30 s without a heartbeat, celery_worker_lost_total rises, "
        "celery_queue_length of its queues grows. It goes on where it was: its tasks end late "
        "(celery_task_runtime_seconds), and what expired in the meantime is dropped: "
        'celery_task_revoked_total{reason="expired"}.',
        action=_worker_frozen,
        part=GENERAL,
    ),
    Incident(
        "consumer-lost",
        "A worker stops taking messages and does not know it: its consumer is gone, as after some reconnects.",
        "celery_worker_up of demo-general is 1 and celery_queue_workers of demo is 1, by what the worker says, but its "
        "celery_worker_tasks_active is 0, celery_worker_tasks_processed_total stands still and celery_queue_length of "
        "demo grows. What other workers share with it, demo-urgent and demo-low, goes on. On RabbitMQ "
        "celery_queue_consumers, the broker's own count, is 0.",
        action=_consumer_lost,
        part=GENERAL,
    ),
    Incident(
        "events-off",
        "A worker was started without -E, or somebody disabled its events: it works, and nobody hears of it.",
        "celery_worker_task_events_enabled of demo-calls is 0 while its celery_worker_tasks_processed_total and "
        "celery_task_accepted_total rise; celery_task_succeeded_total of its tasks stands still.",
        action=_events_off,
        part=CALLS,
    ),
    Incident(
        "beat-stopped",
        "The clock of the cluster stops: what runs every so often is not sent any more, and nothing fails.",
        "celery_task_last_succeeded_timestamp_seconds of trickle.feed and search.rebuild gets older than "
        "celery_task_expected_interval_seconds; no counter rises.",
        action=_beat_stopped,
        part="beat",
    ),
)
