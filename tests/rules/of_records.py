"""What recorded series are worth. Values are rounded, since rates are floats."""

from collections.abc import Mapping
from typing import Any

from rules.of_workers import RESTARTED, mute_solo
from rules.promtool import JOB, Scenario, Value
from rules.series import Line, SeriesOf, absent, at, consumer, queue, rises, task


def worth(minute: int, name: str, value: float | None, per: float = 1, **labels: str) -> Value:
    """A recorded series is `value` in units of `per` at a minute; None: it is not there."""
    found = [] if value is None else [({"job": JOB, **labels}, value)]
    matching = ", ".join(f'{label}="{text}"' for label, text in labels.items())
    return Value(minute, f"round({name}{{{matching}}} / {per})", found)


def recorded(name: str, minutes: int, series: SeriesOf, *values: Value, **more: object) -> Scenario:
    """A scenario of the series that its values name."""
    names = sorted({value.expr.removeprefix("round(").split("{")[0] for value in values})
    return Scenario(name, minutes, series, values=values, records=names, **more)  # type: ignore[arg-type]


def buckets(metric: str, labels: str, counts: Mapping[str, float]) -> SeriesOf:
    """A histogram of which each bucket grows by so much per minute."""
    return {f'{metric}_bucket{{{labels}, le="{le}"}}': [rises(count)] for le, count in counts.items()}


FAST, IDLE = 'task="app.work", queue="fast"', 'task="app.idle", queue="fast"'
ALL: dict[str, Any] = {
    name: [rises(60, 10), rises(0)] for name in ("sent", "started", "succeeded", "failed", "retried")
}
LEVELS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("job", {}), ("job_task", {"task": "app.work"}), ("job_queue", {"queue": "fast"}),
)  # fmt: skip

RATES = recorded(
    "rates of each level, of what stops in minute 10", 17, task("app.work", "fast", **ALL),
    *(
        worth(minute, f"{level}:celery_task_{name}:rate5m", rate, per=0.01, **labels)
        for level, labels in LEVELS
        for name in ALL
        for minute, rate in ((9, 100), (13, 35), (17, 0))
    ),
)  # fmt: skip
BORN = task("app.work", "fast", 10, failed=[at(7, 1), rises(60, 1), rises(0)], succeeded=[at(2)])
INCREASES = recorded(
    "increases count what a series is born with, once", 30, BORN,
    *(
        value
        for level, labels in LEVELS
        for value in (
            worth(9, f"{level}:celery_task_failed:increase5m", None, **labels),
            worth(10, f"{level}:celery_task_failed:increase5m", 7, **labels),
            worth(14, f"{level}:celery_task_failed:increase5m", 67, **labels),
            worth(14, f"{level}:celery_task_succeeded:increase5m", 2, **labels),
            worth(20, f"{level}:celery_task_failed:increase5m", 0, **labels),
        )
    ),
)  # fmt: skip
TOLD_TWICE = recorded(
    "two exporters that say the same count once", 14, BORN,
    *(worth(14, f"{level}:celery_task_failed:increase5m", 67, **labels) for level, labels in LEVELS),
    *(worth(14, f"{level}:celery_task_succeeded:increase5m", 2, **labels) for level, labels in LEVELS),
    other=BORN,
)  # fmt: skip
TENS = recorded(
    "increases over 10 minutes", 30, task("app.work", "fast", 10, started=[at(8)], retried=[at(3)]),
    worth(19, "job_task:celery_task_started:increase10m", 8, task="app.work"),
    worth(19, "job_task:celery_task_retried:increase10m", 3, task="app.work"),
    worth(20, "job_task:celery_task_started:increase10m", 0, task="app.work"),
    worth(20, "job_task:celery_task_retried:increase10m", 0, task="app.work"),
)  # fmt: skip
RESTARTS = recorded(
    "an exporter is restarted", 30,
    task("app.work", "fast", failed=[at(100, 10), absent(0.5), at(4)]),
    worth(11, "job_task:celery_task_failed:increase5m", 4, task="app.work"),
    worth(20, "job_task:celery_task_failed:increase5m", 0, task="app.work"),
    exporter=RESTARTED,
)  # fmt: skip


def newborn(name: str, window: int, levels: Mapping[str, Any], counters: tuple[str, ...]) -> tuple[Scenario, ...]:
    """Increases of a series that is born with 7, over `window` minutes, by what is known of its exporter."""

    def told(what: str, born: float, age: float, grown: bool) -> Scenario:
        exporter: dict[str, Line] = {
            "up": [absent(10), at(1)],
            "celery_exporter_build_info": [absent(10), at(1)],
            "process_start_time_seconds": [absent(10), at((10 - age) * 60)],
        }
        minute = int(born)
        return recorded(
            f"{name}: {what}",
            minute,
            task("app.work", "fast", born, **{counter: [at(7)] for counter in counters}),
            *(
                worth(minute, f"{level}:celery_task_{counter}:increase{window}m", 7 if grown else None, **labels)
                for level, labels in levels.items()
                for counter in counters
            ),
            exporter=exporter,
        )

    return (
        told("a new exporter comes with it", 10, 0.5, True),
        told("a young exporter comes with it", 10, 1.8 * window, True),
        told("an exporter that is no longer young comes with it", 10, 2 * window, False),
        told("an old exporter comes with it", 10, 1000, False),
        told("it is born when an old exporter was only just found", 10 + int(0.8 * window), 1000, False),
        told("it is born when an old exporter is known for long", 11 + window, 1000, True),
    )


NEWBORN = (
    *newborn("5 minutes", 5, dict(LEVELS), ("succeeded", "failed")),
    *newborn("10 minutes", 10, {"job_task": {"task": "app.work"}}, ("started", "retried")),
)

# 90 s of work in each minute, of tasks that succeed, fail and are retried, on two workers with 4 and 2 slots.
WORK: SeriesOf = {
    f'celery_task_runtime_seconds_sum{{{FAST}, outcome="succeeded"}}': [rises(60)],
    f'celery_task_runtime_seconds_sum{{{FAST}, outcome="failed"}}': [rises(30)],
}
CONCURRENCY = recorded(
    "the concurrency that is required, there and in use", 10,
    {
        **WORK,
        **consumer("celery@one", "fast", active=[at(3)], concurrency=[at(4)]),
        **consumer("celery@two", "fast", "slow", active=[at(1)], concurrency=[at(2)]),
        **consumer("celery@gone", up=[at(0)], active=[absent()]),
    },
    *(worth(10, f"{level}:celery_task_runtime_seconds:rate5m", 15, per=0.1, **labels) for level, labels in LEVELS),
    worth(10, "job:celery_worker_up:sum", 2),
    worth(10, "job:celery_worker_concurrency:sum", 6),
    worth(10, "job:celery_worker_tasks_active:sum", 4),
    worth(10, "job_queue:celery_queue_tasks_active:sum", 4, queue="fast"),
    worth(10, "job_queue:celery_queue_tasks_active:sum", 1, queue="slow"),
    worth(10, "job_worker:celery_worker_tasks_active:max", 3, worker="celery@one"),
    worth(10, "job_worker:celery_worker_up:max", 0, worker="celery@gone"),
    worth(10, "job_worker:celery_worker_tasks_active:max", None, worker="celery@gone"),
)  # fmt: skip
SENT: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("twice as much is sent as is started", {"sent": [rises(120)], "started": [rises(60)]}, 30),
    ("less is sent than is started", {"sent": [rises(30)], "started": [rises(60)]}, 15),
    ("nobody tells what is sent", {"started": [rises(60)]}, 15),
    ("nothing is started", {"sent": [rises(60)], "started": [rises(0)]}, 15),
)
REQUIRED = tuple(
    recorded(
        f"the concurrency that is required: {what}", 10, {**WORK, **task("app.work", "fast", **counters)},
        worth(10, "job:celery_worker_concurrency:required5m", wanted, per=0.1),
    )
    for what, counters, wanted in SENT
)  # fmt: skip
SOLO = recorded(
    "a solo worker that is mute is busy", 60, mute_solo(30),
    worth(0, "job_worker:celery_worker_tasks_active:max", 0, worker="celery@solo"),
    worth(15, "job_worker:celery_worker_tasks_active:max", 1, worker="celery@solo"),
    worth(15, "job:celery_worker_tasks_active:sum", 1),
    worth(15, "job_queue:celery_queue_tasks_active:sum", 1, queue="fast"),
    worth(30, "job_worker:celery_worker_tasks_active:max", 0, worker="celery@solo"),
)  # fmt: skip


BEATS = tuple(
    recorded(
        f"a {what} worker that does not say what it runs", 5,
        {
            **consumer("celery@mute", "fast", up=[at(up)], active=[absent()]),
            'celery_worker_info{worker="celery@mute", pool="prefork"}': [absent()],
            f'celery_worker_info{{worker="celery@mute", pool="{pool}"}}': [at(1)],
        },
        worth(5, "job_worker:celery_worker_tasks_active:max", active, worker="celery@mute"),
        worth(5, "job_queue:celery_queue_tasks_active:sum", active, queue="fast"),
        worth(5, "job:celery_worker_tasks_active:sum", active),
    )
    for what, pool, up, active in (
        ("solo", "solo", 1, 1), ("lost solo", "solo", 0, None), ("prefork", "prefork", 1, None),
    )
)  # fmt: skip

QUANTILES = recorded(
    "quantiles, of what succeeded and of what waited", 40,
    {
        **buckets("celery_task_runtime_seconds", f'{FAST}, outcome="succeeded"', {"1": 0, "2": 60, "+Inf": 60}),
        **buckets("celery_task_runtime_seconds", f'{FAST}, outcome="failed"', {"1": 0, "2": 0, "60": 900, "+Inf": 900}),
        **buckets("celery_task_runtime_seconds", f'{IDLE}, outcome="succeeded"', {"1": 0, "+Inf": 0}),
        f'celery_task_runtime_seconds_count{{{FAST}, outcome="succeeded"}}': [rises(60)],
        f'celery_task_runtime_seconds_count{{{FAST}, outcome="failed"}}': [rises(900)],
        **buckets("celery_task_wait_seconds", FAST, {"5": 0, "10": 60, "+Inf": 60}),
    },
    worth(40, "job_task:celery_task_runtime_seconds:p95_30m", 195, per=0.01, task="app.work"),
    worth(40, "job_task:celery_task_runtime_seconds:p95_30m", None, task="app.idle"),
    worth(40, "job_task:celery_task_runtime_seconds:count30m", 1800, task="app.work"),
    worth(40, "job_queue:celery_task_wait_seconds:p95_5m", 975, per=0.01, queue="fast"),
    worth(40, "job_task:celery_task_wait_seconds:p95_5m", 975, per=0.01, task="app.work"),
    worth(40, "job:celery_task_wait_seconds:p50_5m", 750, per=0.01),
    worth(40, "job:celery_task_wait_seconds:p95_5m", 975, per=0.01),
    worth(40, "job:celery_task_wait_seconds:p99_5m", 995, per=0.01),
)  # fmt: skip


def shares(known: float, unknown: float) -> SeriesOf:
    return {
        **task("app.work", "fast", started=[rises(known)]),
        **task("app.work", "unknown", started=[rises(unknown)]),
    }


SHARE = "job:celery_task_unknown_queue:ratio5m"
UNKNOWN = (
    recorded("a quarter of the starts is in no known queue", 10, shares(45, 15), worth(10, SHARE, 25, per=0.01)),
    recorded("all starts are known", 10, task("app.work", "fast", started=[rises(60)]), worth(10, SHARE, 0, per=0.01)),
    recorded("nothing is started", 10, shares(0, 0), worth(10, SHARE, None, per=0.01)),
    recorded(
        "a quarter, and then all", 13,
        {
            **task("app.work", "fast", started=[rises(45, 10.25), rises(0)]),
            **task("app.work", "unknown", started=[rises(15, 10.25), rises(45)]),
        },
        worth(13, SHARE, 65, per=0.01),
    ),
    recorded(
        "one of two exporters knows", 10, shares(60, 0), worth(10, SHARE, 0, per=0.01),
        worth(10, "job_queue:celery_task_started:rate5m", 1, queue="fast"), other=shares(0, 60),
    ),
)  # fmt: skip


def filled(length: Line, **more: Line) -> SeriesOf:
    return queue("fast", length=length, **more)


DRAIN = "job_queue:celery_queue_drain_seconds:ratio5m"
SHRINKS: Line = [at(5000, 1), rises(-120)]
DRAINS = (
    recorded(
        "what waits takes as long as starts say", 10, {**shares(60, 0), **filled(SHRINKS)},
        worth(10, DRAIN, 3890, queue="fast"),
    ),
    recorded(
        "the same where 4 % are in no known queue", 10, {**shares(60, 2.5), **filled([at(600)])},
        worth(10, DRAIN, 600, queue="fast"),
    ),
    recorded(
        "where 6 % are in none, how fast it shrinks counts", 10, {**shares(60, 4), **filled(SHRINKS)},
        worth(10, DRAIN, 195, per=10, queue="fast"),
    ),
    recorded(
        "where 5 % are in none too", 10, {**shares(57, 3), **filled([at(600)])}, worth(10, DRAIN, None, queue="fast"),
    ),
    recorded(
        "where exactly 5 % are in none, how fast it shrinks counts", 10, {**shares(57, 3), **filled(SHRINKS)},
        worth(10, DRAIN, 195, per=10, queue="fast"),
    ),
    recorded(
        "a queue of which nothing is started, while others are worked off", 10,
        {
            **shares(48, 2), **filled([at(600)]), **queue("slow", length=SHRINKS),
            **task("app.slow", "slow", sent=[rises(6)]),
        },
        worth(10, DRAIN, None, queue="slow"),
    ),
    recorded(
        "it has stopped to shrink 2 minutes ago", 10,
        {**shares(0, 60), **filled([at(5000, 1), rises(-120, 7), rises(0)])},
        worth(10, DRAIN, 37, per=100, queue="fast"),
    ),
    recorded("it is not known where it grows", 10, {**shares(0, 60), **filled([rises(60)])}, worth(10, DRAIN, None)),
    recorded("nor where nothing is started", 10, {**shares(0, 0), **filled([at(600)])}, worth(10, DRAIN, None)),
)  # fmt: skip

GAUGES = recorded(
    "of two exporters the largest, and the oldest, counts", 5,
    filled([at(7)], workers=[at(1)], concurrency=[at(4)], oldest_task_timestamp_seconds=[at(100)]),
    worth(5, "job_queue:celery_queue_length:max", 9, queue="fast"),
    worth(5, "job_queue:celery_queue_workers:max", 2, queue="fast"),
    worth(5, "job_queue:celery_queue_concurrency:max", 8, queue="fast"),
    worth(5, "job_queue:celery_queue_wait_objective_seconds:max", 900, queue="fast"),
    worth(5, "job_queue:celery_queue_oldest_task_timestamp_seconds:min", 50, queue="fast"),
    other=filled([at(9)], workers=[at(2)], concurrency=[at(8)], oldest_task_timestamp_seconds=[at(50)]),
)  # fmt: skip
COUNTED_ONCE = recorded(
    "of two exporters of which one says less, what is counted is not added up", 10,
    {**task("app.work", "fast", started=[rises(60)]), **task("app.work", "slow", started=[rises(30)])},
    worth(10, "job:celery_task_started:rate5m", 90, per=1 / 60),
    worth(10, "job_task:celery_task_started:rate5m", 90, per=1 / 60, task="app.work"),
    worth(10, "job_queue:celery_task_started:rate5m", 60, per=1 / 60, queue="fast"),
    worth(10, "job_queue:celery_task_started:rate5m", 30, per=1 / 60, queue="slow"),
    other={**task("app.work", "unknown", started=[rises(60)]), **task("app.work", "slow", started=[rises(25)])},
)  # fmt: skip


def judged(slo: str, good: float, tasks: float, **more: Line) -> SeriesOf:
    labels = f'{{task="app.work", queue="fast", slo="{slo}"}}'
    return {
        f"celery_slo_good_tasks_total{labels}": [rises(good)],
        f"celery_slo_tasks_total{labels}": [rises(tasks)],
        f"celery_slo_objective_ratio{labels}": [at(0.99)],
    }


OBJECTIVE, WORK_FAST = "job_task_queue_slo", {"task": "app.work", "queue": "fast"}
SLO = recorded(
    "the share of what missed its objective, in every window", 30,
    {**judged("success", 54, 60), **judged("wait", 60, 60), **judged("runtime", 0, 0)},
    *(
        worth(30, f"{OBJECTIVE}:celery_slo_errors:ratio_rate{window}", share, per=0.01, **{**WORK_FAST, "slo": slo})
        for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
        for slo, share in (("success", 10), ("wait", 0), ("runtime", None))
    ),
    worth(30, f"{OBJECTIVE}:celery_slo_objective_ratio:min", 99, per=0.01, **WORK_FAST, slo="wait"),
)  # fmt: skip

LAST = "job_task:celery_task_last_succeeded_timestamp_seconds:max"
SUCCEEDED = 'celery_task_last_succeeded_timestamp_seconds{task="app.work", queue="%s"}'
REMEMBERED = recorded(
    "the last success of a task that is to run at intervals is remembered", 60,
    {
        'celery_task_expected_interval_seconds{task="app.work"}': [at(3600)],
        SUCCEEDED % "fast": [at(60, 5), absent()],
        SUCCEEDED % "slow": [at(30, 8), absent(30), at(2000)],
        'celery_task_last_succeeded_timestamp_seconds{task="app.other", queue="fast"}': [at(60)],
    },
    worth(5, LAST, 60, task="app.work"),
    worth(35, LAST, 60, task="app.work"),
    worth(50, LAST, 2000, task="app.work"),
    worth(50, LAST, None, task="app.other"),
)  # fmt: skip

SCENARIOS = (
    RATES, INCREASES, TOLD_TWICE, TENS, *NEWBORN, RESTARTS, CONCURRENCY, *REQUIRED, SOLO, *BEATS, QUANTILES, *UNKNOWN,
    *DRAINS, GAUGES, COUNTED_ONCE, SLO, REMEMBERED,
)  # fmt: skip
