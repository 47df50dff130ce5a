"""Scenarios of the exporters themselves and of the broker."""

from rules.promtool import JOB, Firing, Scenario, firing
from rules.series import Line, SeriesOf, absent, at, now, rises

CANARY = "celery_exporter_canary_last_success_timestamp_seconds"
DEAF = "celery_exporter_deaf_seconds_total"
UP: SeriesOf = {"celery_broker_up": [at(1)]}


def seen(up: Line, told: Line, instance: str) -> SeriesOf:
    """What Prometheus has of a second exporter."""
    labels = f'{{job="{JOB}", instance="{instance}"}}'
    return {f"up{labels}": up, f"celery_exporter_build_info{labels}": told}


AWAY: dict[str, Line] = {"up": [at(1, 10), at(0, 10), at(1)]}
SILENT: dict[str, Line] = {"celery_exporter_build_info": [at(1, 10), absent(10), at(1)]}
WITHDRAWN: dict[str, Line] = {"up": [at(1, 10), absent(15), at(1)]}
UNTOLD: dict[str, Line] = {"celery_exporter_build_info": [at(1, 10), absent(15), at(1)]}

DOWN = (
    Scenario(
        "the only exporter is away for 10 minutes",
        30, {}, "CeleryExporterDown", [firing(15, 19, "critical")], exporter=AWAY | SILENT, alone=True,
    ),
    Scenario(
        "the only exporter is away for 4 minutes",
        30, {}, "CeleryExporterDown", alone=True,
        exporter={"up": [at(1, 10), at(0, 4), at(1)], "celery_exporter_build_info": [at(1, 10), absent(4), at(1)]},
    ),
    Scenario(
        "targets that are no exporters are down, in the same job and in another",
        30, {}, "CeleryExporterDown", alone=True,
        others={f'up{{job="{job}", instance="node:9100"}}': [at(0)] for job in (JOB, "node")},
    ),
    Scenario(
        "a target was never an exporter that could be scraped",
        30, {}, "CeleryExporterDown", alone=True,
        exporter={"up": [at(0)], "celery_exporter_build_info": [absent()]},
    ),
    Scenario(
        "one of two is away",
        30, {}, "CeleryExporterDown", [firing(15, 19, "warning", instance="b:9808")], alone=True,
        others=seen(AWAY["up"], SILENT["celery_exporter_build_info"], "b:9808"),
    ),
    Scenario(
        "one of two is away for 4 minutes",
        30, {}, "CeleryExporterDown", alone=True,
        others=seen([at(1, 10), at(0, 4), at(1)], [at(1, 10), absent(4), at(1)], "b:9808"),
    ),
    Scenario(
        "the only exporter is away for days, and is then forgotten",
        3000, {}, "CeleryExporterDown", [firing(180, 1500, "critical")], alone=True, step=240, every=60,
        exporter={"up": [at(1, 120), at(0)], "celery_exporter_build_info": [at(1, 120), absent()]},
    ),
    Scenario(
        "one of two is away for days, and is then forgotten",
        3000, {}, "CeleryExporterDown", [firing(180, 1500, "warning", instance="b:9808")], alone=True,
        step=240, every=60,
        others=seen([at(1, 120), at(0)], [at(1, 120), absent()], "b:9808"),
    ),
    Scenario(
        "both of two are away",
        30, {}, "CeleryExporterDown", [firing(15, 19, "critical")], exporter=AWAY | SILENT, alone=True,
        others=seen(AWAY["up"], SILENT["celery_exporter_build_info"], "b:9808"),
    ),
    Scenario(
        "a job whose name nobody has foreseen is away",
        30, {}, "CeleryExporterDown", [Firing(15, 19, {"job": "a/strange job", "severity": "critical"})], alone=True,
        others={
            'up{job="a/strange job", instance="c:1"}': AWAY["up"],
            'celery_exporter_build_info{job="a/strange job", instance="c:1"}': SILENT["celery_exporter_build_info"],
        },
    ),
    Scenario(
        "a target is taken away on purpose",
        30, {}, "CeleryExporterDown", exporter=WITHDRAWN | UNTOLD, alone=True,
    ),
)  # fmt: skip

NOBODY = {"severity": "critical"}
ABSENT = (
    Scenario(
        "Prometheus has no exporter for 15 minutes",
        35, {}, "CeleryExporterAbsent", [Firing(20, 24, NOBODY)], exporter=WITHDRAWN | UNTOLD, alone=True,
    ),
    Scenario(
        "Prometheus has no exporter for 9 minutes",
        35, {}, "CeleryExporterAbsent", alone=True,
        exporter={"up": [at(1, 10), absent(9), at(1)], "celery_exporter_build_info": [at(1, 10), absent(9), at(1)]},
    ),
    Scenario(
        "the exporter is down, which says enough",
        35, {}, "CeleryExporterAbsent", exporter={"up": [at(1, 10), at(0, 15), at(1)], **UNTOLD}, alone=True,
    ),
    Scenario(
        "the exporter is down for days, and is then forgotten",
        3000, {}, "CeleryExporterAbsent", [Firing(1620, 3000, NOBODY)], alone=True, step=240, every=60,
        exporter={"up": [at(1, 120), at(0)], "celery_exporter_build_info": [at(1, 120), absent()]},
    ),
    Scenario(
        "Prometheus never had one",
        35, {}, "CeleryExporterAbsent", [Firing(10, 35, NOBODY)], alone=True,
        exporter={"up": [absent()], "celery_exporter_build_info": [absent()]},
    ),
    Scenario(
        "what is down was never an exporter",
        35, {}, "CeleryExporterAbsent", [Firing(10, 35, NOBODY)], alone=True,
        exporter={"up": [at(0)], "celery_exporter_build_info": [absent()]},
    ),
)  # fmt: skip

HEARS: Line = [now()]
DEAFENED: Line = [now(9.25), at(540, 10.75), now()]  # the last canary at 9:00, the next one at 20:00
HEARING = (
    Scenario(
        "canaries do not come back",
        30, {**UP, CANARY: DEAFENED}, "CeleryExporterDeaf", [firing(13, 19, "critical")],
    ),
    Scenario("canaries are 60 s late", 20, {**UP, CANARY: [now(behind=60)]}, "CeleryExporterDeaf"),
    Scenario(
        "canaries are 61 s late",
        20, {**UP, CANARY: [now(behind=61)]}, "CeleryExporterDeaf", [firing(2, 20, "critical")],
    ),
    Scenario(
        "canaries do not come back since the broker is down",
        30, {"celery_broker_up": [at(1, 9.25), at(0, 10.75), at(1)], CANARY: DEAFENED}, "CeleryExporterDeaf",
    ),
    Scenario(
        "one of two hears nothing",
        30, {**UP, CANARY: HEARS}, "CeleryExporterDeaf", other={**UP, CANARY: DEAFENED},
    ),
    Scenario(
        "there are no canaries, as with --passive, and the broker was away",
        40,
        {"celery_broker_up": [at(1, 10), at(0, 10), at(1)], DEAF: [at(0, 10), rises(60, 10), at(600)]},
        "CeleryExporterDeaf",
    ),
    Scenario(
        "nothing was heard since the start",
        30, {**UP, CANARY: [absent(20), now()], DEAF: [rises(60, 20), at(1200)]}, "CeleryExporterDeaf",
        [firing(4, 19, "critical")],
    ),
    Scenario(
        "nothing was heard for most of the time since the start",
        30, {**UP, DEAF: [rises(54)]}, "CeleryExporterDeaf",
    ),
    Scenario(
        "an exporter was restarted, and one that hears is there",
        30, {**UP, CANARY: HEARS, DEAF: [at(0)]}, "CeleryExporterDeaf",
        other={**UP, DEAF: [rises(60)]},
    ),
    Scenario(
        "heartbeats are missing too, and no worker is known",
        30, {**UP, CANARY: DEAFENED, 'celery_worker_up{worker="one"}': [at(1, 9), absent()]}, "CeleryExporterDeaf",
        [firing(13, 19, "critical")],
    ),
)  # fmt: skip

WATCHDOG = (
    Scenario(
        "all is well, or nothing is there",
        10, {}, "CeleryWatchdog", [Firing(0, 10, {"severity": "none"})],
    ),
)  # fmt: skip


LIMIT: Line = [at(100)]


def memory(used: Line, most: Line = LIMIT) -> SeriesOf:
    return {"celery_broker_memory_used_bytes": used, "celery_broker_memory_max_bytes": most}


BROKER = (
    Scenario(
        "the broker is away for 5 minutes",
        30, {"celery_broker_up": [at(1, 10), at(0, 5), at(1)]}, "CeleryBrokerDown", [firing(12, 14, "critical")],
    ),
    Scenario(
        "the broker is away for a minute",
        30, {"celery_broker_up": [at(1, 10), at(0, 1.5), at(1)]}, "CeleryBrokerDown",
    ),
    Scenario(
        "one of two exporters does not reach the broker",
        30, UP, "CeleryBrokerDown", other={"celery_broker_up": [at(1, 10), at(0)]},
    ),
    Scenario("memory is at 85 %", 20, memory([at(85)]), "CeleryBrokerMemoryHigh"),
    Scenario(
        "memory is above 85 % for a while",
        30, memory([at(50, 5), at(86, 10), at(50)]), "CeleryBrokerMemoryHigh", [firing(10, 14, "warning")],
    ),
    Scenario(
        "memory is at 95 %",
        20, memory([at(95)]), "CeleryBrokerMemoryHigh", [firing(5, 20, "warning")],
    ),
    Scenario(
        "memory is above 95 % for a while",
        30, memory([at(50, 5), at(96, 10), at(50)]), "CeleryBrokerMemoryHigh",
        [firing(10, 14, "warning"), firing(10, 14, "critical")],
    ),
    Scenario("memory is high for 4 minutes", 30, memory([at(50, 5), at(96, 4), at(50)]), "CeleryBrokerMemoryHigh"),
    Scenario("there is no limit", 20, {"celery_broker_memory_used_bytes": [at(9e9)]}, "CeleryBrokerMemoryHigh"),
    Scenario("the limit is 0", 20, memory([at(9e9)], [at(0)]), "CeleryBrokerMemoryHigh"),
    Scenario(
        "polls of the broker fail while memory is high",
        30, memory([at(96, 4), absent()], [at(100, 4), absent()]), "CeleryBrokerMemoryHigh",
    ),
    Scenario(
        "RabbitMQ has raised its memory alarm",
        30,
        {
            'celery_broker_alarm{alarm="memory"}': [at(0, 5), at(1, 10), at(0)],
            'celery_broker_alarm{alarm="disk"}': [at(0)],
        },
        "CeleryBrokerAlarm", [firing(10, 14, "critical", alarm="memory")],
    ),
    Scenario(
        "RabbitMQ raises an alarm for 4 minutes",
        30, {'celery_broker_alarm{alarm="disk"}': [at(0, 5), at(1, 4), at(0)]}, "CeleryBrokerAlarm",
    ),
)  # fmt: skip

SCENARIOS = (*DOWN, *ABSENT, *HEARING, *WATCHDOG, *BROKER)
