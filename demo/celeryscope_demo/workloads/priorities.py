"""What somebody waits for, and what can wait: separate queues, and priorities within one.

What is taught: separate queues beat priorities. A queue can have workers of its own, a length of its own to watch,
and an objective of its own; both queues here are helped with by two workers. A priority only reorders what waits in
one queue: what a worker has reserved or runs is not overtaken, so a large prefetch defeats it, and what has the
least waits for ever while there is enough of the rest. On Redis it is a list per step, few steps, and 0 is first; on
RabbitMQ the largest number is: `queues.priority` hides that.
"""

import random

from celeryscope_demo.app import app
from celeryscope_demo.queues import priority
from celeryscope_demo.simulation import work
from celeryscope_demo.workloads import Workload, one_id

REPORTS = 48  # asked for at once: more than the slots of both workers, so that some wait
URGENCIES = (0, 3, 6, 9)  # by what the customer pays


@app.task(name="notices.push")
def push_notice(user_id: int) -> None:
    """Somebody looks at the screen: a queue of its own, and short, since it is as quick as what runs before it."""
    work(0.03, user_id)


@app.task(name="reports.render")
def render_report(report_id: int) -> None:
    """Can wait. Its priority is the sender's choice (`apply_async(priority=...)`): the task is the same for all."""
    work(0.5, report_id)


def _notice(draw: random.Random) -> None:
    push_notice.delay(one_id(draw))


def _reports(draw: random.Random) -> None:
    for _ in range(REPORTS):
        urgency = draw.choice(URGENCIES)
        render_report.apply_async(args=[one_id(draw)], priority=priority(urgency))


WORKLOADS = (Workload("notices", 0.5, _notice), Workload("reports", 1 / 120, _reports))
