"""Workers, by Celery's inspection: `stats`, `active_queues` and `registered`, asked together.

A request goes to the mailbox (pidbox) exchange that all workers listen to, and names those that shall answer;
replies come back through a queue of ours. All three requests are sent before the first reply is awaited, so
that a worker that does not answer costs one timeout for all of them.
"""

import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from typing import Any

from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import KombuError
from kombu.messaging import Consumer, Producer

from celeryscope.errors import PollError, StreamError
from celeryscope.readings import WorkerReading

REPLY_TIMEOUT = 1.0  # seconds
MAX_NAME_LENGTH = 512  # characters of a node name
# What is loaded from a reply, whatever the application accepts: pickle never is.
ACCEPT = ("json", "msgpack")

# Command -> its arguments.
COMMANDS: Mapping[str, Mapping[str, Any]] = {
    "stats": {},
    "active_queues": {},
    "registered": {"taskinfoitems": ["send_events"]},
}
SILENT = " [send_events=False]"  # how `registered` marks a task whose events are off

# Unit of ru_maxrss, by the system that a worker says it runs on; Darwin counts bytes, all others kilobytes.
MAXRSS_UNIT = {"Darwin": 1}
OTHER_MAXRSS_UNIT = 1024

POOLS = {"thread": "threads"}  # module of celery.concurrency -> the name that `--pool` has for it

# kombu is typed in part; these two are not.
_consumer: Any = Consumer
_producer: Any = Producer

Replies = dict[str, dict[str, Any]]  # worker -> command -> what it answered


class WorkersPoller:
    """Asks the workers that are known; the first poll asks everybody."""

    def __init__(
        self,
        app: Celery,
        connection_factory: Callable[[], Connection],
        known: Callable[[], Sequence[str]],
        system: Callable[[str], str | None],
        *,
        timeout: float = REPLY_TIMEOUT,
        describe: Callable[[Exception], str] = str,
    ) -> None:
        """`known` returns the node names to ask, `system` what the heartbeats of one of them say in `sw_sys`.

        `timeout` is in seconds. `describe` makes one line of an error, with credentials masked.
        """
        self._app = app
        self._connection_factory = connection_factory
        self._known = known
        self._system = system
        self._timeout = timeout
        self._describe = describe
        self._connection: Any = None
        self._mailbox: Any = None  # bound to the connection; a new one would have a new reply queue
        self._discovered = False

    def poll(self) -> list[WorkerReading]:
        """Return a reading of every worker that answered; raise PollError where the broker fails."""
        destination = None if not self._discovered else list(self._known())
        if destination is not None and not destination:
            return []
        replies = self._ask_again_if_stale(destination)
        self._discovered = True
        readings = [parse_worker(name, answers, self._system(name)) for name, answers in replies.items()]
        return [reading for reading in readings if reading is not None]

    def close(self) -> None:
        """Close the connection, where there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # One that is broken may fail once more: what mattered has been reported.
            with suppress(*self._errors(connection)):
                connection.release()

    def _ask_again_if_stale(self, destination: list[str] | None) -> Replies:
        # Between two polls a broker or a proxy may have closed the connection for being idle: no failure.
        if self._connection is not None:
            try:
                return self._ask(self._connection, destination)
            except self._errors(self._connection):
                self.close()
        try:
            connection: Any = self._connection_factory()
            self._connection = connection
            # Each alternative of a failover URL once, without the seconds that kombu sleeps between them.
            retries = max(len(connection.alt), 1) - 1
            connection.ensure_connection(max_retries=retries, interval_start=0, interval_step=0, interval_max=0)
            self._mailbox = self._app.control.mailbox(connection)
            return self._ask(connection, destination)
        except self._errors(self._connection) as error:
            self.close()
            raise PollError(self._describe(error)) from error

    def _ask(self, connection: Any, destination: list[str] | None) -> Replies:
        """Send every command; collect the replies until all have come, or until the timeout."""
        mailbox = self._mailbox
        channel: Any = connection.default_channel
        queue = mailbox.get_reply_queue()
        collector = Collector(destination)
        consumer: Any = _consumer(
            channel, [queue], no_ack=True, accept=ACCEPT, callbacks=[collector.take], on_decode_error=_ignore
        )
        deadline = time.monotonic() + self._timeout
        try:
            with consumer:
                for ticket, command in collector.tickets.items():
                    _publish(
                        channel,
                        mailbox,
                        command,
                        ticket=ticket,
                        reply_key=queue.routing_key,
                        destination=destination,
                    )
                while not collector.complete and (remaining := deadline - time.monotonic()) > 0:
                    try:
                        connection.drain_events(timeout=remaining)
                    except TimeoutError as error:
                        if error.errno is not None:
                            raise  # the system's, of a dead connection; kombu's own has no number
                        break
        finally:
            # As kombu's own mailbox does: a transport that keeps abandoned queues deletes it here.
            channel.after_reply_message_received(queue.name)
        return collector.replies

    @staticmethod
    def _errors(connection: Any) -> tuple[type[Exception], ...]:
        # An unknown transport is a KeyError or an ImportError, an impossible virtual host a ValueError, a
        # transport option of the wrong type a TypeError.
        # StreamError is the connection factory's.
        known = (StreamError, KombuError, OSError, ValueError, TypeError, KeyError, ImportError)
        if connection is None:
            return known
        return (*known, *connection.connection_errors, *connection.channel_errors)


class Collector:
    """Sorts replies by worker and command; what was not asked for, or of whom, is dropped."""

    def __init__(self, destination: Collection[str] | None) -> None:
        """`destination` names the workers that were asked; None is everybody, and then never complete."""
        self.tickets = {uuid.uuid4().hex: command for command in COMMANDS}
        self.replies: Replies = {}
        self._missing = {(worker, ticket) for worker in destination or () for ticket in self.tickets}
        self._asked = None if destination is None else frozenset(destination)

    @property
    def complete(self) -> bool:
        """Whether everybody has answered everything."""
        return self._asked is not None and not self._missing

    def take(self, body: Any, message: Any) -> None:
        """Take one reply: `{worker: answer}`, under the ticket of the request it answers."""
        headers = message.headers
        ticket = headers.get("ticket") if isinstance(headers, dict) else None
        if not isinstance(ticket, str) or ticket not in self.tickets or not isinstance(body, dict):
            return
        for worker, answer in body.items():
            if not isinstance(worker, str) or not 0 < len(worker) <= MAX_NAME_LENGTH:
                continue
            if self._asked is None or worker in self._asked:
                self.replies.setdefault(worker, {})[self.tickets[ticket]] = answer
                self._missing.discard((worker, ticket))


def _publish(
    channel: Any,
    mailbox: Any,
    command: str,
    *,
    ticket: str,
    reply_key: str,
    destination: Sequence[str] | None,
) -> None:
    # As kombu's mailbox does it, but for its endless silent retries where the broker is away.
    request = {
        "method": command,
        "arguments": COMMANDS[command],
        "destination": destination,
        "pattern": None,
        "matcher": None,
        "ticket": ticket,
        "reply_to": {"exchange": mailbox.reply_exchange.name, "routing_key": reply_key},
    }
    _producer(channel, auto_declare=False).publish(
        request,
        exchange=mailbox.exchange.name,
        declare=[mailbox.exchange],
        headers={"clock": mailbox.clock.forward(), "expires": 0},
        serializer=mailbox.serializer,
        retry=False,
    )


def _ignore(message: Any, error: Exception) -> None:
    """Drop a reply that is not what it says it is, or that is pickled."""


def parse_worker(worker: str, answers: Mapping[str, Any], system: str | None) -> WorkerReading | None:
    """Return what a worker's answers say, by command; None without usable statistics.

    A value of an unexpected type is taken as not told. `system` is the worker's `sw_sys`, where it is known.
    """
    stats = answers.get("stats")
    if not isinstance(stats, dict) or not isinstance(stats.get("pool"), dict):
        return None
    pool, usage = stats["pool"], stats.get("rusage")
    if not isinstance(usage, dict):
        usage = {}  # "N/A" on Windows
    processes = pool.get("processes")
    total = stats.get("total")
    return WorkerReading(
        worker=worker,
        pool=parse_pool(pool.get("implementation")),
        concurrency=_count(pool.get("max-concurrency")),
        processes=len(processes) if isinstance(processes, list) else None,
        prefetch=_count(stats.get("prefetch_count")),
        uptime=_number(stats.get("uptime")),
        pid=_count(stats.get("pid")),
        cpu_user=_number(usage.get("utime")),
        cpu_system=_number(usage.get("stime")),
        memory_max_bytes=_memory(usage.get("maxrss"), system),
        accepted=_counts(total) if isinstance(total, dict) else {},
        queues=parse_queues(answers.get("active_queues")),
        silent_tasks=parse_silent_tasks(answers.get("registered")),
    )


def parse_pool(implementation: Any) -> str | None:
    """Return a pool's name from "celery.concurrency.prefork:TaskPool"; all of it for one not Celery's."""
    if not isinstance(implementation, str) or not implementation:
        return None
    module, _, name = implementation.partition(":")
    package, _, pool = module.rpartition(".")
    if package != "celery.concurrency" or name != "TaskPool":
        return implementation
    return POOLS.get(pool, pool)


def parse_queues(answer: Any) -> tuple[str, ...] | None:
    """Return the names in an answer to `active_queues`, sorted; None where it is none."""
    if not isinstance(answer, list):
        return None
    names = [queue.get("name") if isinstance(queue, dict) else None for queue in answer]
    if not all(isinstance(name, str) and name for name in names):
        return None
    return tuple(sorted({str(name) for name in names}))


def parse_silent_tasks(answer: Any) -> frozenset[str] | None:
    """Return the tasks that an answer to `registered` marks as silent; None where it is none."""
    if not isinstance(answer, list) or not all(isinstance(line, str) for line in answer):
        return None
    return frozenset(line.removesuffix(SILENT) for line in answer if line.endswith(SILENT))


def _memory(maxrss: Any, system: str | None) -> int | None:
    amount = _count(maxrss)
    if amount is None or system is None:
        return None
    return amount * MAXRSS_UNIT.get(system, OTHER_MAXRSS_UNIT)


def _counts(total: Mapping[Any, Any]) -> dict[str, int]:
    counts = {name: _count(value) for name, value in total.items() if isinstance(name, str) and name}
    return {name: count for name, count in counts.items() if count is not None}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value < 2**53 and isfinite(value) else None
