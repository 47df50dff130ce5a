"""A kombu connection that is kept between polls, and opened once more where it has gone stale."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from kombu.connection import Connection

from celeryscope.connections import drop, errors_of, open_now, take_leave
from celeryscope.errors import PollError, StreamError

Inside = TypeVar("Inside")
Answer = TypeVar("Answer")
Errors = tuple[type[Exception], ...]


class Session(Generic[Inside]):
    """Asks over one connection. Every failure is a PollError of one line; the next question opens a new connection."""

    def __init__(
        self,
        connection_factory: Callable[[], Connection],
        enter: Callable[[Any], Inside],
        *,
        describe: Callable[[Exception], str] = str,
        further_errors: Callable[[], Errors] = tuple,
    ) -> None:
        """`enter` makes of an open kombu connection what questions are asked of, such as a channel.

        `describe` makes one line of an error, with credentials masked. `further_errors` returns what the transport's
        library raises besides the errors that kombu declares for it.
        """
        self._connection_factory = connection_factory
        self._enter = enter
        self._describe = describe
        self._further_errors = further_errors
        self._broker: Any = None  # kombu's connection
        self._inside: Inside | None = None

    def ask(self, question: Callable[[Inside], Answer]) -> Answer:
        """Return what `question` returns; it is asked again over a new connection where the kept one was stale."""
        if self._inside is not None:
            try:
                return question(self._inside)
            except self._errors() as error:
                self._drop()
                # A broker that is silent would be as silent to a new connection: one timeout is enough.
                if isinstance(error, TimeoutError):
                    raise PollError(self._describe(error)) from error
        try:
            self._broker = self._connection_factory()
            open_now(self._broker)
            self._inside = self._enter(self._broker)
            return question(self._inside)
        except self._errors() as error:
            self._drop()
            raise PollError(self._describe(error)) from error

    def close(self) -> None:
        """Close the connection, where there is one."""
        if self._broker is not None:
            # One that is broken may fail once more: what mattered has been reported.
            with suppress(*self._errors()):
                take_leave(self._broker)
        self._drop()

    def _errors(self) -> Errors:
        return (StreamError, *errors_of(self._broker), *self._further_errors())  # the first is the factory's

    def _drop(self) -> None:
        """Let go of the connection without a word: the broker may not answer any more."""
        broker, self._broker, self._inside = self._broker, None, None
        if broker is not None:
            with suppress(*errors_of(broker), *self._further_errors()):
                drop(broker)
