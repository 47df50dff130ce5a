"""Workers: who is lost, leaking, hoarding?"""

from celeryscope_dashboards import links, palette
from celeryscope_dashboards.asking import About, Query, bad_below, bad_from, rising
from celeryscope_dashboards.board import Board, Row
from celeryscope_dashboards.panels import UP_DOWN, Panel, lines, numbers, states
from celeryscope_dashboards.queries import Scope, share
from celeryscope_dashboards.tables import JOB, Column, Label, rows

CHOSEN = Scope(("worker", "queue", "task"))
ACTIVE = "job_worker:celery_worker_tasks_active:max"
UP = "job_worker:celery_worker_up:max"
SILENT = "no worker answers, or the exporter is passive"
UNHEARD = "no worker was ever heard"


def board() -> Board:
    """The dashboard."""
    return Board(
        "workers",
        "Workers",
        "Which workers are lost, leak, hoard or idle?",
        (
            Row("Now", (count(), lost(), restarted(), in_use(), skewed(), mute())),
            Row("Who lives?", (timeline(), heartbeats(), restarts())),
            Row("Who works, who hoards?", (utilisation(), reserved(), scheduled(), processed())),
            Row("Who leaks?", (memory(), replacements())),
            Row("What are they?", (table(), serving())),
            Row("Their machines and clocks", (load(), skew(), cpu(), events()), collapsed=True),
            Row("What dying workers leave behind", (killed(), orphaned(), redelivered()), collapsed=True),
        ),
        CHOSEN,
    )


def count() -> Panel:
    about = About("How many of the chosen workers live?", "As many as were deployed.", UNHEARD)
    return numbers("Up", about, Query(CHOSEN.recorded(UP), "Up"), steps=bad_below(1))


def lost() -> Panel:
    about = About(
        "How many times was a worker lost in the time range?",
        "0. Lost is: its heartbeats stopped without a farewell, while the exporter provably heard. A worker that was "
        "stopped in order is not lost.",
        UNHEARD,
    )
    expr = CHOSEN.increase("celery_worker_lost_total")
    return numbers("Lost in the time range", about, Query(expr, "Lost"), steps=bad_from(0.5))


def restarted() -> Panel:
    about = About(
        "How many times did workers come back as another process?",
        "Once each for a deployment. More of one worker: something ends it again and again.",
        UNHEARD,
    )
    expr = CHOSEN.increase("celery_worker_restarts_total")
    return numbers("Restarts in the time range", about, Query(expr, "Restarts"))


def in_use() -> Panel:
    about = About(
        "How much of the chosen workers' concurrency is at work?",
        "High with empty queues is well used; near 100 % with a backlog is too few workers.",
        SILENT,
    )
    expr = share(CHOSEN.recorded(ACTIVE), CHOSEN.total("celery_worker_concurrency"))
    return numbers("Utilisation", about, Query(expr, "In use"), unit="percentunit", steps=rising(0.8, 0.95))


def skewed() -> Panel:
    about = About(
        "How far is the worst clock from the exporter's?",
        "Below a second. From 5 seconds on, waits and ETAs of that worker are wrong: see to its time synchronisation.",
        "no worker beats",
    )
    expr = f"max(abs({CHOSEN.largest('celery_worker_clock_skew_seconds', 'job', 'worker')}))"
    return numbers("Largest clock skew", about, Query(expr, "Skew"), unit="s", steps=rising(1, 5))


def mute() -> Panel:
    about = About(
        "How many workers work and send no task events?",
        "0. Of a mute worker nobody knows what its tasks do: start it with -E, or the exporter with --enable-events.",
        "no worker has worked yet",
    )
    enabled = CHOSEN.largest("celery_worker_task_events_enabled", "job", "worker")
    expr = f"count({enabled} == 0)\nor\n0 * count({enabled})"
    return numbers("Workers without task events", about, Query(expr, "Mute"), steps=bad_from(1))


def timeline() -> Panel:
    about = About(
        "When did each worker live?",
        "Up all along. A gap to the right is a worker that is forgotten, a day after it was last heard; a short gap "
        "is a restart.",
        UNHEARD,
    )
    return states("Workers up", about, Query(CHOSEN.recorded(UP, "worker", of="max"), "{{worker}}"), UP_DOWN)


def heartbeats() -> Panel:
    about = About(
        "How long ago was each worker heard?",
        "A saw below a few seconds. A line that climbs is a worker that is dead, frozen or cut off; one with a solo "
        "pool is silent while it works.",
        UNHEARD,
    )
    expr = CHOSEN.age("celery_worker_last_heartbeat_timestamp_seconds", "worker")
    return lines("Age of the last heartbeat", about, Query(expr, "{{worker}}"), unit="s")


def restarts() -> Panel:
    about = About(
        "When did workers restart, or get lost?",
        "At deployments only.",
        UNHEARD,
    )
    return lines(
        "Restarts and losses in 5 minutes",
        about,
        Query(CHOSEN.increase("celery_worker_restarts_total", "worker", window="5m"), "{{worker}} restarted"),
        Query(CHOSEN.increase("celery_worker_lost_total", "worker", window="5m"), "{{worker}} lost", dashed=True),
    )


def utilisation() -> Panel:
    about = About(
        "Who is busy, and who idles?",
        "About the same for workers of the same queues. One at 0 % beside busy ones stopped taking tasks; one at 100 "
        "% that completes nothing is stuck.",
        SILENT,
    )
    whole = CHOSEN.largest("celery_worker_concurrency", "worker")
    expr = share(CHOSEN.recorded(ACTIVE, "worker", of="max"), whole)
    return lines("Utilisation by worker", about, Query(expr, "{{worker}}"), unit="percentunit")


def reserved() -> Panel:
    about = About(
        "Who holds tasks that it cannot start yet?",
        "Up to the prefetch limit. Many in one worker while others idle: a lower prefetch multiplier shares them "
        "better.",
        SILENT,
    )
    expr = CHOSEN.largest("celery_worker_tasks_reserved", "worker")
    return lines("Reserved by worker", about, Query(expr, "{{worker}}"))


def scheduled() -> Panel:
    about = About(
        "Who holds tasks that wait for their ETA?",
        "Few. Each raises the worker's prefetch limit, takes memory, and is delivered again if the visibility timeout "
        "ends first.",
        SILENT,
    )
    expr = CHOSEN.largest("celery_worker_tasks_scheduled", "worker")
    return lines("Scheduled by worker", about, Query(expr, "{{worker}}"))


def processed() -> Panel:
    about = About(
        "How much does each worker get done?",
        "About the same for workers of the same queues. By the workers' own count: it moves where task events are off.",
        UNHEARD,
    )
    expr = CHOSEN.rate("celery_worker_tasks_processed_total", "worker")
    return lines("Tasks accepted by worker", about, Query(expr, "{{worker}}"), unit="cps")


def memory() -> Panel:
    about = About(
        "Which worker's main process grows?",
        "Flat after the start. It is the highest value since the process started, so it never falls; pool processes "
        "are not in it.",
        SILENT,
    )
    expr = CHOSEN.largest("celery_worker_main_process_resident_memory_max_bytes", "worker")
    return lines("Main process memory, highest so far", about, Query(expr, "{{worker}}"), unit="bytes")


def replacements() -> Panel:
    about = About(
        "Whose pool processes are replaced?",
        "0, or what max_tasks_per_child makes of it. Many: tasks leak memory up to max_memory_per_child, or kill "
        "their process.",
        SILENT,
    )
    expr = CHOSEN.increase("celery_worker_child_replacements_total", "worker", window="5m")
    return lines("Replaced processes in 5 minutes", about, Query(expr, "{{worker}}"))


def table() -> Panel:
    about = About(
        "What does each worker run, and since when?",
        "The same version everywhere, but during a deployment. An uptime much shorter than the others': it restarted "
        "alone.",
        UNHEARD,
    )
    by = ("job", "worker")
    shown = (Label("worker", "Worker"), Label("version", "Celery"), Label("pool", "Pool"), JOB)
    uptime = f"clamp_min(time() - {CHOSEN.largest('celery_worker_start_time_seconds', *by)}, 0)"
    return rows(
        "Workers",
        about,
        shown,
        Column("Info", CHOSEN.largest("celery_worker_info", *by, "version", "pool")),
        Column("Up", CHOSEN.recorded(UP, *by), steps=bad_below(1)),
        Column("Concurrency", CHOSEN.largest("celery_worker_concurrency", *by)),
        Column("Prefetch limit", CHOSEN.largest("celery_worker_prefetch_limit", *by)),
        Column("Uptime", uptime, "s"),
        sort="Worker",
        ascending=True,
        hidden=("Info",),
        width=14,
        height=8,
    )


def serving() -> Panel:
    about = About(
        "Which queues does each worker consume, and how much does it run?",
        "Every queue has workers. A queue that is missing here has none, or nobody told.",
        "nobody knows which workers consume which queues",
    )
    busy = CHOSEN.recorded(ACTIVE, "job", "worker")
    serves = CHOSEN.largest("celery_queue_worker_info", "job", "queue", "worker")
    shown = (
        Label("queue", "Queue", links.opens("queues", "queue", "Open the queue", job="Job")),
        Label("worker", "Worker"),
        JOB,
    )
    expr = f"{serves} * on (job, worker) group_left () {busy}"
    return rows(
        "Queues of workers", about, shown, Column("Active", expr), sort="Queue", ascending=True, width=10, height=8
    )


def load() -> Panel:
    about = About(
        "Whose machine has more to do than it can?",
        "Below the number of its processors.",
        "no worker beats, or its system tells no load",
    )
    expr = CHOSEN.largest("celery_worker_load1", "worker")
    return lines("Load of the worker's machine, 1 minute", about, Query(expr, "{{worker}}"))


def skew() -> Panel:
    about = About(
        "Whose clock is wrong?",
        "All near 0. Positive: the worker is behind. All of them alike: it is the exporter's clock.",
        "no worker beats",
    )
    expr = CHOSEN.largest("celery_worker_clock_skew_seconds", "worker")
    return lines("Clock skew by worker", about, Query(expr, "{{worker}}"), unit="s", least=None)


def cpu() -> Panel:
    about = About(
        "Whose main process is busy?",
        "Well below one processor. Near it, the main process cannot hand out tasks fast enough: more workers, fewer "
        "events.",
        SILENT,
    )
    expr = CHOSEN.rate("celery_worker_main_process_cpu_seconds_total", "worker", "mode")
    return lines("Main process CPU", about, Query(expr, "{{worker}} {{mode}}"), unit="percentunit")


def events() -> Panel:
    about = About(
        "Who sends task events?",
        "All of them.",
        "no worker has worked yet",
    )
    meaning = {1.0: ("sends", palette.GOOD), 0.0: ("mute", palette.BAD)}
    expr = CHOSEN.largest("celery_worker_task_events_enabled", "worker")
    return states("Task events", about, Query(expr, "{{worker}}"), meaning, width=12)


def killed() -> Panel:
    about = About(
        "Which tasks take their process with them?",
        "None. WorkerLostError: the process that ran the task was killed, most often for want of memory.",
        "no process was killed under a task in the time range",
    )
    by = ("job", "task", "queue")
    expr = CHOSEN.increase("celery_task_exceptions_total", *by, also='exception="WorkerLostError"')
    shown = (
        Label("task", "Task", links.opens("task", "task", "Open the task", job="Job")),
        Label("queue", "Queue"),
        JOB,
    )
    return rows(
        "Processes killed under a task", about, shown, Column("Times", f"{expr} > 0"), sort="Times", width=12, height=8
    )


def orphaned() -> Panel:
    about = About(
        "Which tasks had started on a worker that is gone, and never ended?",
        "None. Where they are acknowledged late, they come again as redelivered.",
        "workers send no task events",
    )
    expr = CHOSEN.increase("celery_task_orphaned_total", "task", window="5m")
    return lines("Orphaned in 5 minutes, by task", about, Query(expr, "{{task}}"))


def redelivered() -> Panel:
    about = About(
        "Which tasks were started again without a retry?",
        "None, but after a worker was lost. All the time: the visibility timeout is shorter than the task, and work "
        "is done twice.",
        "workers send no task events",
    )
    expr = CHOSEN.increase("celery_task_redelivered_total", "task", window="5m")
    return lines("Started again in 5 minutes, by task", about, Query(expr, "{{task}}"))
