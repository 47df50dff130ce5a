"""The replies were recorded from workers of Celery 5.7.0, one of each pool; what nobody reads is cut out."""

from typing import Any, cast

import pytest

from celeryscope.clock import Moment
from celeryscope.pollers.worker_replies import (
    parse_pool,
    parse_queues,
    parse_rate,
    parse_registered,
    parse_routes,
    parse_worker,
    queue_of,
)
from celeryscope.pollers.workers import FACTS, RUNNING, WorkersPoller, is_cheap_to_list
from celeryscope.readings import HeldTask, Stage, WorkerReading

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


@pytest.mark.parametrize(
    ("processes", "scaler", "concurrency"),
    [
        ([1, 2], None, 2),
        ([1, 2, 3, 4], None, 4),  # after `pool_grow`
        ([1, 2], {"max": 10, "min": 2, "current": 2, "qty": 0}, 10),
        ("N/A", {"max": "10"}, 2),
    ],
)
def test_a_pool_that_grows_can_run_more_than_it_began_with(processes: Any, scaler: Any, concurrency: int) -> None:
    pool = POOLS["prefork"] | {"processes": processes}
    reading = parse_worker("a@x", {"stats": stats(pool=pool, autoscaler=scaler)}, "Linux")
    assert reading is not None
    assert reading.concurrency == concurrency


QUEUES = [
    {"name": "mail", "exchange": {"name": "mail", "type": "direct"}, "routing_key": "mail", "durable": True},
    {"name": "both", "exchange": {"name": "both", "type": "direct"}, "routing_key": "both", "durable": True},
]
REGISTERED = [
    "probe.add [rate_limit=10/m send_events=True]",
    "probe.silent [send_events=False]",
    "probe.old",
]


def request(uuid: str, **changes: Any) -> dict[str, Any]:
    delivery = {"exchange": "", "routing_key": "mail", "priority": 0, "redelivered": False}
    return {
        "id": uuid,
        "name": "probe.add",
        "type": "probe.add",
        "time_start": None,
        "delivery_info": delivery,
    } | changes


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
        rate_limits={"probe.add": 10 / 60},
        pids=frozenset({14234, 14237}),
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
    assert parse_registered([]) == (frozenset(), {})


@pytest.mark.parametrize("answer", [None, "mail", {"error": "KeyError('x')"}, [{"name": 7}], [{}], ["mail"]])
def test_bad_queues_are_not_known(answer: Any) -> None:
    assert parse_queues(answer) is None


@pytest.mark.parametrize("answer", [None, "x [send_events=False]", {"error": "x"}, [1], [None]])
def test_bad_registrations_are_not_known(answer: Any) -> None:
    assert parse_registered(answer) is None


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10/s", 10), ("10/m", 1 / 6), ("36/h", 0.01), ("3", 3), ("0.5/s", 0.5), ("0", None), ("0/m", None), (None, None)],
)
def test_rate_limits_are_read_as_celery_does(text: str | None, rate: float | None) -> None:
    assert parse_rate(text) == (None if rate is None else pytest.approx(rate))


@pytest.mark.parametrize("text", ["", "/m", "x/m", "10/d", "-1/s", "inf/s", "nan", "None", "10/m/m"])
def test_what_is_no_rate_limit_is_none(text: str) -> None:
    assert parse_rate(text) is None


def test_tasks_that_a_worker_holds_are_told_once_at_their_furthest_stage() -> None:
    lists = {
        "scheduled": [{"eta": "2026-01-01T00:00:10+00:00", "priority": 6, "request": request("later")}],
        "reserved": [request("waits"), request("runs")],
        "active": [request("runs", time_start=1767225600.5, name="nickname"), "nonsense", {"id": 7}],
    }
    answers = {"stats": stats(), "active_queues": QUEUES, **lists}
    reading = parse_worker("celery@host", answers, "Linux", 12.0, [request("ended"), request("runs")])
    assert reading is not None
    assert set(reading.held) == {
        HeldTask("later", "probe.add", "probe.add", "mail", Stage.SCHEDULED, 1767225610.0),
        HeldTask("waits", "probe.add", "probe.add", "mail", Stage.RESERVED),
        HeldTask("runs", "probe.add", "nickname", "mail", Stage.ACTIVE, 1767225600.5),
        HeldTask("ended", "probe.add", "probe.add", "mail", Stage.ACTIVE),
    }
    assert (reading.asked_at, reading.running, reading.holds_listed) == (12.0, frozenset({"runs"}), True)
    assert (reading.reserved, reading.scheduled) == (2, 1)


def test_what_was_not_listed_is_not_known() -> None:
    reading = parse_worker("celery@host", {"stats": stats(), "active": []}, "Linux", 12.0)
    assert reading is not None
    assert (reading.running, reading.reserved, reading.scheduled) == (frozenset(), None, None)
    assert not reading.holds_listed


def route(name: str, exchange: str, kind: str, key: str) -> dict[str, Any]:
    return {"name": name, "exchange": {"name": exchange, "type": kind}, "routing_key": key}


ROUTED = [
    route("fast", "shop", "direct", "fast.key"),
    route("slow", "shop", "direct", "slow.key"),
    route("eu", "geo", "topic", "*.eu.#"),
    route("all", "geo", "topic", "#"),
    route("news", "radio", "fanout", ""),
]


@pytest.mark.parametrize(
    ("exchange", "key", "queue"),
    [
        ("", "mail", "mail"),
        (None, "mail", "mail"),
        ("shop", "slow.key", "slow"),
        ("shop", "other", None),
        ("geo", "berlin.us", "all"),
        ("geo", "berlin.eu", None),  # two queues take it
        ("radio", "whatever", "news"),
        ("elsewhere", "fast.key", None),
        ("", "", None),
        ("", 7, None),
    ],
)
def test_a_queue_is_told_only_where_it_is_certain(exchange: Any, key: Any, queue: str | None) -> None:
    assert queue_of({"exchange": exchange, "routing_key": key}, parse_routes(ROUTED)) == queue


@pytest.mark.parametrize("answer", [None, "x", [None], [{"name": "x"}], [{"name": "x", "exchange": {"name": 1}}]])
def test_bad_routes_are_none(answer: Any) -> None:
    assert parse_routes(answer) == []


@pytest.mark.parametrize(
    ("concurrency", "prefetch", "cheap"),
    [(2, 8, True), (2, 1008, True), (2, 1009, False), (2, 20_008, False), (2, 0, False), (2, "N/A", False)],
)
def test_workers_that_hold_too_much_are_not_asked_for_all_of_it(concurrency: int, prefetch: Any, cheap: bool) -> None:
    answer = stats(prefetch_count=prefetch, pool={"max-concurrency": concurrency})
    assert is_cheap_to_list(answer) is cheap


class FakeClock:
    elapsed = 100.0

    def now(self) -> Moment:
        return Moment(0.0, self.elapsed)


class FakeMailbox:
    """Workers that hold what they are said to; `a` is mute, `b` holds little and `c` too much."""

    def __init__(self) -> None:
        self.asked: list[tuple[set[str], Any]] = []
        self.sizes: dict[str, int] = {}

    def ask(self, commands: Any, destination: Any, *, at_most: float = 5.0) -> Any:
        self.asked.append((set(commands), destination))
        prefetch = {"b": 8, "c": 20_008}
        replies = {
            name: {"stats": stats(prefetch_count=count), "active_queues": QUEUES, "registered": REGISTERED}
            | {"active": [request("runs")], "reserved": [], "scheduled": []}
            for name, count in prefetch.items()
            if destination is None or name in destination
        }
        return {name: {command: answers[command] for command in commands} for name, answers in replies.items()}

    def close(self) -> None:
        pass


def test_lists_are_asked_of_those_that_answered_and_hold_little() -> None:
    mailbox, clock = FakeMailbox(), FakeClock()
    poller = WorkersPoller(cast(Any, mailbox), lambda: ["a", "b", "c"], lambda _: None, clock)
    poller.poll()
    mailbox.asked.clear()
    readings = {reading.worker: reading for reading in poller.poll()}
    assert mailbox.asked == [
        (set(FACTS), ["a", "b", "c"]),
        ({"scheduled", "reserved", "active"}, ["b"]),
        ({"active"}, ["c"]),
    ]
    assert (readings["b"].reserved, readings["c"].reserved) == (0, None)
    assert readings["c"].running == frozenset({"runs"})


def test_a_worker_whose_few_tasks_are_large_is_left_alone_for_a_while() -> None:
    mailbox, clock = FakeMailbox(), FakeClock()
    poller = WorkersPoller(cast(Any, mailbox), lambda: ["b"], lambda _: None, clock)
    poller.poll()
    mailbox.sizes = {"b": 2_000_000}
    assert poller.poll()[0].reserved == 0
    assert poller.poll()[0].reserved is None
    mailbox.sizes = {}
    clock.elapsed += 601
    assert poller.poll(discover=False)[0].reserved == 0


def test_everybody_is_asked_at_first_where_wanted_and_now_and_then() -> None:
    mailbox, clock = FakeMailbox(), FakeClock()
    poller = WorkersPoller(cast(Any, mailbox), list, lambda _: None, clock)

    def asks_everybody(*, discover: bool = False) -> bool:
        mailbox.asked.clear()
        poller.poll(discover=discover)
        return (set(FACTS) | set(RUNNING), None) in mailbox.asked

    assert asks_everybody()
    assert not asks_everybody()
    assert mailbox.asked == []
    assert asks_everybody(discover=True)
    clock.elapsed += 299
    assert not asks_everybody()
    clock.elapsed += 1
    assert asks_everybody()


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
