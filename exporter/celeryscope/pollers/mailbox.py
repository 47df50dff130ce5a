"""Celery's remote control: questions to workers by name, and their answers.

A request goes to the mailbox (pidbox) exchange that all workers listen to, and names those that shall answer;
replies come back through a queue of ours. All requests of one question are sent before the first reply is awaited,
so that workers that do not answer cost one timeout for all of them.

Every worker reads every request, to see whether it is named: many are named in groups, so that no request is huge.
"""

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from celery import Celery
from kombu.connection import Connection
from kombu.messaging import Consumer, Producer

from celeryscope.pollers.session import Session

REPLY_TIMEOUT = 1.0  # seconds in which nothing comes, after which nothing more is expected
LONGEST_QUESTION = 5.0  # seconds until a question is over, whatever still comes
GROUP = 100  # workers that one request names
MAX_NAME_LENGTH = 512  # characters of a node name
# What is loaded from a reply, whatever the application accepts: pickle never is.
ACCEPT = ("json", "msgpack")

# kombu is typed in part; these two are not.
_consumer: Any = Consumer
_producer: Any = Producer

Commands = Mapping[str, Mapping[str, Any]]  # command -> its arguments
Replies = dict[str, dict[str, Any]]  # worker -> command -> what it answered


class _Line(NamedTuple):
    """An open connection and the mailbox on it."""

    connection: Any
    mailbox: Any


class Mailbox:
    """Asks workers. Every failure is a PollError of one line; the next question opens a new connection."""

    def __init__(
        self,
        app: Celery,
        connection_factory: Callable[[], Connection],
        *,
        timeout: float = REPLY_TIMEOUT,
        describe: Callable[[Exception], str] = str,
    ) -> None:
        """`timeout` is in seconds. `describe` makes one line of an error, with credentials masked."""
        self._timeout = timeout
        #: Bytes of what came of the last question, by worker.
        self.sizes: dict[str, int] = {}

        def enter(connection: Any) -> _Line:
            _leave_to_others(connection.default_channel)
            # A mailbox is bound to its connection; a new one would have a new reply queue.
            return _Line(connection, app.control.mailbox(connection))

        self._session = Session(connection_factory, enter, describe=describe)

    def ask(
        self, commands: Commands, destination: Sequence[str] | None, *, at_most: float = LONGEST_QUESTION
    ) -> Replies:
        """Send commands to the workers in `destination`, None being all; return what they answered.

        It ends when all that were named have answered, when nothing has come for the timeout, and at the latest after
        `at_most` seconds.
        """
        return self._session.ask(lambda line: self._ask(line, commands, destination, at_most))

    def close(self) -> None:
        """Close the connection, where there is one."""
        self._session.close()

    def _ask(self, line: _Line, commands: Commands, destination: Sequence[str] | None, at_most: float) -> Replies:
        """Send every command; collect the replies until all have come, or hardly will."""
        connection, mailbox = line
        channel: Any = connection.default_channel
        queue = mailbox.get_reply_queue()
        collector = Collector(commands, destination)
        consumer: Any = _consumer(
            channel, [queue], no_ack=True, accept=ACCEPT, callbacks=[collector.take], on_decode_error=_ignore
        )
        reply_to = {"exchange": mailbox.reply_exchange.name, "routing_key": queue.routing_key}
        end = time.monotonic() + at_most
        try:
            with consumer:
                for ticket, command in collector.tickets.items():
                    for group in in_groups(destination):
                        request = {
                            "method": command,
                            "arguments": commands[command],
                            "destination": group,
                            "pattern": None,
                            "matcher": None,
                            "ticket": ticket,
                            "reply_to": reply_to,
                        }
                        _publish(channel, mailbox, request)
                patience = time.monotonic() + self._timeout
                while not collector.complete and (remaining := min(end, patience) - time.monotonic()) > 0:
                    try:
                        connection.drain_events(timeout=remaining)
                    except TimeoutError as error:
                        if error.errno is not None:
                            raise  # the system's, of a dead connection; kombu's own has no number
                        break
                    patience = time.monotonic() + self._timeout
        finally:
            # As kombu's own mailbox does: a transport that keeps abandoned queues deletes it here.
            channel.after_reply_message_received(queue.name)
        self.sizes = collector.sizes
        return collector.replies


def in_groups(destination: Sequence[str] | None) -> Iterator[Sequence[str] | None]:
    """Return the destinations of the requests that reach everybody in `destination`; None is one request to all."""
    if destination is None:
        yield None
        return
    for start in range(0, len(destination), GROUP):
        yield destination[start : start + GROUP]


class Collector:
    """Sorts replies by worker and command; what was not asked for, or of whom, is dropped."""

    def __init__(self, commands: Iterable[str], destination: Collection[str] | None) -> None:
        """`destination` names the workers that were asked; None is everybody, and then never complete."""
        self.tickets = {uuid.uuid4().hex: command for command in commands}
        self.replies: Replies = {}
        self.sizes: dict[str, int] = {}  # bytes, by worker
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
                self.sizes[worker] = self.sizes.get(worker, 0) + len(message.body)
                self._missing.discard((worker, ticket))


def _leave_to_others(channel: Any) -> None:
    """Keep kombu on Redis from putting back what workers hold, and from deleting bindings that nobody has refreshed.

    Every consumer there does both; the first with what is older than its own visibility timeout, which need not be the
    workers'.
    """
    if hasattr(getattr(channel, "qos", None), "restore_visible"):
        channel.qos.restore_visible = _do_nothing
    if hasattr(channel, "sweep_bindings"):
        channel.sweep_bindings = _do_nothing


def _do_nothing(*_: Any, **__: Any) -> None:
    pass


def _publish(channel: Any, mailbox: Any, request: Mapping[str, Any]) -> None:
    # As kombu's mailbox does it, but for its endless silent retries where the broker is away.
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
