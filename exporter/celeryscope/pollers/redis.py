"""Queues of Redis and Valkey, as kombu keeps them.

A poll costs one short round trip (a step of SCAN where one is due, and how large the unacknowledged messages are), then
one pipeline, whatever the number of queues. Only a poll that finds new queues asks once more, for those alone. No
command takes the server longer than its reply is long, and replies that carry messages are bounded (`redis_queue.py`
for heads, `redis_unacked.py` for what is delivered and not acknowledged).

Redis cannot tell an empty queue from one that does not exist: both have length 0. Tasks with a countdown or an ETA wait
in workers, so `delayed` is not known here; neither are `consumers` and `bytes`.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain, islice

import redis
from kombu.connection import Connection

from celeryscope.clock import Clock, SystemClock
from celeryscope.errors import PollError
from celeryscope.pollers.queue_names import is_work
from celeryscope.pollers.redis_bindings import Bindings
from celeryscope.pollers.redis_layout import Layout
from celeryscope.pollers.redis_link import ASK_ERRORS, OPEN_ERRORS, Command, Link
from celeryscope.pollers.redis_queue import RedisQueue, allowance
from celeryscope.pollers.redis_replies import MAX_NAME_BYTES, parse_bindings, parse_info, parse_scan
from celeryscope.pollers.redis_unacked import Unacked
from celeryscope.readings import BrokerReading

SCAN_COUNT = 1000  # keys that the server looks at in a step
MAX_QUEUES = 20_000
INFO: tuple[Command, ...] = (("INFO", "server"), ("INFO", "memory"), ("INFO", "stats"))

logger = logging.getLogger(__name__)


class RedisPoller:
    """Asks one Redis or Valkey broker. One connection, kept between polls; it is reopened once where it is stale."""

    def __init__(
        self,
        connection_factory: Callable[[], Connection],
        known: Callable[[], Collection[str]],
        keeps: Callable[[str], bool],
        *,
        describe: Callable[[Exception], str] = str,
        clock: Clock | None = None,
    ) -> None:
        """`connection_factory` returns a new kombu connection, whose `socket_timeout` bounds every wait.

        `known` returns queues that others know of, `keeps` whether a queue is wanted. `describe` makes one line of an
        error, with credentials masked.
        """
        self._connection_factory = connection_factory
        self._known = known
        self._keeps = keeps
        self._describe = describe
        self._clock = clock or SystemClock()
        self._link: Link | None = None
        self._queues: dict[str, RedisQueue] = {}
        self._bindings = Bindings()
        self._unacked = Unacked()
        self._refusal_told = False
        self._crowd_told = False

    def poll(self) -> BrokerReading:
        """Return what the broker tells now, of every queue that is known or found; raise PollError."""
        try:
            return self._poll_once_more()
        except ASK_ERRORS as error:
            self.close()
            raise PollError(self._describe(error)) from error
        except BaseException:
            self.close()  # replies that were not read would answer the next questions
            raise

    def close(self) -> None:
        """Close the connection, where there is one; the next poll opens another."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _poll_once_more(self) -> BrokerReading:
        # Between two polls a broker or a proxy may have closed the connection, or the master have changed: no failure.
        # One that does not answer in time would only be waited for again.
        if self._link is not None:
            try:
                return self._poll(self._link)
            except (redis.TimeoutError, TimeoutError):
                raise
            except ASK_ERRORS:
                self.close()
        return self._poll(self._open())

    def _open(self) -> Link:
        try:
            link = Link.open(self._connection_factory)
        except OPEN_ERRORS as error:
            raise PollError(self._describe(error)) from error
        self._link = link
        self._bindings.restart()
        return link

    def _poll(self, link: Link) -> BrokerReading:
        layout, bindings, unacked = link.layout, self._bindings, self._unacked
        known = set(self._known())
        self._admit(known, layout)

        survey = unacked.survey(layout)
        cursor = bindings.next_cursor(self._clock.now().elapsed)
        scan: list[Command] = []
        if cursor is not None:
            scan = [("SCAN", cursor, "MATCH", layout.bindings_pattern, "COUNT", SCAN_COUNT)]
        replies = link.ask([*survey, *scan])
        step = parse_scan(replies[-1]) if scan else None
        keys = step[1] if step is not None else []
        exchanges = {name: key for key in keys if is_work(name := layout.exchange(key) or "")}

        counting = unacked.commands(layout, replies[: len(survey)])
        sets: list[Command] = [("SMEMBERS", key) for key in exchanges.values()]
        queues = list(self._queues.values())
        share = self._allowance()
        asked = [queue.commands(share) for queue in queues]
        answers = iter(link.ask([*INFO, *counting, *sets, *chain.from_iterable(asked)]))
        facts = parse_info(*islice(answers, len(INFO)))
        unacked.take(list(islice(answers, len(counting))))
        for exchange in exchanges:
            found = parse_bindings(next(answers), layout.separator)
            if found is not None:
                bindings.take(exchange, found)
        for queue, commands in zip(queues, asked, strict=True):
            queue.take(list(islice(answers, len(commands))))
        if step is not None:
            bindings.advance(step[0])

        named = known.union(bindings.queues())
        self._look_at(link, self._admit(named, layout))
        counts = unacked.by_queue(bindings)
        self._forget(named, counts)
        self._tell_refusals(link)
        return BrokerReading(
            queues=tuple(
                queue.reading(None if counts is None else counts[queue.name]) for queue in self._queues.values()
            ),
            version=facts.version,
            memory_used=facts.memory_used,
            memory_max=facts.memory_max,
            evicted_keys=facts.evicted_keys,
            eviction_policy=facts.eviction_policy,
            oldest_unacked=unacked.oldest,
            visibility_timeout=layout.visibility_timeout,
        )

    def _admit(self, names: Iterable[str], layout: Layout) -> list[RedisQueue]:
        """Begin to watch queues that are wanted and not watched yet; return them."""
        admitted = []
        for name in names:
            if name in self._queues or not is_work(name) or len(name) > MAX_NAME_BYTES or not self._keeps(name):
                continue
            if len(self._queues) >= MAX_QUEUES:
                if not self._crowd_told:
                    self._crowd_told = True
                    logger.warning("there are more than %d queues: the rest is not watched", MAX_QUEUES)
                break
            queue = self._queues[name] = RedisQueue(name, layout)
            admitted.append(queue)
        return admitted

    def _allowance(self) -> float:
        """Return the bytes that each head may have in this poll; a queue not asked for yet may hold messages."""
        return allowance(sum(1 for queue in self._queues.values() if queue.length != 0))

    def _look_at(self, link: Link, queues: Sequence[RedisQueue]) -> None:
        """Ask for queues that this poll has found: its pipeline knew nothing of them."""
        share = self._allowance()
        asked = [queue.commands(share) for queue in queues]
        answers = iter(link.ask(list(chain.from_iterable(asked))))
        for queue, commands in zip(queues, asked, strict=True):
            queue.take(list(islice(answers, len(commands))))

    def _forget(self, named: Collection[str], unacked: Counter[str] | None) -> None:
        """Forget queues that are empty and that nobody names any more."""
        for name in self._queues.keys() - named:
            if not self._queues[name].length and not (unacked and unacked[name]):
                del self._queues[name]

    def _tell_refusals(self, link: Link) -> None:
        if link.refused and not self._refusal_told:
            self._refusal_told = True
            logger.warning(
                "the broker refuses %s to celeryscope's user: what they tell is missing; "
                "docs/operations.md has the permissions that are needed",
                ", ".join(sorted(link.refused)),
            )
