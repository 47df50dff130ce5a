"""Exports of a user's data: tasks that last, sent while an incident has the broker deliver them twice.

What is taught: what lasts longer than a visibility timeout is delivered again while it still runs, so "acknowledged
late" means "at least once, perhaps side by side". A result that is there keeps a second delivery from doing the
work once more; a lock keeps it from doing the work at the same time.
"""

import random

from celeryscope_demo import locks
from celeryscope_demo.app import app
from celeryscope_demo.simulation import work
from celeryscope_demo.store import store
from celeryscope_demo.workloads import Workload, one_id

PARTS = 5
PART = 2.0  # seconds, about
LEASE = 30.0  # seconds: longer than any part
KEPT = 600  # seconds for which an export may be fetched


@app.task(name="exports.build")
def build_export(request_id: str, user_id: int) -> str:
    """Do once what was asked for once: the id is the request's, drawn by whoever sends it.

    A second delivery answers from what there is. It does not wait for the first: that would hold a slot, for nothing.
    """
    key = f"export {request_id}"
    with locks.held(store(), key, LEASE) as lock:
        if lock is None:
            return "another delivery builds it"
        if store().exists(key):
            return "it was built before"
        for part in range(PARTS):
            work(PART, request_id, user_id, part)
            lock.prolong()
        store().set(key, user_id, ex=KEPT)
    return f"built {PARTS} parts"


def _ask(draw: random.Random) -> None:
    build_export.delay(f"{draw.getrandbits(64):x}", one_id(draw))


WORKLOADS = (Workload("exports", 0.2, _ask, incident="duplicate-delivery"),)
