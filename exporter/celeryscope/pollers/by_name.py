"""What all pollers have in common whose broker tells of a queue only when it is named."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Any, Generic, TypeVar

from kombu.connection import Connection

from celeryscope.pollers.roster import Roster
from celeryscope.pollers.session import Errors, Session
from celeryscope.readings import BrokerReading

Inside = TypeVar("Inside")


class ByNamePoller(ABC, Generic[Inside]):
    """Asks for every queue that is known, over a connection that is kept."""

    def __init__(
        self,
        connection_factory: Callable[[], Connection],
        known: Callable[[], Collection[str]],
        keeps: Callable[[str], bool],
        *,
        describe: Callable[[Exception], str] = str,
    ) -> None:
        """The connections that `connection_factory` returns should bound their waiting, and ask for no heartbeat.

        `known` returns the names that events, workers and the configuration tell, `keeps` says which to show;
        `describe` makes one line of an error, with credentials masked.
        """
        self._roster = Roster(known, keeps)
        self._session = Session(connection_factory, self._enter, describe=describe, further_errors=self._further_errors)

    def poll(self) -> BrokerReading:
        """Return the known queues that are there; raise PollError where the broker fails."""
        due = self._roster.due()
        return self._session.ask(lambda inside: self._read(inside, due))

    def close(self) -> None:
        """Close the connection, where there is one."""
        self._session.close()

    @abstractmethod
    def _enter(self, broker: Any) -> Inside:
        """Make of an open kombu connection what questions are asked of."""

    @abstractmethod
    def _read(self, inside: Inside, due: Collection[str]) -> BrokerReading:
        """Ask for the queues that are due."""

    def _further_errors(self) -> Errors:
        """Return what the transport's library raises besides the errors that kombu declares for it."""
        return ()
