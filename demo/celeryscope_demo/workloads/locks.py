"""A task that may run once at a time: the search index is rebuilt by the clock and whenever somebody asks.

What is taught: a queue does not keep two from running at once; a lock does. The second ends at once and says so:
it succeeds, since there is nothing wrong and nothing to try again. The lock expires, so it is prolonged as the
work proceeds, and what is written is fenced (locks.py says why).
"""

import random

from celeryscope_demo import locks
from celeryscope_demo.app import app
from celeryscope_demo.locks import Overtaken
from celeryscope_demo.simulation import work
from celeryscope_demo.store import store
from celeryscope_demo.workloads import Workload

LOCK = "search"
LEASE = 6.0  # seconds: many times what one part takes, and what others wait for when a holder dies
INDEX = "search index"
PARTS = 8
IMPATIENT = 0.5  # share of those who ask that ask twice


@app.task(name="search.rebuild")
def rebuild_search() -> str:
    """Do nothing where another does it already: never wait for a lock in a task, a slot that waits is lost.

    Should its worker be killed, the lock goes with its expiry; the message, delivered again before that, ends at
    once, and the next by the clock does the work.
    """
    with locks.held(store(), LOCK, LEASE) as lock:
        if lock is None:
            return "another rebuild runs"
        try:
            for part in range(PARTS):
                work(0.2, lock.fence, part)
                lock.prolong()
                locks.write(store(), INDEX, lock, f"part {part}", lock.fence)
        except Overtaken as error:
            return f"left to another: {error}"
        return f"rebuilt {PARTS} parts"


def _ask(draw: random.Random) -> None:
    for _ in range(2 if draw.random() < IMPATIENT else 1):
        rebuild_search.delay()


WORKLOADS = (Workload("searches", 0.03, _ask),)
