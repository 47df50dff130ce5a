"""Scenarios of tasks, with task-sent events and without."""

from celeryscope.rules.settings import Settings
from rules.promtool import Scenario, firing
from rules.series import Line, Part, SeriesOf, absent, at, rises, task

WORK = {"task": "app.work"}
DAY = 1440  # minutes
REGRESSED = "CeleryTaskRuntimeRegressed"
EDGES = ("0.1", "0.5", "1", "2.5", "5", "10", "+Inf")


def runtimes(yesterday: str, today: str, pace: float = 2, before: float = 2) -> SeriesOf:
    """Runs a minute, as long as an edge of the buckets says: for a day, for 10 hours of the next, and after."""
    labels = 'task="app.work", queue="fast", outcome="succeeded"'

    def line(place: int) -> Line:
        first, second = (place >= EDGES.index(edge) for edge in (yesterday, today))
        return [rises(before * first, DAY), rises(pace * second, 600), rises(pace * first)]

    series = {
        f'celery_task_runtime_seconds_bucket{{{labels}, le="{edge}"}}': line(place) for place, edge in enumerate(EDGES)
    }
    return {**series, f"celery_task_runtime_seconds_count{{{labels}}}": line(len(EDGES))}


REGRESSIONS = (
    Scenario(
        "a task takes four times as long as yesterday, for 10 hours",
        2 * DAY, runtimes("1", "5"), REGRESSED, [firing(1490, 2060, "warning", **WORK)], step=60, every=10,
    ),
    Scenario("it takes twice as long", 2 * DAY, runtimes("5", "10"), REGRESSED, step=60, every=10),
    Scenario("it is still short", 2 * DAY, runtimes("0.1", "1"), REGRESSED, step=60, every=10),
    Scenario("few ran today", 2 * DAY, runtimes("1", "5", pace=0.9), REGRESSED, step=60, every=10),
    Scenario("few ran yesterday", 2 * DAY, runtimes("1", "5", before=0.9), REGRESSED, step=60, every=10),
    Scenario(
        "it may take what it takes",
        2 * DAY, runtimes("1", "5"), REGRESSED, settings=Settings(excluded={REGRESSED: r"app\.w.*"}), step=60, every=10,
    ),
)  # fmt: skip

RUNNING, RESERVED = "CeleryTaskRunningTooLong", "CeleryTaskReservedTooLong"


def oldest(state: str, line: Line, queue: str = "fast") -> SeriesOf:
    return {f'celery_task_oldest_{state}_timestamp_seconds{{task="app.work", queue="{queue}"}}': line}


LONG: Line = [absent(10), at(600, 90), absent()]
WHILE_HELD: Line = [at(0, 5), at(20)]
OLDEST = (
    Scenario("a task runs for 90 minutes", 120, oldest("started", LONG), RUNNING, [firing(76, 99, "warning", **WORK)]),
    Scenario(
        "the same without task-sent events",
        120, oldest("started", LONG, "unknown"), RUNNING, [firing(76, 99, "warning", **WORK)],
    ),
    Scenario("a task runs for 64 minutes", 120, oldest("started", [absent(10), at(600, 64), absent()]), RUNNING),
    Scenario(
        "one after the other runs for 40 minutes",
        180, oldest("started", [part for begun in range(4) for part in (at(begun * 2400, 40),)]), RUNNING,
    ),
    Scenario(
        "it is long on purpose",
        120, oldest("started", LONG), RUNNING, settings=Settings(excluded={RUNNING: r"app\.work"}),
    ),
    Scenario(
        "a worker holds a due task for an hour",
        120, oldest("received", [absent(10), at(600, 60), absent()]), RESERVED, [firing(31, 69, "warning", **WORK)],
    ),
    Scenario(
        "a worker holds it for 19 minutes",
        120, oldest("received", [absent(10), at(600, 19), absent()]), RESERVED,
    ),
    Scenario(
        "it is held by its rate limit",
        120, {**oldest("received", LONG), 'celery_tasks_rate_limit_held{task="app.work"}': WHILE_HELD}, RESERVED,
    ),
    Scenario(
        "another one is held by its rate limit",
        120, {**oldest("received", LONG), 'celery_tasks_rate_limit_held{task="app.call"}': WHILE_HELD}, RESERVED,
        [firing(31, 99, "warning", **WORK)],
    ),
    Scenario(
        "it may lie there",
        120, oldest("received", LONG), RESERVED, settings=Settings(excluded={RESERVED: r"app\.work"}),
    ),
)  # fmt: skip

UNKNOWN, NEW = "CeleryTaskNotRegistered", "CeleryNewException"


def exceptions(line: Line, name: str = "ValueError", queue: str = "fast", outcome: str = "failed") -> SeriesOf:
    labels = f'task="app.work", queue="{queue}", exception="{name}", outcome="{outcome}"'
    return {f"celery_task_exceptions_total{{{labels}}}": line}


FIRST: Line = [absent(1500), at(1, 30), at(2)]
NEWLY = [firing(1500, 1504, "info", exception="ValueError", **WORK)]
NEW_PROCESS: dict[str, Line] = {
    "up": [at(1, 1500), at(0, 1), at(1)],
    "celery_exporter_build_info": [at(1, 1500), absent(1), at(1)],
    "process_start_time_seconds": [at(-1e6, 1500), absent(1), at(1501 * 60)],
}
CLASSES = (
    Scenario(
        "a worker is sent a task that it does not know, and then another one",
        60, exceptions([absent(10), at(1, 20), at(2)], "NotRegistered"), UNKNOWN,
        [firing(10, 14, "warning", **WORK), firing(30, 34, "warning", **WORK)],
    ),
    Scenario("a task fails otherwise", 60, exceptions([absent(10), at(1, 20), at(2)]), UNKNOWN),
    Scenario(
        "the task is gone for good, as all know",
        60, exceptions([absent(10), at(1)], "NotRegistered"), UNKNOWN,
        settings=Settings(excluded={UNKNOWN: "app.work"}),
    ),
    Scenario("a task fails in a new way", 1560, exceptions(FIRST), NEW, NEWLY, step=60),
    Scenario("the same without task-sent events", 1560, exceptions(FIRST, queue="unknown"), NEW, NEWLY, step=60),
    Scenario(
        "it fails in a new way, and is retried",
        1560, {**exceptions([at(1)], "KeyError"), **exceptions(FIRST, outcome="retried")}, NEW, NEWLY, step=60,
    ),
    Scenario(
        "it fails again as it did 20 hours ago",
        1560, exceptions([absent(200), at(1, 1300), at(2)]), NEW, step=60,
    ),
    Scenario(
        "it failed so before, and was retried then",
        1560, {**exceptions([at(5)], outcome="retried"), **exceptions(FIRST)}, NEW, step=60,
    ),
    Scenario(
        "the exporter is restarted, and hears again what is usual",
        1560, exceptions([rises(1, 1500), absent(10), at(1, 1), rises(1)]), NEW, exporter=NEW_PROCESS, step=60,
    ),
    Scenario(
        "the exporter has been there for an hour",
        1560, exceptions(FIRST), NEW, step=60,
        exporter={name: [absent(1440), at(value)] for name, value in (
            ("up", 1), ("celery_exporter_build_info", 1), ("process_start_time_seconds", DAY * 60))},
    ),
    Scenario(
        "whatever it does is known",
        1560, exceptions(FIRST), NEW, settings=Settings(excluded={NEW: "app.*"}), step=60,
    ),
)  # fmt: skip

STOPPED = "CeleryTaskStopped"
HOURS = 60
WEEK = 7 * DAY
UNTIL_STOP = WEEK + 12 * HOURS
STOPS: Line = [rises(4, UNTIL_STOP), rises(0, 4 * HOURS), rises(4)]
LENGTH = WEEK + 20 * HOURS


def working_hours(*days: bool) -> Line:
    """Starts from 8 to 18 h on some days."""
    parts: list[Part] = []
    for works in days:
        parts += [rises(0, 8 * HOURS), rises(4 * works, 10 * HOURS), rises(0, 6 * HOURS)]
    return parts


def once_a_day(days: int, moment: float = 10 * HOURS) -> list[Part]:
    """A counter that appears with the first start."""
    return [absent(moment), *(at(number, DAY) for number in range(1, days)), at(days)]


def starts(line: Line, name: str = "app.work", queue: str = "fast") -> SeriesOf:
    return task(name, queue, started=line)


WORKDAYS = (True, True, True, True, True, False, False)
NEW_WEEK = (*WORKDAYS, *WORKDAYS[:2])
DEAF = "celery_exporter_deaf_seconds_total"
OTHERS = starts([rises(1)], "app.other")
AWAY: dict[str, Line] = {
    "up": [at(1, UNTIL_STOP), at(0, 4 * HOURS), at(1)],
    "celery_exporter_build_info": [at(1, UNTIL_STOP), absent(4 * HOURS), at(1)],
    "process_start_time_seconds": [at(-1e6, UNTIL_STOP), absent(4 * HOURS), at((UNTIL_STOP + 4 * HOURS) * 60)],
}
RESTARTED: dict[str, Line] = {
    "up": [at(1, WEEK), at(0, 4), at(1)],
    "celery_exporter_build_info": [at(1, WEEK), absent(4), at(1)],
    "process_start_time_seconds": [at(-1e6, WEEK), absent(4), at((WEEK + 4) * 60)],
}
STOPPING = (
    Scenario(
        "a task stops for four hours",
        LENGTH, {**starts(STOPS), **OTHERS}, STOPPED, [firing(UNTIL_STOP + 60, UNTIL_STOP + 230, "warning", **WORK)],
        step=120, every=10,
    ),
    Scenario(
        "the same without task-sent events",
        LENGTH, {**starts(STOPS, queue="unknown"), **OTHERS}, STOPPED,
        [firing(UNTIL_STOP + 60, UNTIL_STOP + 230, "warning", **WORK)], step=120, every=10,
    ),
    Scenario(
        "a task stops for half an hour",
        LENGTH, starts([rises(4, UNTIL_STOP), rises(0, 30), rises(4)]), STOPPED, step=120, every=10,
    ),
    Scenario(
        "it works in the daytime, on workdays",
        9 * DAY, starts(working_hours(*NEW_WEEK)), STOPPED, step=120, every=10,
    ),
    Scenario(
        "it works once a day, and the exporter is restarted: its counter appears anew",
        8 * DAY, starts([*once_a_day(7)[:-1], at(7, 14 * HOURS), absent(10 * HOURS), at(1)]), STOPPED,
        exporter=RESTARTED,
        step=120, every=10,
    ),
    Scenario(
        "it works once a day, and does not today",
        8 * DAY, {**OTHERS, **starts(once_a_day(7))}, STOPPED,
        [firing(WEEK + 10 * HOURS + 20, WEEK + 10 * HOURS + 30, "warning", **WORK)], step=120, every=10,
    ),
    Scenario(
        "the exporter is away for four hours, and back",
        LENGTH, starts([rises(4, UNTIL_STOP), absent(4 * HOURS + 40), rises(4)]), STOPPED, exporter=AWAY,
        step=120, every=10,
    ),
    Scenario(
        "the exporter is deaf for four hours",
        LENGTH, {**starts(STOPS), DEAF: [at(0, UNTIL_STOP), rises(60, 4 * HOURS), at(4 * 3600)]}, STOPPED,
        step=120, every=10,
    ),
    Scenario(
        "one of two exporters is deaf, and the task has stopped",
        LENGTH, {**starts(STOPS), DEAF: [at(0)]}, STOPPED,
        [firing(UNTIL_STOP + 60, UNTIL_STOP + 230, "warning", **WORK)],
        other={**starts(STOPS), DEAF: [at(0, UNTIL_STOP), rises(60, 4 * HOURS), at(4 * 3600)]}, step=120, every=10,
    ),
    Scenario(
        "it was taken out of service",
        LENGTH, starts(STOPS), STOPPED, settings=Settings(excluded={STOPPED: r"app\.work"}), step=120, every=10,
    ),
)  # fmt: skip

REDELIVERED = "CeleryTaskRedelivered"


def redelivered(line: Line, queue: str = "fast") -> SeriesOf:
    return {f'celery_task_redelivered_total{{task="app.work", queue="{queue}"}}': line}


AGAIN: Line = [absent(10), *(at(number, 1) for number in range(1, 16)), at(16)]
REDELIVERIES = (
    Scenario(
        "tasks are delivered again for 15 minutes",
        60, redelivered(AGAIN), REDELIVERED, [firing(15, 29, "warning", **WORK)],
    ),
    Scenario(
        "the same without task-sent events",
        60, redelivered(AGAIN, "unknown"), REDELIVERED, [firing(15, 29, "warning", **WORK)],
    ),
    Scenario(
        "a worker was lost, and 12 tasks are delivered again at once",
        60, redelivered([absent(10), at(12)]), REDELIVERED,
    ),
    Scenario(
        "the task is rejected on purpose",
        60, redelivered(AGAIN), REDELIVERED, settings=Settings(excluded={REDELIVERED: r"app\.work"}),
    ),
)  # fmt: skip

SCENARIOS = (*REGRESSIONS, *OLDEST, *CLASSES, *STOPPING, *REDELIVERIES)
