"""What waits in queues, and whether anybody will take it."""

from collections.abc import Iterator
from shlex import quote

from celeryscope.check.facts import Facts, Head, Heads
from celeryscope.check.model import Check, Found, Severity, counted, duration, size, some
from celeryscope.check.workers import consumes_with_slots
from celeryscope.readings import QueueReading

LARGE = 262_144  # bytes, as the alert has it
STILL = 2.0  # seconds in which a queue that is worked on moves


def queue_without_workers(facts: Facts) -> Iterator[Found]:
    """Queues with messages, or asked for by name, that nobody consumes."""
    everybody_told = facts.everybody_answered and _queues_told(facts)
    for name, reading in sorted(facts.queues.items()):
        waiting = reading.length or 0
        if not (waiting or name in facts.wanted_queues) or facts.consumers(name) or reading.consumers:
            continue
        # Where the broker tells no consumers, those who did not answer may be some.
        if reading.consumers is None and not everybody_told:
            continue
        whom = (
            f"none of {counted(len(facts.answered), 'worker')} consumes it" if facts.answered else "there is no worker"
        )
        if waiting:
            told, severity = f"{counted(waiting, 'message')} in it, and {whom}", Severity.ERROR
        else:
            told, severity = f"it is empty, and {whom}", Severity.WARNING
        remedy = f"celery -A PROJ worker -Q {quote(name)}, or celery -A PROJ control add_consumer {quote(name)}"
        yield Found(f"queue {name}", told, severity, remedy)


def queue_stuck(facts: Facts) -> Iterator[Found]:
    """Queues whose head stays where it is, though their workers have nothing to do."""
    if len(facts.heads) < 2 or not facts.everybody_answered:
        return
    first, last = facts.heads[0], facts.heads[-1]
    if last.at - first.at < STILL:
        return
    queues = facts.queues
    for name, head in sorted(last.by_queue.items()):
        workers = facts.consumers(name)
        if head.id is None or head != first.by_queue.get(name) or not workers:
            continue
        free = [
            worker.name
            for worker in workers
            if consumes_with_slots(worker) and _did_nothing(facts, worker.name, first, last)
        ]
        if free:
            reading = queues.get(name) or QueueReading(name)
            length = reading.length or 1
            levels = [level for level, count in reading.by_priority.items() if count]
            where = f", at priority {some(map(str, levels))}" if any(levels) else ""
            yield Found(
                f"queue {name}",
                f"{counted(length, 'message')}{where}; the first did not move in {duration(last.at - first.at)}, while "
                f"{some(free)} had a free slot and nothing to do",
            )


def task_unregistered(facts: Facts) -> Iterator[Found]:
    """Tasks at the head of queues that workers of these do not know."""
    for name, head in _heads(facts):
        workers = [worker for worker in facts.consumers(name) if worker.tasks is not None]
        if head.task is None or not workers or head.task.startswith("celery."):
            continue
        lacking = [worker.name for worker in workers if head.task not in (worker.tasks or {})]
        if lacking:
            yield Found(
                f"queue {name}",
                f"next in it is {head.task}, which {len(lacking)} of its {counted(len(workers), 'worker')} "
                f"{'has' if len(lacking) == 1 else 'have'} not registered: {some(lacking)}",
            )


def task_expired(facts: Facts) -> Iterator[Found]:
    """Heads that have expired already."""
    for name, head in _heads(facts):
        if head.expires is not None and head.expires < facts.now:
            yield Found(
                f"queue {name}", f"the next task, {head.task}, expired {duration(facts.now - head.expires)} ago"
            )


def task_late(facts: Facts) -> Iterator[Found]:
    """Heads that were due longer ago than tasks may wait there."""
    for name, head in _heads(facts):
        allowed = facts.allowed_wait.get(name)
        if head.eta is not None and allowed is not None and facts.now - head.eta > allowed:
            yield Found(
                f"queue {name}",
                f"the next task, {head.task}, was due {duration(facts.now - head.eta)} ago, and may wait "
                f"{duration(allowed)}",
            )


def message_large(facts: Facts) -> Iterator[Found]:
    """Heads that are large."""
    for name, reading in sorted(facts.queues.items()):
        if reading.head is not None and reading.head.bytes > LARGE:
            task = next((head.task for queue, head in _heads(facts) if queue == name and head.task), None)
            what = f"the next message, a {task}," if task else "the next message"
            yield Found(f"queue {name}", f"{what} has {size(reading.head.bytes)}")


def _heads(facts: Facts) -> list[tuple[str, Head]]:
    return sorted(facts.heads[-1].by_queue.items()) if facts.heads else []


def _queues_told(facts: Facts) -> bool:
    heard = facts.heard
    # With no worker at all, only proof that we hear says that there is none.
    alone = bool(facts.answered) or (heard is not None and heard.proven)
    return alone and all(worker.reading.queues is not None for worker in facts.answered)


def _did_nothing(facts: Facts, worker: str, first: Heads, last: Heads) -> bool:
    beats = [
        beat for beat in (facts.heard.beats.get(worker, ()) if facts.heard else ()) if first.at <= beat.at <= last.at
    ]
    return bool(beats) and all(not beat.active for beat in beats) and len({beat.processed for beat in beats}) == 1


CHECKS = (
    Check(
        "queue-without-workers",
        "nobody works on a queue",
        (Severity.ERROR, Severity.WARNING),
        "what lies in it waits for ever",
        "celery -A PROJ worker -Q QUEUE, or celery -A PROJ control add_consumer QUEUE",
        queue_without_workers,
    ),
    Check(
        "queue-stuck",
        "free workers do not take what waits",
        (Severity.ERROR,),
        "the queue only grows: its workers have stopped consuming, or read other lists than producers write",
        "restart these workers; if it comes back, compare priority_steps and sep in broker_transport_options of "
        "workers and producers",
        queue_stuck,
    ),
    Check(
        "task-unregistered",
        "a task waits that its workers do not know",
        (Severity.ERROR,),
        "the worker that takes it throws it away with NotRegistered: work is lost, quietly",
        "deploy the code that has the task to these workers, or import it there (imports); stop them until then",
        task_unregistered,
    ),
    Check(
        "task-expired",
        "what waits has expired",
        (Severity.WARNING,),
        "it is revoked when a worker takes it: the work is never done, and nothing fails",
        "more workers on that queue, or a longer expires where the task is sent",
        task_expired,
    ),
    Check(
        "task-late",
        "a task waits longer than it may",
        (Severity.WARNING,),
        "the queue does not keep its objective",
        'more workers on that queue; if it may wait so long, allowed_wait under [queue."NAME"] in the file of --config',
        task_late,
    ),
    Check(
        "message-large",
        "a message is large",
        (Severity.WARNING,),
        "broker, network and workers carry it each time that it is sent, prefetched and retried, and memory fills",
        "send an id or a path, and keep the data in a database or an object store",
        message_large,
    ),
)
