"""What workers answer to Celery's inspection, made into readings. What is of an unexpected type is not told."""

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple

from celeryscope.events import parse_eta
from celeryscope.readings import HeldTask, Stage, WorkerReading

# Unit of ru_maxrss, by the system that a worker says it runs on; Darwin counts bytes, all others kilobytes.
MAXRSS_UNIT = {"Darwin": 1}
OTHER_MAXRSS_UNIT = 1024

POOLS = {"thread": "threads"}  # module of celery.concurrency -> the name that `--pool` has for it

RATE_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}  # seconds
_ITEMS = re.compile(r" \[([^\[\]]*)\]$")  # what `registered` tells of a task, behind its name


class Registered(NamedTuple):
    """What a worker told of the tasks that it can run, by name."""

    silent: frozenset[str]  # send_events=False
    rate_limits: Mapping[str, float]  # starts per second, of those that have a limit


class QueueRoute(NamedTuple):
    """How messages come into a queue that a worker consumes."""

    name: str
    exchange: str
    exchange_type: str
    routing_key: str


def parse_worker(
    worker: str,
    answers: Mapping[str, Any],
    system: str | None,
    asked_at: float | None = None,
    earlier: Any = None,
) -> WorkerReading | None:
    """Return what a worker's answers say, by command; None without usable statistics.

    `system` is the worker's `sw_sys`, where it is known; `asked_at` when it was asked for what it holds, in elapsed
    seconds; `earlier` an answer to `active` from before that.
    """
    stats = answers.get("stats")
    if not isinstance(stats, dict) or not isinstance(stats.get("pool"), dict):
        return None
    pool, usage = stats["pool"], stats.get("rusage")
    if not isinstance(usage, dict):
        usage = {}  # "N/A" on Windows
    processes = pool.get("processes")
    total = stats.get("total")
    registered = parse_registered(answers.get("registered"))
    lists = {stage: _list(answers.get(stage.value)) for stage in Stage}
    active, reserved, scheduled = lists[Stage.ACTIVE], lists[Stage.RESERVED], lists[Stage.SCHEDULED]
    routes = parse_routes(answers.get("active_queues"))
    held = {task.uuid: task for task in parse_held({Stage.ACTIVE: _list(earlier)}, routes)}
    held |= {task.uuid: task for task in parse_held(lists, routes)}
    return WorkerReading(
        worker=worker,
        pool=parse_pool(pool.get("implementation")),
        concurrency=parse_concurrency(stats),
        processes=len(processes) if isinstance(processes, list) else None,
        prefetch=_count(stats.get("prefetch_count")),
        uptime=_number(stats.get("uptime")),
        pid=_count(stats.get("pid")),
        cpu_user=_number(usage.get("utime")),
        cpu_system=_number(usage.get("stime")),
        memory_max_bytes=_memory(usage.get("maxrss"), system),
        accepted=_counts(total) if isinstance(total, dict) else {},
        queues=parse_queues(answers.get("active_queues")),
        silent_tasks=None if registered is None else registered.silent,
        rate_limits=None if registered is None else registered.rate_limits,
        pids=parse_pids(processes),
        asked_at=asked_at if active is not None else None,
        running=None if active is None else parse_running(active),
        reserved=None if reserved is None else len(reserved),
        scheduled=None if scheduled is None else len(scheduled),
        held=tuple(held.values()),
        holds_listed=None not in lists.values(),
    )


def parse_pool(implementation: Any) -> str | None:
    """Return a pool's name from "celery.concurrency.prefork:TaskPool"; all of it for one not Celery's."""
    if not isinstance(implementation, str) or not implementation:
        return None
    module, _, name = implementation.partition(":")
    package, _, pool = module.rpartition(".")
    if package != "celery.concurrency" or name != "TaskPool":
        return implementation
    return POOLS.get(pool, pool)


def parse_concurrency(stats: Mapping[str, Any]) -> int | None:
    """Return how many tasks a worker can run at once; None where its statistics do not tell.

    What the pool says is what it began with: an autoscaler begins at its minimum, and remote control makes it grow.
    """
    pool, scaler = stats.get("pool"), stats.get("autoscaler")
    if not isinstance(pool, Mapping) or (limit := _count(pool.get("max-concurrency"))) is None:
        return None
    processes = pool.get("processes")
    most = _count(scaler.get("max")) if isinstance(scaler, Mapping) else None
    return max(limit, most or 0, len(processes) if isinstance(processes, list) else 0)


def parse_pids(processes: Any) -> frozenset[int] | None:
    """Return the process ids of a pool; None where it has none to tell."""
    if not isinstance(processes, list):
        return None
    pids = [_count(pid) for pid in processes]
    return frozenset(pid for pid in pids if pid is not None) if None not in pids else None


def parse_queues(answer: Any) -> tuple[str, ...] | None:
    """Return the names in an answer to `active_queues`, sorted; None where it is none."""
    if not isinstance(answer, list):
        return None
    names = [queue.get("name") if isinstance(queue, dict) else None for queue in answer]
    if not all(isinstance(name, str) and name for name in names):
        return None
    return tuple(sorted({str(name) for name in names}))


def parse_routes(answer: Any) -> list[QueueRoute]:
    """Return how messages come into the queues of an answer to `active_queues`."""
    routes = []
    for queue in answer if isinstance(answer, list) else ():
        if not isinstance(queue, dict) or not isinstance(queue.get("exchange"), dict):
            continue
        exchange = queue["exchange"]
        texts = [queue.get("name"), exchange.get("name"), exchange.get("type"), queue.get("routing_key")]
        name, *how = [text for text in texts if isinstance(text, str)] or [""]
        if name and len(how) == 3:
            routes.append(QueueRoute(name, *how))
    return routes


def parse_registered(answer: Any) -> Registered | None:
    """Return what an answer to `registered` tells of tasks; None where it is none."""
    if not isinstance(answer, list) or not all(isinstance(line, str) for line in answer):
        return None
    silent, limits = set(), {}
    for line in answer:
        found = _ITEMS.search(line)
        if found is None:
            continue
        name = line[: found.start()]
        items = dict(item.partition("=")[::2] for item in found[1].split(" "))
        if items.get("send_events") == "False":
            silent.add(name)
        limit = parse_rate(items.get("rate_limit"))
        if limit is not None and name:
            limits[name] = limit
    return Registered(frozenset(silent), limits)


def parse_rate(rate_limit: str | None) -> float | None:
    """Return starts per second from "10/m", "2/h", "0.5/s" or "3"; None for no limit, and for what is none."""
    number, _, unit = (rate_limit or "").partition("/")
    try:
        limit = float(number) / RATE_UNITS[unit or "s"]
    except (ValueError, KeyError):
        return None
    return limit if limit > 0 and isfinite(limit) else None


def parse_running(answer: Any) -> frozenset[str] | None:
    """Return the uuids in an answer to `active`; None where it is none."""
    if not isinstance(answer, list):
        return None
    uuids = (request.get("id") for request in answer if isinstance(request, dict))
    return frozenset(uuid for uuid in uuids if isinstance(uuid, str))


def parse_held(lists: Mapping[Stage, list[Any] | None], routes: list[QueueRoute]) -> tuple[HeldTask, ...]:
    """Return the tasks in what a worker listed, each once: it may have gone on from one list to the next."""
    held: dict[str, HeldTask] = {}
    for stage in Stage:
        for entry in lists.get(stage) or ():
            task = _held_task(stage, entry, routes)
            if task is not None:
                held[task.uuid] = task
    return tuple(held.values())


def queue_of(delivery: Any, routes: list[QueueRoute]) -> str | None:
    """Return the queue that a message was delivered from; None where that is not certain.

    The default exchange has the queue's name for its routing key. Any other is looked up among the queues that the
    worker consumes, and tells the queue only where exactly one takes such messages.
    """
    if not isinstance(delivery, dict):
        return None
    exchange, key = delivery.get("exchange"), delivery.get("routing_key")
    if not isinstance(key, str) or not key:
        return None
    if not exchange:
        return key
    queues = {route.name for route in routes if route.exchange == exchange and _takes(route, key)}
    return queues.pop() if len(queues) == 1 else None


def _held_task(stage: Stage, entry: Any, routes: list[QueueRoute]) -> HeldTask | None:
    request = entry.get("request") if stage is Stage.SCHEDULED and isinstance(entry, dict) else entry
    if not isinstance(request, dict):
        return None
    uuid, name, task = request.get("id"), request.get("name"), request.get("type")
    if not isinstance(uuid, str) or not uuid or not isinstance(name, str) or not name:
        return None
    if not isinstance(task, str) or not task:
        task = name
    at: float | None = None
    if stage is Stage.ACTIVE:
        at = _number(request.get("time_start"))
    elif stage is Stage.SCHEDULED:
        eta = entry.get("eta")
        at = parse_eta(eta) if isinstance(eta, str) else None
    return HeldTask(uuid, task, name, queue_of(request.get("delivery_info"), routes), stage, at)


def _takes(route: QueueRoute, key: str) -> bool:
    if route.exchange_type == "fanout":
        return True
    if route.exchange_type == "topic":
        return _matches(route.routing_key.split("."), key.split("."))
    return route.routing_key == key


def _matches(pattern: list[str], words: list[str]) -> bool:
    """Whether the words of a routing key fit a topic's pattern: * is one word, # any number of them."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_matches(pattern[1:], words[start:]) for start in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _matches(pattern[1:], words[1:])


def _list(answer: Any) -> list[Any] | None:
    return answer if isinstance(answer, list) else None


def _memory(maxrss: Any, system: str | None) -> int | None:
    amount = _count(maxrss)
    if amount is None or system is None:
        return None
    return amount * MAXRSS_UNIT.get(system, OTHER_MAXRSS_UNIT)


def _counts(total: Mapping[Any, Any]) -> dict[str, int]:
    counts = {name: _count(value) for name, value in total.items() if isinstance(name, str) and name}
    return {name: count for name, count in counts.items() if count is not None}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value < 2**53 and isfinite(value) else None
