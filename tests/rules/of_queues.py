"""Scenarios of queues, with task-sent events and without."""

from celeryscope.rules.settings import Settings
from rules.of_workers import mute_solo
from rules.promtool import Scenario, firing
from rules.series import Line, SeriesOf, absent, at, consumer, now, queue, rises, task

# Without task-sent events, workers of several queues do not tell which queue a task came from: starts are in "unknown".
UNTOLD = task("app.work", "unknown", received=[rises(60)], started=[rises(60)], succeeded=[rises(60)])
TOLD = task("app.other", "other", sent=[rises(60)], received=[rises(60)], started=[rises(60)], succeeded=[rises(60)])

LOST_ITS_WORKERS: Line = [at(2, 10), at(0, 15), at(2)]
WITHOUT = "CeleryQueueWithoutWorkers"
WITHOUT_WORKERS = (
    Scenario(
        "the workers of a queue go, and come back",
        40, queue("fast", length=[at(3)], workers=LOST_ITS_WORKERS), WITHOUT,
        [firing(15, 24, "critical", queue="fast")],
    ),
    Scenario(
        "the same without task-sent events",
        40, {**UNTOLD, **queue("fast", length=[at(3)], workers=LOST_ITS_WORKERS)}, WITHOUT,
        [firing(15, 24, "critical", queue="fast")],
    ),
    Scenario(
        "the queue is emptied",
        40, queue("fast", length=[at(1, 20), at(0)], workers=[at(2, 10), at(0)]), WITHOUT,
        [firing(15, 19, "critical", queue="fast")],
    ),
    Scenario("the queue is empty", 40, queue("fast", length=[at(0)], workers=LOST_ITS_WORKERS), WITHOUT),
    Scenario(
        "its workers are away for 4 minutes",
        40, queue("fast", length=[at(3)], workers=[at(2, 10), at(0, 4), at(2)]), WITHOUT,
    ),
    Scenario(
        "polls of the workers fail: that is no 0",
        40, queue("fast", length=[at(3)], workers=[at(2, 10), absent()]), WITHOUT,
    ),
    Scenario(
        "one of two exporters does not see the workers",
        40, queue("fast", length=[at(3)], workers=[at(2)]), WITHOUT,
        other=queue("fast", length=[at(3)], workers=[at(0)]),
    ),
    Scenario(
        "its only worker is a busy solo worker, which still counts",
        40, queue("fast", length=[at(3)], workers=[at(1)], concurrency=[at(1)]), WITHOUT,
    ),
    Scenario(
        "a dead-letter queue never had workers",
        40, queue("dead", length=[at(0, 10), rises(1, 20), at(0)], workers=[at(0)]), WITHOUT,
        [firing(15, 29, "info", queue="dead")],
    ),
    Scenario(
        "a queue never had workers, and must have some",
        40, queue("fast.eu", length=[at(0, 10), at(1, 20), at(0)], workers=[at(0)]), WITHOUT,
        [firing(15, 29, "critical", queue="fast.eu")], settings=Settings(required_queues="fast[.].*"),
    ),
    Scenario(
        "its workers were gone for 7 days",
        9 * 1440, queue("fast", length=[at(1)], workers=[at(1, 1440), at(0)]), WITHOUT,
        [firing(1500, 8 * 1440 - 60, "critical", queue="fast"), firing(8 * 1440 + 60, 9 * 1440, "info", queue="fast")],
        step=240, every=60,
    ),
)  # fmt: skip

STUCK = "CeleryQueueStuck"
SOME: Line = [at(2)]  # tasks on the workers
SERVED = {"workers": [at(1)], "concurrency": [at(8)]}


def served(name: str, length: Line, active: Line = SOME, **more: Line) -> SeriesOf:
    """A queue and a worker of it with eight slots."""
    lines: dict[str, Line] = {**SERVED, "length": length, **more}
    return {**queue(name, **lines), **consumer("celery@one", name, active=active)}


def stopping(name: str, at_minute: float = 10) -> SeriesOf:
    """A task of which nothing is started any more until minute 40."""
    flows: Line = [rises(60, at_minute), rises(0, 40 - at_minute), rises(60)]
    return task("app.work", name, sent=[rises(60)], received=flows, started=flows, succeeded=flows)


# It becomes shorter until minute 10, and again from minute 40.
GROWING: Line = [at(100, 5), rises(-10, 5), rises(60, 30), rises(-600, 3), at(0)]
# Its head is the same from minute 10 to minute 40.
HEAD: Line = [now(10, behind=5), at(600, 30), absent()]
# Each that is next has only just become so.
MOVING_HEAD: Line = [absent(10), now(behind=5)]

STANDING = (
    Scenario(
        "workers take nothing more, and the head of the queue is not known",
        50, {**stopping("fast"), **served("fast", GROWING)}, STUCK, [firing(27, 39, "critical", queue="fast")],
    ),
    Scenario(
        "the same while another queue is worked off",
        50, {**stopping("fast"), **TOLD, **served("fast", GROWING)}, STUCK,
        [firing(27, 39, "critical", queue="fast")],
    ),
    Scenario(
        "the same while 4 % of the starts are in no known queue",
        50,
        {**stopping("fast"), **TOLD, **task("app.odd", "unknown", started=[rises(2.5)]), **served("fast", GROWING)},
        STUCK, [firing(27, 39, "critical", queue="fast")],
    ),
    Scenario(
        "the head of the queue stays, without task-sent events",
        50, {**UNTOLD, **served("fast", GROWING, oldest_task_timestamp_seconds=HEAD)}, STUCK,
        [firing(22, 39, "critical", queue="fast")],
    ),
    Scenario(
        "the head of the queue stays, and nothing was ever heard of the task",
        50, served("fast", GROWING, oldest_task_timestamp_seconds=HEAD), STUCK,
        [firing(22, 39, "critical", queue="fast")],
    ),
    Scenario(
        "the head of the queue is not known for 10 minutes, and then stays",
        50,
        {**UNTOLD, **served("fast", GROWING, oldest_task_timestamp_seconds=[absent(10), at(600, 30), absent()])},
        STUCK, [firing(22, 39, "critical", queue="fast")],
    ),
    Scenario(
        "one task waits",
        50, {**TOLD, **task("app.work", "fast", sent=[at(1)]), **served("fast", [at(0, 10), at(1, 20), at(0)])}, STUCK,
        [firing(22, 29, "critical", queue="fast")],
    ),
    Scenario(
        "5 % of the starts are in no known queue",
        50,
        {
            **stopping("fast"), **task("app.other", "other", started=[rises(57)]),
            **task("app.odd", "unknown", started=[rises(3)]), **served("fast", GROWING),
        },
        STUCK,
    ),
    Scenario(
        "6 % of the starts are in no known queue",
        50,
        {
            **stopping("fast"), **task("app.other", "other", started=[rises(47)]),
            **task("app.odd", "unknown", started=[rises(3)]), **served("fast", GROWING),
        },
        STUCK,
    ),
    Scenario(
        "heads change every 8 minutes, without task-sent events",
        60,
        {
            **UNTOLD,
            **served(
                "fast", [at(5, 1), rises(1)],
                oldest_task_timestamp_seconds=[at(number, 8) for number in range(8)],
            ),
        },
        STUCK,
    ),
    Scenario(
        "tasks send no events, and some are taken every 8 minutes",
        60,
        {
            **task("app.mute", "fast", sent=[rises(60)]), **TOLD,
            **served("fast", [at(500, 1), *[rises(60, 7), rises(-300, 1)] * 8]),
        },
        STUCK,
    ),
    Scenario(
        "without task-sent events it is not known what is started in a queue whose head moves",
        50,
        {**UNTOLD, **stopping("fast"), **served("fast", GROWING, oldest_task_timestamp_seconds=MOVING_HEAD)}, STUCK,
    ),
    Scenario(
        "the same, and all starts end soon after",
        50,
        {
            **task("app.work", "unknown", started=[rises(60, 20), rises(0)]),
            **stopping("fast"),
            **served("fast", GROWING, oldest_task_timestamp_seconds=MOVING_HEAD),
        },
        STUCK, [firing(37, 39, "critical", queue="fast")],
    ),
    Scenario(
        "a worker of the queue sends no events, and its head moves",
        50,
        {
            **stopping("fast"),
            **queue("fast", length=GROWING, **SERVED, oldest_task_timestamp_seconds=MOVING_HEAD),
            **consumer("celery@one", "fast", active=[at(2)], task_events_enabled=[at(0)]),
        },
        STUCK,
    ),
    Scenario(
        "a worker of another queue sends no events",
        50,
        {
            **stopping("fast"),
            **served("fast", GROWING),
            **consumer("celery@two", "other", task_events_enabled=[at(0)]),
        },
        STUCK, [firing(27, 39, "critical", queue="fast")],
    ),
    Scenario(
        "workers send events",
        50,
        {
            **stopping("fast"),
            **queue("fast", length=GROWING, **SERVED),
            **consumer("celery@one", "fast", active=[at(2)], task_events_enabled=[at(1)]),
        },
        STUCK, [firing(27, 39, "critical", queue="fast")],
    ),
    Scenario(
        "all slots are taken",
        50, {**stopping("fast"), **served("fast", GROWING, active=[at(8)])}, STUCK,
    ),
    Scenario(
        "it is not known how much workers can run",
        50,
        {**stopping("fast"), **queue("fast", length=GROWING), **consumer("celery@one", "fast", active=[at(2)])}, STUCK,
    ),
    Scenario(
        "tasks are taken one after the other, all of them due at the same time",
        50,
        {
            **UNTOLD,
            **served("fast", [at(0, 10), at(5000, 1), rises(-60)], oldest_task_timestamp_seconds=[absent(10), at(600)]),
        },
        STUCK,
    ),
    Scenario(
        "tasks send no events, and are taken all the time",
        50,
        {
            **task("app.mute", "fast", sent=[rises(60)]), **TOLD,
            **served("fast", [at(5, 1), *[rises(60, 3), rises(-240, 0.5)] * 20]),
        },
        STUCK,
    ),
    Scenario(
        "a task is started every 9 minutes",
        60,
        {
            **task("app.work", "fast", sent=[rises(1)], started=[at(0, 1), *[rises(4, 0.25), rises(0, 8.75)] * 8]),
            **served("fast", [at(5, 1), rises(1)], active=[at(1)]),
        },
        STUCK,
    ),
    Scenario(
        "a queue is new, and its tasks wait for 9 minutes",
        40,
        {
            **task("app.new", "new", born=10, sent=[at(1)]), **TOLD,
            **served(
                "new", [absent(10), at(1, 9), at(0)], oldest_task_timestamp_seconds=[absent(10), at(600, 9), absent()]
            ),
        },
        STUCK,
    ),
    Scenario(
        "a queue is empty now and then",
        50,
        {**stopping("fast"), **served("fast", [at(0, 1), *[at(5, 8), at(0, 1)] * 6])}, STUCK,
    ),
    Scenario(
        "its only worker is a solo worker, busy with a long task and mute",
        50,
        {
            **task("app.long", "fast", sent=[rises(1)]), **TOLD,
            **queue(
                "fast", length=[at(5, 1), rises(1)], workers=[at(1)], concurrency=[at(1)],
                oldest_task_timestamp_seconds=[at(0)],
            ),
            **mute_solo(60),
        },
        STUCK,
    ),
)  # fmt: skip

BACKLOG = "CeleryQueueBacklogHigh"


def pace(name: str, per_minute: float, unknown: float = 0) -> SeriesOf:
    """So many starts are known to be of a queue, and so many of none."""
    known = task("app.work", name, sent=[rises(per_minute)], started=[rises(per_minute)])
    return {**known, **task("app.odd", "unknown", started=[rises(unknown)])} if unknown else known


HIGH = (
    Scenario(
        "for a while there is more than can be done in 15 minutes",
        60, {**pace("fast", 60), **queue("fast", length=[at(100, 10), at(901, 20), at(100)])}, BACKLOG,
        [firing(25, 29, "warning", queue="fast")],
    ),
    Scenario(
        "what can be done in 15 minutes is a lot",
        40, {**pace("fast", 6000), **queue("fast", length=[at(89_000)])}, BACKLOG,
    ),
    Scenario(
        "there is what can be done in 15 minutes",
        40, {**pace("fast", 60), **queue("fast", length=[at(900)])}, BACKLOG,
    ),
    Scenario(
        "there is too much for 14 minutes",
        40, {**pace("fast", 60), **queue("fast", length=[at(100, 10), at(9000, 14), at(100)])}, BACKLOG,
    ),
    Scenario(
        "there is what can be done in four times that",
        40, {**pace("fast", 60), **queue("fast", length=[at(3600)])}, BACKLOG,
        [firing(16, 40, "warning", queue="fast")],
    ),
    Scenario(
        "there is more than that",
        60, {**pace("fast", 60), **queue("fast", length=[at(100, 10), at(3601, 20), at(100)])}, BACKLOG,
        [firing(25, 29, "warning", queue="fast"), firing(25, 29, "critical", queue="fast")],
    ),
    Scenario(
        "the queue may let tasks wait for hours",
        40, {**pace("slow", 60), **queue("slow", length=[at(3601)], wait_objective_seconds=[at(14_400)])}, BACKLOG,
    ),
    Scenario(
        "without task-sent events the queue shrinks slowly",
        50, {**UNTOLD, **queue("fast", length=[at(2000, 1), rises(-60, 18), at(0)])}, BACKLOG,
        [firing(16, 18, "warning", queue="fast")],
    ),
    Scenario(
        "without task-sent events the queue shrinks very slowly",
        50, {**UNTOLD, **queue("fast", length=[at(2500, 1), rises(-30, 18), at(0)])}, BACKLOG,
        [firing(16, 18, "warning", queue="fast"), firing(16, 18, "critical", queue="fast")],
    ),
    Scenario(
        "without task-sent events the queue shrinks fast",
        50, {**UNTOLD, **queue("fast", length=[at(20_000, 1), rises(-1800, 11), at(0)])}, BACKLOG,
    ),
    Scenario(
        "without task-sent events the queue is long and grows",
        50, {**UNTOLD, **queue("fast", length=[at(2000, 1), rises(6)])}, BACKLOG,
    ),
    Scenario(
        "few starts are known to be of the queue, and it shrinks fast: they say nothing",
        30, {**pace("fast", 6, unknown=60), **queue("fast", length=[at(30_000, 1), rises(-2100, 13)] * 3)}, BACKLOG,
    ),
    Scenario("nothing waits and nothing is started", 40, {**pace("idle", 0), **queue("idle", length=[at(0)])}, BACKLOG),
)  # fmt: skip

OLD = "CeleryQueueOldestTaskTooOld"


def aged(seconds: float, minutes: float = 40) -> Line:
    """The head has been due for so long, for so many minutes."""
    return [now(10, behind=5), now(minutes, behind=seconds), now(behind=5)]


def late(seconds: float, minutes: float = 40, **lines: Line) -> SeriesOf:
    """A queue whose tasks are late."""
    told: dict[str, Line] = {"length": [at(5)], "workers": [at(1)], **lines}
    return queue("fast", oldest_task_timestamp_seconds=aged(seconds, minutes), **told)


AGED = (
    Scenario("the head has waited for 15 minutes", 40, late(900), OLD),
    Scenario(
        "the head has waited for longer, for a while",
        40, late(901, 10), OLD, [firing(15, 19, "warning", queue="fast")],
    ),
    Scenario(
        "the same without task-sent events, since it was seen to be next",
        60, {**UNTOLD, **queue("fast", oldest_task_timestamp_seconds=[absent(10), at(600, 30), absent()])}, OLD,
        [firing(31, 39, "warning", queue="fast")],
    ),
    Scenario("heads move without task-sent events", 60, {**UNTOLD, **late(800)}, OLD),
    Scenario("the head is too old for 4 minutes", 40, late(9000, 4), OLD),
    Scenario("the head has waited for an hour", 40, late(3600), OLD, [firing(15, 40, "warning", queue="fast")]),
    Scenario(
        "the head has waited for longer than an hour, for a while",
        40, late(3601, 10), OLD,
        [firing(15, 19, "warning", queue="fast"), firing(15, 19, "critical", queue="fast")],
    ),
    Scenario("the head is due in an hour", 40, late(-3600), OLD),
    Scenario("the queue may let tasks wait for hours", 40, late(3601, wait_objective_seconds=[at(14_400)]), OLD),
    Scenario("a dead-letter queue has no workers", 40, late(100_000, workers=[at(0)]), OLD),
    Scenario(
        "it is not known whether there are workers",
        40, late(901, workers=[absent()]), OLD, [firing(15, 40, "warning", queue="fast")],
    ),
    Scenario(
        "one of two exporters was started later and knows only since when it has seen the head",
        40, queue("fast", workers=[at(1)], oldest_task_timestamp_seconds=[now(behind=901)]), OLD,
        [firing(5, 40, "warning", queue="fast")],
        other=queue("fast", workers=[at(1)], oldest_task_timestamp_seconds=[now(behind=60)]),
    ),
)  # fmt: skip

SCENARIOS = (*WITHOUT_WORKERS, *STANDING, *HIGH, *AGED)
