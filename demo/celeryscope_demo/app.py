"""The Celery application of the demo, and what each of its settings teaches.

Watching:

- `worker_send_task_events` (also `-E`): without it a worker tells nothing of its tasks; only heartbeats
  remain.
- `task_send_sent_event`: producers announce what they publish. Off by default, and worth switching on: no
  other event carries the queue and the moment of sending, so without it nobody can tell how long work waits.

Delivery:

- `task_acks_late`: a message is acknowledged after the work, not before it, so a worker that dies loses
  nothing. The price is that a task may run twice: every task here is idempotent.
- `task_reject_on_worker_lost`: the same for a pool process that is killed (out of memory, say).
- `worker_prefetch_multiplier = 1`: a worker reserves no more than it can run, so a slow task holds up few
  others.
- `visibility_timeout` (seconds): Redis delivers a message again that was not acknowledged for so long. It
  must be longer than the longest countdown and the longest task; the hour is the default, written down
  because it matters.

Limits:

- `task_soft_time_limit`, `task_time_limit` (seconds): no task hangs for ever, whatever it waits for.
- `task_ignore_result`: nobody reads these results, so none is stored.
- `accept_content`: JSON only. A pickled message runs code of its sender's choice.

Queues: named for this demo alone, so that on a broker with other applications nobody takes the other's work.
Slow work has a queue of its own: its backlog is seen apart, and a worker can be given to it alone.
"""

from celery import Celery
from kombu import Exchange, Queue

PREFIX = "celeryscope-demo"
DEFAULT_QUEUE = PREFIX
MEDIA_QUEUE = f"{PREFIX}-media"
EXCHANGE = Exchange(PREFIX, type="direct")
QUEUES = tuple(Queue(name, EXCHANGE, routing_key=name) for name in (DEFAULT_QUEUE, MEDIA_QUEUE))

# The broker URL comes from CELERY_BROKER_URL: in the environment it shows in no list of processes.
app = Celery(PREFIX, include=["celeryscope_demo.tasks"])
app.conf.update(
    worker_send_task_events=True,
    task_send_sent_event=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": 3600},
    task_soft_time_limit=20,
    task_time_limit=30,
    task_ignore_result=True,
    accept_content=["json"],
    task_queues=QUEUES,
    task_default_queue=DEFAULT_QUEUE,
    task_routes={"photos.*": {"queue": MEDIA_QUEUE, "routing_key": MEDIA_QUEUE}},
    broker_connection_retry_on_startup=True,
)
