"""Queues that fill up, and messages that are too large."""

from celeryscope.rules.model import INFO, WARNING, Alert
from celeryscope.rules.settings import Settings


def alerts(settings: Settings) -> list[Alert]:
    """All alerts of this group."""
    words = settings.words
    level, queue = words.level("queue"), words.by("queue")
    length, started = f"{level}:celery_queue_length:max", f"{level}:celery_task_started:rate5m"
    objective = f"{level}:celery_queue_wait_objective_seconds:max"
    drain = f"{level}:celery_queue_drain_seconds:ratio5m"
    # The share on average: between two tasks a slot is free for a moment.
    active, slots = f"{level}:celery_queue_tasks_active:sum", f"{level}:celery_queue_concurrency:max"
    busy = f"avg_over_time({active}[10m])\n/ on ({queue})\n(avg_over_time({slots}[10m]) > 0)"
    unknown = f"{words.level()}:celery_task_unknown_queue:ratio5m"
    # Where it is not told in which queue tasks are started, its pace is not known.
    pace = f"(({started} unless on ({words.by()}) {unknown} >= {settings['unknown_share']}) > 0)"
    head = words.largest("celery_queue_head_message_bytes", "queue")
    return [
        Alert(
            "CeleryQueueFillingUp",
            f"predict_linear({length}[1h], 3600)\n/ on ({queue})\n{pace}\n> on ({queue})\n{objective}\n"
            f"and on ({queue})\nderiv({length}[15m]) > 0\nand on ({queue})\nderiv({length}[1h]) > 0",
            WARNING,
            "A queue grows and will pass its objective within an hour",
            "In an hour it will take {{ $value | humanizeDuration }} to work off what waits in {{ $labels.queue }}.",
            hold="30m",
            dashboard="celeryscope-queues",
        ),
        Alert(
            "CeleryWorkersSaturated",
            f"{busy}\n> {settings['saturation']}\nand on ({queue})\n{drain} > on ({queue}) {objective}",
            WARNING,
            "A queue has too few workers for its work",
            "{{ $value | humanizePercentage }} of the concurrency of {{ $labels.queue }} is in use, and work piles up.",
            hold="30m",
            dashboard="celeryscope-workers",
        ),
        Alert(
            "CeleryQueueMessageLarge",
            f"{head} > {settings['message_bytes']}",
            INFO,
            "Messages carry too much",
            "The next message of {{ $labels.queue }} has {{ $value | humanize1024 }}B: pass names of data, not data.",
            hold="10m",
            dashboard="celeryscope-queues",
        ),
        Alert(
            "CeleryQueueAttributionMissing",
            f"{unknown} > {settings['unknown_share']}",
            INFO,
            "It is not known in which queues tasks are",
            "Of {{ $value | humanizePercentage }} of the tasks of {{ $labels.job }} the queue is not known: set "
            "task_send_sent_event in producers and workers.",
            hold="1h",
            dashboard="celeryscope-exporter",
        ),
    ]
