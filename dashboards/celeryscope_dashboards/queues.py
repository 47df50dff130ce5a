"""Queues and broker: how long does work hang, and does something overflow?"""

from celeryscope_dashboards import palette
from celeryscope_dashboards.asking import About, Query, bad_below, bad_from, rising
from celeryscope_dashboards.board import Board, Row
from celeryscope_dashboards.panels import SCARCE, Panel, heat, lines, numbers, states
from celeryscope_dashboards.queries import Scope, either, over
from celeryscope_dashboards.tables import JOB, Label, facts

CHOSEN = Scope(("queue",))
LENGTH = "job_queue:celery_queue_length:max"
WORKERS = "job_queue:celery_queue_workers:max"
OLDEST = "job_queue:celery_queue_oldest_task_timestamp_seconds:min"
OBJECTIVE = "job_queue:celery_queue_wait_objective_seconds:max"
DRAIN = "job_queue:celery_queue_drain_seconds:ratio5m"
NOT_POLLED = "the broker's queues cannot be polled"


def board() -> Board:
    """The dashboard."""
    return Board(
        "queues",
        "Queues and broker",
        "How long does work hang in a queue, and does a queue or the broker overflow?",
        (
            Row("Now", (waiting(), used(), unserved(), broker_up(), memory_used(), visibility_used())),
            Row("How long does work hang?", (lengths(), growth(), ages(), drains(), wait_heat(), wait_p95())),
            Row("Who works on it?", (flow(), workers(), unacked(), delayed())),
            Row("Does the broker overflow?", (memory(), visibility())),
            Row("Waits in detail", (wait_quantiles(),), collapsed=True),
            Row("The broker in detail", (evictions(), policy(), broker(), alarms()), collapsed=True),
            Row("Priorities and sizes", (priorities(), sizes(), consumers(), heads()), collapsed=True),
        ),
        CHOSEN,
    )


def waiting() -> Panel:
    about = About(
        "How many messages wait in all chosen queues?",
        "It comes and goes. How bad a number is depends on how fast the queue drains: see there.",
        NOT_POLLED,
    )
    return numbers("Waiting", about, Query(CHOSEN.recorded(LENGTH), "Waiting"))


def used() -> Panel:
    oldest, objective = CHOSEN.recorded(OLDEST, "job", "queue"), CHOSEN.recorded(OBJECTIVE, "job", "queue")
    about = About(
        "How much of the time that a task may wait has the oldest one waited, in the queue where that is worst?",
        "Below 50 %. Above 100 % tasks come too late, and an alert fires.",
        f"{NOT_POLLED}, or nobody knows since when their tasks wait",
    )
    nothing = f"({CHOSEN.recorded(LENGTH)} == 0)"
    expr = either(f"max(clamp_min(time() - {oldest}, 0) / {objective})", nothing)
    return numbers("Allowed wait used", about, Query(expr, "Used"), unit="percentunit", steps=rising(0.5, 1))


def unserved() -> Panel:
    length, workers = CHOSEN.recorded(LENGTH, "job", "queue"), CHOSEN.recorded(WORKERS, "job", "queue")
    about = About(
        "In how many queues does work wait that no worker consumes?",
        "0. A dead-letter queue may be one by design.",
        "nobody knows which workers consume which queues",
    )
    expr = either(f"count({length} > 0 and on (job, queue) {workers} == 0)", f"0 * count({workers})")
    return numbers("Queues without workers", about, Query(expr, "Queues"), steps=bad_from(1))


def broker_up() -> Panel:
    about = About(
        "Does the broker answer?",
        "Up. Down: a connection was refused or lost, and most likely nobody gets through.",
        "no exporter runs",
    )
    expr = CHOSEN.least("celery_broker_up")
    return numbers(
        "Broker",
        about,
        Query(expr, "Broker"),
        steps=bad_below(1),
        meaning={1: ("up", palette.GOOD), 0: ("down", palette.BAD)},
    )


def memory_used() -> Panel:
    expr = f"max({_by_job('celery_broker_memory_used_bytes')} / ({_by_job('celery_broker_memory_max_bytes')} > 0))"
    about = About(
        "How full is the broker's memory?",
        "Below 85 %. Where it is full, the broker refuses messages, or evicts them with their queues.",
        "the broker has no memory limit, or does not tell",
    )
    return numbers("Broker memory used", about, Query(expr, "Used"), unit="percentunit", steps=rising(0.85, 0.95))


def visibility_used() -> Panel:
    about = About(
        "How near is the oldest unacknowledged message to being delivered again?",
        "Below 80 % of the visibility timeout. At 100 % the task runs a second time, while the first still runs.",
        "nothing is unacknowledged, or the broker has no visibility timeout",
    )
    expr = f"max({_unacked_age()} / ({_by_job('celery_broker_visibility_timeout_seconds')} > 0))"
    return numbers("Visibility timeout used", about, Query(expr, "Used"), unit="percentunit", steps=rising(0.5, 0.8))


def _by_job(metric: str) -> str:
    return CHOSEN.largest(metric, "job")


def _unacked_age() -> str:
    return CHOSEN.oldest_age("celery_broker_oldest_unacked_timestamp_seconds", "job")


def lengths() -> Panel:
    about = About(
        "Where does work pile up?",
        "Peaks that go away. A queue that only grows is not worked off fast enough, or by nobody.",
        NOT_POLLED,
    )
    return lines("Length by queue", about, Query(CHOSEN.recorded(LENGTH, "queue"), "{{queue}}"))


def growth() -> Panel:
    about = About(
        "How fast do queues grow or shrink?",
        "Around 0. Above 0 for long: more arrives than is done. Below 0: the queue is being worked off.",
        NOT_POLLED,
    )
    expr = over("sum", f"deriv({CHOSEN.select(LENGTH)}[5m])", ("queue",))
    return lines("Growth by queue", about, Query(expr, "{{queue}}"), unit="cps", least=None)


def ages() -> Panel:
    about = About(
        "How long has the next task of each queue been waiting?",
        "Below the least that any queue may wait, which is dashed. A straight climb: nobody takes anything from that "
        "queue.",
        "all queues are empty, or nobody knows since when their tasks wait",
    )
    expr = f"clamp_min(time() - {CHOSEN.recorded(OLDEST, 'queue', of='min')}, 0)"
    return lines(
        "Age of the oldest task by queue",
        about,
        Query(expr, "{{queue}}"),
        Query(CHOSEN.recorded(OBJECTIVE, of="min"), "least allowed wait", colour=palette.BAD, dashed=True),
        unit="s",
    )


def drains() -> Panel:
    about = About(
        "How long would what waits now take, at the present pace?",
        "Below what the queue may wait. It is absent where nothing is being worked off: then look at age and workers.",
        "nothing is being worked off, or nothing waits",
    )
    return lines("Drain time by queue", about, Query(CHOSEN.recorded(DRAIN, "queue", of="max"), "{{queue}}"), unit="s")


def wait_heat() -> Panel:
    about = About(
        "How are waits spread, and does that change?",
        "A dark band at the bottom. A band that climbs is a queue that cannot keep up.",
        "no task-sent events, or nothing was started",
    )
    return heat(
        "Wait before the start", about, Query(CHOSEN.buckets("celery_task_wait_seconds"), "{{le}}", exemplars=True)
    )


def wait_p95() -> Panel:
    about = About(
        "How long did tasks of each queue wait?",
        "p95 over 5 minutes, below what the queue may wait.",
        "no task-sent events, or nothing was started",
    )
    expr = CHOSEN.recorded("job_queue:celery_task_wait_seconds:p95_5m", "queue", of="max")
    return lines("Wait p95 of each queue", about, Query(expr, "{{queue}}"), unit="s")


def flow() -> Panel:
    about = About(
        "Is as much started as is sent?",
        "Sent and started of a queue lie upon each other. Sent above started: the queue grows. Where producers send no "
        "task-sent events, sent is 0 and most starts belong to no known queue.",
        "workers send no task events",
    )
    return lines(
        "Sent against started, by queue",
        about,
        Query(CHOSEN.recorded("job_queue:celery_task_sent:rate5m", "queue"), "{{queue}} sent"),
        Query(CHOSEN.recorded("job_queue:celery_task_started:rate5m", "queue"), "{{queue}} started", dashed=True),
        unit="cps",
    )


def workers() -> Panel:
    about = About(
        "Who serves each queue?",
        "At least one worker each. Concurrency is shared: a worker of several queues counts in each of them.",
        "nobody knows which workers consume which queues",
    )
    concurrency = CHOSEN.recorded("job_queue:celery_queue_concurrency:max", "queue")
    return lines(
        "Workers and concurrency by queue",
        about,
        Query(CHOSEN.recorded(WORKERS, "queue"), "{{queue}} workers"),
        Query(concurrency, "{{queue}} concurrency", dashed=True),
    )


def unacked() -> Panel:
    about = About(
        "How many messages do workers hold, by queue?",
        "About the workers' prefetch limits. Far above them: tasks with an ETA, which workers keep until they are due.",
        NOT_POLLED,
    )
    return lines("Unacknowledged by queue", about, Query(CHOSEN.total("celery_queue_unacked", "queue"), "{{queue}}"))


def delayed() -> Panel:
    about = About(
        "How many messages does the broker hold back until they are due?",
        "As many as were sent with a delay; they are not counted as waiting.",
        "the broker delays nothing itself: of the brokers, RabbitMQ (quorum queues) and SQS do",
    )
    return lines("Delayed by the broker", about, Query(CHOSEN.total("celery_queue_delayed", "queue"), "{{queue}}"))


def memory() -> Panel:
    about = About(
        "Does the broker run out of memory?",
        "Used well below its maximum. Without a maximum, the machine's memory is the limit, and the kernel ends the "
        "broker.",
        "the broker does not tell its memory",
    )
    return lines(
        "Broker memory against its maximum",
        about,
        Query(over("sum", _by_job("celery_broker_memory_used_bytes")), "used", colour=palette.PLAIN),
        Query(over("sum", _by_job("celery_broker_memory_max_bytes")), "maximum", colour=palette.BAD, dashed=True),
        unit="bytes",
    )


def visibility() -> Panel:
    about = About(
        "Will the broker deliver again what somebody still works on?",
        "The oldest unacknowledged message stays below the timeout. Where it comes near: shorter tasks, acks before "
        "the work, a longer visibility timeout, or no ETA further away than that.",
        "the broker has no visibility timeout: of the brokers, Redis and SQS have",
    )
    return lines(
        "Oldest unacknowledged against the visibility timeout",
        about,
        Query(over("max", _unacked_age()), "oldest unacknowledged", colour=palette.PLAIN),
        Query(CHOSEN.least("celery_broker_visibility_timeout_seconds"), "timeout", colour=palette.BAD, dashed=True),
        unit="s",
    )


def evictions() -> Panel:
    about = About(
        "Does the broker throw away keys for want of memory?",
        "Never: queues may be among them. Above 0, raise its memory and set its policy to noeviction.",
        "the broker is no Redis",
    )
    expr = CHOSEN.rate("celery_broker_evicted_keys_total")
    return lines("Evicted keys", about, Query(expr, "evicted", colour=palette.BAD), unit="cps")


def policy() -> Panel:
    about = About(
        "What does the broker evict where its memory ends?",
        "noeviction. Any other policy may delete whole queues.",
        "the broker is no Redis",
    )
    expr = CHOSEN.largest("celery_broker_eviction_policy_info", "job", "policy")
    shown = (Label("policy", "Policy"), JOB)
    return facts("Eviction policy", about, shown, expr, sort="Job", width=6)


def broker() -> Panel:
    about = About(
        "Which broker is this?",
        "The one that the workers use.",
        "no exporter runs",
    )
    expr = CHOSEN.largest("celery_broker_info", "job", "transport", "version")
    shown = (Label("transport", "Transport"), Label("version", "Version"), JOB)
    return facts("Broker version", about, shown, expr, sort="Job", width=6)


def alarms() -> Panel:
    about = About(
        "Does RabbitMQ block publishers?",
        "Quiet. A memory or disk alarm blocks every producer until it is over.",
        "the broker is no RabbitMQ, or no management URL is set",
    )
    expr = CHOSEN.largest("celery_broker_alarm", "alarm")
    meaning = {0.0: ("quiet", palette.GOOD), 1.0: ("blocks", palette.BAD)}
    return states("Broker alarms", about, Query(expr, "{{alarm}}"), meaning, height=6)


def priorities() -> Panel:
    about = About(
        "Which priorities wait?",
        "The urgent ones are short. On Redis 0 is delivered first, and low ones wait while there are any above.",
        "the broker does not keep priorities apart",
    )
    expr = CHOSEN.total("celery_queue_priority_length", "queue", "priority")
    return lines("Length by priority", about, Query(expr, "{{queue}} priority {{priority}}"))


def sizes() -> Panel:
    about = About(
        "How large are the queues?",
        "Small against the broker's memory.",
        "the broker does not add sizes up: RabbitMQ does, Redis does not",
    )
    return lines("Size by queue", about, Query(CHOSEN.total("celery_queue_bytes", "queue"), "{{queue}}"), unit="bytes")


def consumers() -> Panel:
    about = About(
        "How many consumers does the broker itself count?",
        "As many as workers that consume the queue. Fewer: a worker lost its consumer and does not know.",
        "the broker does not count consumers: RabbitMQ does, Redis does not",
    )
    expr = CHOSEN.total("celery_queue_consumers", "queue")
    return lines("Consumers by queue", about, Query(expr, "{{queue}}"))


def heads() -> Panel:
    about = About(
        "How large are messages?",
        "A few kilobytes. Above 256 KiB somebody sends contents instead of names.",
        "all queues are empty",
    )
    expr = CHOSEN.largest("celery_queue_head_message_bytes", "queue")
    return lines("Size of the next message", about, Query(expr, "{{queue}}"), unit="bytes", steps=bad_from(262_144))


def wait_quantiles() -> Panel:
    about = About(
        "How long did tasks wait, over all chosen queues?",
        "p50 is the usual wait, p99 the worst that one of a hundred has. A p99 that leaves the others behind: some "
        "queue, or some moments, are worse than the rest.",
        "no task-sent events, or nothing was started",
    )
    quantiles = ((0.5, "p50", palette.SECOND), (0.95, "p95", palette.PLAIN), (0.99, "p99", palette.BAD))
    asked = (
        Query(CHOSEN.quantile(value, "celery_task_wait_seconds"), name, colour=colour)
        for value, name, colour in quantiles
    )
    return lines("Wait p50, p95, p99", about, *asked, unit="s", points=SCARCE, width=24)
