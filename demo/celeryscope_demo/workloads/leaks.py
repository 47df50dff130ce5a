"""Previews: a task that keeps memory from one run to the next.

What is taught: a pool process runs many tasks, so what a module keeps, it keeps for all of them. A cache needs a bound.
Where a library leaks and cannot be mended, `max_tasks_per_child` and `max_memory_per_child` replace the process, after
a task and never under it: `celery_worker_child_replacements_total` counts that. They hide a leak, they do not mend it:
each new process costs a fork and cold caches.
"""

import random

from celeryscope_demo import switches
from celeryscope_demo.app import app
from celeryscope_demo.simulation import work
from celeryscope_demo.workloads import Workload, one_id

CACHED = 50  # previews
LEAK = 20_000_000  # bytes

_cache: dict[int, bytes] = {}
_leaked: list[bytes] = []


@app.task(name="previews.render")
def render_preview(link_id: int) -> None:
    """Keep some of what was made, and bound what is kept."""
    work(0.06, link_id)
    _cache[link_id] = b"preview"
    while len(_cache) > CACHED:
        _cache.pop(next(iter(_cache)))
    if switches.on("memory-leak"):
        _leaked.append(b"\1" * LEAK)  # not zeros: memory of zeros is taken when it is first written to
    else:
        _leaked.clear()


def _link(draw: random.Random) -> None:
    render_preview.delay(one_id(draw))


WORKLOADS = (
    Workload("link previews", 0.4, _link),
    Workload("link previews that leak", 2.5, _link, incident="memory-leak"),
)
