"""Task: is it getting slower, and what fails?"""

from celeryscope_dashboards import palette
from celeryscope_dashboards.asking import About, Query, falling, rising
from celeryscope_dashboards.board import Board, Row
from celeryscope_dashboards.panels import SCARCE, Panel, heat, lines, numbers
from celeryscope_dashboards.queries import Scope, share
from celeryscope_dashboards.tables import JOB, Column, Label, rows

CHOSEN = Scope(("task", "queue"))
SUCCEEDED = 'outcome="succeeded"'
P95 = "job_task:celery_task_runtime_seconds:p95_30m"
NO_EVENTS = "nothing ran, or workers send no task events"
NO_SENDS = "nothing was started, or no task-sent events"


def board() -> Board:
    """The dashboard."""
    return Board(
        "task",
        "Task",
        "Is a task getting slower, and what fails?",
        (
            Row("Now", (starts(), success(), retries(), slower(), running_longest(), held_longest())),
            Row("Is it getting slower?", (compared(), runtimes(), runtime_heat(), waits())),
            Row("What fails?", (outcomes(), exceptions(), exception_table(), retried())),
            Row("What is on its way", (in_flight(), running()), collapsed=True),
            Row("Schedule", (schedule(),), collapsed=True),
            Row("Inside the worker", (prefetch(), unknown_waits()), collapsed=True),
        ),
        CHOSEN,
    )


def starts() -> Panel:
    about = About(
        "How many of the chosen tasks are started?",
        "As many as usual at this time. 0 where there should be some: see who sends them, and whether a worker "
        "consumes their queue.",
        NO_EVENTS,
    )
    return numbers("Starts", about, Query(CHOSEN.rate("celery_task_started_total"), "Starts"), unit="cps")


def success() -> Panel:
    good = CHOSEN.rate("celery_task_succeeded_total")
    ended = f"({good} + {CHOSEN.rate('celery_task_failed_total')})"
    about = About(
        "How many of those that ended succeeded?",
        "Near 100 %. Below 95 % an alert fires where there are enough of them; retries have not ended.",
        "nothing ended in the last minutes, or workers send no task events",
    )
    return numbers(
        "Success ratio", about, Query(share(good, ended), "Success"), unit="percentunit", steps=falling(0.95, 0.75)
    )


def retries() -> Panel:
    about = About(
        "How many attempts end in a retry?",
        "Few. Above half, work is done over and over, and each retry makes the queue longer.",
        "nothing was started in the last minutes, or workers send no task events",
    )
    expr = share(CHOSEN.rate("celery_task_retried_total"), CHOSEN.rate("celery_task_started_total"))
    return numbers("Retry ratio", about, Query(expr, "Retried"), unit="percentunit", steps=rising(0.2, 0.5))


def slower() -> Panel:
    about = About(
        "How long does the task take, against this time yesterday?",
        "100 %: as long as then. Of several tasks, the one that slowed down most. Over all queues.",
        "less than a day of data, or it did not run then or now",
    )
    now = CHOSEN.recorded(P95, "job", "task")
    before = CHOSEN.recorded(P95, "job", "task", offset="1d")
    return numbers(
        "p95 against yesterday",
        about,
        Query(f"max({now} / ({before} > 0))", "Against yesterday"),
        unit="percentunit",
        steps=rising(1.5, 2),
    )


def running_longest() -> Panel:
    about = About(
        "How long has the task been running that was started first?",
        "Not much longer than its usual runtime. A task that hangs holds a slot of its worker until a time limit ends "
        "it.",
        "no task runs now",
    )
    expr = CHOSEN.oldest_age("celery_task_oldest_started_timestamp_seconds")
    return numbers("Longest running now", about, Query(expr, "Running"), unit="s", steps=rising(900, 3600))


def held_longest() -> Panel:
    about = About(
        "How long has a due task been lying in a worker without being started?",
        "Seconds. Longer: the worker took more than it can do (prefetch), or a rate limit holds the task.",
        "no worker holds a task that waits",
    )
    expr = CHOSEN.oldest_age("celery_task_oldest_received_timestamp_seconds")
    return numbers("Longest held by a worker", about, Query(expr, "Held"), unit="s", steps=rising(60, 900))


def compared() -> Panel:
    about = About(
        "Is it slower than it was a day and a week ago?",
        "p95 of the runtime of tasks that succeeded, over half an hour; of several tasks, the slowest. The three "
        "lines lie upon each other where nothing has changed. A line whose time has no data yet is absent. Over all "
        "queues.",
        "nothing succeeded in half an hour",
    )
    return lines(
        "Runtime p95: now, a day ago, a week ago",
        about,
        Query(CHOSEN.recorded(P95, of="max"), "now", colour=palette.PLAIN),
        Query(CHOSEN.recorded(P95, of="max", offset="1d"), "a day ago", colour=palette.WARNING, dashed=True),
        Query(CHOSEN.recorded(P95, of="max", offset="1w"), "a week ago", colour=palette.FAINT, dashed=True),
        unit="s",
    )


def runtimes() -> Panel:
    about = About(
        "How long do tasks run?",
        "p50 is the usual runtime, p99 that of the slowest of a hundred. All of them rising: the task or what it asks "
        "became slower; p99 alone: some inputs are slow. Diamonds are single tasks: point at one for its id.",
        NO_EVENTS,
    )
    quantiles = ((0.5, "p50", palette.SECOND), (0.95, "p95", palette.PLAIN), (0.99, "p99", palette.BAD))
    asked = (
        Query(
            CHOSEN.quantile(value, "celery_task_runtime_seconds", also=SUCCEEDED),
            name,
            colour=colour,
            exemplars=name == "p95",
        )
        for value, name, colour in quantiles
    )
    return lines("Runtime p50, p95, p99", about, *asked, unit="s", points=SCARCE)


def runtime_heat() -> Panel:
    about = About(
        "How are runtimes spread, and does that change?",
        "One dark band. Two bands are two kinds of work under one name; a band that climbs is a task that gets slower.",
        NO_EVENTS,
    )
    return heat(
        "Runtime of tasks that succeeded",
        about,
        Query(CHOSEN.buckets("celery_task_runtime_seconds", also=SUCCEEDED), "{{le}}", exemplars=True),
    )


def waits() -> Panel:
    about = About(
        "How long do tasks wait before they are started?",
        "Below what their queue may wait. Waits that grow while runtimes do not: too few workers, or others are "
        "served first.",
        NO_SENDS,
    )
    return lines(
        "Wait p50, p95",
        about,
        Query(CHOSEN.quantile(0.5, "celery_task_wait_seconds"), "p50", colour=palette.SECOND),
        Query(CHOSEN.quantile(0.95, "celery_task_wait_seconds"), "p95", colour=palette.PLAIN),
        unit="s",
        points=SCARCE,
    )


def outcomes() -> Panel:
    about = About(
        "How do attempts end?",
        "Succeeded, almost all of them. Revoked ones never ran (expired) or were stopped; rejected ones went back to "
        "the queue or were thrown away; cancelled ones lost the broker.",
        NO_EVENTS,
    )
    names = (
        ("succeeded", palette.GOOD),
        ("failed", palette.BAD),
        ("retried", palette.WARNING),
        ("revoked", palette.THIRD),
        ("rejected", palette.FAINT),
        ("cancelled", palette.SECOND),
    )
    asked = (Query(CHOSEN.rate(f"celery_task_{name}_total"), name, colour=colour) for name, colour in names)
    return lines("Attempts by outcome", about, *asked, unit="cps", stacked=True)


def exceptions() -> Panel:
    about = About(
        "Which exceptions are raised, and how often?",
        "None, or few that everybody knows. A class that appears with a deployment is that deployment's.",
        "nothing was raised",
    )
    expr = CHOSEN.rate("celery_task_exceptions_total", "exception", "outcome")
    return lines(
        "Exceptions by class", about, Query(f"{expr} > 0", "{{exception}} ({{outcome}})", exemplars=True), unit="cps"
    )


def exception_table() -> Panel:
    about = About(
        "Which exceptions were raised in the time range, in which task?",
        "None that nobody knows. Retried ones are tried again, failed ones are final.",
        "nothing was raised in the time range",
    )
    labels = ("job", "task", "exception", "outcome")
    expr = f"{CHOSEN.increase('celery_task_exceptions_total', *labels)} > 0"
    shown = (Label("task", "Task"), Label("exception", "Exception"), Label("outcome", "Outcome"), JOB)
    return rows("Exceptions in the time range", about, shown, Column("Times", expr), sort="Times", width=12)


def retried() -> Panel:
    about = About(
        "Which tasks are retried?",
        "Below half of the starts. A task that polls by retrying may be above that by design.",
        "nothing was retried",
    )
    part = CHOSEN.rate("celery_task_retried_total", "task")
    whole = CHOSEN.rate("celery_task_started_total", "task")
    return lines(
        "Retry ratio by task",
        about,
        Query(f"({share(part, whole)}) > 0", "{{task}}"),
        unit="percentunit",
        height=9,
    )


def in_flight() -> Panel:
    about = About(
        "Where are the tasks that have not ended?",
        "Sent ones wait in the queue, received ones in a worker, scheduled ones for their ETA; started ones run. A "
        "state that only grows is where work is stuck.",
        "nothing is on its way, or workers send no task events",
    )
    expr = CHOSEN.total("celery_tasks_in_flight", "state")
    return lines("Tasks in flight by state", about, Query(expr, "{{state}}"), stacked=True)


def running() -> Panel:
    about = About(
        "Which tasks have been running for long?",
        "None for much longer than its runtime.",
        "no task runs now",
    )
    labels = ("job", "task", "queue")
    expr = CHOSEN.oldest_age("celery_task_oldest_started_timestamp_seconds", *labels)
    shown = (Label("task", "Task"), Label("queue", "Queue"), JOB)
    column = Column("Oldest runs for", expr, "s", rising(900, 3600))
    return rows("Running now", about, shown, column, sort="Oldest runs for", width=12, height=8)


def schedule() -> Panel:
    about = About(
        "Does what should run every so often do so?",
        "Last success younger than the interval; above twice the interval an alert fires.",
        "no interval is configured, or read from a beat schedule",
    )
    by = ("job", "task")
    last = CHOSEN.recorded("job_task:celery_task_last_succeeded_timestamp_seconds:max", *by)
    interval = CHOSEN.largest("celery_task_expected_interval_seconds", *by)
    return rows(
        "Scheduled tasks",
        about,
        (Label("task", "Task"), JOB),
        Column("Expected every", interval, "s"),
        Column("Last success", f"clamp_min(time() - {last}, 0)", "s"),
        Column("Of the interval", f"clamp_min(time() - {last}, 0) / {interval}", "percentunit", rising(1.5, 2)),
        sort="Of the interval",
        height=8,
    )


def prefetch() -> Panel:
    about = About(
        "How long do due tasks lie in a worker before they start, on the worker's own clock?",
        "Little. Much of the wait in here: a lower prefetch multiplier lets another worker take the task.",
        "the exporter runs without --prefetch-histogram, or nothing ran",
    )
    query = Query(CHOSEN.buckets("celery_task_prefetch_seconds"), "{{le}}")
    return heat("Time in the worker before the start", about, query)


def unknown_waits() -> Panel:
    about = About(
        "Of how many starts is the wait not known?",
        "0 where producers and workers have task_send_sent_event on; every start where they have not.",
        NO_EVENTS,
    )
    return lines(
        "Starts whose wait is unknown",
        about,
        Query(CHOSEN.rate("celery_task_wait_unknown_total"), "wait unknown", colour=palette.WARNING),
        Query(CHOSEN.rate("celery_task_started_total"), "started", colour=palette.PLAIN),
        unit="cps",
    )
