"""The recording rules: one value for all replicas, on which alerts and dashboards build."""

from celeryscope.rules.model import Group, Record
from celeryscope.rules.promql import Words, indent
from celeryscope.rules.settings import Settings

RATED = ("sent", "started", "succeeded", "failed", "retried")
LEVELS: tuple[tuple[str, ...], ...] = ((), ("task",), ("queue",))
SLO_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


def groups(settings: Settings) -> list[Group]:
    """All groups. Later ones read what earlier ones record."""
    words = settings.words
    return [
        Group("celeryscope.tasks.recording", tuple(_tasks(words))),
        Group("celeryscope.queues.recording", tuple(_queues(settings))),
        Group("celeryscope.workers.recording", tuple(_workers(words))),
        Group("celeryscope.slo.recording", tuple(_slo(words))),
    ]


def _tasks(words: Words) -> list[Record]:
    rules = []
    for labels in LEVELS:
        level = words.level(*labels)
        for name in RATED:
            metric = f"celery_task_{name}_total"
            rules.append(Record(f"{level}:celery_task_{name}:rate5m", words.rate(metric, "5m", *labels)))
        for name in ("succeeded", "failed"):
            metric = f"celery_task_{name}_total"
            rules.append(Record(f"{level}:celery_task_{name}:increase5m", words.increase(metric, "5m", *labels)))
        # Tasks that would run at once, on average, by Little's law: the concurrency that the work needs.
        runtime = words.rate("celery_task_runtime_seconds_sum", "5m", *labels)
        rules.append(Record(f"{level}:celery_task_runtime_seconds:rate5m", runtime))
    for name in ("started", "retried"):
        metric = f"celery_task_{name}_total"
        rules.append(
            Record(f"{words.level('task')}:celery_task_{name}:increase10m", words.increase(metric, "10m", "task"))
        )
    rules += [
        Record(
            f"{words.level('task')}:celery_task_runtime_seconds:p95_30m",
            _quantile(words, 0.95, "runtime", "30m", "task"),
        ),
        Record(f"{words.level('task')}:celery_task_runtime_seconds:count30m", _runs(words)),
        *(
            Record(
                f"{words.level(*labels)}:celery_task_wait_seconds:p95_5m", _quantile(words, 0.95, "wait", "5m", *labels)
            )
            for labels in LEVELS
        ),
        *(
            Record(
                f"{words.level()}:celery_task_wait_seconds:p{share * 100:g}_5m", _quantile(words, share, "wait", "5m")
            )
            for share in (0.5, 0.99)
        ),
        Record(f"{words.level()}:celery_worker_concurrency:required5m", _required(words)),
        Record(f"{words.level()}:celery_task_unknown_queue:ratio5m", _unknown(words)),
        _last_succeeded(words),
    ]
    return rules


def _quantile(words: Words, share: float, what: str, window: str, *labels: str) -> str:
    matching = '{outcome="succeeded"}' if what == "runtime" else ""
    buckets = f"rate(celery_task_{what}_seconds_bucket{matching}[{window}])"
    return (
        f"max by ({words.by(*labels)}) (\n  histogram_quantile({share:g},\n"
        f"    sum by ({words.by_replica(*labels, 'le')}) ({buckets})\n  )\n) >= 0"
    )


def _last_succeeded(words: Words) -> Record:
    """Of tasks that are to run at intervals. An exporter forgets it at a restart, and where a task is idle for long."""
    name = f"{words.level('task')}:celery_task_last_succeeded_timestamp_seconds:max"
    expected = f"and on ({words.by('task')}) celery_task_expected_interval_seconds"
    told = f"celery_task_last_succeeded_timestamp_seconds {expected}"
    return Record(name, f"max by ({words.by('task')}) (\n  {told}\n  or\n  last_over_time({name}[1d])\n)")


def _runs(words: Words) -> str:
    return words.most('increase(celery_task_runtime_seconds_count{outcome="succeeded"}[30m])', "task")


def _required(words: Words) -> str:
    """What runs at once now, of each task, times how much more of it is sent than is started.

    Where nobody tells what is sent, what runs at once: never more than there is.
    """
    running = f"{words.level()}:celery_task_runtime_seconds:rate5m"
    each, sent, started = (
        f"{words.level('task')}:celery_task_{name}:rate5m" for name in ("runtime_seconds", "sent", "started")
    )
    return f"sum by ({words.by()}) (\n  {each} * {sent} / ({started} > 0)\n) > {running}\nor\n{running}"


def _unknown(words: Words) -> str:
    """Without task-sent events most starts are in no known queue: then rates of queues say nothing."""
    # Of several exporters the one that knows most: its are the rates that are largest.
    replica = words.by_replica()
    unknown = f'sum by ({replica}) (rate(celery_task_started_total{{queue="unknown"}}[5m]))'
    started = f"sum by ({replica}) (rate(celery_task_started_total[5m]))"
    return f"min by ({words.by()}) (\n  (\n    {unknown}\n    or\n    {started} * 0\n  )\n  /\n  ({started} > 0)\n)"


def _queues(settings: Settings) -> list[Record]:
    words = settings.words
    level = words.level("queue")
    on = f"on ({words.by()})"
    sure = f"{words.level()}:celery_task_unknown_queue:ratio5m < {settings['unknown_share']}"
    oldest = words.least("celery_queue_oldest_task_timestamp_seconds", "queue")
    active = words.most(
        f"celery_queue_worker_info\n* on ({words.by_replica('worker')}) group_left () (\n{indent(words.busy())}\n)",
        "queue",
    )
    return [
        *(
            Record(f"{level}:celery_queue_{name}:max", words.largest(f"celery_queue_{name}", "queue"))
            for name in ("length", "workers", "concurrency", "wait_objective_seconds")
        ),
        Record(f"{level}:celery_queue_oldest_task_timestamp_seconds:min", oldest),
        # On workers that several queues share, the tasks of all of them.
        Record(f"{level}:celery_queue_tasks_active:sum", active),
        # How long what waits now will take at the present pace; where nobody tells which queue it is that is worked on,
        # by how fast it shrinks.
        Record(
            f"{level}:celery_queue_drain_seconds:ratio5m",
            f"{level}:celery_queue_length:max\n/\n"
            f"(\n  ({level}:celery_task_started:rate5m and {on} {sure}) > 0\n"
            f"  or\n"
            f"  (-deriv({level}:celery_queue_length:max[5m]) unless {on} {sure}) > 0\n)",
        ),
    ]


def _workers(words: Words) -> list[Record]:
    level = words.level()
    return [
        Record(f"{level}:celery_worker_up:sum", words.most("celery_worker_up")),
        Record(f"{level}:celery_worker_concurrency:sum", words.most("celery_worker_concurrency")),
        Record(f"{level}:celery_worker_tasks_active:sum", words.most(words.busy())),
        Record(f"{words.level('worker')}:celery_worker_up:max", words.largest("celery_worker_up", "worker")),
        Record(
            f"{words.level('worker')}:celery_worker_tasks_active:max",
            words.largest(f"\n{indent(words.busy())}\n", "worker"),
        ),
    ]


def _slo(words: Words) -> list[Record]:
    """The share of bad tasks in every window, for each objective."""
    level = words.level("task", "queue", "slo")
    rules = []
    for window in SLO_WINDOWS:
        good = words.rate("celery_slo_good_tasks_total", window, "task", "queue", "slo")
        judged = words.rate("celery_slo_tasks_total", window, "task", "queue", "slo")
        rules.append(Record(f"{level}:celery_slo_errors:ratio_rate{window}", f"1 -\n{good}\n/\n({judged} > 0)"))
    objective = words.least("celery_slo_objective_ratio", "task", "queue", "slo")
    return [*rules, Record(f"{level}:celery_slo_objective_ratio:min", objective)]
