"""The Celery application of the demo, and what each of its settings teaches.

Watching:

- `worker_send_task_events` (also `-E`): without it a worker tells nothing of its tasks; only heartbeats
  remain.
- `task_send_sent_event`: producers announce what they publish. Off by default, and worth switching on: no
  other event carries the queue and the moment of sending, so without it nobody can tell how long work waits.

Delivery:

- `task_acks_late`: a message is acknowledged after the work, not before it, so a worker that dies loses
  nothing. The price is that a task may run twice: every task here is idempotent.
- `task_reject_on_worker_lost`: the same for a pool process that is killed (out of memory, say). A task that
  kills its process itself must not have it: it would kill one process after the other, for ever.
- `worker_prefetch_multiplier = 1`: a worker reserves no more than it can run, so a slow task holds up few
  others.
- `visibility_timeout` (seconds): Redis delivers a message again that was not acknowledged for so long. It
  must be longer than the longest countdown and the longest task, and the same in every worker, since each of
  them redelivers for all; the hour is the default, written down because it matters.

Limits:

- `task_soft_time_limit`, `task_time_limit` (seconds): no task of a prefork pool hangs for ever, whatever it waits for.
  In threads and in a solo worker neither limit works: what waits there needs a timeout of its own.
- `task_ignore_result`: nobody reads most of these results, so they are not stored; what does read them (a
  chord) says so. `result_expires`: and those that are stored do not pile up.
- `accept_content`: JSON only. A pickled message runs code of its sender's choice.

Queues stand in queues.py, what runs by the clock in schedule.py.
"""

import os

from celery import Celery

from celeryscope_demo import ledger, store
from celeryscope_demo.environment import SENT_EVENTS, STORE_URL
from celeryscope_demo.queues import DEFAULT, PREFIX, PRIORITY_STEPS, QUEUES, ROUTES
from celeryscope_demo.schedule import SCHEDULE

HOUR = 3600.0  # seconds

# The broker URL comes from CELERY_BROKER_URL: in the environment it shows in no list of processes.
app = Celery(PREFIX, include=["celeryscope_demo.workloads.all", "celeryscope_demo.control"])
app.conf.update(
    worker_send_task_events=True,
    task_send_sent_event=os.environ.get(SENT_EVENTS) != "no",
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={
        "visibility_timeout": HOUR,
        "priority_steps": list(PRIORITY_STEPS),
        "queue_order_strategy": "priority",
    },
    task_soft_time_limit=20,
    task_time_limit=30,
    task_ignore_result=True,
    result_backend=store.url_of(os.environ[STORE_URL], store.RESULTS) if STORE_URL in os.environ else None,
    result_expires=HOUR,
    accept_content=["json"],
    task_queues=QUEUES,
    task_routes=ROUTES,
    task_default_queue=DEFAULT,
    task_create_missing_queues=False,
    beat_schedule=SCHEDULE,
    broker_connection_retry_on_startup=True,
)
ledger.keep()
