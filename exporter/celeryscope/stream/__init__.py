"""Celery's event stream, as the messages that the broker delivers. One file per way to read it."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import msgspec

from celeryscope.errors import InvalidEvent


class RawMessage(msgspec.Struct, frozen=True, gc=False):
    """One message of the event exchange, its transport's wrapping taken off and nothing else."""

    body: bytes
    content_type: str  # of the body: "application/json"
    content_encoding: str  # of the body: "utf-8", or "binary" for msgpack


Received: TypeAlias = RawMessage | InvalidEvent


class Stream(Protocol):
    """A subscription to all events. Every failure is a StreamError of one line.

    Nothing reconnects silently: what is published while nobody listens is gone, and who counts has to know.
    """

    def connect(self) -> None:
        """Open the connection and subscribe; return once the broker has confirmed the subscription."""
        ...

    def read(self, timeout: float) -> Sequence[Received]:
        """Return what has arrived, in order and bounded; wait up to `timeout` seconds for the first of it.

        An InvalidEvent stands for a message that cannot be unwrapped. Empty if nothing came, or if closed.
        """
        ...

    def close(self) -> None:
        """Give up the subscription, from any thread, at any time; a `read` that waits returns at once."""
        ...
