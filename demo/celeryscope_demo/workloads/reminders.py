"""Reminders: tasks with a countdown, which wait in a worker.

What is taught: a countdown (or `eta`) does not wait in the broker. A worker takes the message at once and holds it
until it is due, so that is the way for seconds, not for days:

- it raises that worker's prefetch limit by one for each that it holds: ten thousand of them are in one worker's memory,
  spread over no other (`celery_worker_tasks_scheduled`, `celery_worker_prefetch_limit`). `worker_eta_task_limit` bounds
  that; a worker that holds so many takes nothing else either, until one of them is due;
- it stays unacknowledged all the while. On Redis, a countdown beyond the visibility timeout is delivered again to
  another worker, again and again, and runs as often; RabbitMQ closes the channel after its `consumer_timeout`;
- it goes to a worker now, and is not moved when that one is busy later.

For minutes see delays.py. For days keep a table of what is due, and let beat look through it.
"""

import random

from celeryscope_demo.app import app
from celeryscope_demo.simulation import work
from celeryscope_demo.workloads import Workload, one_id

SHORTEST, LONGEST = 4.0, 15.0  # seconds
GRACE = 300.0  # seconds after it was due for which a reminder is still of use


@app.task(name="reminders.send")
def send_reminder(user_id: int) -> None:
    """Look again when it is due: the reason may be gone. What was true when it was sent is not in its arguments."""
    work(0.03, user_id)


def _remind(draw: random.Random) -> None:
    countdown = draw.uniform(SHORTEST, LONGEST)
    # `expires` counts from the sending, not from when it is due: it has to hold the countdown too.
    send_reminder.apply_async((one_id(draw),), countdown=countdown, expires=countdown + GRACE)


WORKLOADS = (Workload("reminders", 0.5, _remind),)
