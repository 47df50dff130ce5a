"""One attempt of a task, and the table of what an event makes of it.

An attempt is (uuid, retries). It is *sent* until a worker takes it, *scheduled* while its ETA is ahead, *received*
while it waits in the worker for a free slot, *started* while it runs, and *ended* for a minute more, so that what comes
twice or late is told apart from what is new.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NamedTuple

import msgspec

from celeryscope.tracker import pairs
from celeryscope.tracker.pairs import Pair
from celeryscope.tracker.worker import Worker

# What `Attempt.found` is made of.
UNHEARD = 1  # no event has told of the attempt: its `retries` are a guess
START_UNHEARD = 2  # inspection showed that it runs: `starts` counts that, and no event has told of it
FOUND_START_SLACK = 2.0  # seconds between when a worker says a task was started, in its event and when asked


class State(IntEnum):
    """Where an attempt is; all but ENDED are in flight and index `Pair.in_flight`."""

    SENT = pairs.SENT
    RECEIVED = pairs.RECEIVED
    SCHEDULED = pairs.SCHEDULED
    STARTED = pairs.STARTED
    ENDED = 4


# Python 3.11 takes ten times as long to find a member by its class as by a name of its own.
SENT, RECEIVED, SCHEDULED, STARTED, ENDED = State


class End(Enum):
    """How an attempt may come to its end."""

    RETRY = "retry"
    DROPPED = "dropped"  # by a worker, which does not run it
    OTHER = "other"


class Step(NamedTuple):
    """What an event makes of an attempt, and the kind of disorder that it shows, if any."""

    state: State
    disorder: str | None = None


_SENT, _RECEIVED, _STARTED, _ENDED = Step(SENT), Step(RECEIVED), Step(STARTED), Step(ENDED)

# The life of an attempt: for each event, what it makes of an attempt that is
#   sent,  received,  scheduled,  started,  ended.
#
# Received while started: the broker delivers again what may still run elsewhere. Only a second start is a redelivery,
# since a prefetched message may be handed on without having been started.
ON_RECEIVED = (_RECEIVED, _RECEIVED, _RECEIVED, _STARTED, _RECEIVED)
ON_STARTED = (Step(STARTED, "unreceived_start"), _STARTED, _STARTED, _STARTED, _STARTED)
ON_OUTCOME = (
    Step(ENDED, "unstarted_end"), Step(ENDED, "unstarted_end"), Step(ENDED, "unstarted_end"),
    _ENDED, Step(ENDED, "duplicate_end"),
)  # fmt: skip
# Revoked, cancelled or not registered: the worker may drop what it never announced.
ON_DROPPED = (_ENDED, _ENDED, _ENDED, _ENDED, Step(ENDED, "duplicate_end"))
ON_REQUEUED = (_SENT, _SENT, _SENT, _SENT, _SENT)
# Rejected for good. It is no end of its own: a failure tells the outcome, before it or after.
ON_DISCARDED = (_ENDED, _ENDED, _ENDED, _ENDED, _ENDED)


class Attempt(msgspec.Struct, eq=False):
    """One attempt. Times are as its worker or producer wrote them: Unix seconds on that machine's clock."""

    uuid: str
    pair: Pair
    task: str | None  # the name by which the pair was found: the label may be another, or shared
    name: str | None  # as task-received says it, which is the shadow's where there is one
    retries: int
    due: float | None  # the later of sent and ETA; None where unknown
    sent_seen: bool
    seen_at: float  # elapsed seconds of the latest event
    eta_open: bool = False  # the ETA in its task-sent had no time zone
    due_there: float = 0.0  # the later of received and ETA, on the worker's clock
    started_at: float = 0.0
    state: State = SENT
    worker: Worker | None = None  # where it runs, or was last received
    others: list[Worker] | None = None  # where earlier starts of it still run
    received_again: bool = False  # while started
    starts: int = 0
    ends: int = 0
    unended: int = 0  # runs that were closed without an end, which may still come
    retried: bool = False  # its end was a retry: another attempt follows
    found: int = 0  # what inspection told and events have not: UNHEARD, START_UNHEARD, both or neither
    previous: Attempt | None = None  # the one before under this uuid, while it has not ended

    @property
    def is_open(self) -> bool:
        """Whether no end of it is known."""
        return self.state is not ENDED

    def runs_on(self, worker: Worker) -> bool:
        """Whether it was started on that worker and has not ended there."""
        return self.state is STARTED and (worker is self.worker or (self.others is not None and worker in self.others))

    def start_on(self, worker: Worker, timestamp: float) -> None:
        """It was started on a worker; an earlier start of it may go on elsewhere."""
        before = self.worker
        if self.state is STARTED and before is not None and before is not worker:
            others = self.others or []
            if worker in others:
                others.remove(worker)
            if self in before.running and before.up is not False:
                others.append(before)
            else:  # the worker is gone: that run is what is made good now
                before.running.pop(self, None)
                self.unended += 1
            self.others = others or None
        self.worker = worker
        self.started_at = timestamp
        self.received_again = False
        worker.running[self] = timestamp

    def find_started(self, worker: Worker, timestamp: float) -> None:
        """Inspection showed that it runs on a worker."""
        self.starts += 1
        self.found |= START_UNHEARD
        self.start_on(worker, timestamp)

    def takes_late_start(self, worker: Worker, timestamp: float) -> bool:
        """Whether a started event tells of the start that inspection showed before, or of one before that.

        What was started before that one, and told of late, is the attempt whose retry inspection showed.
        """
        found, self.found = self.found, 0
        if found & UNHEARD:
            self.due_there = 0.0  # a bound, where no event told when it came
        no_later = timestamp - self.started_at <= FOUND_START_SLACK
        return found & START_UNHEARD > 0 and worker is self.worker and no_later

    def takes_late_receipt(self, name: str, hostname: str, timestamp: float) -> bool:
        """Whether a received event tells of what inspection found before: no retry of it."""
        return (
            self.found & UNHEARD > 0
            and self.name == name
            and self.worker is not None
            and self.worker.name == hostname
            and (self.state is not STARTED or timestamp <= self.started_at)
        )

    def was_given_back_by(self, worker: Worker) -> bool:
        """Whether that worker ran it last, all its runs have ended, and it waits to be delivered again."""
        return worker is self.worker and not self.unended and 0 < self.starts <= self.ends

    def awaits_start_on(self, worker: Worker) -> bool:
        """Whether that worker took it and has not told of a start."""
        return worker is self.worker and self.state in (RECEIVED, SCHEDULED)

    def started_since(self, moment: float) -> bool:
        """Whether its latest start came after a moment, in Unix seconds on our clock."""
        return self.starts > 0 and self.worker is not None and self.started_at + self.worker.correction >= moment

    def runs_elsewhere_than(self, worker: Worker) -> bool:
        """Whether it is started, and not on that worker."""
        return self.state is STARTED and not self.runs_on(worker)

    def told_of_by(self, worker: Worker, end: End) -> Attempt:
        """Return the attempt, this or the previous one, whose end a worker tells of.

        Events of one worker come in order. Where both are its own, or none is, a retry ends the previous one, since
        this one is that retry. What runs is never dropped. Any other end is of the one that runs; a stranger's, who
        drops a copy of the message, of the latest.
        """
        previous = self.previous
        if previous is None or (end is End.DROPPED and previous.state is STARTED):
            return self
        own, owns_previous = worker is self.worker or self.runs_on(worker), worker is previous.worker
        if own != owns_previous:
            return previous if owns_previous else self
        return previous if end is End.RETRY or (owns_previous and self.state is not STARTED) else self
