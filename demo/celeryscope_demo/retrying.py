"""Retries for errors that may pass, and for no others.

`autoretry_for=(Exception,)` is easily written and retries everything: a bug and a bad argument fail as surely the
fifth time, only later, after four attempts of load. What is worth another attempt is what has to do with the moment:
a timeout, a connection that was reset, a deadlock. Everything else fails at once, where somebody sees it.

The delay grows, so that who is in trouble gets room, and is drawn, so that a thousand tasks that failed together do not
come back together. Celery's own `retry_backoff` and `retry_jitter` do the same in whole seconds.
"""

import functools
import random
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from kombu.exceptions import OperationalError

Result = TypeVar("Result")

TRANSIENT = (ConnectionError, TimeoutError, redis.ConnectionError, redis.TimeoutError, OperationalError)
# What databases say of a transaction that lost against another one: serialization failure, deadlock. Drivers give the
# code as `sqlstate` or `pgcode`.
SQLSTATES = frozenset({"40001", "40P01"})

BASE = 1.0  # seconds before the second attempt, at most
LONGEST = 60.0  # seconds


def worth_a_retry(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    states = {getattr(error, name, None) for name in ("sqlstate", "pgcode")}
    return isinstance(error, TRANSIENT) or bool(states & SQLSTATES)


def delay(retries: int, base: float, longest: float, chance: random.Random) -> float:
    """Seconds before the next attempt, after so many retries: doubled each time, of which one half is drawn."""
    # Beyond 2**32 nothing is shorter than any longest delay, and a float holds it.
    whole = min(longest, base * 2.0 ** min(retries, 32))
    return whole / 2 + chance.uniform(0, whole / 2)


def retrying(base: float = BASE, longest: float = LONGEST) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Decorate the body of a task with `bind=True`: it is retried up to its `max_retries`, then its own error fails it.

    Stands below `@app.task`. A task that is retried runs again from its start: it must be idempotent.
    """

    def decorate(body: Callable[..., Result]) -> Callable[..., Result]:
        @functools.wraps(body)
        def run(task: Any, *args: Any, **kwargs: Any) -> Result:
            try:
                return body(task, *args, **kwargs)
            except Exception as error:
                if not worth_a_retry(error):
                    raise
                chance = random.Random(repr((task.request.id, task.request.retries)))
                raise task.retry(exc=error, countdown=delay(task.request.retries, base, longest, chance)) from error

        return run

    return decorate
