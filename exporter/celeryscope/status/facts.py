"""What the status page shows, as values. None is what is not known, and never shown as 0."""

from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Connection:
    """Whether the event stream is open, since when, and why not."""

    open: bool
    seconds: float  # for which it has been as it is
    reason: str = ""  # why it is not open: one line without credentials; empty where nothing was tried yet


@dataclass(frozen=True, slots=True)
class Traffic:
    """Events, and what proves that they are heard."""

    rate: float | None = None  # events per second, our own left out
    window: float = 0.0  # seconds that the rate is of
    lost: int | None = None  # task events that were sent and never arrived; None where no worker sends any
    round_trip: float | None = None  # seconds, of the last canary
    canary_age: float | None = None  # seconds since it came back
    unproved: bool = False  # connected, and canaries that are sent do not come back
    deaf: float | None = None  # seconds in all


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker."""

    name: str
    up: bool | None  # None: it answers, and never beat
    lost: int = 0  # times that it was lost
    pool: str = ""
    concurrency: int | None = None
    active: int | None = None
    reserved: int | None = None
    heartbeat_age: float | None = None  # seconds


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue."""

    name: str
    length: int | None = None
    oldest_age: float | None = None  # seconds for which the next task has been due
    objective: float | None = None  # seconds that it may wait
    workers: int | None = None
    concurrency: int | None = None

    @property
    def late(self) -> bool:
        """Whether its next task has waited for longer than it may."""
        return self.oldest_age is not None and self.objective is not None and self.oldest_age > self.objective

    @property
    def deserted(self) -> bool:
        """Whether something waits in it and nobody is there to take it."""
        return bool(self.length) and self.workers == 0


@dataclass(frozen=True, slots=True)
class FailureRow:
    """An exception with which a task failed for good."""

    task: str
    exception: str
    recent: int
    total: int


@dataclass(frozen=True, slots=True)
class Rows(Generic[Row]):
    """The worst of many rows, and how many there are beside them."""

    shown: tuple[Row, ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True)
class Total:
    """What is known of a sum: None where no part of it is."""

    known: int | None = None
    unknown: int = 0  # parts that are not known


@dataclass(frozen=True, slots=True)
class Finding:
    """What somebody should look at."""

    text: str
    runbook: str = ""  # name of the alert whose runbook tells what to do


@dataclass(frozen=True, slots=True)
class Status:
    """All of it, at one instant."""

    at: float = 0.0  # Unix seconds
    uptime: float = 0.0  # seconds
    broker: str = ""  # its URL without credentials
    server: str = ""  # transport and version
    connection: Connection | None = None  # None: this broker carries no events
    traffic: Traffic = Traffic()
    workers_up: int = 0
    workers_gone: int = 0
    active: Total = Total()  # tasks that run
    slots: Total = Total()  # tasks that could run at once
    waiting: Total = Total()  # messages in queues
    findings: tuple[Finding, ...] = ()
    workers: Rows[WorkerRow] = Rows()
    queues: Rows[QueueRow] = Rows()
    failures: Rows[FailureRow] = Rows()
    failure_window: float = 0.0  # seconds that `recent` is of
