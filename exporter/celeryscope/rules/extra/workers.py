"""Workers that are too few, gone, stuck or churning."""

from celeryscope.rules.model import INFO, WARNING, Alert
from celeryscope.rules.promql import COUNT, indent
from celeryscope.rules.settings import Settings

LONG = 900  # seconds: a task that takes longer as a rule may fill a worker for so long


def alerts(settings: Settings) -> list[Alert]:
    """All alerts of this group."""
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
