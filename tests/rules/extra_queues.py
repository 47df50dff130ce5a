"""Scenarios of queues, with task-sent events and without."""

from celeryscope.rules.settings import Settings
from rules.promtool import Scenario, firing
from rules.series import Line, Part, SeriesOf, absent, at, consumer, queue, rises, task

TOLD = task("app.work", "fast", sent=[rises(60)], received=[rises(60)], started=[rises(60)], succeeded=[rises(60)])
UNTOLD = task("app.work", "unknown", received=[rises(60)], started=[rises(60)], succeeded=[rises(60)])
HALF = {
    **task("app.work", "fast", started=[rises(30)]),
    **task("app.work", "unknown", started=[rises(30)]),
}

FILLING = "CeleryQueueFillingUp"
# It grows by one a second for two hours, and is emptied then.
FILLS: Line = [at(0, 60), rises(60, 120), rises(-600, 12), at(0)]


def batches(size: float, every: float, lasts: float) -> Line:
    """Much comes in at once, and is worked off."""
    parts: list[Part] = []
    for _ in range(6):
        parts += [at(size, 0.25), rises(-size / lasts, lasts - 0.25), at(0, every - lasts)]
    return parts


FILLINGS = (
    Scenario(
        "a queue grows for two hours",
        260, {**TOLD, **queue("fast", length=FILLS)}, FILLING, [firing(104, 182, "warning", queue="fast")],
    ),
    Scenario(
        "the same without task-sent events: the pace is not known",
        260, {**UNTOLD, **queue("fast", length=FILLS)}, FILLING,
    ),
    Scenario(
        "it grows, and will hold its objective for an hour",
        180, {**TOLD, **queue("fast", length=[rises(5, 115), at(575)])}, FILLING,
    ),
    Scenario(
        "the same, where it is told of half of the starts only",
        180, {**HALF, **queue("fast", length=[rises(5, 115), at(575)])}, FILLING,
    ),
    Scenario(
        "it grows for half an hour",
        180, {**TOLD, **queue("fast", length=[at(0, 60), rises(60, 28), rises(-60, 28), at(0)])}, FILLING,
    ),
    Scenario("batches come every hour", 360, {**TOLD, **queue("fast", length=batches(2400, 60, 40))}, FILLING),
    Scenario("batches come every 20 minutes", 120, {**TOLD, **queue("fast", length=batches(1000, 20, 18))}, FILLING),
    Scenario("it is full, and stays as it is", 180, {**TOLD, **queue("fast", length=[at(50_000)])}, FILLING),
    Scenario("nothing is started", 180, queue("fast", length=FILLS), FILLING),
    Scenario(
        "it may grow: its tasks may wait for a day",
        180, {**TOLD, **queue("fast", length=FILLS, wait_objective_seconds=[at(86_400)])}, FILLING,
    ),
)  # fmt: skip

SATURATED = "CeleryWorkersSaturated"
# Between two tasks a slot is free for a moment, one time in six.
FULL: list[Part] = [at(8, 1.25), at(7, 0.25)] * 40
LATE: Line = [at(0, 5), at(2000, 55), at(0)]


def served(active: Line, length: Line, slots: float = 8) -> SeriesOf:
    one = consumer("celery@one", "fast", active=active)
    return {**queue("fast", length=length, workers=[at(1)], concurrency=[at(slots)]), **one}


SATURATIONS = (
    Scenario(
        "workers are busy, and work piles up for an hour",
        90, {**TOLD, **served(FULL, LATE)}, SATURATED, [firing(35, 59, "warning", queue="fast")],
    ),
    Scenario(
        "the same without task-sent events, while it shrinks slowly",
        90, {**UNTOLD, **served(FULL, [at(20_000, 5), rises(-300)])}, SATURATED,
        [firing(35, 56, "warning", queue="fast")],
    ),
    Scenario("workers are busy, and nothing waits", 90, {**TOLD, **served(FULL, [at(0)])}, SATURATED),
    Scenario("workers are busy, and what waits is soon done", 90, {**TOLD, **served(FULL, [at(900)])}, SATURATED),
    Scenario("work piles up, and one worker of eight is free", 90, {**TOLD, **served([at(7)], LATE)}, SATURATED),
    Scenario(
        "workers are busy for 25 minutes",
        90, {**TOLD, **served(FULL, [at(0, 5), at(2000, 25), at(0)])}, SATURATED,
    ),
    Scenario("its workers' concurrency is not known", 90, {**TOLD, **served(FULL, LATE, 0)}, SATURATED),
)  # fmt: skip

LARGE, ATTRIBUTION = "CeleryQueueMessageLarge", "CeleryQueueAttributionMissing"


def unknown(share: Line) -> SeriesOf:
    """What share of a hundred starts a minute is in no known queue."""
    return {**task("app.odd", "unknown", started=share), **task("app.work", "fast", started=[rises(94)])}


DETAILS = (
    Scenario(
        "messages are large for 20 minutes",
        60, queue("fast", head_message_bytes=[at(500, 10), at(300_000, 20), at(500)]), LARGE,
        [firing(20, 29, "info", queue="fast")],
    ),
    Scenario("messages have 256 KiB", 60, queue("fast", head_message_bytes=[at(262_144)]), LARGE),
    Scenario(
        "one of many is large, and is next for 5 minutes",
        60, queue("fast", head_message_bytes=[at(500, 10), at(300_000, 5), at(500, 10), absent()]), LARGE,
    ),
    Scenario(
        "of 6 % of the starts the queue is not known for two hours",
        200, unknown([rises(6, 120), rises(0)]), ATTRIBUTION, [firing(61, 120, "info")],
    ),
    Scenario("of 4 %", 200, unknown([rises(3.9)]), ATTRIBUTION),
    Scenario("of all for 50 minutes", 200, unknown([rises(60, 50), rises(0)]), ATTRIBUTION),
    Scenario("of all at every time", 120, UNTOLD, ATTRIBUTION, [firing(61, 120, "info")]),
    Scenario(
        "a tenth may be unknown",
        120, unknown([rises(8)]), ATTRIBUTION,
        settings=Settings(thresholds={**Settings().thresholds, "unknown_share": 0.1}),
    ),
)  # fmt: skip

SCENARIOS = (*FILLINGS, *SATURATIONS, *DETAILS)
