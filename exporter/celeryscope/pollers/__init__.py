"""Pollers: each asks one source of facts, on its own connection, for readings or a PollError."""

from typing import Protocol

from celeryscope.readings import BrokerReading


class BrokerPoller(Protocol):
    """Asks one broker for its queues. One file per kind of broker. Every failure is a PollError of one line.

    It never creates, declares or consumes anything, and leaves nothing behind.
    """

    def poll(self) -> BrokerReading:
        """Return what the broker tells now, of every queue that is known or found."""
        ...

    def close(self) -> None:
        """Close the connection, where there is one; the next poll opens another."""
        ...
