"""Waiting for conditions: poll with short pauses, and say what was last seen when time is up."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE = 0.005  # seconds
LONGEST_PAUSE = 0.1  # seconds


class NotReached(AssertionError):
    """A condition did not come true in time: says which, and the last value or error seen."""


class NeverAgain(AssertionError):
    """Raised by a condition that can no longer come true: ends the waiting at once."""


def wait_until(condition: Callable[[], T], timeout: float, message: str) -> T:
    """Return the condition's first true value; raise NotReached after `timeout` seconds.

    An exception that the condition raises means "not yet"; the last one is shown in the failure.
    """
    deadline = time.monotonic() + timeout
    pause = FIRST_PAUSE
    while True:
        last: object
        looked_at = time.monotonic()
        try:
            value = condition()
            if value:
                return value
            last = value
        except NeverAgain:
            raise
        except Exception as error:  # noqa: BLE001 - what is not up yet fails in many ways; the last one is reported
            last = error
        now = time.monotonic()
        if now >= deadline:
            raise NotReached(f"not within {timeout:g} s: {message}; last seen: {last!r}")
        time.sleep(max(pause, now - looked_at))  # what is waited for needs the cores too
        pause = min(pause * 2, LONGEST_PAUSE)
