"""What workers answer to the questions of a check, made into facts. What is of an unexpected type is not told.

An answer to `conf` has the names of settings that the project uses: Celery's own, or those from before Celery 4.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from math import inf
from typing import Any

from celeryscope.check.facts import TaskFacts, WorkerBroker, WorkerFacts, WorkerSettings
from celeryscope.pollers.worker_replies import parse_rate, parse_worker

TASK_ITEMS = ("rate_limit", "time_limit", "soft_time_limit", "acks_late", "reject_on_worker_lost", "send_events")
TRANSPORT_OPTIONS = ("visibility_timeout", "priority_steps", "queue_order_strategy", "sep")
OLD_NAMES = {
    "enable_utc": "CELERY_ENABLE_UTC",
    "timezone": "CELERY_TIMEZONE",
    "accept_content": "CELERY_ACCEPT_CONTENT",
    "worker_prefetch_multiplier": "CELERYD_PREFETCH_MULTIPLIER",
    "worker_send_task_events": "CELERY_SEND_EVENTS",
    "task_send_sent_event": "CELERY_SEND_TASK_SENT_EVENT",
    "result_backend": "CELERY_RESULT_BACKEND",
    "result_expires": "CELERY_TASK_RESULT_EXPIRES",
}
LARGEST = 2.0**53
NO_EXPIRY = (None, 0, "0:00:00")  # a timedelta comes as its text

_ITEMS = re.compile(r" \[([^\[\]]*)\]$")  # what `registered` tells of a task, behind its name


def parse_answers(worker: str, answers: Mapping[str, Any], asked_at: float) -> WorkerFacts | None:
    """Return what a worker's answers say, by command; None without usable statistics."""
    reading = parse_worker(worker, answers, None, asked_at)
    if reading is None:
        return None
    return WorkerFacts(
        reading=reading,
        settings=parse_settings(answers.get("conf")),
        tasks=parse_tasks(answers.get("registered")),
        broker=parse_broker(answers["stats"].get("broker")),
    )


def parse_settings(answer: Any) -> WorkerSettings | None:
    """Return the settings in an answer to `conf`; None where it is none."""
    if not isinstance(answer, Mapping) or not answer or "error" in answer:
        return None

    def told(name: str) -> Any:
        return answer[name] if name in answer else answer.get(OLD_NAMES[name])

    def flag(name: str) -> bool | None:
        return bool(told(name)) if name in answer or OLD_NAMES[name] in answer else None

    accept, zone = told("accept_content"), told("timezone")
    return WorkerSettings(
        enable_utc=flag("enable_utc"),
        timezone=zone if isinstance(zone, str) else None,
        accept_content=tuple(map(str, accept)) if isinstance(accept, list) else None,
        prefetch_multiplier=_number(told("worker_prefetch_multiplier")),
        sends_task_events=flag("worker_send_task_events"),
        sends_task_sent=flag("task_send_sent_event"),
        stores_results=bool(told("result_backend")) and not str(told("result_backend")).startswith("disabled"),
        results_expire=None if flag("result_expires") is None else told("result_expires") not in NO_EXPIRY,
    )


def parse_tasks(answer: Any) -> Mapping[str, TaskFacts] | None:
    """Return what an answer to `registered` with `TASK_ITEMS` tells of tasks, by name; None where it is none."""
    if not isinstance(answer, list) or not all(isinstance(line, str) for line in answer):
        return None
    return _tasks(tuple(answer))


@lru_cache(maxsize=100)  # many workers know the same
def _tasks(lines: tuple[str, ...]) -> Mapping[str, TaskFacts]:
    tasks = {}
    for line in lines:
        found = _ITEMS.search(line)
        name = line[: found.start()] if found else line
        items = dict(item.partition("=")[::2] for item in found[1].split(" ")) if found else {}
        tasks[name] = TaskFacts(
            rate_limit=parse_rate(items.get("rate_limit")),
            time_limit=_limit(items.get("time_limit")),
            soft_time_limit=_limit(items.get("soft_time_limit")),
            acks_late=items.get("acks_late") == "True",
            reject_on_worker_lost=items.get("reject_on_worker_lost") == "True",
            send_events=items.get("send_events") != "False",
        )
    return tasks


def parse_broker(answer: Any) -> WorkerBroker | None:
    """Return how a worker reaches the broker, from its `stats`; credentials are left where they are."""
    if not isinstance(answer, Mapping):
        return None
    host, transport, tls = answer.get("hostname"), str(answer.get("transport")), answer.get("ssl")
    options = answer.get("transport_options")
    known = options if isinstance(options, Mapping) else {}
    return WorkerBroker(
        host=host if isinstance(host, str) else None,
        tls=transport in {"rediss", "amqps"} or bool(tls) if "ssl" in answer else None,
        options={name: known[name] for name in TRANSPORT_OPTIONS if known.get(name) is not None},
        visibility_timeout=_number(known.get("visibility_timeout")),
    )


def _limit(text: str | None) -> float | None:
    try:
        return _number(float(text)) if text else None
    except ValueError:
        return None


def _number(value: Any) -> float | None:
    # Python's JSON has NaN, Infinity, and integers that no float can hold.
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= inf:
        return None
    return float(min(value, LARGEST))
