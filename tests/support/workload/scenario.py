"""The load: which tasks are sent, how many of each, in what order."""

import uuid as uuids
from collections.abc import Sequence

from celery.app.control import Inspect

from support.waiting import wait_until
from support.workload.producer import Producer

EXCEPTION_KINDS = ("builtin", "own", "path", "odd", "lines", "validation", "unpickleable")
ETA_DELAY = 5.0  # seconds that tasks wait which are revoked or expire meanwhile
HELD = 6.0  # seconds until tasks with an ETA are due: a worker that is busy has taken them long before
TERMINATE_TIMEOUT = 120.0  # seconds until the last of the tasks to be terminated has started


def send_everything(producer: Producer, queues: Sequence[str], workers: int, *, rounds: int, filling: int) -> None:
    """Send every kind of task `rounds` times to every queue, and `filling` quick successes after each round.

    Returns when all is sent and the tasks to be terminated have been.
    """
    revoke_waiting(producer, queues, workers)
    for _ in range(rounds):
        for queue in queues:
            send_every_kind(producer, queue)
        for number in range(filling):
            task, arguments = (("add", (number, 1)), ("quiet", ()))[number % 2]
            producer.send(task, queues[number % len(queues)], *arguments)
    revoke_beforehand(producer, queues, workers)
    ids = [producer.send("wait_for_signal", queue) for queue in queues]
    producer.terminate_started(ids, TERMINATE_TIMEOUT)


def send_every_kind(producer: Producer, queue: str) -> None:
    """Send one of every kind that needs no control command. Some need a pool of processes."""
    send_portable_kinds(producer, queue)
    for task in ("soft_limit", "hard_limit", "killed", "killed_late"):
        producer.send(task, queue)


def send_portable_kinds(producer: Producer, queue: str) -> None:
    """Send one of every kind that every pool can do."""
    send_timeless_kinds(producer, queue)
    producer.send("quiet", queue, delay=HELD)
    if producer.expired_are_delivered:
        producer.send("quiet", queue, fate="expired")


def send_timeless_kinds(producer: Producer, queue: str) -> None:
    """Send one of every kind that comes out the same on a worker whose clock is not the producer's."""
    for kind in EXCEPTION_KINDS:
        producer.send("fail", queue, kind)
    for task in (
        "fail_with_cause",
        "retry_without_cause",
        "retry_exhausted",
        "autoretry",
        "reject",
        "reject_late",
        "requeue_late",
        "requeue_early",
        "ignore",
        "replace",
    ):
        producer.send(task, queue)
    producer.send("nap", queue, 0.2)
    producer.send("retry_with_cause", queue, 0)
    producer.send("retry_with_cause", queue, HELD)
    producer.send("throttled", queue, "twitter", 12.5)
    producer.send("add", queue, 1, 2, shadow="additions")
    producer.send("unregistered", queue, fate="unregistered")
    producer.send("eventless", queue, fate="eventless")


def revoke_beforehand(producer: Producer, queues: Sequence[str], workers: int) -> None:
    """Revoke tasks first, and send them then: no worker receives them."""
    ids = {str(uuids.uuid4()): queue for queue in queues}
    producer.revoke(list(ids), workers)
    for uuid, queue in ids.items():
        producer.send("quiet", queue, fate="revoked", uuid=uuid)


def revoke_waiting(producer: Producer, queues: Sequence[str], workers: int) -> None:
    """Revoke tasks, and let others expire, while a worker holds them for their ETA: it tells when they fall due."""
    expiring = {producer.send("quiet", queue, fate="expired_eta", delay=ETA_DELAY) for queue in queues}
    ids = {producer.send("quiet", queue, fate="revoked_eta", delay=ETA_DELAY) for queue in queues}
    inspect = Inspect(app=producer.app, limit=workers, timeout=1.0)

    def held() -> bool:
        replies = (inspect.scheduled() or {}).values()
        return ids | expiring <= {entry["request"]["id"] for entries in replies for entry in entries}

    wait_until(held, ETA_DELAY, "the workers hold the tasks that are to be revoked")
    producer.revoke(list(ids), workers)
