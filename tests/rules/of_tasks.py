"""Scenarios of tasks."""

from collections.abc import Sequence
from typing import Any

from celeryscope.rules.settings import Settings
from rules.of_workers import OUT_OF_SIGHT, RESTARTED, births
from rules.promtool import Firing, Scenario, firing
from rules.series import Line, SeriesOf, absent, at, now, rises, task


def batch(queue: str, minute: float, name: str = "app.work", **counts: float) -> SeriesOf:
    """So many happened when the task was first seen in a queue, and nothing since."""
    return task(name, queue, minute, **{counter: [at(count)] for counter, count in counts.items()})


def batches(minutes: tuple[float, ...], queue: str = "", name: str = "app.work", **counts: float) -> SeriesOf:
    """The same again and again, each time by a queue that is new, or by a task that is new where a queue is given."""
    found: dict[str, Line] = {}
    for number, minute in enumerate(minutes):
        found |= batch(queue or f"q{number}", minute, f"{name}{number}" if queue else name, **counts)
    return found


NINE = (10, 15)  # minutes in which a batch counts for 5 minutes: all of minutes 10 to 19
LEVELS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("CeleryTaskFailureRatioHigh", "", {"task": "app.work"}),
    ("CeleryQueueFailureRatioHigh", "fast", {"queue": "fast"}),
    ("CeleryFailureRatioHigh", "fast", {}),
)


def failures(alert: str, queue: str, labels: dict[str, str]) -> tuple[Scenario, ...]:
    """One level's scenarios: of a task in several queues, of a queue with several tasks, of a job."""
    warning, critical = firing(15, 19, "warning", **labels), firing(15, 19, "critical", **labels)
    both = [warning, critical]

    def told(name: str, failed: float, succeeded: float, fires: Sequence[Firing]) -> Scenario:
        series = batches(NINE, queue, failed=failed, succeeded=succeeded)
        return Scenario(name, 30, series, alert, fires)

    return (
        told("5 of 5 fail", 5, 0, []),
        told("6 of 6 fail", 6, 0, [warning]),
        told("5 % fail", 10, 190, []),
        told("6 % fail", 12, 188, [warning]),
        told("25 % fail", 25, 75, [warning]),
        told("26 % fail", 26, 74, both),
        told("19 of 19 fail", 19, 0, [warning]),
        told("20 of 20 fail", 20, 0, both),
        Scenario(
            "all fail for 4 minutes", 30, batches((10, 14), queue, failed=20), alert,
            [firing(15, 18, "warning", **labels), firing(15, 18, "critical", **labels)],
        ),
        Scenario("all fail once", 30, batches((10,), queue, failed=20), alert),
        Scenario(
            "one of a rare task fails",
            30, task("app.rare", queue or "fast", 10, started=[at(1)], failed=[at(1)]), alert,
        ),
        Scenario(
            "many fail for a while",
            50,
            task(
                "app.work", queue or "fast",
                succeeded=[rises(60, 10), rises(0, 10), rises(60)], failed=[rises(0, 10), rises(60, 10), rises(0)],
            ),
            alert,
            [firing(16, 24, "warning", **labels), firing(17, 23, "critical", **labels)],
        ),
        Scenario(
            "an exporter that failed often is restarted",
            50, task("app.work", queue or "fast", succeeded=[rises(60, 10), absent(0.5), at(0, 0.25), rises(60)],
                     failed=[at(9000, 10), absent(0.5), at(0)]), alert, exporter=RESTARTED,
        ),
        Scenario(
            "an exporter that was out of sight comes back with many",
            50,
            {
                **task("app.work", queue or "fast", succeeded=[rises(60, 10), absent(10), at(90_000), rises(60)],
                       failed=[at(9000, 10), absent(10), at(12_000)]),
                **task("app.work", queue or "slow", 20, failed=[at(500)]),
            },
            alert, exporter=OUT_OF_SIGHT,
        ),
    )  # fmt: skip


FAILING = (
    *(scenario for level in LEVELS for scenario in failures(*level)),
    Scenario(
        "without task-sent events the queue of what fails is not known",
        30, batches(NINE, "unknown", failed=100), "CeleryQueueFailureRatioHigh",
    ),
    Scenario(
        "without task-sent events the job is judged",
        30, batches(NINE, "unknown", failed=100), "CeleryFailureRatioHigh",
        [firing(15, 19, "warning"), firing(15, 19, "critical")],
    ),
    Scenario(
        "60 tasks fail twice each",
        30,
        {
            key: line
            for minute in NINE
            for number in range(60)
            for key, line in batch("fast", minute, f"app.t{minute}_{number}", failed=2).items()
            if "failed" in key or "succeeded" in key
        },
        "CeleryQueueFailureRatioHigh",
        [firing(15, 19, "warning", queue="fast"), firing(15, 19, "critical", queue="fast")],
    ),
)  # fmt: skip

STORM = "CeleryTaskRetryStorm"
TEN = (10, 20)  # minutes in which a batch counts for 10 minutes: all of minutes 10 to 29


def retries(name: str = "app.work", **counts: Any) -> SeriesOf:
    return batches(TEN, name=name, **counts)


STORMS = [firing(20, 29, "warning", task="app.work")]
RETRYING = (
    Scenario("more than half of the starts are retries", 50, retries(retried=21, started=40), STORM, STORMS),
    Scenario("half of the starts are retries", 50, retries(retried=20, started=40), STORM),
    Scenario("20 retries of 20 starts", 50, retries(retried=20, started=20), STORM, STORMS),
    Scenario("20 retries of a start", 50, retries(retried=20, started=1), STORM, STORMS),
    Scenario("19 retries of 19 starts", 50, retries(retried=19, started=19), STORM),
    Scenario("retries without a start", 50, retries(retried=50, started=0), STORM),
    Scenario("for 9 minutes", 50, batches((10,), retried=50, started=50), STORM),
    Scenario("a chord waits by retrying", 50, retries("celery.chord_unlock", retried=500, started=500), STORM),
    Scenario(
        "a task that looks like it does not", 50, retries("celeryXchord_unlock", retried=500, started=500), STORM,
        [firing(20, 29, "warning", task="celeryXchord_unlock")],
    ),
    Scenario(
        "a task polls by retrying, and is left out", 50, retries("app.poll.one", retried=500, started=500), STORM,
        settings=Settings(excluded={STORM: r"app\.poll\..*"}),
    ),
    Scenario(
        "an exporter was restarted", 50,
        task("app.work", "fast", retried=[at(900, 10), absent(0.5), at(0)], started=[at(900, 10), absent(0.5), at(5)]),
        STORM, exporter=RESTARTED,
    ),
    Scenario(
        "a storm passes", 60,
        task("app.work", "fast", started=[rises(60)], retried=[rises(1, 10), rises(60, 20), rises(1)]), STORM,
        [firing(25, 34, "warning", task="app.work")],
    ),
)  # fmt: skip

OVERDUE = "CeleryTaskOverdue"
SUCCEEDED = 'celery_task_last_succeeded_timestamp_seconds{task="app.tick", queue="fast"}'
EVERY_5_MINUTES: SeriesOf = {'celery_task_expected_interval_seconds{task="app.tick"}': [at(300)]}
EVERY_HOUR: SeriesOf = {'celery_task_expected_interval_seconds{task="app.tick"}': [at(3600)]}
NEW_AT_0: dict[str, Line] = {"process_start_time_seconds": [at(0)]}
LATE = (
    Scenario(
        "it last succeeded at minute 5, and again at minute 30",
        50, {**EVERY_5_MINUTES, SUCCEEDED: [absent(5), at(300, 25), now()]}, OVERDUE,
        [firing(21, 29, "warning", task="app.tick")],
    ),
    Scenario("it succeeds every 10 minutes", 60, {**EVERY_5_MINUTES, SUCCEEDED: [now(behind=600)]}, OVERDUE),
    Scenario("it was late for 4 minutes", 60, {**EVERY_5_MINUTES, SUCCEEDED: [at(0, 14), now()]}, OVERDUE),
    Scenario("nobody says how often it is to run", 60, {SUCCEEDED: [at(0)]}, OVERDUE),
    Scenario(
        "it never succeeded since the exporter was started", 50,
        {**EVERY_5_MINUTES, SUCCEEDED: [absent(30), now()]}, OVERDUE,
        [firing(16, 29, "warning", task="app.tick")], exporter=NEW_AT_0,
    ),
    Scenario(
        "an exporter that is known for long is restarted, and it is not due",
        60, {'celery_task_expected_interval_seconds{task="app.tick"}': [at(3600, 10), absent(0.5), at(3600)],
             SUCCEEDED: [at(0, 10), absent()]},
        OVERDUE, exporter=RESTARTED,
    ),
    Scenario(
        "the exporter forgot, since the task is idle, that it succeeded in time",
        130, {**EVERY_HOUR, SUCCEEDED: [at(0, 10), absent(110), now()]}, OVERDUE,
    ),
    Scenario(
        "the same, and then it is due",
        150, {**EVERY_HOUR, SUCCEEDED: [at(0, 10), absent(130), now()]}, OVERDUE,
        [firing(126, 139, "warning", task="app.tick")],
    ),
    Scenario(
        "restarts of the exporter do not hide it",
        50, {**EVERY_5_MINUTES, SUCCEEDED: [at(0, 10), absent()]}, OVERDUE,
        [firing(16, 50, "warning", task="app.tick")], exporter=RESTARTED,
    ),
    Scenario(
        "one of two exporters is new", 50, {**EVERY_5_MINUTES, SUCCEEDED: [now()]}, OVERDUE, other=EVERY_5_MINUTES,
    ),
    Scenario(
        "other processes of the job are old",
        14, EVERY_5_MINUTES, OVERDUE, exporter=NEW_AT_0,
        others={'process_start_time_seconds{job="celery", instance="node:9100"}': [at(-1e6)]},
    ),
)  # fmt: skip

EXPIRED = "CeleryTaskExpired"


def expired(line: Line, reason: str = "expired") -> SeriesOf:
    return {f'celery_task_revoked_total{{task="app.work", queue="fast", reason="{reason}"}}': line}


DROPS: Line = [absent(10), at(1, 4), at(2, 4), at(3)]
DROPPED = [firing(15, 22, "warning", task="app.work")]
EXPIRING = (
    Scenario("again and again", 40, expired(DROPS), EXPIRED, DROPPED),
    Scenario("once", 40, expired([absent(10), at(1)]), EXPIRED),
    *births(EXPIRED, expired([]), {"task": "app.work"}),
    Scenario("was revoked by hand", 40, expired(DROPS, "revoked"), EXPIRED),
    Scenario(
        "on purpose", 40, expired(DROPS), EXPIRED, settings=Settings(excluded={EXPIRED: "app[.]w.*"}),
    ),
    Scenario(
        "an exporter was out of sight",
        40, expired([absent(20), at(5, 4), at(5)]), EXPIRED, exporter=OUT_OF_SIGHT,
    ),
)  # fmt: skip

SCENARIOS = (*FAILING, *RETRYING, *LATE, *EXPIRING)
