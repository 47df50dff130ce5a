"""Brokers that go away, forget, or deliver twice; and what the exporter does not hear."""

import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celeryscope_demo import programs
from celeryscope_demo.broker import EXPORTER_USER, Running
from celeryscope_demo.cluster import Cluster
from celeryscope_demo.incidents import REDELIVERY, Incident, embedded_broker, lasting
from celeryscope_demo.processes import Child

DOWN = 8.0  # seconds for which the broker is away
KILLED_EVERY = 1.0  # seconds
TIMEOUT = 1.0  # seconds for the broker to answer
UNREST = 30.0  # seconds after it was away in which workers may end for it
BROKER = "the broker"


@contextmanager
def _client(running: Running) -> Generator[redis.Redis]:
    once = Retry(NoBackoff(), 0)
    with redis.Redis(
        host="127.0.0.1", port=running.port, socket_timeout=TIMEOUT, retry=once, decode_responses=True
    ) as client:
        yield client


def _broker_restart(cluster: Cluster) -> Generator[None]:
    child: Child = embedded_broker(cluster).child
    cluster.children.hold(child, signal.SIGTERM)
    try:
        back = time.monotonic() + DOWN
        while time.monotonic() < back:
            cluster.children.excuse(UNREST)
            yield
    finally:
        cluster.children.renew(child)
        cluster.children.excuse(UNREST)


def _eviction_policy(cluster: Cluster) -> Generator[None]:
    with _client(embedded_broker(cluster)) as client:
        usual: Any = client.config_get("maxmemory-policy")
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            yield from lasting()
        finally:
            client.config_set("maxmemory-policy", usual["maxmemory-policy"])


def _lost_events(cluster: Cluster) -> Generator[None]:
    with _client(embedded_broker(cluster)) as client:
        while True:
            client.client_kill_filter(user=EXPORTER_USER)
            again = time.monotonic() + KILLED_EVERY
            while time.monotonic() < again:
                yield


def _duplicate_delivery(cluster: Cluster) -> Generator[None]:
    embedded_broker(cluster)
    child = cluster.children.start(programs.worker(programs.HASTY, cluster.environ))
    try:
        yield from lasting()
    finally:
        cluster.children.dismiss(child)


INCIDENTS = (
    Incident(
        "broker-restart",
        f"The broker is away for {DOWN:.0f} s and comes back with its queues: a restart, a failover.",
        "celery_broker_up and celery_exporter_connected are 0 for that time, celery_exporter_deaf_seconds_total "
        "rises by it, celery_exporter_reconnects_total by 1. Nothing is sent meanwhile. Workers connect again, but one "
        "that held tasks may end instead, as Celery 5.7's do with exit code 1, and has to be started again: "
        "celery_worker_restarts_total. What it held stays in celery_queue_unacked for the visibility timeout.",
        seconds=60.0,
        action=_broker_restart,
        part=BROKER,
    ),
    Incident(
        "eviction-policy",
        "Somebody lets the broker evict keys where its memory ends, as a cache does: then whole queues vanish.",
        'celery_broker_eviction_policy_info{policy="allkeys-lru"} is there. Nothing else is to be seen before it is '
        "too late: celery_broker_evicted_keys_total, as celery_broker_memory_used_bytes reaches "
        "celery_broker_memory_max_bytes.",
        action=_eviction_policy,
        part=BROKER,
    ),
    Incident(
        "lost-events",
        f"The exporter loses its connections every {KILLED_EVERY:.0f} s, and with them what is told in between.",
        "celery_exporter_reconnects_total, celery_exporter_deaf_seconds_total and celery_worker_events_lost_total "
        "rise, the last still after the end, when workers are heard again. celery_task_succeeded_total misses what was "
        "not heard, celery_task_accepted_total does not. Where only the sending was missed, the wait is unknown "
        '(celery_task_wait_unknown_total) and so is the queue: queue="unknown".',
        seconds=60.0,
        action=_lost_events,
        part=BROKER,
    ),
    Incident(
        "duplicate-delivery",
        "Somebody starts a worker with a visibility timeout of a few seconds: it delivers again what others still do.",
        "celery_task_redelivered_total of exports.build rises, and of whatever lasts or is scheduled longer than that. "
        "Nothing fails: only tasks that are idempotent bear it.",
        action=_duplicate_delivery,
        part=REDELIVERY,
        starts=f"worker-{programs.HASTY.name}",
    ),
)
