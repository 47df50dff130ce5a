"""The alerts that everybody wants on day one."""

from celeryscope.rules.model import CRITICAL, INFO, NONE, WARNING, Alert, Group
from celeryscope.rules.settings import Settings, quoted

# It retries until a chord's tasks are done, by design.
WAITS_BY_RETRYING = r"celery\\.chord_unlock"


def groups(settings: Settings) -> list[Group]:
    """All groups."""
    return [
        Group("celeryscope.exporter", tuple(_exporter(settings))),
        Group("celeryscope.broker", tuple(_broker(settings))),
        Group("celeryscope.queues", tuple(_queues(settings))),
        Group("celeryscope.workers", tuple(_workers(settings))),
        Group("celeryscope.tasks", tuple(_tasks(settings))),
    ]


def _exporter(settings: Settings) -> list[Alert]:
    words = settings.words
    job, replica = words.by(), words.by_replica()
    # Whatever the job is called: a target that had the metrics within a day.
    ours = f"up and on ({replica}) present_over_time(celery_exporter_build_info[1d])"
    heard = words.largest("celery_exporter_canary_last_success_timestamp_seconds")
    # One that has heard nothing since it started has no canary to tell of.
    never = words.least("celery_exporter_deaf_seconds_total and rate(celery_exporter_deaf_seconds_total[2m]) > 0.9")
    deaf = f"(\n  time() - {heard} > {settings['deaf_seconds']}\n  or\n  {never}\n  unless on ({job}) {heard}\n)"
    return [
        Alert(
            "CeleryExporterDown",
            f"max by ({job}) ({ours}) == 0",
            CRITICAL,
            "No celeryscope exporter can be scraped",
            "No exporter of {{ $labels.job }} answers Prometheus: nobody watches this Celery cluster.",
            hold="5m",
            dashboard="celeryscope-exporter",
        ),
        Alert(
            "CeleryExporterDown",
            f"({ours}) == 0\nand on ({job})\nmax by ({job}) ({ours}) == 1",
            WARNING,
            "One of several celeryscope exporters cannot be scraped",
            "{{ $labels.instance }} does not answer Prometheus; another one still watches this Celery cluster.",
            hold="5m",
            dashboard="celeryscope-exporter",
        ),
        Alert(
            "CeleryExporterAbsent",
            f"absent(celery_exporter_build_info)\nunless on ()\nmax({ours}) == 0",
            CRITICAL,
            "No celeryscope exporter is known to Prometheus",
            "Prometheus has no exporter among its targets: nobody watches Celery.",
            hold="10m",
            dashboard="celeryscope-exporter",
        ),
        Alert(
            "CeleryExporterDeaf",
            f"{deaf}\nand on ({job})\n{words.largest('celery_broker_up')} == 1",
            CRITICAL,
            "The exporter hears nothing of Celery's events",
            "The broker of {{ $labels.job }} works, but the exporter's own test events have not come back for "
            "{{ $value | humanizeDuration }}: what tasks and workers do is not known.",
            hold="2m",
            dashboard="celeryscope-exporter",
        ),
        Alert(
            "CeleryWatchdog",
            "vector(1)",
            NONE,
            "Alerting works",
            "This alert fires always. Where it does not arrive, no other one will.",
        ),
    ]


def _broker(settings: Settings) -> list[Alert]:
    words = settings.words
    used = words.largest("celery_broker_memory_used_bytes / (celery_broker_memory_max_bytes > 0)")
    full = "The broker of {{ $labels.job }} uses {{ $value | humanizePercentage }} of the memory that it may use."
    return [
        Alert(
            "CeleryBrokerDown",
            f"{words.largest('celery_broker_up')} == 0",
            CRITICAL,
            "The broker cannot be reached",
            "The exporter of {{ $labels.job }} cannot connect to the broker. Most likely nobody can.",
            hold="2m",
            dashboard="celeryscope-queues",
        ),
        *(
            Alert(
                "CeleryBrokerMemoryHigh",
                f"{used} > {settings[f'memory_{severity}']}",
                severity,
                "The broker runs out of memory",
                full,
                hold="5m",
                dashboard="celeryscope-queues",
            )
            for severity in (WARNING, CRITICAL)
        ),
        Alert(
            "CeleryBrokerAlarm",
            f"{words.largest('celery_broker_alarm', 'alarm')} == 1",
            CRITICAL,
            "RabbitMQ has raised an alarm and blocks publishers",
            "RabbitMQ of {{ $labels.job }} has raised its {{ $labels.alarm }} alarm: no task can be sent.",
            hold="5m",
            dashboard="celeryscope-queues",
        ),
    ]


def _queues(settings: Settings) -> list[Alert]:
    words = settings.words
    level, queue = words.level("queue"), words.by("queue")
    length, workers = f"{level}:celery_queue_length:max", f"{level}:celery_queue_workers:max"
    objective = f"{level}:celery_queue_wait_objective_seconds:max"
    alone = f"{length} > 0\nand on ({queue})\n{workers} == 0"
    served = f"max_over_time({workers}[7d]) > 0"
    if settings.required_queues:
        served += f'\n  or\n  {length}{{queue=~"{quoted(settings.required_queues)}"}}'
    waiting = "{{ $value }} tasks wait in {{ $labels.queue }}"
    rules = [
        Alert(
            "CeleryQueueWithoutWorkers",
            f"{alone}\nand on ({queue}) (\n  {served}\n)",
            CRITICAL,
            "Tasks wait in a queue that no worker consumes any more",
            waiting + ", which had workers within the last 7 days and has none now.",
            hold="5m",
            dashboard="celeryscope-queues",
        ),
        Alert(
            "CeleryQueueWithoutWorkers",
            f"{alone}\nunless on ({queue}) (\n  {served}\n)",
            INFO,
            "Tasks wait in a queue that no worker consumes",
            waiting + ", which has had no worker for 7 days: a dead-letter queue, or one that was forgotten.",
            hold="5m",
            dashboard="celeryscope-queues",
        ),
        _stuck(settings),
    ]
    drain = f"{level}:celery_queue_drain_seconds:ratio5m"
    age = f"(time() - {level}:celery_queue_oldest_task_timestamp_seconds:min)"
    for severity, factor in ((WARNING, "1"), (CRITICAL, settings["objective_factor_critical"])):
        limit = f"{objective} * {factor}" if factor != "1" else objective
        rules += [
            Alert(
                "CeleryQueueBacklogHigh",
                f"{drain}\n> on ({queue})\n{limit}",
                severity,
                "A queue holds more work than its workers can do in time",
                "At the present pace it takes {{ $value | humanizeDuration }} to work off what waits in "
                "{{ $labels.queue }}.",
                hold="15m",
                dashboard="celeryscope-queues",
            ),
            Alert(
                "CeleryQueueOldestTaskTooOld",
                # Where nobody is there to take it, CeleryQueueWithoutWorkers says so.
                f"{age}\n> on ({queue})\n{limit}\nunless on ({queue})\n{workers} == 0",
                severity,
                "A task waits for longer than its queue allows",
                "The next task of {{ $labels.queue }} has been due for {{ $value | humanizeDuration }}.",
                hold="5m",
                dashboard="celeryscope-queues",
            ),
        ]
    return rules


def _stuck(settings: Settings) -> Alert:
    """Backlog and free workers, and nothing is taken: nothing was started, or the same task has been next all along."""
    words = settings.words
    level, queue, job, worker = words.level("queue"), words.by("queue"), words.by(), words.by("worker")
    length, oldest = f"{level}:celery_queue_length:max", f"{level}:celery_queue_oldest_task_timestamp_seconds:min"
    # What was started counts only where all of it can be told by queue, and where every worker of the queue tells.
    unsure = f"max_over_time({words.level()}:celery_task_unknown_queue:ratio5m[10m]) >= {settings['unknown_share']}"
    consumed = words.largest("celery_queue_worker_info", "queue", "worker")
    mute = f"({consumed} and on ({worker}) {_silent(settings)})"
    idle = f"max_over_time({level}:celery_task_started:rate5m[10m]) == 0"
    same = f"changes({oldest}[10m]) == 0\n  and {oldest} offset 10m"
    # Of what is due at the same time the next one looks like the one before it: then the queue has become shorter.
    untaken = f"resets({length}[10m]) == 0\nand on ({queue})\n{length} offset 10m > 0"
    free = f"{level}:celery_queue_tasks_active:sum\n  < on ({queue})\n  {level}:celery_queue_concurrency:max"
    return Alert(
        "CeleryQueueStuck",
        f"{length}\nand on ({queue})\n{untaken}\n"
        f"and on ({queue}) (\n  {free}\n)\n"
        f"and on ({queue}) (\n  {idle}\n  unless on ({job}) {unsure}\n  unless on ({queue}) {mute}\n  or\n  {same}\n)",
        CRITICAL,
        "Tasks wait, workers are free, and nothing is taken",
        "{{ $value }} tasks wait in {{ $labels.queue }}; its workers have free slots and take nothing.",
        hold="2m",
        dashboard="celeryscope-queues",
    )


def _silent(settings: Settings) -> str:
    """Workers that process tasks and tell nothing of them. Whoever hears their events is right."""
    return f"{settings.words.largest('celery_worker_task_events_enabled', 'worker')} == 0"


def _workers(settings: Settings) -> list[Alert]:
    words = settings.words
    level, job, worker, queue = words.level("worker"), words.by(), words.by("worker"), words.by("queue")
    backlog = f"min_over_time({words.level('queue')}:celery_queue_length:max[10m]) > 0"
    consumed = words.largest("celery_queue_worker_info", "queue", "worker")
    # Short tasks come and go between two heartbeats.
    processed = words.largest("changes(celery_worker_tasks_processed_total[10m])", "worker")
    lost = words.increase('celery_task_exceptions_total{exception="WorkerLostError"}', "5m", "task")
    return [
        Alert(
            "CeleryWorkerIdleWithBacklog",
            f"max_over_time({level}:celery_worker_tasks_active:max[10m]) == 0\n"
            f"and on ({worker}) {level}:celery_worker_tasks_active:max offset 10m\n"
            f"and on ({worker}) {processed} == 0\n"
            f"and on ({worker}) {level}:celery_worker_up:max == 1\n"
            f"and on ({worker}) (\n  {consumed}\n  and on ({queue}) {backlog}\n)\n"
            f"and on ({job}) {words.level()}:celery_task_started:rate5m > 0",
            WARNING,
            "A worker is idle while tasks wait in its queue",
            "{{ $labels.worker }} is up and has run nothing for 10 minutes, and tasks wait in a queue of it.",
            hold="2m",
            dashboard="celeryscope-workers",
        ),
        Alert(
            "CeleryWorkerProcessKilled",
            f"{lost} > 0",
            WARNING,
            "A worker process was killed under its task",
            "{{ $labels.task }} lost its process {{ $value }} times in 5 minutes: out of memory, most often.",
            dashboard="celeryscope-workers",
        ),
        Alert(
            "CeleryTaskEventsDisabled",
            f"{_silent(settings)}\nand on ({worker})\n{level}:celery_worker_up:max == 1",
            WARNING,
            "A worker sends no task events",
            "{{ $labels.worker }} processes tasks and tells nothing of them: start it with -E.",
            hold="15m",
            dashboard="celeryscope-exporter",
        ),
        Alert(
            "CeleryEventsLost",
            f"{words.increase('celery_worker_events_lost_total', '10m', 'worker')} > 0",
            WARNING,
            "Task events get lost",
            "{{ $value }} task events of {{ $labels.worker }} did not arrive in 10 minutes: counts are too low.",
            hold="10m",
            dashboard="celeryscope-exporter",
        ),
    ]


def _tasks(settings: Settings) -> list[Alert]:
    words = settings.words
    task = words.by("task")
    rules = []
    # Where it is not known in which queue tasks are, the job is judged.
    known, others = '{queue!="unknown"}', settings.without("CeleryTaskFailureRatioHigh")
    for name, labels, chosen, what in (
        ("CeleryTaskFailureRatioHigh", ("task",), others, "{{ $labels.task }}"),
        ("CeleryQueueFailureRatioHigh", ("queue",), known, "the tasks in {{ $labels.queue }}"),
        ("CeleryFailureRatioHigh", (), "", "all tasks of {{ $labels.job }}"),
    ):
        level = words.level(*labels)
        failed = f"{level}:celery_task_failed:increase5m"
        on = f"on ({words.by(*labels)})"
        ended = f"({failed} + {on} {level}:celery_task_succeeded:increase5m > 0)"
        for severity, volume in ((WARNING, ">"), (CRITICAL, ">=")):
            rules.append(
                Alert(
                    name,
                    f"{failed}{chosen}\n/ {on}\n{ended}\n> {settings[f'failure_ratio_{severity}']}\n"
                    f"and {on}\n{failed} {volume} {settings[f'failure_count_{severity}']}",
                    severity,
                    "Too many tasks fail",
                    "{{ $value | humanizePercentage }} of " + what + " fail.",
                    hold="5m",
                    dashboard="celeryscope-task",
                )
            )
    level = words.level("task")
    retries = settings.without("CeleryTaskRetryStorm", WAITS_BY_RETRYING)
    retried, started = f"{level}:celery_task_retried:increase10m", f"{level}:celery_task_started:increase10m"
    interval = words.largest("celery_task_expected_interval_seconds", "task")
    limit = f"{settings['overdue_factor']} * {interval}"
    succeeded = f"{level}:celery_task_last_succeeded_timestamp_seconds:max"
    begun = (
        f"min by ({words.by()}) (process_start_time_seconds and on ({words.by_replica()}) celery_exporter_build_info)"
    )
    expired = settings.without("CeleryTaskExpired", also='reason="expired"')
    return [
        *rules,
        Alert(
            "CeleryTaskRetryStorm",
            f"{retried}{retries}\n/ on ({task})\n({started} > 0)\n> {settings['retry_ratio']}\n"
            f"and on ({task})\n{retried} >= {settings['retry_count']}",
            WARNING,
            "A task is retried more than it gets done",
            "For every start of {{ $labels.task }} there are {{ $value }} retries.",
            hold="10m",
            dashboard="celeryscope-limits",
        ),
        Alert(
            "CeleryTaskOverdue",
            f"(time() - {succeeded})\n> on ({task})\n{limit}\n"
            f"or\n"
            f"(time() - {begun})\n> on ({words.by()}) group_right ()\n{limit}\nunless on ({task})\n{succeeded}",
            WARNING,
            "A scheduled task has not succeeded for too long",
            "{{ $labels.task }} is scheduled and has not succeeded for {{ $value | humanizeDuration }}.",
            hold="5m",
            dashboard="celeryscope-task",
        ),
        Alert(
            "CeleryTaskExpired",
            f"{words.increase('celery_task_revoked_total' + expired, '5m', 'task')} > 0",
            WARNING,
            "Tasks expire before they are run: work is lost",
            "{{ $value }} tasks {{ $labels.task }} expired in 5 minutes.",
            hold="5m",
            dashboard="celeryscope-limits",
        ),
    ]
