"""Scenarios of workers."""

from collections.abc import Mapping

from celeryscope.rules.settings import Settings
from rules.promtool import Scenario, firing
from rules.series import Line, Part, SeriesOf, absent, at, consumer, queue, rises, task

IDLE = "CeleryWorkerIdleWithBacklog"
BACKLOG = queue("fast", length=[at(50)], workers=[at(2)], concurrency=[at(8)])
BUSY = consumer("celery@busy", "fast", active=[at(4)], tasks_processed_total=[rises(30)])
FLOWS = task("app.work", "fast", sent=[rises(60)], started=[rises(60)])
FLOWS_UNTOLD = task("app.work", "unknown", started=[rises(60)])
STOPS: Line = [at(4, 10), at(0, 20), at(4)]
PROCESSED: Line = [rises(30, 10), rises(0, 20), rises(30)]
IDLER = consumer("celery@idle", "fast", active=STOPS, tasks_processed_total=PROCESSED)
IDLES = [firing(22, 29, "warning", worker="celery@idle")]


def mute_solo(length_of_task: float) -> SeriesOf:
    """A solo worker, at work all along: between two tasks it beats, and runs nothing; else it is mute."""
    active: list[Part] = [part for _ in range(20) for part in (at(0, 0.25), absent(length_of_task - 0.25))]
    processed = [at(number, length_of_task) for number in range(20)]
    return {
        **consumer("celery@solo", "fast", active=active, tasks_processed_total=processed),
        'celery_worker_info{worker="celery@solo", pool="prefork"}': [absent()],
        'celery_worker_info{worker="celery@solo", pool="solo"}': [at(1)],
    }


IDLING = (
    Scenario("one worker of two stops to consume", 45, {**BACKLOG, **BUSY, **FLOWS, **IDLER}, IDLE, IDLES),
    Scenario("the same without task-sent events", 45, {**BACKLOG, **BUSY, **FLOWS_UNTOLD, **IDLER}, IDLE, IDLES),
    Scenario(
        "nothing waits", 45,
        {**BUSY, **FLOWS, **IDLER, **queue("fast", length=[at(0)])}, IDLE,
    ),
    Scenario(
        "nothing waits now and then", 45,
        {**BUSY, **FLOWS, **IDLER, **queue("fast", length=[at(0, 1), *[at(5, 8), at(0, 1)] * 6])}, IDLE,
    ),
    Scenario(
        "what waits is in a queue of others", 45,
        {**BACKLOG, **BUSY, **FLOWS, **consumer("celery@idle", "other", active=STOPS, tasks_processed_total=PROCESSED)},
        IDLE,
    ),
    Scenario(
        "it has left",
        45, {**BACKLOG, **BUSY, **FLOWS, **IDLER, 'celery_worker_up{worker="celery@idle"}': [at(0)]}, IDLE,
    ),
    Scenario("nobody works", 45, {**BACKLOG, **task("app.work", "fast", started=[at(5)]), **IDLER}, IDLE),
    Scenario(
        "a single task waits since minute 5",
        45, {**queue("fast", length=[at(0, 5), at(1)]), **BUSY, **FLOWS, **IDLER}, IDLE, IDLES,
    ),
    Scenario(
        "it has come at minute 5, and takes nothing",
        45,
        {**BACKLOG, **BUSY, **FLOWS, **consumer(
            "celery@idle", "fast", active=[absent(5), at(0)], tasks_processed_total=[absent(5), at(0)],
        )},
        IDLE, [firing(17, 45, "warning", worker="celery@idle")],
    ),
    Scenario(
        "it did a long task until 9 minutes ago",
        45, {**BACKLOG, **BUSY, **FLOWS, **consumer(
            "celery@idle", "fast", active=[at(1, 20), at(0, 9), at(1)], tasks_processed_total=[at(5)])}, IDLE,
    ),
    Scenario("it does one task at a time", 45, {**BACKLOG, **BUSY, **FLOWS, **consumer(
        "celery@idle", "fast", active=[at(1)], tasks_processed_total=[at(5)])}, IDLE),
    Scenario("it does short tasks, between two heartbeats", 45, {**BACKLOG, **BUSY, **FLOWS, **consumer(
        "celery@idle", "fast", tasks_processed_total=[rises(20)])}, IDLE),
    Scenario("it does a short task every 8 minutes", 60, {**BACKLOG, **BUSY, **FLOWS, **consumer(
        "celery@idle", "fast", tasks_processed_total=[at(number, 8) for number in range(9)])}, IDLE),
    Scenario(
        "it has come 11 minutes ago",
        45,
        {**BACKLOG, **BUSY, **FLOWS, **consumer(
            "celery@idle", "fast", active=[absent(10), at(0, 11), at(4)], tasks_processed_total=[absent(10), at(0)],
        )},
        IDLE,
    ),
    Scenario("a solo worker does tasks of 30 minutes", 90, {**BACKLOG, **BUSY, **FLOWS, **mute_solo(30)}, IDLE),
    Scenario("a solo worker does tasks of 2 minutes", 60, {**BACKLOG, **BUSY, **FLOWS, **mute_solo(2)}, IDLE),
)  # fmt: skip

KILLED = "CeleryWorkerProcessKilled"


def lost(line: Line, queue_name: str = "fast", exception: str = "WorkerLostError") -> SeriesOf:
    labels = f'task="app.work", queue="{queue_name}", exception="{exception}", outcome="failed"'
    return {f"celery_task_exceptions_total{{{labels}}}": line}


RESTARTED: dict[str, Line] = {
    "up": [at(1, 10), at(0, 0.5), at(1)],
    "celery_exporter_build_info": [at(1, 10), absent(0.5), at(1)],
    "process_start_time_seconds": [at(-1e6, 10), absent(0.5), at(615)],
}
OUT_OF_SIGHT: dict[str, Line] = {
    "up": [at(1, 10), at(0, 10), at(1)],
    "celery_exporter_build_info": [at(1, 10), absent(10), at(1)],
    "process_start_time_seconds": [at(-1e6, 10), absent(10), at(-1e6)],
}


def births(
    alert: str, moving: SeriesOf, labels: dict[str, str], window: int = 5, severity: str = "warning"
) -> tuple[Scenario, ...]:
    """What the first sample of a series means, for an alert of increases over `window` minutes that fires at once."""
    at_once = Settings(holds={alert: "0s"})
    known = 2 * window  # minutes after which an exporter is no longer young

    def told(name: str, line: Line, exporter: Mapping[str, Line], first: int = 0, minutes: float = window) -> Scenario:
        fires = [firing(first, first + round(minutes) - 1, severity, **labels)] if first else []
        return Scenario(name, 45, dict.fromkeys(moving, line), alert, fires, exporter=exporter, settings=at_once)

    def found(age: float) -> dict[str, Line]:
        """An exporter that Prometheus finds in minute 10, so many minutes after its start."""
        start = at((10 - age) * 60)
        return {
            "up": [absent(10), at(1)],
            "celery_exporter_build_info": [absent(10), at(1)],
            "process_start_time_seconds": [absent(10), start],
        }

    return (
        told("the first one ever", [absent(30), at(1)], {}, 30),
        told("the first one after a restart", [at(7, 10), absent(20), at(1)], RESTARTED, 30),
        told("the first one, soon after a restart", [at(7, 10), absent(window + 1), at(1)], RESTARTED, 11 + window),
        told("a new exporter comes with one", [absent(10), at(1)], found(0.5), 10),
        told("a young exporter comes with one", [absent(10), at(1)], found(0.9 * known), 10, 0.1 * known),
        told("an exporter that is no longer young comes with many", [absent(10), at(40)], found(known), 0),
        told("an old exporter comes with many", [absent(10), at(40)], found(1000), 0),
        told(
            "an old exporter that was out of sight comes back with many",
            [absent(20), at(40)],
            OUT_OF_SIGHT,
        ),
        told(
            "the first one of an exporter that was found a window ago",
            [absent(11 + window), at(1)],
            found(1000),
            11 + window,
        ),
        told(
            "the first one of an old exporter that was only just found",
            [absent(10 + 0.8 * window), at(1)],
            found(1000),
            10 + window,
            0.8 * window,
        ),
    )


KILLING = (
    Scenario(
        "one more", 40, lost([at(7, 10), at(8)]), KILLED, [firing(10, 14, "warning", task="app.work")],
    ),
    Scenario(
        "one in each of two queues is one alert",
        40, {**lost([absent(10), at(1)]), **lost([absent(12), at(1)], "slow")}, KILLED,
        [firing(10, 16, "warning", task="app.work")],
    ),
    Scenario("another exception", 40, lost([absent(10), at(1, 1), rises(4)], exception="ValueError"), KILLED),
    Scenario("an exporter was restarted", 40, lost([at(7, 10), absent()]), KILLED, exporter=RESTARTED),
    *births(KILLED, lost([]), {"task": "app.work"}),
)  # fmt: skip

SILENT = "CeleryTaskEventsDisabled"


def tells(name: str, line: Line, **more: Line) -> SeriesOf:
    return consumer(name, "fast", task_events_enabled=line, **more)


UNTOLD = (
    Scenario(
        "a worker sends none for a while, another one sends them",
        60, {**tells("celery@one", [absent(5), at(0, 25), at(1)]), **tells("celery@two", [at(1)])}, SILENT,
        [firing(20, 29, "warning", worker="celery@one")],
    ),
    Scenario("a worker sends none for 14 minutes", 60, tells("celery@one", [absent(5), at(0, 14), at(1)]), SILENT),
    Scenario("it is not known", 60, tells("celery@one", [absent()]), SILENT),
    Scenario("a worker that sends none has left", 60, tells("celery@one", [at(0)], up=[at(1, 10), at(0)]), SILENT),
    Scenario(
        "one of two exporters hears them", 60, tells("celery@one", [at(1)]), SILENT,
        other=tells("celery@one", [at(0)]),
    ),
)  # fmt: skip

LOST = "CeleryEventsLost"


def missing(line: Line) -> SeriesOf:
    return {'celery_worker_events_lost_total{worker="celery@one"}': line}


LOSING = (
    Scenario(
        "again and again", 60, missing([at(0, 10), *[rises(4, 0.25), rises(0, 7.75)] * 3, rises(0)]), LOST,
        [firing(20, 35, "warning", worker="celery@one")],
    ),
    Scenario("once many", 60, missing([at(0, 10), at(500)]), LOST),
    Scenario("never", 60, missing([at(500)]), LOST),
    Scenario("the worker was forgotten and comes back", 60, missing([at(500, 10), absent(5), at(0)]), LOST),
    *births(LOST, missing([]), {"worker": "celery@one"}, window=10),
    Scenario("an exporter was restarted", 60, missing([at(500, 10), absent(0.5), at(0)]), LOST, exporter=RESTARTED),
    Scenario(
        "an exporter was out of sight", 60, missing([at(500, 10), absent(10), at(900)]), LOST, exporter=OUT_OF_SIGHT,
    ),
    Scenario(
        "an exporter that was out of sight comes back with a worker more",
        60, missing([absent(20), *[at(900 + number, 5) for number in range(2)], at(901)]), LOST, exporter=OUT_OF_SIGHT,
    ),
)  # fmt: skip

SCENARIOS = (*IDLING, *KILLING, *UNTOLD, *LOSING)
