"""The demo's own account of what happened to its tasks, to hold against what the exporter says.

Producers and tasks count in the store, by Celery's signals, in the process where it happens: nothing here
passes through Celery's events, which is where the exporter's numbers come from.
"""

from typing import Any

import redis
from celery import signals
from celery.exceptions import TimeLimitExceeded

from celeryscope_demo.store import store

KEY = "ledger"
COLUMNS = ("sent", "started", "succeeded", "failed", "retried", "revoked")
UNKNOWN = "unknown"
# The queue that a message was published to. A dead-letter exchange may move it; its numbers stay where it was sent.
HEADER = "sent_to"

Row = tuple[str, str]  # task, queue
Counts = dict[str, int]  # by column


def keep() -> None:
    """Count in this process from now on."""
    signals.before_task_publish.connect(_address)
    signals.after_task_publish.connect(_sent)
    signals.task_prerun.connect(_started)
    signals.task_success.connect(_succeeded)
    signals.task_failure.connect(_failed)
    signals.task_retry.connect(_retried)
    signals.task_revoked.connect(_revoked)
    signals.task_unknown.connect(_not_registered)


def count(column: str, task: str, queue: str) -> None:
    """Add one."""
    store().hincrby(KEY, f"{column} {queue} {task}", 1)


def read(client: "redis.Redis") -> dict[Row, Counts]:
    """All counts that are not 0."""
    entries: Any = client.hgetall(KEY)
    rows: dict[Row, Counts] = {}
    for field, value in entries.items():
        column, queue, task = field.split(" ", 2)
        rows.setdefault((task, queue), {})[column] = int(value)
    return rows


def _address(headers: dict[str, Any], routing_key: str, **_: object) -> None:
    headers[HEADER] = routing_key


def _sent(sender: str, routing_key: str, **_: object) -> None:
    count("sent", sender, routing_key)


def _started(task: Any, **_: object) -> None:
    _count("started", task)


def _succeeded(sender: Any, **_: object) -> None:
    _count("succeeded", sender)


def _failed(sender: Any, exception: BaseException, **_: object) -> None:
    # Celery sends this signal twice for a hard time limit, the first time without the request.
    if not (isinstance(exception, TimeLimitExceeded) and HEADER not in vars(sender.request)):
        _count("failed", sender)


def _retried(sender: Any, **_: object) -> None:
    _count("retried", sender)


def _revoked(sender: Any, request: Any, **_: object) -> None:
    count("revoked", sender.name, request.get(HEADER) or UNKNOWN)


def _not_registered(name: str, message: Any, **_: object) -> None:
    count("failed", name, message.headers.get(HEADER, UNKNOWN))


def _count(column: str, task: Any) -> None:
    count(column, task.name, task.request.get(HEADER) or UNKNOWN)
