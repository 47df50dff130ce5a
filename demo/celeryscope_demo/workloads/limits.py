"""Limits: what bounds a task's time, its life in a queue, and what it leaves behind.

What is taught: the soft limit is an exception inside the task, which can save what it has; the hard limit kills the
process, for what hears no exception; `expires` drops what is no longer of use; `ignore_result` keeps results that
nobody reads out of the store. Both time limits work in prefork pools alone, so these tasks have their queues there:
threads and solo know neither, gevent and eventlet the hard one alone, which there is an exception too, raised where
the task next waits.
"""

import hashlib
import random

from celery.exceptions import SoftTimeLimitExceeded

from celeryscope_demo import switches
from celeryscope_demo.app import app
from celeryscope_demo.queues import priority
from celeryscope_demo.simulation import chance, work
from celeryscope_demo.store import store
from celeryscope_demo.workloads import Workload, one_id

PAGES = 10  # of most accounts
MANY_PAGES = 60
LARGE_ACCOUNTS = 0.08  # share of the accounts with many
CHECKPOINT_TTL = 3600  # seconds

ROUNDS = 30_000_000  # of a hash: seconds of one core, and the hard limit ends it before
HASH_LIMIT = 3.0  # seconds
HASH_LOCK = "limits: a hash is computed"


@app.task(name="accounts.export", soft_time_limit=3.0, time_limit=10.0)
def export_account(account_id: int) -> None:
    """Stop at the soft limit, and let a successor go on: no task holds a slot for long, and none starts anew.

    The exception comes anywhere, also between a page and its checkpoint: writing a page again must do no harm.
    """
    checkpoint = f"export of {account_id}"
    pages = MANY_PAGES if chance(LARGE_ACCOUNTS, "large", account_id) else PAGES
    try:
        for page in range(int(str(store().get(checkpoint) or 0)), pages):
            work(0.08, account_id, page)
            store().set(checkpoint, page + 1, ex=CHECKPOINT_TTL)
    except SoftTimeLimitExceeded:
        export_account.delay(account_id)
        return
    store().delete(checkpoint)


@app.task(name="presence.refresh", ignore_result=True)
def refresh_presence(user_id: int) -> None:
    """Sent with `expires`: who is online is told again soon, so what waited for two minutes is dropped, not run.

    A worker that drops it says so (revoked, expired). RabbitMQ drops it in the queue itself, and nobody says a word.
    """
    work(0.01, user_id)


@app.task(name="passwords.rehash", soft_time_limit=1.0, time_limit=HASH_LIMIT)
def rehash_password(user_id: int) -> None:
    """The hard limit is the last resort: one call into C hears no exception before it returns.

    Python raises the soft limit between two of its own instructions; here there is none for seconds. The process is
    killed, and a killed process cleans nothing up. One at a time, since each takes a whole core.
    """
    if switches.on("soft-limit-blocked") and store().set(HASH_LOCK, user_id, nx=True, px=int(HASH_LIMIT * 1000)):
        hashlib.pbkdf2_hmac("sha256", str(user_id).encode(), b"salt", ROUNDS)


def _export(draw: random.Random) -> None:
    export_account.delay(one_id(draw))


def _presence(draw: random.Random) -> None:
    refresh_presence.apply_async((one_id(draw),), expires=120, priority=priority(3))


def _late_presence(draw: random.Random) -> None:
    # Counted from the sending, like the countdown: it is over before the task is due.
    refresh_presence.apply_async((one_id(draw),), countdown=3, expires=1, priority=priority(3))


def _rehash(draw: random.Random) -> None:
    rehash_password.delay(one_id(draw))


WORKLOADS = (
    Workload("accounts", 0.15, _export),
    Workload("presence", 0.5, _presence),
    Workload("presence that is late", 2.0, _late_presence, incident="expired"),
    Workload("hashes", 0.3, _rehash, incident="soft-limit-blocked"),
)
