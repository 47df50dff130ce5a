"""Rate limits and retries: what is throttled, what storms?"""

from celeryscope_dashboards import palette
from celeryscope_dashboards.asking import About, Query, rising
from celeryscope_dashboards.board import Board, Row
from celeryscope_dashboards.panels import Panel, heat, lines, numbers
from celeryscope_dashboards.queries import Scope, share

CHOSEN = Scope(("task", "queue"))
NO_LIMIT = "no task has a rate_limit"
NO_LIMITER = "no task reports an outside limit"
NO_EVENTS = "nothing ran, or workers send no task events"


def board() -> Board:
    """The dashboard."""
    return Board(
        "limits",
        "Rate limits and retries",
        "What is throttled, by whom, and what is tried over and over?",
        (
            Row("Now", (held_now(), throttled_now(), retried_now(), expired_now())),
            Row("Celery's own limit", (against_limit(), limit_share(), held())),
            Row("Limits of others", (throttled(), throttled_share(), delays(), remaining())),
            Row("Retries", (retries(), retry_exceptions())),
            Row("Never run, thrown back, run twice", (revoked(), rejected(), expired(), again())),
            Row("Delays in detail", (delay_heat(),), collapsed=True),
        ),
        CHOSEN,
    )


def held_now() -> Panel:
    about = About(
        "How many due tasks does a rate_limit hold back?",
        "Few. Many that do not get fewer: the limit is below what arrives, so these tasks wait ever longer.",
        NO_LIMIT,
    )
    expr = CHOSEN.total("celery_tasks_rate_limit_held")
    return numbers("Held by a rate_limit", about, Query(expr, "Held"), steps=rising(1, 100), width=6)


def throttled_now() -> Panel:
    about = About(
        "How often do outside limits refuse work?",
        "Rarely. Much of it is work that is started in vain and comes again.",
        NO_LIMITER,
    )
    expr = CHOSEN.rate("celery_task_rate_limited_total")
    return numbers("Throttled from outside", about, Query(expr, "Throttled"), unit="cps", width=6)


def retried_now() -> Panel:
    about = About(
        "How many attempts end in a retry?",
        "Below 20 %. Above half it is a storm: most of what workers do is done again.",
        NO_EVENTS,
    )
    expr = share(CHOSEN.rate("celery_task_retried_total"), CHOSEN.rate("celery_task_started_total"))
    return numbers("Retried", about, Query(expr, "Retried"), unit="percentunit", steps=rising(0.2, 0.5), width=6)


def expired_now() -> Panel:
    about = About(
        "How many tasks expired before anybody ran them, in the time range?",
        "0: each is work that is silently lost, unless it was sent to be dropped when late.",
        "workers send no task events",
    )
    expr = CHOSEN.increase("celery_task_revoked_total", also='reason="expired"')
    return numbers("Expired in the time range", about, Query(expr, "Expired"), steps=rising(0.5, 10), width=6)


def against_limit() -> Panel:
    about = About(
        "Which tasks run as fast as they may?",
        "Started below the limit, which is dashed: nothing is held. On the limit: tasks wait for it. The limit is "
        "that of all live workers together, since each has its own.",
        NO_LIMIT,
    )
    return lines(
        "Starts against the rate limit",
        about,
        Query(_started(), "{{task}}"),
        Query(CHOSEN.total("celery_task_rate_limit_per_second", "task"), "{{task}} limit", dashed=True),
        unit="cps",
    )


def _started() -> str:
    """Starts of tasks that have a limit."""
    limit = CHOSEN.total("celery_task_rate_limit_per_second", "task")
    return f"{CHOSEN.recorded('job_task:celery_task_started:rate5m', 'task')}\nand on (task) {limit}"


def limit_share() -> Panel:
    about = About(
        "How much of its rate limit does each task use?",
        "Below 95 %. At 100 % with tasks held, the limit is what makes them late.",
        NO_LIMIT,
    )
    started = CHOSEN.recorded("job_task:celery_task_started:rate5m", "task")
    expr = share(started, CHOSEN.total("celery_task_rate_limit_per_second", "task"))
    return lines(
        "Rate limit used",
        about,
        Query(expr, "{{task}}"),
        unit="percentunit",
        steps=((float("-inf"), palette.GOOD), (0.95, palette.BAD)),
        width=6,
    )


def held() -> Panel:
    about = About(
        "Which tasks are held back by their rate limit?",
        "None, or few for a short time. They are due, and their worker has a slot free.",
        NO_LIMIT,
    )
    expr = CHOSEN.total("celery_tasks_rate_limit_held", "task")
    return lines("Held by the rate limit, by task", about, Query(expr, "{{task}}"), width=6)


def throttled() -> Panel:
    about = About(
        "Which outside limits throttle?",
        "None, or at a steady low rate. A limiter that jumps: its owner lowered the limit, or we ask more than before.",
        NO_LIMITER,
    )
    expr = CHOSEN.rate("celery_task_rate_limited_total", "limiter")
    return lines("Throttled by limiter", about, Query(expr, "{{limiter}}"), unit="cps")


def throttled_share() -> Panel:
    about = About(
        "Which tasks are throttled, and how much?",
        "Below 20 % of their starts. Near 100 % the task does nothing else than ask and be refused.",
        NO_LIMITER,
    )
    part = CHOSEN.rate("celery_task_rate_limited_total", "task")
    whole = CHOSEN.rate("celery_task_started_total", "task")
    return lines("Throttled share of starts, by task", about, Query(share(part, whole), "{{task}}"), unit="percentunit")


def delays() -> Panel:
    about = About(
        "How long do limiters tell us to wait?",
        "p95 of the announced delay. Short, and not growing.",
        "no task announces a delay with a task-rate-limited event",
    )
    expr = CHOSEN.quantile(0.95, "celery_task_rate_limit_delay_seconds", "limiter")
    return lines("Announced delay p95, by limiter", about, Query(expr, "{{limiter}}"), unit="s")


def remaining() -> Panel:
    about = About(
        "How much of each limiter's allowance is left?",
        "Above 0 most of the time. The dashed line is the limit as it was last announced.",
        "no task announces limits with a task-rate-limited event",
    )
    return lines(
        "Left of each limiter",
        about,
        Query(CHOSEN.least("celery_rate_limiter_remaining", "limiter"), "{{limiter}} left"),
        Query(CHOSEN.least("celery_rate_limiter_limit", "limiter"), "{{limiter}} limit", dashed=True),
    )


def retries() -> Panel:
    about = About(
        "Which tasks are tried over and over?",
        "Below half a retry for each start. A task that polls by retrying may be above by design.",
        "nothing is retried",
    )
    part = CHOSEN.rate("celery_task_retried_total", "task")
    whole = CHOSEN.rate("celery_task_started_total", "task")
    return lines(
        "Retries for each start, by task", about, Query(f"({share(part, whole)}) > 0", "{{task}}"), unit="percentunit"
    )


def retry_exceptions() -> Panel:
    about = About(
        "What makes them retry?",
        "Exceptions that pass: timeouts, refusals. One class that jumps points at what is down.",
        "nothing is retried",
    )
    expr = CHOSEN.rate("celery_task_exceptions_total", "exception", also='outcome="retried"')
    return lines("Retries by exception", about, Query(f"{expr} > 0", "{{exception}}", exemplars=True), unit="cps")


def revoked() -> Panel:
    about = About(
        "Why did tasks never run, or get stopped?",
        "0. Expired: too late for their expiry. Terminated or revoked: somebody said so.",
        "nothing was revoked since the exporter started",
    )
    expr = CHOSEN.increase("celery_task_revoked_total", "reason", window="5m")
    return lines("Revoked in 5 minutes, by reason", about, Query(expr, "{{reason}}"), width=6)


def expired() -> Panel:
    about = About(
        "Which tasks expire?",
        "None. Their queue is slower than they can wait, or their expiry is too short.",
        "nothing expired since the exporter started",
    )
    expr = CHOSEN.increase("celery_task_revoked_total", "task", also='reason="expired"', window="5m")
    return lines("Expired in 5 minutes, by task", about, Query(f"{expr} > 0", "{{task}}"), width=6)


def rejected() -> Panel:
    about = About(
        "Which messages do workers reject?",
        "None. Requeued ones come again at once; the others are gone, or in a dead-letter queue.",
        "nothing was rejected since the exporter started",
    )
    expr = CHOSEN.increase("celery_task_rejected_total", "requeue", window="5m")
    return lines("Rejected in 5 minutes", about, Query(expr, "requeued: {{requeue}}"), width=6)


def again() -> Panel:
    about = About(
        "Which tasks are run twice?",
        "None, but after a worker was lost: then its tasks come again.",
        NO_EVENTS,
    )
    expr = CHOSEN.increase("celery_task_redelivered_total", "task", window="5m")
    return lines("Redelivered in 5 minutes, by task", about, Query(f"{expr} > 0", "{{task}}"), width=6)


def delay_heat() -> Panel:
    about = About(
        "How are announced delays spread?",
        "Low. A band that climbs: the limit is used up earlier and earlier in its window.",
        "no task announces a delay with a task-rate-limited event",
    )
    query = Query(CHOSEN.buckets("celery_task_rate_limit_delay_seconds"), "{{le}}")
    return heat("Announced delays", about, query, width=24)
