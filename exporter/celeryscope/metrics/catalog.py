"""Every metric: name, type, labels, help. Data only; `docs/metrics.md` is generated from it.

Times are seconds, sizes bytes, timestamps Unix seconds.
"""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """The type of a metric, by its name in an exposition."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric family. `buckets` are upper bounds in ascending order without +Inf, for histograms alone."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


RUNTIME_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
WAIT_BUCKETS = (0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0, 43200.0)

# Values that labels take.
UNKNOWN = "unknown"  # a task or queue that nothing told us
OVERFLOW = "__overflow__"  # where series beyond the budget are folded together
OTHER = "other"  # exception classes, event types and limiters beyond their bound; tasks and queues kept out
NO_NAMES = frozenset({UNKNOWN, OVERFLOW, OTHER})  # of a task or queue
SLOS = ("success", "wait", "runtime")
REVOKED_REASONS = ("expired", "terminated", "revoked")
REQUEUE_VALUES = ("true", "false")
IN_FLIGHT_STATES = ("sent", "received", "scheduled", "started")
DISORDER_KINDS = (
    "unreceived_start", "start_after_end", "unstarted_end", "duplicate_end", "negative_wait", "stale_offline",
    "duplicate_node_name",
)  # fmt: skip
INVALID_REASONS = (
    "syntax", "content_type", "body_encoding", "envelope", "too_large", "not_an_event", "missing_field", "wrong_type",
    "bad_value", "name_cut",
)  # fmt: skip
EVICTION_REASONS = ("capacity", "ttl", "no_end")
CPU_MODES = ("user", "system")

T = ("task", "queue")
W = ("worker",)


def _counter(name: str, help: str, labels: tuple[str, ...] = ()) -> Spec:
    return Spec(name, Kind.COUNTER, help, labels)


def _gauge(name: str, help: str, labels: tuple[str, ...] = ()) -> Spec:
    return Spec(name, Kind.GAUGE, help, labels)


def _histogram(name: str, help: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Spec:
    return Spec(name, Kind.HISTOGRAM, help, labels, buckets)


# Tasks, from events.
TASK_SENT = _counter(
    "celery_task_sent_total", "Tasks published by producers and by retries (needs task_send_sent_event).", T
)
TASK_RECEIVED = _counter("celery_task_received_total", "Tasks received by a worker.", T)
TASK_STARTED = _counter("celery_task_started_total", "Tasks started by a worker, every start of every attempt.", T)
TASK_SUCCEEDED = _counter("celery_task_succeeded_total", "Tasks that succeeded.", T)
TASK_FAILED = _counter("celery_task_failed_total", "Tasks that failed for good.", T)
TASK_RETRIED = _counter("celery_task_retried_total", "Attempts that ended in a retry.", T)
TASK_CANCELLED = _counter(
    "celery_task_cancelled_total", "Running tasks that a worker cancelled because it lost the broker.", T
)
TASK_REJECTED = _counter(
    "celery_task_rejected_total", "Messages that a worker rejected, back into the queue or not.", (*T, "requeue")
)
TASK_REVOKED = _counter(
    "celery_task_revoked_total",
    "Tasks that never ran or were stopped: expired (work silently lost), terminated, revoked.",
    (*T, "reason"),
)
TASK_EXCEPTIONS = _counter(
    "celery_task_exceptions_total",
    "Exceptions by class, of attempts that failed and attempts that were retried.",
    (*T, "exception", "outcome"),
)
TASK_REDELIVERED = _counter(
    "celery_task_redelivered_total",
    "Attempts started again without a retry: a lost worker, a rejected message or the visibility timeout.",
    T,
)
TASK_ORPHANED = _counter(
    "celery_task_orphaned_total", "Tasks started on a worker that then was lost or left, with no end reported.", T
)
TASK_RUNTIME = _histogram(
    "celery_task_runtime_seconds",
    "Time from start to end of an attempt, as the worker reported it, else between its events.",
    (*T, "outcome"),
    RUNTIME_BUCKETS,
)
TASK_WAIT = _histogram(
    "celery_task_wait_seconds",
    "Time from when a task was due (the later of sent and ETA) to its first start.",
    T,
    WAIT_BUCKETS,
)
TASK_WAIT_UNKNOWN = _counter(
    "celery_task_wait_unknown_total", "Tasks started whose wait could not be known (no task-sent event, or evicted).", T
)
TASK_PREFETCH = _histogram(
    "celery_task_prefetch_seconds",
    "Time from when a worker held a due task to its start, on the worker's own clock. Opt-in.",
    T,
    WAIT_BUCKETS,
)
TASK_LAST_SENT = _gauge("celery_task_last_sent_timestamp_seconds", "When the task was last sent.", T)
TASK_LAST_SUCCEEDED = _gauge("celery_task_last_succeeded_timestamp_seconds", "When the task last succeeded.", T)
TASKS_IN_FLIGHT = _gauge(
    "celery_tasks_in_flight", "Tasks tracked now: sent, received, scheduled (ETA ahead), started.", (*T, "state")
)
TASK_OLDEST_RECEIVED = _gauge(
    "celery_task_oldest_received_timestamp_seconds",
    "Since when the task that a worker holds longest without starting it is due there.",
    T,
)
TASK_OLDEST_STARTED = _gauge(
    "celery_task_oldest_started_timestamp_seconds", "When the task that runs longest was started.", T
)
TASK_ACCEPTED = _counter(
    "celery_task_accepted_total",
    "Tasks accepted by workers, from their statistics: moves even where task events are off.",
    ("task",),
)
TASK_EXPECTED_INTERVAL = _gauge(
    "celery_task_expected_interval_seconds",
    "Longest time that may lie between two runs: configured for the task, else of the beat schedule of the app (-A).",
    ("task",),
)

# Objectives.
SLO_TASKS = _counter(
    "celery_slo_tasks_total",
    "Tasks judged by an objective. success: succeeded, failed for good or expired; what was retried or revoked by hand "
    "does not count. wait: first starts with a known wait. runtime: attempts that succeeded, with a known runtime.",
    (*T, "slo"),
)
SLO_GOOD_TASKS = _counter(
    "celery_slo_good_tasks_total",
    "Those that were good: succeeded, or at most the threshold itself. Counted exactly, no bucket edge.",
    (*T, "slo"),
)
SLO_OBJECTIVE_RATIO = _gauge(
    "celery_slo_objective_ratio", "Share of the judged tasks that is to be good, as configured.", (*T, "slo")
)
SLO_THRESHOLD = _gauge(
    "celery_slo_threshold_seconds", "Longest wait or runtime that is good, as configured.", (*T, "slo")
)

# Queues, from polls of the broker. All of them are as old as the last poll.
QUEUE_LENGTH = _gauge(
    "celery_queue_length", "Messages that wait in the queue, ready for delivery, over all priorities.", ("queue",)
)
QUEUE_PRIORITY_LENGTH = _gauge(
    "celery_queue_priority_length",
    "Those of one priority. Only where the broker keeps them apart.",
    ("queue", "priority"),
)
QUEUE_UNACKED = _gauge(
    "celery_queue_unacked",
    "Messages that workers hold and have not acknowledged: estimated from a sample of them where they are very many.",
    ("queue",),
)
QUEUE_DELAYED = _gauge(
    "celery_queue_delayed",
    "Messages that the broker itself holds until they are due, not counted as waiting.",
    ("queue",),
)
QUEUE_CONSUMERS = _gauge("celery_queue_consumers", "Consumers of the queue, by the broker's own count.", ("queue",))
QUEUE_WORKERS = _gauge(
    "celery_queue_workers",
    "Workers that consume the queue, by what they last told. Absent while no poll of the workers succeeds, and "
    "instead of 0 while a worker is up that never told.",
    ("queue",),
)
QUEUE_CONCURRENCY = _gauge(
    "celery_queue_concurrency",
    "Tasks that these workers can run at once. What a worker shares among queues is counted in each of them.",
    ("queue",),
)
QUEUE_WORKER_INFO = _gauge(
    "celery_queue_worker_info",
    "1: the worker consumes the queue, by what it last told. Joins facts of workers to queues.",
    ("queue", "worker"),
)
QUEUE_BYTES = _gauge(
    "celery_queue_bytes",
    "Size of the queue's messages. Only where the broker adds it up, as Redis does not.",
    ("queue",),
)
QUEUE_OLDEST = _gauge(
    "celery_queue_oldest_task_timestamp_seconds",
    "When the task that is delivered next was due (the later of sent and ETA). Without a task-sent event its ETA, else "
    "a bound: since when it was seen to be next, so that it has waited at least so long. Absent for an empty queue.",
    ("queue",),
)
QUEUE_HEAD_BYTES = _gauge(
    "celery_queue_head_message_bytes",
    "Size of the message that is delivered next: a sample of the queue's messages.",
    ("queue",),
)
QUEUE_WAIT_OBJECTIVE = _gauge(
    "celery_queue_wait_objective_seconds",
    "How long a task may wait in the queue: configured for the queue, else --queue-wait-objective.",
    ("queue",),
)

# Rate limits.
TASK_RATE_LIMITED = _counter(
    "celery_task_rate_limited_total",
    "Tasks throttled by an outside limit: task-rate-limited events, and exceptions configured as such.",
    (*T, "limiter"),
)
TASK_RATE_LIMIT_DELAY = _histogram(
    "celery_task_rate_limit_delay_seconds",
    "Delay that a task-rate-limited event announced.",
    (*T, "limiter"),
    RUNTIME_BUCKETS,
)
TASK_RATE_LIMIT = _gauge(
    "celery_task_rate_limit_per_second",
    "Starts that Celery's rate_limit allows: the sum over live workers that limit the task. Absent where none does.",
    ("task",),
)
TASKS_RATE_LIMIT_HELD = _gauge(
    "celery_tasks_rate_limit_held",
    "Tasks that are due and have been in a worker that limits them for over a second, while it has a slot free.",
    ("task",),
)
RATE_LIMITER_LIMIT = _gauge("celery_rate_limiter_limit", "Limit that a limiter last announced.", ("limiter",))
RATE_LIMITER_REMAINING = _gauge(
    "celery_rate_limiter_remaining", "What a limiter last announced as left of its limit.", ("limiter",)
)

# Workers, from heartbeats and inspection.
WORKER_UP = _gauge("celery_worker_up", "1: heartbeats arrive. 0: the worker left, or was lost.", W)
WORKER_INFO = _gauge(
    "celery_worker_info",
    "What the worker runs. pool is empty until an inspection told it.",
    (*W, "version", "software", "system", "pool"),
)
WORKER_LAST_HEARTBEAT = _gauge(
    "celery_worker_last_heartbeat_timestamp_seconds", "When the last heartbeat was received here.", W
)
WORKER_START_TIME = _gauge("celery_worker_start_time_seconds", "When the worker was started.", W)
WORKER_TASKS_ACTIVE = _gauge(
    "celery_worker_tasks_active", "Tasks that the worker runs now. Absent while a solo worker is silent: it works.", W
)
WORKER_TASKS_RESERVED = _gauge(
    "celery_worker_tasks_reserved",
    "Tasks that wait in the worker for a free slot. Absent where it may hold so many that it is not asked for them.",
    W,
)
WORKER_TASKS_SCHEDULED = _gauge(
    "celery_worker_tasks_scheduled",
    "Tasks that wait in the worker for their ETA. Where they are very many: by how much they raise its prefetch limit.",
    W,
)
WORKER_CONCURRENCY = _gauge(
    "celery_worker_concurrency", "Tasks that the worker's pool can run at once; with an autoscaler, at most.", W
)
WORKER_PROCESSES = _gauge("celery_worker_processes", "Processes of the pool. Absent for thread pools.", W)
WORKER_PREFETCH_LIMIT = _gauge(
    "celery_worker_prefetch_limit", "Messages that the worker takes before it acknowledges one.", W
)
WORKER_TASKS_PROCESSED = _counter(
    "celery_worker_tasks_processed_total", "Tasks that the worker accepted, by its own count.", W
)
WORKER_LOAD1 = _gauge("celery_worker_load1", "Load average of the worker's host over 1 minute.", W)
WORKER_LOAD5 = _gauge("celery_worker_load5", "Load average of the worker's host over 5 minutes.", W)
WORKER_LOAD15 = _gauge("celery_worker_load15", "Load average of the worker's host over 15 minutes.", W)
WORKER_CPU = _counter(
    "celery_worker_main_process_cpu_seconds_total",
    "CPU time of the worker's main process, without the children of its pool.",
    (*W, "mode"),
)
WORKER_MEMORY_MAX = _gauge(
    "celery_worker_main_process_resident_memory_max_bytes",
    "Highest resident memory of the worker's main process, without the children of its pool.",
    W,
)
WORKER_RESTARTS = _counter("celery_worker_restarts_total", "Times that the worker came back as another process.", W)
WORKER_CHILD_REPLACEMENTS = _counter(
    "celery_worker_child_replacements_total",
    "Processes of the worker's pool that took the place of others. A lower bound: those that polls meet.",
    W,
)
WORKER_LOST = _counter(
    "celery_worker_lost_total", "Times that heartbeats stopped without a farewell while we provably heard.", W
)
WORKER_CLOCK_SKEW = _gauge(
    "celery_worker_clock_skew_seconds",
    "Clock of this exporter minus the worker's, least of 10 heartbeats: positive where the worker is behind.",
    W,
)
WORKER_TASK_EVENTS_ENABLED = _gauge(
    "celery_worker_task_events_enabled",
    "1: the worker sends task events. 0: it processes tasks and sends none. Absent until known.",
    W,
)
WORKER_EVENTS_LOST = _counter(
    "celery_worker_events_lost_total",
    "Task events that the worker must have sent and that never arrived here.",
    W,
)

# The broker.
BROKER_UP = _gauge("celery_broker_up", "1: every connection to the broker works. 0: one was refused or lost.")
BROKER_INFO = _gauge(
    "celery_broker_info",
    "The broker's transport, and the version that the server last told: empty until then.",
    ("transport", "version"),
)
BROKER_MEMORY_USED = _gauge("celery_broker_memory_used_bytes", "Memory that the broker uses.")
BROKER_MEMORY_MAX = _gauge(
    "celery_broker_memory_max_bytes", "Memory at which the broker refuses messages or evicts. Absent without a limit."
)
BROKER_EVICTED_KEYS = _counter(
    "celery_broker_evicted_keys_total",
    "Keys that the server evicted for want of memory, by its own count since its start: queues may be among them.",
)
BROKER_EVICTION_POLICY = _gauge(
    "celery_broker_eviction_policy_info", "What the server evicts for want of memory.", ("policy",)
)
BROKER_ALARM = _gauge(
    "celery_broker_alarm", "1: the broker blocks publishers for want of memory or disk. 0: it does not.", ("alarm",)
)
BROKER_OLDEST_UNACKED = _gauge(
    "celery_broker_oldest_unacked_timestamp_seconds",
    "When the message that was not acknowledged for longest was delivered, of all queues.",
)
BROKER_VISIBILITY_TIMEOUT = _gauge(
    "celery_broker_visibility_timeout_seconds", "Time after which a message without acknowledgement is delivered again."
)

# The exporter itself.
EXPORTER_EVENTS = _counter("celery_exporter_events_total", "Events handled, by type.", ("type",))
EXPORTER_INVALID_EVENTS = _counter(
    "celery_exporter_invalid_events_total",
    "Messages, or events in them, that are not what Celery sends, and names that had to be cut.",
    ("reason",),
)
EXPORTER_DISORDER = _counter(
    "celery_exporter_disorder_total", "Events that contradict what was known, by kind. They were counted.", ("kind",)
)
EXPORTER_DEAF_SECONDS = _counter(
    "celery_exporter_deaf_seconds_total", "Time without a connection, or with one that provably heard nothing."
)
EXPORTER_EVENT_LAG = _gauge(
    "celery_exporter_event_lag_seconds", "Age of the last worker event when it arrived, clock skew taken out."
)
EXPORTER_LAST_EVENT = _gauge("celery_exporter_last_event_timestamp_seconds", "When the last event arrived.")
EXPORTER_CONNECTED = _gauge("celery_exporter_connected", "1: the event stream is open. 0: it is not.")
EXPORTER_RECONNECTS = _counter(
    "celery_exporter_reconnects_total", "Times that the event stream was opened again after a loss."
)
EXPORTER_CANARY_ROUND_TRIP = _gauge(
    "celery_exporter_canary_round_trip_seconds", "Time that the last canary event took through the broker and back."
)
EXPORTER_CANARY_LAST_SUCCESS = _gauge(
    "celery_exporter_canary_last_success_timestamp_seconds", "When a canary event last came back."
)
EXPORTER_TRACKED_TASKS = _gauge("celery_exporter_tracked_tasks", "Tasks in memory, ended ones of the last minute too.")
EXPORTER_EVICTED = _counter(
    "celery_exporter_tracked_tasks_evicted_total",
    "Tasks forgotten before an end was seen: capacity, ttl, no_end (the worker no longer runs it).",
    ("reason",),
)
EXPORTER_SERIES = _gauge(
    "celery_exporter_series", "Samples that the next scrape shows of all metrics but process ones."
)
EXPORTER_SERIES_DROPPED = _counter(
    "celery_exporter_series_dropped_total",
    "Times that a series found no room: counters and histograms fold into __overflow__, gauges are left out.",
    ("metric",),
)
EXPORTER_POLL_SUCCESS = _gauge("celery_exporter_poll_success", "1: the poller's last poll succeeded.", ("poller",))
EXPORTER_POLL_DURATION = _gauge("celery_exporter_poll_duration_seconds", "Duration of the last poll.", ("poller",))
EXPORTER_POLL_LAST_SUCCESS = _gauge(
    "celery_exporter_poll_last_success_timestamp_seconds", "When the poller last succeeded.", ("poller",)
)
EXPORTER_BUILD_INFO = _gauge(
    "celery_exporter_build_info",
    "Versions of the exporter and of what it is built on.",
    ("version", "python", "celery"),
)

ALL: tuple[Spec, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Spec))
BY_NAME: dict[str, Spec] = {spec.name: spec for spec in ALL}
