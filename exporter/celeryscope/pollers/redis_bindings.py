"""Queues that no worker need be alive for: found in the sets of bindings, by a SCAN that goes on over many polls."""

import itertools
from collections.abc import Iterator

from celeryscope.pollers.queue_names import is_work
from celeryscope.pollers.redis_replies import Binding, route

ROUND_INTERVAL = 30.0  # seconds between the beginnings of two rounds through the database, where one is as short


class Bindings:
    """What rounds of SCAN have found so far.

    SCAN returns every key that was there all through a round. A set of bindings is therefore gone once a whole round
    has passed without it, and so is a queue that no set names any more.
    """

    def __init__(self, round_interval: float = ROUND_INTERVAL) -> None:
        self._round_interval = round_interval
        self._bindings: dict[str, frozenset[Binding]] = {}  # by exchange
        self._queues: dict[str, frozenset[str]] = {}  # of work, by exchange
        self._seen: set[str] = set()  # exchanges of this round
        self._cursor: int | None = None  # None between two rounds
        self._due_at = float("-inf")  # elapsed seconds
        self.complete = False  # whether a whole round has been made

    def next_cursor(self, now: float) -> int | None:
        """Return the cursor of the step that is due at `now`, in elapsed seconds; None where there is none."""
        if self._cursor is None and now >= self._due_at:
            self._cursor, self._due_at = 0, now + self._round_interval
            self._seen = set()
        return self._cursor

    def advance(self, cursor: int) -> None:
        """Go on from where a step ended, once its sets have been taken; at 0, the round is over."""
        if cursor:
            self._cursor = cursor
            return
        self._cursor = None
        for exchange in self._bindings.keys() - self._seen:
            del self._bindings[exchange], self._queues[exchange]
        self.complete = True

    def restart(self) -> None:
        """Begin a new round: the cursor is another server's. What was found stays until that round is over."""
        self._cursor, self._due_at = None, float("-inf")

    def take(self, exchange: str, bindings: frozenset[Binding]) -> None:
        """Take an exchange's set of bindings."""
        if bindings:
            self._seen.add(exchange)
            self._bindings[exchange] = bindings
            self._queues[exchange] = frozenset(binding.queue for binding in bindings if is_work(binding.queue))

    def queues(self) -> Iterator[str]:
        """Return the queues of work that sets of bindings name, some of them more than once."""
        return itertools.chain.from_iterable(self._queues.values())

    def route(self, exchange: str, routing_key: str) -> str | None:
        """Return the queue that a message was put into; None where it is not known."""
        return route(self._bindings, exchange, routing_key)
