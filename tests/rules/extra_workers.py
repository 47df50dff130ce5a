"""Scenarios of workers."""

from itertools import pairwise

from rules.promtool import Scenario, firing
from rules.series import Line, SeriesOf, absent, at, consumer, queue, rises, task

TOLD = task("app.work", "fast", sent=[rises(60)], started=[rises(60)], succeeded=[rises(60)])
LATE = {**TOLD, **queue("fast", length=[at(2000)])}
NOT_LATE = {**TOLD, **queue("fast", length=[at(800)])}


def workers(names: str, up: Line) -> SeriesOf:
    """Workers that are told of for an hour after they left."""
    return {f'celery_worker_up{{worker="celery@{name}"}}': up for name in names}


SHRUNK = "CeleryWorkerPoolShrunk"
LEAVES: Line = [at(1, 70), at(0, 60), absent()]
STAY = workers("abcd", [at(1)])
SHRINKS = (
    Scenario(
        "half of the workers go for good, and work piles up",
        180, {**LATE, **workers("ab", [at(1)]), **workers("cd", LEAVES)}, SHRUNK, [firing(85, 117, "warning")],
    ),
    Scenario(
        "half of the workers go for 20 minutes",
        150, {**LATE, **workers("ab", [at(1)]), **workers("cd", [at(1, 70), at(0, 20), at(1)])}, SHRUNK,
        [firing(85, 89, "warning")],
    ),
    Scenario(
        "the same, and nothing piles up",
        180, {**NOT_LATE, **workers("ab", [at(1)]), **workers("cd", LEAVES)}, SHRUNK,
    ),
    Scenario("a quarter of them goes", 180, {**LATE, **workers("abc", [at(1)]), **workers("d", LEAVES)}, SHRUNK),
    Scenario(
        "a deployment brings new ones first, and they are twice as many for 10 minutes",
        180, {**LATE, **workers("abcd", LEAVES), **workers("efgh", [absent(60), at(1)])}, SHRUNK,
    ),
    Scenario(
        "a deployment replaces one after the other",
        180,
        {
            **LATE,
            **workers("a", [at(1, 60), at(0, 60), absent()]), **workers("e", [absent(62), at(1)]),
            **workers("b", [at(1, 62), at(0, 60), absent()]), **workers("f", [absent(64), at(1)]),
        },
        SHRUNK,
    ),
    Scenario(
        "a deployment stops all for 10 minutes",
        180, {**LATE, **workers("abcd", [at(1, 70), at(0, 10), at(1)])}, SHRUNK,
    ),
    Scenario(
        "one of two exporters knows half of them",
        90, {**LATE, **STAY}, SHRUNK, other={**LATE, **workers("ab", [at(1)])},
    ),
)  # fmt: skip

LOST, FLAPPING = "CeleryWorkerLost", "CeleryWorkerFlapping"
BACK = "celery@one"
LEFT: Line = [at(1, 10), at(0, 60), absent()]


def one(**more: Line) -> SeriesOf:
    return consumer(BACK, "fast", **more)


def counted(*minutes: float) -> Line:
    """A counter that is there with its worker, and moves in these minutes."""
    moments = (0.0, *minutes)
    steps = [at(number, after - before) for number, (before, after) in enumerate(pairwise(moments))]
    return [*steps, at(len(minutes))]


GOES = (
    Scenario(
        "a worker is lost, and forgotten after an hour",
        90, one(up=LEFT, active=[at(4, 10), absent()], lost_total=[*counted(10)[:1], at(1, 60), absent()]), LOST,
        [firing(13, 19, "info", worker=BACK)],
    ),
    Scenario(
        "a worker is lost soon after it came",
        60, one(up=[absent(10), at(1, 5), at(0)], lost_total=[absent(10), at(0, 5), at(1)]), LOST,
        [firing(18, 24, "info", worker=BACK)],
    ),
    Scenario(
        "a worker that was lost comes back, and is lost again",
        90, one(up=[at(1, 10), at(0, 5), at(1, 25), at(0)], lost_total=counted(10, 40)), LOST,
        [firing(13, 19, "info", worker=BACK), firing(43, 49, "info", worker=BACK)],
    ),
    Scenario("a worker leaves in order", 90, one(up=LEFT, lost_total=[at(0, 70), absent()]), LOST),
    Scenario("a solo worker is mute while it works", 90, one(active=[at(0, 5), absent()], lost_total=[at(0)]), LOST),
    Scenario(
        "Prometheus was away, and sees again what was lost long ago",
        60, one(up=[at(0)], lost_total=[at(1, 20), absent(12), at(1)]), LOST,
        exporter={
            "up": [at(1, 20), absent(12), at(1)],
            "celery_exporter_build_info": [at(1, 20), absent(12), at(1)],
        },
    ),
    Scenario(
        "a worker is restarted three times in half an hour",
        150, one(restarts_total=counted(10, 20, 30)), FLAPPING, [firing(30, 69, "warning", worker=BACK)],
    ),
    Scenario(
        "the same, and its counter appears with the first of them",
        150, one(restarts_total=[absent(10), at(1, 10), at(2, 10), at(3)]), FLAPPING,
        [firing(30, 69, "warning", worker=BACK)],
        exporter={"process_start_time_seconds": [at(-60)]},
    ),
    Scenario("three times in 80 minutes", 150, one(restarts_total=counted(10, 50, 90)), FLAPPING),
    # Scrapes that do not meet both ends of the hour: what is counted between them is extrapolated.
    Scenario("two deployments in an hour", 240, one(restarts_total=counted(70, 98)), FLAPPING, step=56),
    Scenario(
        "one deployment restarts every worker once",
        150,
        {f'celery_worker_restarts_total{{worker="celery@{number}"}}': counted(60) for number in range(6)},
        FLAPPING,
    ),
)  # fmt: skip

STUCK = "CeleryWorkerStuck"
SLOTS: dict[str, Line] = {"concurrency": [at(2)]}
# The slots are taken from minute 30 to minute 90.
TAKEN: Line = [at(1, 30), at(2, 60), at(1)]
NOTHING_NEW: Line = [rises(10, 30), rises(0, 60), rises(10)]
HANGS = one(active=TAKEN, tasks_processed_total=NOTHING_NEW, **SLOTS)


def usually(name: str, edge: str, count_per_minute: float = 4) -> SeriesOf:
    """How long a task runs as a rule: between this edge of its buckets and the one before."""
    edges = ("300", "900", "3600", "+Inf")
    labels = f'task="{name}", queue="fast", outcome="succeeded"'
    line: Line = [rises(count_per_minute, 30), rises(0)]
    return {
        f'celery_task_runtime_seconds_bucket{{{labels}, le="{other}"}}': line if place >= edges.index(edge) else [at(0)]
        for place, other in enumerate(edges)
    }


def runs(name: str, queue_name: str) -> SeriesOf:
    return {
        f'celery_task_oldest_started_timestamp_seconds{{task="{name}", queue="{queue_name}"}}': [
            absent(30),
            at(1800, 60),
            absent(),
        ]
    }


STICKS = (
    Scenario(
        "all slots are taken for an hour, and nothing is begun",
        130, {**HANGS, **runs("app.work", "fast")}, STUCK, [firing(55, 89, "warning", worker=BACK)],
    ),
    Scenario(
        "the same, where tasks of up to 15 minutes are usual",
        130, {**HANGS, **runs("app.work", "fast"), **usually("app.work", "900")}, STUCK,
        [firing(55, 89, "warning", worker=BACK)],
    ),
    Scenario("long tasks are usual", 130, {**HANGS, **runs("app.work", "fast"), **usually("app.work", "3600")}, STUCK),
    Scenario(
        "long tasks are usual, without task-sent events",
        130, {**HANGS, **runs("app.work", "unknown"), **usually("app.work", "3600")}, STUCK,
    ),
    Scenario(
        "long tasks run in the queue of another worker",
        130, {**HANGS, **runs("app.long", "slow"), **usually("app.long", "3600")}, STUCK,
        [firing(55, 89, "warning", worker=BACK)],
        other={**HANGS, **runs("app.long", "slow"), **usually("app.long", "3600")},
    ),
    Scenario(
        "long tasks are usual, and none of them runs",
        130, {**HANGS, **runs("app.work", "fast"), **usually("app.long", "3600")}, STUCK,
        [firing(55, 89, "warning", worker=BACK)],
    ),
    Scenario("a slot is free", 130, one(active=[at(1)], tasks_processed_total=NOTHING_NEW, **SLOTS), STUCK),
    Scenario(
        "all slots are taken, and a task is begun every 8 minutes",
        130, one(active=[at(2)], tasks_processed_total=[at(number, 8) for number in range(20)], **SLOTS), STUCK,
    ),
    Scenario(
        "it hangs for 24 minutes",
        130,
        one(
            active=[at(1, 30), at(2, 24), at(1)],
            tasks_processed_total=[rises(10, 30), rises(0, 24), rises(10)],
            **SLOTS,
        ),
        STUCK,
    ),
    Scenario("it is lost", 130, one(
        up=[at(1, 30), at(0)], active=[at(2, 30), absent()], tasks_processed_total=[rises(10, 30), absent()],
        concurrency=[at(2, 30), absent()],
    ), STUCK),
)  # fmt: skip

CHURN, HOARD, SKEW = "CeleryWorkerChildChurn", "CeleryWorkerEtaHoard", "CeleryWorkerClockSkew"


def churning(replaced: Line, processed: Line) -> SeriesOf:
    return one(child_replacements_total=replaced, tasks_processed_total=processed)


# The worker had done much when the story began.
GOES_ON: Line = [at(900_000, 0.25), rises(60, 59.75), absent(1), at(903_660, 0.25), rises(60)]

HABITS = (
    Scenario(
        "every 22nd task takes its process with it, for an hour",
        150, churning([rises(2.72, 60), rises(0)], [rises(60)]), CHURN, [firing(32, 63, "warning", worker=BACK)],
    ),
    Scenario("every 27th does", 150, churning([rises(2.2)], [rises(60)]), CHURN),
    Scenario("max_tasks_per_child is 100", 150, churning([rises(0.6)], [rises(60)]), CHURN),
    Scenario(
        "a quiet worker replaces four processes in 30 minutes",
        150, churning([rises(4 / 30)], [rises(0.2)]), CHURN,
    ),
    Scenario(
        "a quiet worker replaces six processes in 30 minutes",
        90, churning([rises(0.2, 60), rises(0)], [rises(0.2)]), CHURN, [firing(55, 64, "warning", worker=BACK)],
    ),
    Scenario(
        "the exporter is restarted meanwhile: the worker goes on counting",
        150, churning([rises(2.72, 60), absent(1), rises(2.72)], GOES_ON),
        CHURN, [firing(32, 150, "warning", worker=BACK)],
        exporter={
            "up": [at(1, 60), at(0, 1), at(1)],
            "celery_exporter_build_info": [at(1, 60), absent(1), at(1)],
            "process_start_time_seconds": [at(-1e6, 60), absent(1), at(3660)],
        },
    ),
    Scenario(
        "a worker holds 50 tasks with an ETA, for half an hour",
        90, one(tasks_scheduled=[at(0, 10), at(50, 30), at(3)], **SLOTS), HOARD, [firing(25, 39, "info", worker=BACK)],
    ),
    Scenario("it holds 40: twenty for each slot", 90, one(tasks_scheduled=[at(40)], **SLOTS), HOARD),
    Scenario("it holds many for 10 minutes", 90, one(tasks_scheduled=[at(0, 10), at(500, 10), at(0)], **SLOTS), HOARD),
    Scenario(
        "a worker's clock is ahead, and is set after half an hour",
        90, one(clock_skew_seconds=[at(0.1, 10), at(-6, 30), at(0.1)]), SKEW, [firing(25, 39, "warning", worker=BACK)],
    ),
    Scenario(
        "a worker's clock is behind",
        60, one(clock_skew_seconds=[at(5.5)]), SKEW, [firing(15, 60, "warning", worker=BACK)],
    ),
    Scenario("clocks differ by 5 s", 60, one(clock_skew_seconds=[at(-5)]), SKEW),
    Scenario("a worker was slow for 10 minutes", 60, one(clock_skew_seconds=[at(0, 10), at(30, 10), at(0)]), SKEW),
)  # fmt: skip

SCENARIOS = (*SHRINKS, *GOES, *STICKS, *HABITS)
