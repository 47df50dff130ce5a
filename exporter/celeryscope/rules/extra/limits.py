"""Rate limits, and messages that are about to come twice."""

from celeryscope.rules.model import INFO, WARNING, Alert
from celeryscope.rules.settings import Settings


def alerts(settings: Settings) -> list[Alert]:
    """All alerts of this group."""
    words = settings.words
    level, task, job = words.level("task"), words.by("task"), words.by()
    started = f"{level}:celery_task_started:rate5m"
    limit = words.largest("celery_task_rate_limit_per_second", "task")
    held = words.largest("celery_tasks_rate_limit_held" + settings.without("CeleryRateLimitSaturated"), "task")
    throttled = words.rate(
        "celery_task_rate_limited_total" + settings.without("CeleryRateLimitThrottled"), "5m", "task"
    )
    unacked = f"(time() - {words.least('celery_broker_oldest_unacked_timestamp_seconds')})"
    timeout = words.largest("celery_broker_visibility_timeout_seconds")
    return [
        Alert(
            "CeleryRateLimitSaturated",
            # Held while slots are free: what a limit is compared with counts workers that do not consume the queue.
            f"{held} > 0\nand on ({task})\n{limit} > 0",
            INFO,
            "A task is at its rate limit, and more of it waits",
            "{{ $value }} tasks {{ $labels.task }} are due, and held back by their rate limit.",
            hold="30m",
            dashboard="celeryscope-limits",
        ),
        Alert(
            "CeleryRateLimitThrottled",
            f"{throttled}\n/ on ({task}) ({started} > 0) > {settings['throttled_share']}",
            WARNING,
            "An outside limit throttles a task",
            "{{ $value | humanizePercentage }} of the starts of {{ $labels.task }} meet the limit of somebody else.",
            hold="15m",
            dashboard="celeryscope-limits",
        ),
        Alert(
            "CeleryVisibilityTimeoutNear",
            f"{unacked} > on ({job}) {settings['visibility_share']} * {timeout}",
            WARNING,
            "A message is about to be delivered a second time",
            "A message of {{ $labels.job }} has been unacknowledged for {{ $value | humanizeDuration }}.",
            hold="5m",
            dashboard="celeryscope-queues",
        ),
    ]
