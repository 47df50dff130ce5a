"""Scenarios of objectives, of limits, and of what the exporter tells of itself."""

from celeryscope.rules.settings import Settings
from rules.promtool import Firing, Scenario, firing
from rules.series import Line, SeriesOf, absent, at, now, rises, task

BURN = "CelerySLOBurn"


def judged(tasks: Line, good: Line, slo: str = "success", ratio: float = 0.99) -> SeriesOf:
    """An objective of a task: its series are born together."""
    labels = f'{{task="app.pay", queue="fast", slo="{slo}"}}'
    return {
        f"celery_slo_tasks_total{labels}": tasks,
        f"celery_slo_good_tasks_total{labels}": good,
        f"celery_slo_objective_ratio{labels}": [at(ratio)],
    }


def burning(severity: str, window: str, first: int, last: int, slo: str = "success") -> Firing:
    return firing(first, last, severity, window=window, slo=slo, task="app.pay", queue="fast")


def steadily(bad: float) -> SeriesOf:
    """Ten tasks a minute, this share of them bad."""
    return judged([rises(10)], [rises(10 * (1 - bad))])


def hourly(times: int) -> SeriesOf:
    """A task that fails, once an hour: it appears with its first event."""
    series = judged([*(at(number, 60) for number in range(1, times)), at(times)], [at(0)])
    return {name: [absent(60), *line] for name, line in series.items()}


# The exporter is started with the story.
YOUNG: dict[str, Line] = {"process_start_time_seconds": [at(0)]}
DAY, THREE_DAYS = burning("warning", "1d", 65, 600), burning("warning", "3d", 185, 600)
SIX_HOURS, HOUR = burning("critical", "6h", 20, 600), burning("critical", "1h", 10, 600)

BURNS = (
    Scenario(
        "half of the tasks fail for half an hour",
        240, judged([rises(10)], [rises(10, 60), rises(5, 30), rises(10)]), BURN,
        [burning("critical", "1h", 80, 93), burning("critical", "6h", 83, 116), burning("warning", "1d", 124, 202)],
    ),
    Scenario(
        "half of the tasks wait for too long for a quarter of an hour",
        150, judged([rises(10)], [rises(10, 60), rises(5, 15), rises(10)], "wait"), BURN,
        [burning("critical", "6h", 83, 101, "wait"), burning("warning", "1d", 124, 150, "wait")],
    ),
    Scenario("the budget lasts", 600, steadily(0.0099), BURN, step=60, every=5),
    Scenario("it is spent almost 3 times too fast", 600, steadily(0.0297), BURN, [THREE_DAYS], step=60, every=5),
    Scenario("almost 6 times", 600, steadily(0.0594), BURN, [THREE_DAYS, DAY], step=60, every=5),
    Scenario("almost 14.4 times", 600, steadily(0.1426), BURN, [THREE_DAYS, DAY, SIX_HOURS], step=60, every=5),
    Scenario("15 times", 600, steadily(0.15), BURN, [THREE_DAYS, DAY, SIX_HOURS, HOUR], step=60, every=5),
    Scenario(
        "it was spent too fast for 8 hours",
        900, judged([rises(10)], [rises(9.8, 480), rises(10)]), BURN, [burning("warning", "3d", 185, 655)],
        step=60, every=5,
    ),
    Scenario(
        "few tasks, all of which fail: 19 in 3 days",
        2400, hourly(19), BURN, exporter=YOUNG, step=60, every=10,
    ),
    Scenario(
        "few tasks, all of which fail: 26 in 3 days",
        2400, hourly(26), BURN,
        [burning("warning", "1d", 1260, 1670), burning("warning", "3d", 1380, 1910)],
        exporter=YOUNG, step=60, every=10,
    ),
    Scenario(
        "the exporter is restarted, and counts from 0 again",
        240,
        judged([rises(10, 60), absent(1), at(1, 0.25), rises(10)], [rises(10, 60), absent(1), at(1, 0.25), rises(10)]),
        BURN,
    ),
)  # fmt: skip

WORK = task("app.call", "fast", sent=[rises(60)], started=[rises(60)])
SATURATED, THROTTLED = "CeleryRateLimitSaturated", "CeleryRateLimitThrottled"


def at_limit(per_second: float, held: Line) -> SeriesOf:
    limits = {'celery_task_rate_limit_per_second{task="app.call"}': [at(per_second)]}
    return {**WORK, **limits, 'celery_tasks_rate_limit_held{task="app.call"}': held}


def throttled(line: Line, limiter: str = "partner") -> SeriesOf:
    return {f'celery_task_rate_limited_total{{task="app.call", queue="fast", limiter="{limiter}"}}': line}


CALLS = {"task": "app.call"}
LIMITS = (
    Scenario(
        "a task is at its limit, and more is held back for an hour",
        120, at_limit(1, [at(0, 10), at(5, 60), at(0)]), SATURATED, [firing(40, 69, "info", **CALLS)],
    ),
    Scenario("more is held back for half an hour", 120, at_limit(1, [at(0, 10), at(5, 29), at(0)]), SATURATED),
    Scenario("a task is at its limit, and nothing is held back", 120, at_limit(1, [at(0)]), SATURATED),
    Scenario(
        "the limit counts workers that do not consume its queue, and seems twice as high",
        120, at_limit(2, [at(0, 10), at(5, 60), at(0)]), SATURATED, [firing(40, 69, "info", **CALLS)],
    ),
    Scenario("a task that is not limited is held back", 120, at_limit(0, [at(5)]), SATURATED),
    Scenario(
        "the limit is meant to hold it back",
        120, at_limit(1, [at(5)]), SATURATED, settings=Settings(excluded={SATURATED: r"app\.call"}),
    ),
    Scenario(
        "an outside limit throttles more than a fifth of the starts for an hour",
        120, {**WORK, **throttled([absent(10), at(1, 0.25), rises(14, 60), at(841)])}, THROTTLED,
        [firing(30, 70, "warning", **CALLS)],
    ),
    Scenario(
        "two limiters throttle a fifth together",
        60, {**WORK, **throttled([rises(7)]), **throttled([rises(7)], "other")}, THROTTLED,
        [firing(16, 60, "warning", **CALLS)],
    ),
    Scenario("a limit throttles a fifth of the starts", 60, {**WORK, **throttled([rises(11.9)])}, THROTTLED),
    Scenario(
        "a limit throttles all for 10 minutes",
        60, {**WORK, **throttled([absent(10), at(1, 0.25), rises(60, 10), at(600)])}, THROTTLED,
    ),
    Scenario(
        "the limit is used up on purpose",
        60, {**WORK, **throttled([rises(30)])}, THROTTLED, settings=Settings(excluded={THROTTLED: r"app\.call"}),
    ),
)  # fmt: skip

UNACKED, STALE, DROPPED = "CeleryVisibilityTimeoutNear", "CeleryPollStale", "CelerySeriesBudgetReached"
TIMEOUT: SeriesOf = {"celery_broker_visibility_timeout_seconds": [at(3600)]}
POLLED = 'celery_exporter_poll_last_success_timestamp_seconds{poller="workers"}'
SUCCESS = 'celery_exporter_poll_success{poller="workers"}'
POLICY = "CeleryBrokerEvictionPolicyUnsafe"
IN_FORCE: Line = [at(1)]


def unacked(line: Line) -> SeriesOf:
    return {**TIMEOUT, "celery_broker_oldest_unacked_timestamp_seconds": line}


def polls(line: Line, success: Line) -> SeriesOf:
    return {POLLED: line, SUCCESS: success}


def dropped(line: Line) -> SeriesOf:
    return {'celery_exporter_series_dropped_total{metric="celery_task_wait_seconds"}': line}


def policy(name: str, line: Line = IN_FORCE) -> SeriesOf:
    return {f'celery_broker_eviction_policy_info{{policy="{name}"}}': line}


FAILS = polls([now(10.25), at(600, 29.75), now()], [at(1, 10.25), at(0, 29.75), at(1)])
OWN = (
    Scenario(
        "a message lies for 80 % of the visibility timeout, until minute 60",
        90, unacked([absent(1), at(0, 59), now()]), UNACKED, [firing(54, 59, "warning")],
    ),
    Scenario("messages lie for less", 90, unacked([now(behind=2880)]), UNACKED),
    Scenario("no timeout is known", 90, {"celery_broker_oldest_unacked_timestamp_seconds": [at(0)]}, UNACKED),
    Scenario(
        "polls of the workers fail for half an hour",
        60, FAILS, STALE, [firing(26, 39, "warning", poller="workers")],
    ),
    Scenario(
        "they fail for 13 minutes",
        60, polls([now(10.25), at(600, 12.75), now()], [at(1, 10.25), at(0, 12.75), at(1)]), STALE,
    ),
    Scenario("polls take long", 60, polls([now(behind=300)], [at(1)]), STALE),
    Scenario("those of one of two fail", 60, polls([now()], [at(1)]), STALE, other=FAILS),
    Scenario(
        "none has succeeded since the start",
        60, polls([absent(40), now()], [at(0, 40), at(1)]), STALE, [firing(16, 39, "warning", poller="workers")],
        exporter={"process_start_time_seconds": [at(0)]},
    ),
    Scenario(
        "none has succeeded since the start of one of two",
        60, polls([now()], [at(1)]), STALE, other=polls([], [at(0)]),
    ),
    Scenario(
        "series find no room for an hour",
        120, dropped([absent(20), at(1, 0.25), rises(4, 60), at(241)]), DROPPED,
        [firing(35, 94, "info", metric="celery_task_wait_seconds")],
    ),
    Scenario("one found no room", 60, dropped([absent(20), at(1)]), DROPPED),
    Scenario(
        "Redis evicts until it is told not to",
        60, {**policy("allkeys-lru", [at(1, 30), absent()]), **policy("noeviction", [absent(30), at(1)])}, POLICY,
        [firing(10, 29, "warning", policy="allkeys-lru")],
    ),
    Scenario("Redis refuses when it is full", 60, policy("noeviction"), POLICY),
    Scenario(
        "Redis evicts for 9 minutes",
        60, {**policy("volatile-lru", [at(1, 9), absent()]), **policy("noeviction", [absent(9), at(1)])}, POLICY,
    ),
)  # fmt: skip

SCENARIOS = (*BURNS, *LIMITS, *OWN)
