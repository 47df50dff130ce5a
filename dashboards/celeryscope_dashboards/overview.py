"""Overview: are we coping? The four questions first, then what they rest on."""

from celeryscope_dashboards import links, palette
from celeryscope_dashboards.asking import PLAIN, About, Query, bad_below, bad_from, falling, rising
from celeryscope_dashboards.board import Board, Row
from celeryscope_dashboards.panels import Panel, lines, numbers
from celeryscope_dashboards.queries import Scope, either, share
from celeryscope_dashboards.tables import JOB, Column, Label, rows

ALL = Scope()
QUIET = 'alertstate="firing", alertname=~"Celery.*", severity!="none", job=~"$job"'
WATCHDOG = 'ALERTS{alertname="CeleryWatchdog", alertstate="firing"}'
ENOUGH_RUNS = 10  # in half an hour, for a quantile that means something


def board() -> Board:
    """The dashboard."""
    return Board(
        "overview",
        "Overview",
        "Are we coping? Is it getting slower? How long does work hang? What breaks?",
        (
            Row("The four questions", (coping(), slower(), hanging(), breaking())),
            Row("Now", (workers_up(), in_use(), budget(), trust(), firing())),
            Row("Load", (flow(), capacity(), backlog(), waits())),
            Row("Tasks and queues", (tasks(), queues())),
            Row("Waits of all tasks", (quantiles(),), collapsed=True),
        ),
        ALL,
    )


def required() -> str:
    """The concurrency that the work needs: tasks that would run at once by Little's law."""
    return ALL.recorded("job:celery_worker_concurrency:required5m")


def available() -> str:
    """The concurrency that there is."""
    return ALL.recorded("job:celery_worker_concurrency:sum")


def coping() -> Panel:
    about = About(
        "Does the workers' concurrency suffice for the work that arrives?",
        "Capacity needed: what arrives times how long it takes, by Little's law, over the concurrency of all workers. "
        "Below 70 % is comfortable; above 95 % the backlog grows, here or in some queue. Longest drain: how long the "
        "fullest queue takes to empty at its present pace; above 15 minutes, which is the usual allowed wait, work "
        "comes too late.",
        "nothing ran in the last 5 minutes, or no worker answers",
    )
    drain = ALL.recorded("job_queue:celery_queue_drain_seconds:ratio5m", of="max")
    return numbers(
        "Are we coping?",
        about,
        Query(share(required(), available()), "Capacity needed", "percentunit", rising(0.7, 0.95)),
        Query(drain, "Longest drain", "s", rising(900, 3600)),
        filled=True,
        width=6,
        height=5,
    )


def slower() -> Panel:
    name = "job_task:celery_task_runtime_seconds:p95_30m"
    runs = ALL.recorded("job_task:celery_task_runtime_seconds:count30m", "job", "task")
    often = f"and on (job, task) ({runs} >= {ENOUGH_RUNS})"
    now = ALL.recorded(name, "job", "task")
    before = ALL.recorded(name, "job", "task", offset="1d")
    ratio = f"(\n  {now}\n  / ({before} > 0)\n  {often}\n)"
    about = About(
        "Do tasks take longer than at this time yesterday?",
        "p95 of the runtime over half an hour against the same half hour yesterday, of the task that slowed down most: "
        "100 % is as fast as then, above 150 % something changed, above 200 % users notice. Only tasks that ran "
        f"{ENOUGH_RUNS} times in the half hour count. The dashboard Task shows which one it is.",
        "less than a day of data",
    )
    return numbers(
        "Is it getting slower?",
        about,
        Query(f"max({ratio})", "Slowest task against yesterday"),
        unit="percentunit",
        steps=rising(1.5, 2),
        filled=True,
        width=6,
        height=5,
    )


def hanging() -> Panel:
    oldest = ALL.recorded("job_queue:celery_queue_oldest_task_timestamp_seconds:min", "job", "queue")
    objective = ALL.recorded("job_queue:celery_queue_wait_objective_seconds:max", "job", "queue")
    nothing = f"({ALL.recorded('job_queue:celery_queue_length:max')} == 0)"
    about = About(
        "How long has the task been waiting that waits longest, and may it?",
        "The oldest task of all queues, since it was due. Allowed wait used: the same as a share of what its queue "
        "may wait (15 minutes, unless configured), in the queue where that is worst. Above 100 % tasks come too late.",
        "the queues cannot be polled, or nobody knows since when their tasks wait",
    )
    return numbers(
        "How long does work hang?",
        about,
        Query(either(f"max(clamp_min(time() - {oldest}, 0))", nothing), "Oldest task", "s", PLAIN),
        Query(
            either(f"max(clamp_min(time() - {oldest}, 0) / {objective})", nothing),
            "Allowed wait used",
            "percentunit",
            rising(0.5, 1),
        ),
        filled=True,
        width=6,
        height=5,
    )


def breaking() -> Panel:
    good = ALL.recorded("job:celery_task_succeeded:increase5m")
    bad = ALL.recorded("job:celery_task_failed:increase5m")
    about = About(
        "Do tasks fail, and is somebody told of anything?",
        "Success ratio: tasks that succeeded of those that ended in the last 5 minutes; retries have not ended. Below "
        "95 % something is broken, below 75 % most of it. Alerts: those of celeryscope that fire now; the table below "
        "names them.",
        "no task ended, and no alert rules are loaded",
    )
    return numbers(
        "What breaks?",
        about,
        Query(share(good, f"({good} + {bad})"), "Success ratio", "percentunit", falling(0.95, 0.75)),
        Query(
            either(f"count({_firing()})", f"0 * {ALL.largest('celery_exporter_build_info')} and on () {WATCHDOG}"),
            "Alerts",
            "short",
            rising(1, 5),
        ),
        filled=True,
        width=6,
        height=5,
    )


def _firing() -> str:
    return f"max by (alertname, severity, job, queue, task, worker) (ALERTS{{{QUIET}}})"


def workers_up() -> Panel:
    about = About(
        "How many workers live?",
        "As many as were deployed. Workers that left or were lost do not count; the dashboard Workers names them.",
        "no worker was ever heard, or the exporter is deaf",
    )
    up = ALL.recorded("job:celery_worker_up:sum")
    return numbers("Workers up", about, Query(up, "Workers"), steps=bad_below(1), width=3)


def in_use() -> Panel:
    about = About(
        "How much of the workers' concurrency is at work now?",
        "Near 100 % for long, together with a growing backlog, means too few workers; near 100 % with empty queues is "
        "just well used.",
        "no worker answers",
    )
    active = ALL.recorded("job:celery_worker_tasks_active:sum")
    expr = share(active, available())
    return numbers(
        "Concurrency in use", about, Query(expr, "In use"), unit="percentunit", steps=rising(0.8, 0.95), width=3
    )


def budget() -> Panel:
    about = About(
        "How much of the error budget of the last 3 days is left, in the objective that is worst off?",
        "100 %: nothing was spent. Below 0 the objective is missed. The dashboard SLO tells which.",
        "no objective is configured, or nothing was judged by one",
    )
    labels = ("job", "task", "queue", "slo")
    errors = ALL.recorded("job_task_queue_slo:celery_slo_errors:ratio_rate3d", *labels)
    objective = ALL.recorded("job_task_queue_slo:celery_slo_objective_ratio:min", *labels)
    expr = f"min(1 - {errors} / ((1 - {objective}) > 0))"
    return numbers("Error budget left", about, Query(expr, "Left"), unit="percentunit", steps=falling(0.25, 0), width=3)


def trust() -> Panel:
    about = About(
        "Are these numbers fresh? How long ago did the exporter last prove that it hears?",
        "Up to half a minute is normal. Above a minute the exporter is deaf: then all else on this page is old. "
        "The dashboard Exporter tells why.",
        "the exporter is passive, down, or has heard nothing since its start",
    )
    expr = f"max({ALL.age('celery_exporter_canary_last_success_timestamp_seconds', 'job')})"
    return numbers("Heard ago", about, Query(expr, "Heard"), unit="s", steps=bad_from(60), width=3)


def firing() -> Panel:
    about = About(
        "Which alerts fire?",
        "None. Each has a runbook, which its notification links to.",
        "no alert fires",
    )
    labels = (
        Label("alertname", "Alert"),
        Label("severity", "Severity"),
        Label("queue", "Queue", links.opens("queues", "queue", "Open the queue")),
        Label("task", "Task", links.opens("task", "task", "Open the task")),
        Label("worker", "Worker", links.opens("workers", "worker", "Open the worker")),
        JOB,
    )
    column = Column("Firing", _firing())
    return rows(
        "Firing alerts", about, labels, column, sort="Severity", ascending=True, hidden=("Firing",), width=12, height=4
    )


def flow() -> Panel:
    about = About(
        "Does as much get done as arrives?",
        "The lines lie upon each other. Arrivals above completions for long: the backlog grows. Retries arrive again, "
        "and what fails is completed too.",
        "workers send no task events",
    )
    sent = ALL.recorded("job:celery_task_sent:rate5m", "job")
    started = ALL.recorded("job:celery_task_started:rate5m", "job")
    ends = " + ".join(
        ALL.recorded(f"job:celery_task_{end}:rate5m", "job") for end in ("succeeded", "failed", "retried")
    )
    return lines(
        "Arrivals and completions",
        about,
        # Where nobody tells what is sent, what is started is the nearest to it.
        Query(f"sum(\n  {sent} > 0\n  or\n  {started}\n)", "arrivals", colour=palette.PLAIN),
        Query(f"sum({ends})", "completions", colour=palette.GOOD),
        unit="cps",
    )


def capacity() -> Panel:
    about = About(
        "Would the workers be able to do what arrives?",
        "Required below available, with room to spare. Where it is above, the backlog grows as long as that lasts, "
        "and more workers or a faster task are the remedy. Without task-sent events, required is what was worked off, "
        "which is never above available: look at the backlog then.",
        "no worker answers",
    )
    return lines(
        "Required concurrency against available",
        about,
        Query(required(), "required", colour=palette.BAD),
        Query(available(), "available", colour=palette.GOOD),
    )


def backlog() -> Panel:
    about = About(
        "Where does work pile up?",
        "Short peaks that go away. A queue that only grows is not worked off fast enough, or by nobody.",
        "the broker's queues cannot be polled",
    )
    expr = ALL.recorded("job_queue:celery_queue_length:max", "queue")
    return lines("Backlog by queue", about, Query(expr, "{{queue}}"), stacked=True)


def waits() -> Panel:
    about = About(
        "How long did tasks wait before they were started, in each queue?",
        "p95 over 5 minutes: 19 of 20 tasks waited less. It should stay below what the queue may wait.",
        "no task-sent events, or nothing was started",
    )
    expr = ALL.recorded("job_queue:celery_task_wait_seconds:p95_5m", "queue", of="max")
    return lines("Wait p95 by queue", about, Query(expr, "{{queue}}"), unit="s")


def quantiles() -> Panel:
    about = About(
        "How long do tasks wait, over all queues?",
        "p50 is the usual wait, p99 that of the unluckiest of a hundred. p99 far above the others: some queue, or some "
        "priority, is served last.",
        "no task-sent events, or nothing was started",
    )
    asked = (
        Query(ALL.recorded(f"job:celery_task_wait_seconds:{name}_5m", of="max"), name, colour=colour)
        for name, colour in (("p50", palette.SECOND), ("p95", palette.PLAIN), ("p99", palette.BAD))
    )
    return lines("Wait p50, p95, p99", about, *asked, unit="s")


def tasks() -> Panel:
    about = About(
        "Which tasks are many, fail, are retried, or take long?",
        "Failing and retried near 0. Sort by the column that you ask about; a task's name opens its dashboard.",
        "workers send no task events",
    )
    by = ("job", "task")

    def rate(name: str) -> str:
        return ALL.recorded(f"job_task:celery_task_{name}:rate5m", *by)

    return rows(
        "Tasks",
        about,
        (Label("task", "Task", links.opens("task", "task", "Open the task", job="Job")), JOB),
        Column("Starts", rate("started"), "cps"),
        Column(
            "Failing",
            share(rate("failed"), f"({rate('succeeded')} + {rate('failed')})"),
            "percentunit",
            rising(0.05, 0.25),
        ),
        Column("Retried", share(rate("retried"), rate("started")), "percentunit", rising(0.2, 0.5)),
        Column("Runtime p95", ALL.recorded("job_task:celery_task_runtime_seconds:p95_30m", *by), "s"),
        Column("Wait p95", ALL.recorded("job_task:celery_task_wait_seconds:p95_5m", *by), "s"),
        sort="Starts",
        width=14,
        height=11,
    )


def queues() -> Panel:
    about = About(
        "Which queues are long, old or without workers?",
        "Oldest and drain below what the queue may wait; workers above 0. A queue's name opens its dashboard.",
        "the broker's queues cannot be polled",
    )
    by = ("job", "queue")
    oldest = ALL.recorded("job_queue:celery_queue_oldest_task_timestamp_seconds:min", *by)
    return rows(
        "Queues",
        about,
        (Label("queue", "Queue", links.opens("queues", "queue", "Open the queue", job="Job")), JOB),
        Column("Length", ALL.recorded("job_queue:celery_queue_length:max", *by)),
        Column("Oldest", f"clamp_min(time() - {oldest}, 0)", "s", rising(450, 900)),
        Column("Drain", ALL.recorded("job_queue:celery_queue_drain_seconds:ratio5m", *by), "s", rising(450, 900)),
        Column("Workers", ALL.recorded("job_queue:celery_queue_workers:max", *by), steps=bad_below(1)),
        sort="Length",
        width=10,
        height=11,
    )
