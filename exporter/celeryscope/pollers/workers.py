"""Workers, by Celery's inspection: `stats`, `active_queues` and `registered`, asked together."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

from celeryscope.pollers.mailbox import Commands, Mailbox
from celeryscope.readings import WorkerReading

COMMANDS: Commands = {
    "stats": {},
    "active_queues": {},
    "registered": {"taskinfoitems": ["send_events"]},
}
SILENT = " [send_events=False]"  # how `registered` marks a task whose events are off

# Unit of ru_maxrss, by the system that a worker says it runs on; Darwin counts bytes, all others kilobytes.
MAXRSS_UNIT = {"Darwin": 1}
OTHER_MAXRSS_UNIT = 1024

POOLS = {"thread": "threads"}  # module of celery.concurrency -> the name that `--pool` has for it


class WorkersPoller:
    """Asks the workers that are known; the first poll asks everybody."""

    def __init__(
        self, mailbox: Mailbox, known: Callable[[], Sequence[str]], system: Callable[[str], str | None]
    ) -> None:
        """`known` returns the node names to ask, `system` what the heartbeats of one of them say in `sw_sys`."""
        self._mailbox = mailbox
        self._known = known
        self._system = system
        self._discovered = False

    def poll(self) -> list[WorkerReading]:
        """Return a reading of every worker that answered; raise PollError where the broker fails."""
        destination = None if not self._discovered else list(self._known())
        if destination is not None and not destination:
            return []
        replies = self._mailbox.ask(COMMANDS, destination)
        self._discovered = True
        readings = [parse_worker(name, answers, self._system(name)) for name, answers in replies.items()]
        return [reading for reading in readings if reading is not None]

    def close(self) -> None:
        """Close the connection, where there is one."""
        self._mailbox.close()


def parse_worker(worker: str, answers: Mapping[str, Any], system: str | None) -> WorkerReading | None:
    """Return what a worker's answers say, by command; None without usable statistics.

    A value of an unexpected type is taken as not told. `system` is the worker's `sw_sys`, where it is known.
    """
    stats = answers.get("stats")
    if not isinstance(stats, dict) or not isinstance(stats.get("pool"), dict):
        return None
    pool, usage = stats["pool"], stats.get("rusage")
    if not isinstance(usage, dict):
        usage = {}  # "N/A" on Windows
    processes = pool.get("processes")
    total = stats.get("total")
    return WorkerReading(
        worker=worker,
        pool=parse_pool(pool.get("implementation")),
        concurrency=_count(pool.get("max-concurrency")),
        processes=len(processes) if isinstance(processes, list) else None,
        prefetch=_count(stats.get("prefetch_count")),
        uptime=_number(stats.get("uptime")),
        pid=_count(stats.get("pid")),
        cpu_user=_number(usage.get("utime")),
        cpu_system=_number(usage.get("stime")),
        memory_max_bytes=_memory(usage.get("maxrss"), system),
        accepted=_counts(total) if isinstance(total, dict) else {},
        queues=parse_queues(answers.get("active_queues")),
        silent_tasks=parse_silent_tasks(answers.get("registered")),
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


def parse_queues(answer: Any) -> tuple[str, ...] | None:
    """Return the names in an answer to `active_queues`, sorted; None where it is none."""
    if not isinstance(answer, list):
        return None
    names = [queue.get("name") if isinstance(queue, dict) else None for queue in answer]
    if not all(isinstance(name, str) and name for name in names):
        return None
    return tuple(sorted({str(name) for name in names}))


def parse_silent_tasks(answer: Any) -> frozenset[str] | None:
    """Return the tasks that an answer to `registered` marks as silent; None where it is none."""
    if not isinstance(answer, list) or not all(isinstance(line, str) for line in answer):
        return None
    return frozenset(line.removesuffix(SILENT) for line in answer if line.endswith(SILENT))


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
