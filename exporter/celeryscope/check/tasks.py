"""What workers may do with tasks: limits, acknowledgement, what they accept, what they know."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from celeryscope.check.facts import Facts, TaskFacts, WorkerFacts
from celeryscope.check.model import Check, Found, Severity, counted, named, some, subject_of

LIMITING_POOLS = frozenset({"prefork", "gevent"})  # in which a time limit stops a task
UNLIMITED_POOLS = frozenset({"threads", "solo", "eventlet"})
UNITS = (("s", 1), ("m", 60), ("h", 3600))  # of rate limits, with their seconds
PICKLE = frozenset({"pickle", "application/x-python-serialize"})


def time_limit_missing(facts: Facts) -> Iterator[Found]:
    """Tasks without a limit, in pools where one would work."""
    workers = [worker for worker in facts.answered if worker.reading.pool in LIMITING_POOLS]
    endless = _tasks(workers, lambda task: task.time_limit is None and task.soft_time_limit is None)
    if endless:
        known = len({name for worker in workers for name in worker.tasks or ()})
        where = sorted({name for names in endless.values() for name in names})
        yield Found(
            "all tasks" if len(endless) == known > 1 else subject_of("task", sorted(endless)),
            f"neither time_limit nor soft_time_limit in {some(where)}: {some(endless)}",
        )


def time_limit_ignored(facts: Facts) -> Iterator[Found]:
    """Limits that are set in pools that have none."""
    pools: dict[str, list[str]] = defaultdict(list)
    tasks: set[str] = set()
    for worker in facts.answered:
        limited = {
            name
            for name, task in (worker.tasks or {}).items()
            if (task.time_limit or task.soft_time_limit) and _may_run(facts, worker, name)
        }
        if limited and worker.reading.pool in UNLIMITED_POOLS:
            pools[worker.reading.pool].append(worker.name)
            tasks |= limited
    if pools:
        names = sorted(name for each in pools.values() for name in each)
        where = "; ".join(f"{pool} in {some(each)}" for pool, each in sorted(pools.items()))
        told = (
            f"{where}; {counted(len(tasks), 'task')} with a time limit {'is' if len(tasks) == 1 else 'are'} known there"
        )
        yield Found(subject_of("worker", names), f"{told}: {some(tasks)}")


def acks_late_worker_lost(facts: Facts) -> Iterator[Found]:
    """Late acknowledgement that does not cover the death of a pool's process."""
    workers = [worker for worker in facts.answered if worker.reading.pool == "prefork"]
    names = sorted(_tasks(workers, lambda task: task.acks_late and not task.reject_on_worker_lost))
    if names:
        yield Found(subject_of("task", names), named("acks_late without reject_on_worker_lost", names))


def reject_without_acks_late(facts: Facts) -> Iterator[Found]:
    """The setting that does nothing by itself."""
    names = sorted(_tasks(facts.answered, lambda task: task.reject_on_worker_lost and not task.acks_late))
    if names:
        yield Found(subject_of("task", names), named("reject_on_worker_lost without acks_late", names))


def rate_limit_per_worker(facts: Facts) -> Iterator[Found]:
    """Limits whose sum over workers is what the cluster does."""
    limits: dict[str, list[float]] = defaultdict(list)
    for worker in facts.answered:
        for name, task in (worker.tasks or {}).items():
            if task.rate_limit and _may_run(facts, worker, name):
                limits[name].append(task.rate_limit)
    for name, rates in sorted(limits.items()):
        if len(rates) > 1:
            least, most, everything = _rates(min(rates), max(rates), sum(rates))
            each = least if least == most else f"{least} to {most}"
            yield Found(
                f"task {name}", f"{each} in each of {len(rates)} workers that know it: up to {everything} in all"
            )


def pickle_accepted(facts: Facts) -> Iterator[Found]:
    """Workers that load pickled messages."""
    names = [
        worker.name
        for worker in facts.answered
        if worker.settings is not None and PICKLE & set(worker.settings.accept_content or ())
    ]
    if names:
        yield Found(subject_of("worker", names), named("accept_content has pickle", names))


def tasks_differ(facts: Facts) -> Iterator[Found]:
    """Workers of one queue of which some know tasks that others do not."""
    compared: set[tuple[str, ...]] = set()
    for queue in sorted({queue for worker in facts.answered for queue in worker.reading.queues or ()}):
        workers = [worker for worker in facts.consumers(queue) if worker.tasks is not None]
        group = tuple(worker.name for worker in workers)
        if group in compared:
            continue
        compared.add(group)
        every = {name for worker in workers for name in worker.tasks or ()}
        lacking = {worker.name: every - (worker.tasks or {}).keys() for worker in workers}
        lacking = {name: missing for name, missing in lacking.items() if missing}
        if lacking:
            parts = [f"{name} lacks {some(missing)}" for name, missing in sorted(lacking.items())[:3]]
            yield Found(f"queue {queue}", f"of its {counted(len(workers), 'worker')} {'; '.join(parts)}")


def _tasks(workers: Iterable[WorkerFacts], fits: Callable[[TaskFacts], bool]) -> dict[str, list[str]]:
    """Return the tasks that fit, with the workers in which they do."""
    found: dict[str, list[str]] = defaultdict(list)
    for worker in workers:
        for name, task in (worker.tasks or {}).items():
            if fits(task):
                found[name].append(worker.name)
    return found


def _may_run(facts: Facts, worker: WorkerFacts, task: str) -> bool:
    """Whether a task that a worker knows may come to it: for certain it is not where it is routed elsewhere."""
    queue = facts.project.routes.get(task) if facts.project is not None else None
    return queue is None or worker.reading.queues is None or queue in worker.reading.queues


def _rates(*per_second: float) -> list[str]:
    """Return rates as Celery writes them, all in the largest unit in which the first is 1 or more."""
    unit, seconds = next((pair for pair in UNITS if per_second[0] * pair[1] >= 1), UNITS[-1])
    return [f"{rate * seconds:{'.0f' if rate * seconds >= 1000 else '.4g'}}/{unit}" for rate in per_second]


CHECKS = (
    Check(
        "pickle-accepted",
        "workers load pickled messages",
        (Severity.WARNING,),
        "whoever can write to the broker runs code of their choice in the workers",
        'accept_content = ["json"], and task_serializer = "json" in whatever publishes',
        pickle_accepted,
    ),
    Check(
        "tasks-differ",
        "workers of one queue know different tasks",
        (Severity.WARNING,),
        "a task that comes to the worker that lacks it is thrown away with NotRegistered: deploys out of step",
        "deploy the same code to all of them, or give new tasks a queue of their own (task_routes, -Q)",
        tasks_differ,
    ),
    Check(
        "time-limit-missing",
        "tasks may run for ever",
        (Severity.WARNING,),
        "one that hangs holds its slot until somebody restarts the worker",
        "task_soft_time_limit = 300 and task_time_limit = 330 (seconds), and longer ones on the tasks that need them",
        time_limit_missing,
    ),
    Check(
        "reject-without-acks-late",
        "reject_on_worker_lost has no effect",
        (Severity.WARNING,),
        "the message is acknowledged before the task runs: when its process is killed the task is lost all the same",
        "task_acks_late = True (for tasks that may run twice), or leave reject_on_worker_lost out",
        reject_without_acks_late,
    ),
    Check(
        "acks-late-worker-lost",
        "late acknowledgement does not cover a killed process",
        (Severity.INFO,),
        "where a pool's process is killed (no memory, say) the task fails with WorkerLostError and is not run again",
        "task_reject_on_worker_lost = True, but not for a task that kills its process each time",
        acks_late_worker_lost,
    ),
    Check(
        "rate-limit-per-worker",
        "a rate limit holds for each worker",
        (Severity.INFO,),
        "the cluster does as many times what is written, and more with every worker that is started",
        "rate_limit divided by the number of workers, or the task in a queue of one worker",
        rate_limit_per_worker,
    ),
    Check(
        "time-limit-ignored",
        "time limits have no effect in this pool",
        (Severity.INFO,),
        "a task that hangs there holds its slot for ever",
        "timeouts in what such tasks wait for, or the prefork pool for them",
        time_limit_ignored,
    ),
)
