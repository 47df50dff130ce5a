"""The replies were recorded from workers of Celery 5.7.0, one of each pool; what nobody reads is cut out."""

from typing import Any

import pytest

from celeryscope.pollers.workers import (
    parse_pool,
    parse_queues,
    parse_silent_tasks,
    parse_worker,
)
from celeryscope.readings import WorkerReading

USAGE = {"utime": 0.328053, "stime": 0.210891, "maxrss": 55748, "ixrss": 0, "nivcsw": 35}
BROKER = {"hostname": "127.0.0.1", "userid": None, "virtual_host": "0", "port": 39555, "transport": "redis"}
POOLS: dict[str, dict[str, Any]] = {
    "prefork": {
        "implementation": "celery.concurrency.prefork:TaskPool",
        "max-concurrency": 2,
        "processes": [14234, 14237],
        "max-tasks-per-child": "N/A",
        "put-guarded-by-semaphore": False,
        "timeouts": [0, 0],
        "writes": {"total": 1, "avg": "1.00", "all": "1.00", "raw": "1", "strategy": "fair"},
    },
    "solo": {
        "implementation": "celery.concurrency.solo:TaskPool",
        "max-concurrency": 1,
        "processes": [14229],
        "max-tasks-per-child": None,
        "put-guarded-by-semaphore": True,
        "timeouts": [],
    },
    "threads": {"implementation": "celery.concurrency.thread:TaskPool", "max-concurrency": 2, "threads": 0},
    "gevent": {"implementation": "celery.concurrency.gevent:TaskPool", "max-concurrency": 2},
}


def stats(kind: str = "prefork", **changes: Any) -> dict[str, Any]:
    reply = {
        "total": {"probe.add": 1},
        "pid": 14228,
        "clock": "3",
        "uptime": 2,
        "pool": POOLS[kind],
        "broker": BROKER,
        "prefetch_count": 8,
        "rusage": USAGE,
    }
    return reply | changes


QUEUES = [
    {"name": "mail", "exchange": {"name": "mail", "type": "direct"}, "routing_key": "mail", "durable": True},
    {"name": "both", "exchange": {"name": "both", "type": "direct"}, "routing_key": "both", "durable": True},
]
REGISTERED = ["probe.add [send_events=True]", "probe.silent [send_events=False]", "probe.old"]


def test_a_whole_reading() -> None:
    answers = {"stats": stats(), "active_queues": QUEUES, "registered": REGISTERED}
    reading = parse_worker("celery@host", answers, "Linux")
    assert reading == WorkerReading(
        worker="celery@host",
        pool="prefork",
        concurrency=2,
        processes=2,
        prefetch=8,
        uptime=2.0,
        pid=14228,
        cpu_user=0.328053,
        cpu_system=0.210891,
        memory_max_bytes=55748 * 1024,
        accepted={"probe.add": 1},
        queues=("both", "mail"),
        silent_tasks=frozenset({"probe.silent"}),
    )
    assert not reading.solo


@pytest.mark.parametrize(
    ("pool", "concurrency", "processes"),
    [("prefork", 2, 2), ("solo", 1, 1), ("threads", 2, None), ("gevent", 2, None)],
)
def test_pools(pool: str, concurrency: int, processes: int | None) -> None:
    reading = parse_worker("celery@host", {"stats": stats(pool)}, None)
    assert reading is not None
    assert (reading.pool, reading.concurrency, reading.processes) == (pool, concurrency, processes)
    assert reading.solo is (pool == "solo")


@pytest.mark.parametrize(
    ("implementation", "pool"),
    [
        ("celery.concurrency.eventlet:TaskPool", "eventlet"),
        ("celery_aio_pool.pool:AsyncIOPool", "celery_aio_pool.pool:AsyncIOPool"),
        ("prefork", "prefork"),
        ("", None),
        (None, None),
        (["celery"], None),
    ],
)
def test_pool_names(implementation: Any, pool: str | None) -> None:
    assert parse_pool(implementation) == pool


@pytest.mark.parametrize(
    ("system", "size"), [("Linux", 57085952), ("Darwin", 55748), ("FreeBSD", 57085952), (None, None)]
)
def test_memory_is_in_the_unit_of_the_workers_system(system: str | None, size: int | None) -> None:
    reading = parse_worker("celery@host", {"stats": stats()}, system)
    assert reading is not None
    assert reading.memory_max_bytes == size


def test_what_was_not_answered_is_not_known() -> None:
    reading = parse_worker("celery@host", {"stats": stats(rusage="N/A")}, "Windows")
    assert reading is not None
    assert (reading.queues, reading.silent_tasks) == (None, None)
    assert (reading.cpu_user, reading.cpu_system, reading.memory_max_bytes) == (None, None, None)


def test_a_worker_that_consumes_nothing_is_known_to() -> None:
    assert parse_queues([]) == ()
    assert parse_silent_tasks([]) == frozenset()


@pytest.mark.parametrize("answer", [None, "mail", {"error": "KeyError('x')"}, [{"name": 7}], [{}], ["mail"]])
def test_bad_queues_are_not_known(answer: Any) -> None:
    assert parse_queues(answer) is None


@pytest.mark.parametrize("answer", [None, "x [send_events=False]", {"error": "x"}, [1], [None]])
def test_bad_registrations_are_not_known(answer: Any) -> None:
    assert parse_silent_tasks(answer) is None


@pytest.mark.parametrize("answer", [None, [], "x", 1.5, {}, {"error": "x"}, stats() | {"pool": []}])
def test_no_reading_without_usable_statistics(answer: Any) -> None:
    assert parse_worker("celery@host", {"stats": answer, "active_queues": QUEUES}, "Linux") is None


@pytest.mark.parametrize("value", [None, "2", -1, True, [], {}, 2**80, 1e308, float("nan"), float("inf")], ids=repr)
def test_hostile_values_are_not_told(value: Any) -> None:
    answer = stats(
        total={"good": 3, "bad": value, "": 1},
        pid=value,
        uptime=value,
        prefetch_count=value,
        pool={"implementation": value, "max-concurrency": value, "processes": value},
        rusage={"utime": value, "stime": value, "maxrss": value},
    )
    reading = parse_worker("celery@host", {"stats": answer}, "Linux")
    assert reading is not None
    assert reading.accepted == {"good": 3}
    assert reading.uptime is reading.pid is reading.prefetch is reading.concurrency is None
    assert reading.cpu_user is reading.cpu_system is reading.memory_max_bytes is None
