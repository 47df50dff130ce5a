"""Stories that vanish: tasks that wait in the broker until they are due.

What is taught: on RabbitMQ a message can wait without a worker, in a queue that nobody consumes. There it expires
(`x-message-ttl`), and its dead letter exchange hands it to the queue of work (queues.DELAYS):

- one queue for each delay. Messages expire at the head of a queue only, so in a queue of mixed delays the short ones
  stand behind the long ones;
- the producer declares it, since no worker consumes it. With `x-expires` it goes away when it is no longer used, and
  the exporter can tell it from work: its messages are `celery_queue_delayed` of the queue that they pass to;
- the countdown is sent as well. The message then says when it is due, so that waits are measured from there, and it
  has passed when a worker gets the message;
- `queue` names where the work will be done, the exchange where it waits: so every number of the task stands under the
  queue of work;
- `expires` must be longer than the delay: RabbitMQ takes the shorter of both.

Redis knows no such queues. There the same task has a plain countdown, and waits in a worker (reminders.py).
"""

import random
from typing import Any

from celeryscope_demo.app import app
from celeryscope_demo.environment import on_rabbitmq
from celeryscope_demo.queues import DEFAULT, DELAYS
from celeryscope_demo.simulation import work
from celeryscope_demo.workloads import Workload, one_id


@app.task(name="stories.vanish")
def remove_story(story_id: int) -> None:
    """Idempotent: removing what is gone is no error."""
    work(0.02, story_id)


def waiting(seconds: int) -> dict[str, Any]:
    """What to give to `apply_async` for a delay, one of DELAYS."""
    options: dict[str, Any] = {"queue": DEFAULT, "countdown": seconds}
    if on_rabbitmq():
        delay = DELAYS[seconds]
        options.update(exchange=delay.exchange.name, routing_key=delay.routing_key, declare=[delay])
    return options


def _publish(draw: random.Random) -> None:
    remove_story.apply_async((one_id(draw),), **waiting(draw.choice(list(DELAYS))))


WORKLOADS = (Workload("stories", 0.4, _publish),)
