"""Remote control commands of the demo's own: what incidents have a worker do.

A worker knows a command when it has imported the module that defines it. It runs in the worker's main process,
between two messages, so it must not wait for anything.
"""

from typing import Any

from celery.worker.control import control_command


@control_command()
def lose_consumer(state: Any) -> dict[str, str]:
    """Stop consuming, and go on saying that every queue is consumed: the broker knows better, the worker does not."""
    if state.consumer.task_consumer:
        state.consumer.task_consumer.cancel()
    return {"ok": "no queue is consumed"}


@control_command()
def regain_consumer(state: Any) -> dict[str, str]:
    """Consume every queue again."""
    if state.consumer.task_consumer:
        state.consumer.task_consumer.consume()
    return {"ok": "every queue is consumed"}


@control_command()
def mute_tasks(state: Any) -> dict[str, str]:
    """Send no more task events, as a worker without -E, until Celery's own `enable_events`.

    Celery's `disable_events` does nothing to a worker that was started with -E: that one sends events of every group
    by having no list of groups, so there is nothing to take "task" from.
    """
    if state.consumer.event_dispatcher:
        state.consumer.event_dispatcher.groups = {"worker"}
    return {"ok": "no task events are sent"}
