"""Alerts that some want and others do not: opt-in."""

from celeryscope.rules.model import CRITICAL, INFO, WARNING, Alert, Group
from celeryscope.rules.promql import indent
from celeryscope.rules.settings import Settings

# How fast the error budget is spent: over a long and a short window, how often faster than it would last, for how long.
BURNS = (
    ("1h", "5m", "14.4", "2m", CRITICAL),
    ("6h", "30m", "6", "15m", CRITICAL),
    ("1d", "2h", "3", "1h", WARNING),
    ("3d", "6h", "1", "3h", WARNING),
)
LONG = 900  # seconds: a task that takes longer as a rule may fill a worker for so long
COUNT = '{{ $value | printf "%.0f" }}'  # Prometheus extrapolates: what was counted need not be whole


def groups(settings: Settings) -> list[Group]:
    """All groups."""
    return [
        Group("celeryscope.slo", tuple(_slo(settings))),
        Group("celeryscope.queues.extra", tuple(_queues(settings))),
        Group("celeryscope.workers.extra", tuple(_workers(settings))),
        Group("celeryscope.tasks.extra", tuple(_tasks(settings))),
        Group("celeryscope.limits.extra", tuple(_limits(settings))),
        Group("celeryscope.exporter.extra", tuple(_exporter(settings))),
    ]


def _slo(settings: Settings) -> list[Alert]:
    words = settings.words
    labels = ("task", "queue", "slo")
    level, on = words.level(*labels), words.by(*labels)
    budget = f"(1 - {level}:celery_slo_objective_ratio:min)"
    rules = []
    for long, short, factor, hold, severity in BURNS:
        burning = "\nand\n".join(
            f"{level}:celery_slo_errors:ratio_rate{window}\n> on ({on})\n{factor} * {budget}"
            for window in (long, short)
        )
        # A share of very few tasks says nothing.
        volume = f"{words.increase('celery_slo_tasks_total', long, *labels)} >= {settings['slo_count']}"
        rules.append(
            Alert(
                "CelerySLOBurn",
                f"{burning}\nand on ({on})\n{volume}",
                severity,
                "A task spends its error budget too fast",
                "{{ $value | humanizePercentage }} of {{ $labels.task }} missed the objective of its {{ $labels.slo }} "
                f"in {long}: the budget is spent {factor} times faster than it lasts, or more.",
                hold=hold,
                dashboard="celeryscope-slo",
                labels=(("window", long),),
            )
        )
    return rules


def _queues(settings: Settings) -> list[Alert]:
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


def _workers(settings: Settings) -> list[Alert]:
    words = settings.words
    job, worker = words.by(), words.by("worker")
    up = f"{words.level()}:celery_worker_up:sum"
    late = (
        f"{words.level('queue')}:celery_queue_drain_seconds:ratio5m\n"
        f"> on ({words.by('queue')})\n{words.level('queue')}:celery_queue_wait_objective_seconds:max"
    )
    active = f"{words.level('worker')}:celery_worker_tasks_active:max"
    slots = words.largest("celery_worker_concurrency", "worker")
    scheduled = words.largest("celery_worker_tasks_scheduled", "worker")
    replaced = words.increase("celery_worker_child_replacements_total", "30m", "worker")
    # By its own count, which does not begin when it is first heard.
    processed = words.most("increase(celery_worker_tasks_processed_total[30m])", "worker")
    restarts = words.increase("celery_worker_restarts_total", "1h", "worker")
    lost = words.increase("celery_worker_lost_total", "10m", "worker")
    skew = words.largest("abs(celery_worker_clock_skew_seconds)", "worker")
    begun = words.rate("celery_worker_tasks_processed_total", "10m", "worker")
    consumed = words.largest("celery_queue_worker_info", "queue", "worker")
    running = "celery_task_oldest_started_timestamp_seconds"
    usual = f"and on ({words.by('task')})\nmax_over_time({words.level('task')}:celery_task_runtime_seconds:p95_30m[1d])"
    long = f"{words.least(running, 'task', 'queue')}\n{usual} > {LONG}"
    # Without task-sent events it is not known of which queue a task is.
    somewhere = long.replace(running, running + '{queue="unknown"}')
    return [
        Alert(
            "CeleryWorkerPoolShrunk",
            # While a deployment goes on there may be twice as many, for a few minutes.
            f"{up} < {settings['pool_share']} * quantile_over_time(0.8, {up}[1h])\n"
            f"and on ({job})\ncount by ({job}) (\n{indent(late)}\n) > 0",
            WARNING,
            "There are fewer workers than an hour ago, and work piles up",
            "{{ $value }} workers of {{ $labels.job }} are left.",
            hold="15m",
            dashboard="celeryscope-workers",
        ),
        Alert(
            "CeleryWorkerLost",
            f"{lost} > 0",
            INFO,
            "A worker is gone without a farewell",
            "{{ $labels.worker }} stopped sending heartbeats.",
            hold="3m",
            dashboard="celeryscope-workers",
        ),
        Alert(
            "CeleryWorkerFlapping",
            f"round({restarts}) > {settings['restarts']}",
            WARNING,
            "A worker is restarted again and again",
            "{{ $labels.worker }} was restarted " + COUNT + " times in an hour.",
            dashboard="celeryscope-workers",
        ),
        Alert(
            "CeleryWorkerStuck",
            f"min_over_time({active}[10m]) >= on ({worker}) {slots}\nand on ({worker})\n{begun} == 0\n"
            f"unless on ({worker}) (\n{indent(consumed)}\n  and on ({words.by('queue')}) (\n{indent(long, 4)}\n  )\n)\n"
            f"unless on ({job}) (\n{indent(somewhere)}\n)",
            WARNING,
            "A worker is full and takes nothing new",
            "All {{ $value }} slots of {{ $labels.worker }} have been taken for 10 minutes, and no task was begun.",
            hold="15m",
            dashboard="celeryscope-workers",
        ),
        Alert(
            "CeleryWorkerChildChurn",
            f"{replaced}\n* {settings['child_tasks']}\n> on ({worker})\n{processed}\n"
            f"and on ({worker})\n{replaced} >= {settings['child_count']}",
            WARNING,
            "A worker replaces its processes all the time",
            "{{ $labels.worker }} replaces a process every few tasks: they leak, or are killed.",
            hold="30m",
            dashboard="celeryscope-workers",
        ),
        Alert(
            "CeleryWorkerEtaHoard",
            f"{scheduled} > on ({worker}) {settings['scheduled_factor']} * {slots}",
            INFO,
            "A worker holds very many tasks that are not due",
            "{{ $labels.worker }} holds {{ $value }} tasks in its memory until they are due.",
            hold="15m",
            dashboard="celeryscope-workers",
        ),
        Alert(
            "CeleryWorkerClockSkew",
            f"{skew} > {settings['skew_seconds']}",
            WARNING,
            "A worker's clock is wrong",
            "The clocks of {{ $labels.worker }} and of the exporter differ by {{ $value | humanizeDuration }}.",
            hold="15m",
            dashboard="celeryscope-workers",
        ),
    ]


def _tasks(settings: Settings) -> list[Alert]:
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


def _limits(settings: Settings) -> list[Alert]:
    words = settings.words
    level, task, job = words.level("task"), words.by("task"), words.by()
    started = f"{level}:celery_task_started:rate5m"
    limited = started + settings.without("CeleryRateLimitSaturated")
    limit = words.largest("celery_task_rate_limit_per_second", "task")
    held = words.largest("celery_tasks_rate_limit_held", "task")
    throttled = words.rate(
        "celery_task_rate_limited_total" + settings.without("CeleryRateLimitThrottled"), "5m", "task"
    )
    unacked = f"(time() - {words.least('celery_broker_oldest_unacked_timestamp_seconds')})"
    timeout = words.largest("celery_broker_visibility_timeout_seconds")
    return [
        Alert(
            "CeleryRateLimitSaturated",
            f"{limited} / on ({task}) ({limit} > 0) > {settings['limit_share']}\nand on ({task})\n{held} > 0",
            INFO,
            "A task is at its rate limit, and more of it waits",
            "{{ $labels.task }} runs at {{ $value | humanizePercentage }} of its rate limit, and tasks are held back.",
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


def _exporter(settings: Settings) -> list[Alert]:
    words = settings.words
    polled = words.largest("celery_exporter_poll_last_success_timestamp_seconds", "poller")
    # Since the start, where none has succeeded.
    since = f"on ({words.by_replica()}) group_left () (time() - process_start_time_seconds)"
    never = words.least(f"celery_exporter_poll_success * 0 + {since}", "poller")
    dropped = words.increase("celery_exporter_series_dropped_total", "15m", "metric")
    policy = 'celery_broker_eviction_policy_info{policy!="noeviction"}'
    return [
        Alert(
            "CeleryPollStale",
            f"(\n  time() - {polled}\n  or\n  {never}\n  unless on ({words.by('poller')}) {polled}\n)\n"
            f"> {settings['poll_age_seconds']}",
            WARNING,
            "Polls of queues or workers fail",
            "No poll of the {{ $labels.poller }} has succeeded for {{ $value | humanizeDuration }}.",
            hold="10m",
            dashboard="celeryscope-exporter",
        ),
        Alert(
            "CelerySeriesBudgetReached",
            f"{dropped} > 0",
            INFO,
            "The exporter has no room for more series",
            "{{ $labels.metric }} is counted under __overflow__: raise --series-limit, or find the label that grows.",
            hold="15m",
            dashboard="celeryscope-exporter",
        ),
        Alert(
            "CeleryBrokerEvictionPolicyUnsafe",
            words.largest(policy, "policy"),
            WARNING,
            "The broker may throw queues away",
            "The broker of {{ $labels.job }} has the policy {{ $labels.policy }}: without memory, it deletes queues.",
            hold="10m",
            dashboard="celeryscope-queues",
        ),
    ]
