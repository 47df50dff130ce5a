"""Facts that pollers read: immutable, and None where the reply did not tell."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class Stage(Enum):
    """How far a worker has come with a task that it holds."""

    SCHEDULED = "scheduled"  # its ETA is ahead
    RESERVED = "reserved"  # it waits for a free slot
    ACTIVE = "active"  # it runs


class HeldTask(NamedTuple):
    """A task that a worker says it holds."""

    uuid: str
    task: str  # its name
    name: str  # as task-received says it, which is the shadow's where there is one
    queue: str | None  # that it was delivered from; None where that cannot be told for certain
    stage: Stage
    at: float | None = None  # Unix seconds on the worker's clock: its ETA, or when it was started


@dataclass(frozen=True, slots=True)
class WorkerReading:
    """What one worker told of itself."""

    worker: str  # node name: "celery@host"
    pool: str | None = None  # prefork, solo, threads, gevent, eventlet, else "module:Class"
    concurrency: int | None = None  # tasks that the pool can run at once
    processes: int | None = None  # of the pool; None for pools of threads or greenlets
    prefetch: int | None = None  # messages taken before one is acknowledged; 0 is no limit
    uptime: float | None = None  # seconds
    pid: int | None = None  # of the main process
    cpu_user: float | None = None  # seconds, of the main process
    cpu_system: float | None = None  # seconds, of the main process
    memory_max_bytes: int | None = None  # highest resident memory of the main process
    accepted: Mapping[str, int] = field(default_factory=dict)  # task name -> tasks accepted since its start
    queues: tuple[str, ...] | None = None  # that it consumes; empty is none of them, None is not known
    silent_tasks: frozenset[str] | None = None  # registered with send_events=False; None is not known
    rate_limits: Mapping[str, float] | None = None  # task name -> starts per second, of those that have a limit
    pids: frozenset[int] | None = None  # of the pool's processes
    asked_at: float | None = None  # elapsed seconds of the question for what it holds; None where it was not asked
    running: frozenset[str] | None = None  # uuids of all that it runs
    reserved: int | None = None  # tasks that wait for a free slot
    scheduled: int | None = None  # tasks whose ETA is ahead
    held: tuple[HeldTask, ...] = ()  # what was listed of all these: each task once, at its furthest stage
    holds_listed: bool = False  # whether nothing is missing in `held`

    @property
    def solo(self) -> bool:
        """Whether the worker has one thread for all: while it runs a task, it neither beats nor answers."""
        return self.pool == "solo"


class RunningReading(NamedTuple):
    """What one worker told of the tasks that it runs."""

    worker: str  # node name
    asked_at: float  # elapsed seconds of the question
    tasks: frozenset[str]  # their uuids


class EventSender(NamedTuple):
    """What is known of how a worker that is up sends its task events."""

    worker: str  # node name
    life: int  # rises with every restart that was seen
    sends: bool | None  # whether task events come from it; None: not known, since it has hardly worked
    processed: int  # tasks since its start
    beat_at: float  # elapsed seconds of its last heartbeat
    can_answer: bool  # a solo worker that runs a task cannot


class Head(NamedTuple):
    """The message of a queue that is delivered next."""

    task_id: str | None  # None for a message that is no task's
    bytes: int  # as it lies in the broker
    eta: float | None = None  # Unix seconds; None where it has none, or in a time zone that we do not know


@dataclass(frozen=True, slots=True)
class QueueReading:
    """What the broker told of one queue. What it did not tell, or cannot, is None."""

    queue: str
    length: int | None = None  # messages ready for delivery, over all priorities
    by_priority: Mapping[int, int] = field(default_factory=dict)  # ready ones, where the broker keeps them apart
    unacked: int | None = None  # messages delivered and not acknowledged
    delayed: int | None = None  # messages that the broker holds until they are due
    consumers: int | None = None
    bytes: int | None = None  # of its messages
    head: Head | None = None  # None where the queue is empty, or its head cannot be seen


@dataclass(frozen=True, slots=True)
class BrokerReading:
    """What one poll of the broker told."""

    queues: tuple[QueueReading, ...] = ()
    version: str | None = None
    memory_used: int | None = None  # bytes
    memory_max: int | None = None  # bytes; None where there is no limit
    evicted_keys: int | None = None  # since the server's start
    eviction_policy: str | None = None
    alarms: Mapping[str, bool] = field(default_factory=dict)  # "memory", "disk" -> whether it is raised
    oldest_unacked: float | None = None  # Unix seconds of its delivery
    visibility_timeout: float | None = None  # seconds after which an unacknowledged message is delivered again
