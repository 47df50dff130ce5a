"""Whether there are workers, whether they are alike, and share the work."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from celeryscope.check.facts import Facts, WorkerFacts
from celeryscope.check.model import Check, Found, Severity, counted, duration, named, some, subject_of
from celeryscope.readings import Stage

LONG_TASK = 10.0  # seconds after which a task that runs holds up those behind it
IDLE = 3600.0  # seconds of life without a task


def no_workers(facts: Facts) -> Iterator[Found]:
    """Nobody answers and nobody beats, though we hear."""
    heard = facts.heard
    if facts.workers is None or facts.workers or facts.silent or heard is None or heard.beats or not heard.proven:
        return
    waiting = sum(reading.length or 0 for reading in facts.queues.values())
    told = f"; {counted(waiting, 'message')} in {counted(len(facts.queues), 'queue')}" if waiting else ""
    yield Found("cluster", f"no answer and no heartbeat in {duration(heard.seconds)} at {facts.address}{told}")


def worker_mute(facts: Facts) -> Iterator[Found]:
    """Workers that go on beating and do not answer."""
    if facts.mute:
        names = sorted(facts.mute)
        yield Found(subject_of("worker", names), named("heartbeats go on, and inspection is not answered", names))


def node_name_duplicate(facts: Facts) -> Iterator[Found]:
    """Two processes that beat in turns under one name; a restart beats first as the one, then as the other."""
    for name, beats in sorted((facts.heard.beats if facts.heard else {}).items()):
        pids = [beat.pid for beat in beats if beat.pid is not None]
        turns = [pid for index, pid in enumerate(pids) if index == 0 or pids[index - 1] != pid]
        if len(turns) > len(set(turns)):
            shown = " and ".join(str(pid) for pid in sorted(set(turns)))
            yield Found(f"worker {name}", f"heartbeats came in turns from process ids {shown}")


def versions_mixed(facts: Facts) -> Iterator[Found]:
    """Workers with different versions of Celery, by their heartbeats."""
    by_version: dict[str, list[str]] = defaultdict(list)
    for name, beats in (facts.heard.beats if facts.heard else {}).items():
        if beats[-1].version:
            by_version[beats[-1].version].append(name)
    yield from _mixed(by_version, "Celery")


def time_zones_mixed(facts: Facts) -> Iterator[Found]:
    """Workers that disagree about the time zone."""
    by_zone: dict[str, list[str]] = defaultdict(list)
    for worker in facts.answered:
        if worker.settings is not None and worker.settings.enable_utc is not None:
            utc = worker.settings.enable_utc
            zone = worker.settings.timezone or ("UTC" if utc else "local time")
            by_zone[f"enable_utc={utc} timezone={zone}"].append(worker.name)
    yield from _mixed(by_zone, "")


def transport_options_mixed(facts: Facts) -> Iterator[Found]:
    """Workers that treat the same broker differently."""
    by_options: dict[str, list[str]] = defaultdict(list)
    for worker in facts.answered:
        if worker.broker is not None:
            options = ", ".join(f"{name}={_shown(value)}" for name, value in sorted(worker.broker.options.items()))
            by_options[options or "none"].append(worker.name)
    yield from _mixed(by_options, "broker_transport_options:")


def worker_without_queues(facts: Facts) -> Iterator[Found]:
    """Workers that consume nothing."""
    names = [worker.name for worker in facts.answered if worker.reading.queues == ()]
    if names:
        yield Found(subject_of("worker", names), named("active_queues is empty", names))


def worker_idle(facts: Facts) -> Iterator[Found]:
    """Workers that live for long and never got a task."""
    for worker in facts.answered:
        uptime = worker.reading.uptime or 0.0
        if uptime >= IDLE and not worker.reading.accepted and worker.reading.queues:
            yield Found(
                f"worker {worker.name}",
                f"no task in its {duration(uptime)}; it consumes {some(worker.reading.queues)}",
                remedy=f"see what is routed there (task_routes), or let it consume other queues (-Q) "
                f"than {some(worker.reading.queues)}",
            )


def single_worker(facts: Facts) -> Iterator[Found]:
    """One worker for everything."""
    if facts.everybody_answered and len(facts.answered) == 1:
        only = facts.answered[0]
        yield Found(
            f"worker {only.name}", f"it is alone, with a concurrency of {only.reading.concurrency or 'unknown'}"
        )


def solo_pool(facts: Facts) -> Iterator[Found]:
    """Workers with the solo pool."""
    names = [worker.name for worker in facts.answered if worker.reading.solo]
    if names:
        yield Found(subject_of("worker", names), named("the pool is solo", names))


def prefetch_hoarding(facts: Facts) -> Iterator[Found]:
    """Workers that hold tasks behind long ones; worse where another could run them now."""
    for worker in facts.answered:
        reading = worker.reading
        settings = worker.settings
        if not reading.holds_listed or (settings and (settings.prefetch_multiplier or 0) == 1):
            continue
        limited = {name for name, task in (worker.tasks or {}).items() if task.rate_limit}
        waiting = [task for task in reading.held if task.stage is Stage.RESERVED and task.name not in limited]
        running = [facts.now - task.at for task in reading.held if task.stage is Stage.ACTIVE and task.at]
        if not waiting or len(running) < (reading.concurrency or 1) or min(running) < LONG_TASK:
            continue
        told = (
            f"holds {counted(len(waiting), 'task')} behind {len(running)} that {'run' if len(running) > 1 else 'runs'} "
            f"for {duration(min(running))} and more"
        )
        free = sorted(
            peer.name
            for peer in facts.answered
            if peer is not worker
            and peer.reading.holds_listed
            and not peer.reading.reserved
            and len(peer.reading.running or ()) < (peer.reading.concurrency or 0)
            and {task.queue for task in waiting} & set(peer.reading.queues or ())
        )
        if free:
            yield Found(f"worker {worker.name}", f"{told}, while {some(free)} could run them now")
        elif len(waiting) > (reading.concurrency or 1):
            yield Found(f"worker {worker.name}", told, Severity.INFO)


def _mixed(groups: dict[str, list[str]], what: str) -> Iterator[Found]:
    if len(groups) > 1:
        parts = [f"{value} in {some(names)}" for value, names in sorted(groups.items())]
        number = sum(map(len, groups.values()))
        yield Found(counted(number, "worker"), " ".join(filter(None, (what, "; ".join(parts)))))


def _shown(value: Any) -> str:
    return str(value)[:60]


def consumes_with_slots(worker: WorkerFacts) -> bool:
    """Whether a worker that answered had a free slot and nothing that waits for one."""
    reading = worker.reading
    return (
        reading.holds_listed
        and not reading.reserved
        and not reading.scheduled
        and len(reading.running or ()) < (reading.concurrency or 0)
    )


CHECKS = (
    Check(
        "no-workers",
        "there is no worker",
        (Severity.ERROR,),
        "no task runs; what is sent waits in its queue",
        "celery -A PROJ worker; if some run, give the URL, database number and global_keyprefix that they have",
        no_workers,
    ),
    Check(
        "node-name-duplicate",
        "two workers have one name",
        (Severity.ERROR,),
        "answers and events of the two are taken for one: remote control and every monitor are wrong about both",
        "start each with a name of its own: celery -A PROJ worker -n NAME@%h",
        node_name_duplicate,
    ),
    Check(
        "worker-mute",
        "a worker is alive and answers no question",
        (Severity.WARNING,),
        "its queues, concurrency and tasks are not known, revoke and shutdown do not reach it",
        "worker_enable_remote_control = True; if it is, look at what it does: py-spy dump --pid PID",
        worker_mute,
    ),
    Check(
        "versions-mixed",
        "workers run different versions of Celery",
        (Severity.WARNING,),
        "messages, events and remote control of one may not suit the other; what works depends on who takes the task",
        "deploy one version everywhere: pip install celery==VERSION",
        versions_mixed,
    ),
    Check(
        "time-zones-mixed",
        "workers disagree about the time zone",
        (Severity.WARNING,),
        "naive ETAs and expiries shift by the difference, schedules run at other hours after beat moves",
        "the same enable_utc and timezone everywhere, best enable_utc = True",
        time_zones_mixed,
    ),
    Check(
        "transport-options-mixed",
        "workers treat the same broker differently",
        (Severity.WARNING,),
        "on Redis every worker redelivers for all, so the shortest visibility_timeout holds for every task; "
        "priority_steps that differ leave messages in lists that some never read",
        "the same broker_transport_options in all workers and producers",
        transport_options_mixed,
    ),
    Check(
        "worker-without-queues",
        "a worker consumes no queue",
        (Severity.WARNING,),
        "it does nothing, while everything else about it looks well",
        "celery -A PROJ control add_consumer QUEUE -d WORKER, or restart it with -Q QUEUE",
        worker_without_queues,
    ),
    Check(
        "prefetch-hoarding",
        "a worker holds tasks back behind long ones",
        (Severity.WARNING, Severity.INFO),
        "they wait for it, whoever else is free; the longest task decides how long",
        "worker_prefetch_multiplier = 1 and task_acks_late = True; long tasks in a queue and workers of their own",
        prefetch_hoarding,
    ),
    Check(
        "worker-idle",
        "a worker never got a task",
        (Severity.INFO,),
        "perhaps nobody feeds its queues, and others have too much",
        "see what is routed to its queues (task_routes), or let it consume others (-Q)",
        worker_idle,
    ),
    Check(
        "single-worker",
        "there is one worker alone",
        (Severity.INFO,),
        "while it restarts or is gone, nothing runs",
        "a second one, best on another machine",
        single_worker,
    ),
    Check(
        "solo-pool",
        "a worker runs in its main thread",
        (Severity.INFO,),
        "while it runs a task it neither beats nor answers, and no time limit stops the task",
        "--pool prefork --concurrency 1, unless it is meant so",
        solo_pool,
    ),
)
