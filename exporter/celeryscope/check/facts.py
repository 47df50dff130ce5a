"""What one look collects: immutable values, None where nothing told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from celeryscope.readings import BrokerReading, QueueReading, WorkerReading


class Gap(NamedTuple):
    """What was not looked at, and why."""

    what: str
    why: str
    unexpected: bool = False  # whether it should have been, and failed


class Beat(NamedTuple):
    """One heartbeat that was heard."""

    at: float  # Unix seconds here
    timestamp: float  # Unix seconds on the worker's clock
    pid: int | None
    active: int | None
    processed: int | None
    version: str | None  # of Celery


@dataclass(frozen=True, slots=True)
class Heard:
    """What came over the event stream."""

    seconds: float  # that were listened
    until: float  # Unix seconds
    proven: bool  # whether our own canary came back
    beats: Mapping[str, tuple[Beat, ...]] = field(default_factory=dict)  # by worker
    task_events: Mapping[str, int] = field(default_factory=dict)  # by worker, of those that workers send
    sent_events: int = 0  # task-sent


class TaskFacts(NamedTuple):
    """What a worker told of a task that it can run, its own settings and the app's taken together."""

    rate_limit: float | None  # starts per second
    time_limit: float | None  # seconds
    soft_time_limit: float | None  # seconds
    acks_late: bool
    reject_on_worker_lost: bool
    send_events: bool


class WorkerSettings(NamedTuple):
    """What `inspect conf` told. None is what was not told, or is set to None."""

    enable_utc: bool | None = None
    timezone: str | None = None
    accept_content: tuple[str, ...] | None = None
    prefetch_multiplier: float | None = None
    sends_task_events: bool | None = None  # -E leaves it False
    sends_task_sent: bool | None = None
    stores_results: bool = False
    results_expire: bool | None = None


class WorkerBroker(NamedTuple):
    """How a worker reaches the broker."""

    host: str | None
    tls: bool | None
    options: Mapping[str, object]  # of the transport, those of `TRANSPORT_OPTIONS` alone
    visibility_timeout: float | None = None  # seconds, of those options


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One worker that answered."""

    reading: WorkerReading
    settings: WorkerSettings | None
    tasks: Mapping[str, TaskFacts] | None  # Celery's own are not among them
    broker: WorkerBroker | None

    @property
    def name(self) -> str:
        """Its node name."""
        return self.reading.worker


class Head(NamedTuple):
    """The message of a queue that is delivered next."""

    bytes: int
    id: str | None = None  # None for what is no task
    task: str | None = None
    eta: float | None = None  # Unix seconds
    expires: float | None = None  # Unix seconds


class Heads(NamedTuple):
    """The heads of all queues that have one, seen at one moment."""

    at: float  # Unix seconds
    by_queue: Mapping[str, Head]


class Keys(NamedTuple):
    """What lies in a Redis database beside queues."""

    complete: bool  # whether all keys were seen
    replies: int  # lists of answers to remote control that nobody fetched
    reply_bindings: int | None  # members of the set of reply queues
    results: int  # results of tasks
    results_sampled: int
    results_lasting: int  # of those sampled: without a time to live


@dataclass(frozen=True, slots=True)
class Project:
    """What the project's own app (-A) says."""

    scheduled: Mapping[str, str]  # entry of the beat schedule -> task
    routes: Mapping[str, str]  # task -> queue that it is sent to where the caller names none


@dataclass(frozen=True, slots=True)
class Facts:
    """All that one look brought."""

    now: float  # Unix seconds
    transport: str
    address: str  # without credentials
    local: bool  # whether the broker is this machine's own
    credentials: bool  # whether we gave it a password or a certificate of ours
    own_visibility_timeout: float | None  # seconds, as our own configuration has it
    wanted_queues: frozenset[str]  # that the configuration names
    allowed_wait: Mapping[str, float]  # seconds, by queue
    heard: Heard | None = None
    workers: Mapping[str, WorkerFacts] | None = None  # None where they were not asked
    mute: frozenset[str] = frozenset()  # they beat, and did not answer though they beat after the question
    silent: frozenset[str] = frozenset()  # they beat or answered once, and neither beat later nor told what they are
    broker: BrokerReading | None = None
    heads: tuple[Heads, ...] = ()  # two looks, the later last
    keys: Keys | None = None
    project: Project | None = None
    gaps: tuple[Gap, ...] = ()
    #: The workers that answered, by name.
    answered: tuple[WorkerFacts, ...] = field(init=False)
    _consumers: Mapping[str, tuple[WorkerFacts, ...]] = field(init=False)  # by queue

    def __post_init__(self) -> None:
        """Order what every check asks for: there may be thousands of workers and of queues."""
        answered = tuple(worker for _, worker in sorted((self.workers or {}).items()))
        by_queue: dict[str, list[WorkerFacts]] = {}
        for worker in answered:
            for queue in worker.reading.queues or ():
                by_queue.setdefault(queue, []).append(worker)
        object.__setattr__(self, "answered", answered)
        object.__setattr__(self, "_consumers", {queue: tuple(workers) for queue, workers in by_queue.items()})

    @property
    def everybody_answered(self) -> bool:
        """Whether no worker is known that did not answer."""
        return self.workers is not None and not self.mute and not self.silent

    @property
    def queues(self) -> Mapping[str, QueueReading]:
        """What the broker told of queues, by name."""
        return {} if self.broker is None else {reading.queue: reading for reading in self.broker.queues}

    def consumers(self, queue: str) -> tuple[WorkerFacts, ...]:
        """The workers that consume a queue, of those that answered."""
        return self._consumers.get(queue, ())
