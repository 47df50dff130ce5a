"""Tasks that got slower, hang, stopped, or fail in a new way."""

from celeryscope.rules.model import INFO, WARNING, Alert
from celeryscope.rules.promql import COUNT
from celeryscope.rules.settings import Settings


def alerts(settings: Settings) -> list[Alert]:
    """All alerts of this group."""
    words = settings.words
    level, task, job = words.level("task"), words.by("task"), words.by()

    def metric(name: str, alert: str, also: str = "") -> str:
        return name + settings.without(alert, also=also)

    p95 = f"{level}:celery_task_runtime_seconds:p95_30m"
    count = f"{level}:celery_task_runtime_seconds:count30m"
    oldest = "celery_task_oldest_{}_timestamp_seconds"
    started = words.least(metric(oldest.format("started"), "CeleryTaskRunningTooLong"), "task")
    received = words.least(metric(oldest.format("received"), "CeleryTaskReservedTooLong"), "task")
    # Those have to wait.
    held = words.largest("celery_tasks_rate_limit_held", "task")
    exceptions = "celery_task_exceptions_total"
    not_registered = metric(exceptions, "CeleryTaskNotRegistered", also='exception="NotRegistered"')
    unknown = words.increase(not_registered, "5m", "task")
    redelivered = words.increase(metric("celery_task_redelivered_total", "CeleryTaskRedelivered"), "5m", "task")
    classes = words.most(metric(exceptions, "CeleryNewException"), "task", "exception")
    before = words.most("max_over_time(celery_task_exceptions_total[1d] offset 5m)", "task", "exception")
    # After a start every class is new: the exporter must have been there for a while.
    settled = words.largest("celery_exporter_build_info offset 1d")
    starts = metric(f"{level}:celery_task_started:increase10m", "CeleryTaskStopped")
    yesterday, week_ago, now = (f"max_over_time({starts}[30m]{when}) > 0" for when in (" offset 1d", " offset 1w", ""))
    # Of a time in which no exporter was there, or all were deaf, nothing is known.
    there = words.largest("celery_exporter_build_info offset 30m")
    deaf = words.least("increase(celery_exporter_deaf_seconds_total[45m])")
    return [
        Alert(
            "CeleryTaskRuntimeRegressed",
            f"{metric(p95, 'CeleryTaskRuntimeRegressed')}\n> on ({task})\n"
            f"{settings['regression_factor']} * {p95} offset 1d\n"
            f"and on ({task})\n{p95} > {settings['regression_seconds']}\n"
            f"and on ({task})\n{count} >= {settings['regression_count']}\n"
            f"and on ({task})\n{count} offset 1d >= {settings['regression_count']}",
            WARNING,
            "A task takes much longer than yesterday",
            "95 % of {{ $labels.task }} take up to {{ $value | humanizeDuration }}, much longer than yesterday.",
            hold="30m",
            dashboard="celeryscope-task",
        ),
        Alert(
            "CeleryTaskRunningTooLong",
            f"time() - {started} > {settings['running_seconds']}",
            WARNING,
            "A task runs for very long",
            "A task {{ $labels.task }} has been running for {{ $value | humanizeDuration }}.",
            hold="5m",
            dashboard="celeryscope-task",
        ),
        Alert(
            "CeleryTaskReservedTooLong",
            f"time() - {received} > {settings['reserved_seconds']}\nunless on ({task})\n{held} > 0",
            WARNING,
            "A worker holds a task and does not start it",
            "A task {{ $labels.task }} has been due in a worker for {{ $value | humanizeDuration }}.",
            hold="5m",
            dashboard="celeryscope-task",
        ),
        Alert(
            "CeleryTaskNotRegistered",
            f"{unknown} > 0",
            WARNING,
            "A worker was sent a task that it does not know",
            COUNT + " messages of {{ $labels.task }} were thrown away in 5 minutes.",
            dashboard="celeryscope-task",
        ),
        Alert(
            "CeleryNewException",
            f"{classes}\nunless on ({words.by('task', 'exception')})\n{before}\nand on ({job})\n{settled}",
            INFO,
            "A task fails in a way that was not seen for a day",
            "{{ $labels.task }} raised {{ $labels.exception }}, for the first time in a day.",
            dashboard="celeryscope-task",
        ),
        Alert(
            "CeleryTaskStopped",
            f"{yesterday}\nand on ({task})\n{week_ago}\nunless on ({task})\n{now}\n"
            f"and on ({job})\n{there}\nunless on ({job})\n{deaf} > 300",
            WARNING,
            "A task that ran at this time of day runs no more",
            "{{ $labels.task }} ran at this time yesterday and a week ago, and has not run for 30 minutes.",
            hold="15m",
            dashboard="celeryscope-task",
        ),
        Alert(
            "CeleryTaskRedelivered",
            f"{redelivered} > 0",
            WARNING,
            "Tasks are delivered twice",
            COUNT + " tasks {{ $labels.task }} were started again in 5 minutes without a retry.",
            hold="5m",
            dashboard="celeryscope-limits",
        ),
    ]
