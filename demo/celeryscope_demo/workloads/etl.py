"""An import of partners' catalogues: chain, group and chord.

What is taught: the canvas says what follows what, so that no task waits for another. A chain hands each result on
to the next in its message. A chord runs a group side by side and then its body, once all have ended.

What a chord costs: somebody has to count. Each task of its header stores its result and raises a counter in the
result backend, so these tasks keep results (`ignore_result=False`) where all others here do not; the results of all
travel to the body in one message, so they are small: a count, a key of stored data, never the data. Redis counts
as results arrive; backends that cannot run a task `celery.chord_unlock` over and over that asks whether all are
there, so it appears in the metrics of those alone. And results expire (`result_expires`): nobody deletes them all,
so without that they pile up; with it, a header in which nothing ends for so long is forgotten with its count, and its
body never runs.
"""

import random

from celery import chain, chord

from celeryscope_demo.app import app
from celeryscope_demo.simulation import duration, work
from celeryscope_demo.store import store
from celeryscope_demo.workloads import Workload

PARTNERS = 4
KEPT = 3600  # seconds for which an import can be told from its repetition


@app.task(name="etl.start", bind=True)
def start(self: app.Task, run: str | None = None) -> str:
    """Lay out the work and end: it waits for nothing, since `get()` in a task blocks the slot that others need.

    The run is named for the message, so that a repetition is the same run.
    """
    run = run or self.request.id
    sources = (chain(download.si(run, partner), process.s(run, partner)) for partner in range(PARTNERS))
    # `announce` is immutable: it wants what it was given, not the result of the task before.
    chord(sources)(chain(save.s(run), announce.si(run)))
    return run


@app.task(name="etl.download")
def download(run: str, partner: int) -> int:
    """Return how much there is; the data itself goes to storage, not through the broker.

    Its result travels in the message of the next in the chain, which needs no result backend.
    """
    work(0.2, "download", run, partner)
    return round(duration(1000.0, "rows", partner))


@app.task(name="etl.process", ignore_result=False)
def process(rows: int, run: str, partner: int) -> int:
    """The end of each chain in the header: its result is what the chord counts and hands to the body.

    Should one fail for good, the body never runs: it is marked as failed itself, without any event.
    """
    work(0.3, "process", run, partner)
    return rows


@app.task(name="etl.store")
def save(rows: list[int], run: str) -> int:
    """The body: everything is there. A chord may run it twice, so it replaces what an earlier try has stored."""
    work(0.2, "store", run)
    store().set(f"import {run}", sum(rows), ex=KEPT)
    return sum(rows)


@app.task(name="etl.announce")
def announce(run: str) -> None:
    """Reads what it announces where it was stored: after a retry or by hand it works as well."""
    work(0.05, run)


def _ask(_: random.Random) -> None:
    start.delay()


# A partner asks for an import out of turn.
WORKLOADS = (Workload("imports", 0.005, _ask),)
