"""Housekeeping: expired sessions are deleted every minute, by a crontab entry.

What is taught: delete in slices. One statement for all of a backlog holds locks for as long as it takes, and is
rolled back when it hits a time limit; then the next run finds even more. A slice is short, and a task that sends
itself again while there is more lets others go between.
"""

import random
import time

from celeryscope_demo.app import app
from celeryscope_demo.simulation import work
from celeryscope_demo.store import store
from celeryscope_demo.workloads import Workload, one_id

SESSIONS = "sessions"  # a sorted set in the store: ids by when they expire, in seconds since the epoch
LIFETIME = 30.0  # seconds
SLICE = 20


@app.task(name="sessions.purge")
def purge() -> str:
    """Delete a slice, and go on in another task where it was full.

    Two that run at once delete the same slice, and both end when nothing is left: that needs no lock.
    """
    expired = [
        str(session) for session in store().zrange(SESSIONS, "-inf", time.time(), byscore=True, offset=0, num=SLICE)
    ]
    if expired:
        work(0.05, *expired[:1])
        store().zrem(SESSIONS, *expired)
    if len(expired) == SLICE:
        purge.delay()
    return f"{len(expired)} deleted"


def log_in(session_id: int, at: float) -> None:
    """A session begins: written by the web application itself, which needs no task for it."""
    store().zadd(SESSIONS, {str(session_id): at + LIFETIME})


def _log_in(draw: random.Random) -> None:
    log_in(one_id(draw), time.time())


def _ask(_: random.Random) -> None:
    purge.delay()


# An administrator now and then asks for a purge out of turn.
WORKLOADS = (Workload("logins", 1.0, _log_in), Workload("purges", 0.005, _ask))
