"""Queues, memory and alarms of RabbitMQ by its management API: everything that one poll can know, in few requests."""

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from urllib.parse import quote

from celeryscope.errors import PollError
from celeryscope.pollers import BrokerPoller
from celeryscope.pollers.management_api import TIMEOUT, ManagementApi, Refused
from celeryscope.pollers.management_facts import (
    BINDING_COLUMNS,
    NODE_COLUMNS,
    PRIORITY_COLUMNS,
    QUEUE_COLUMNS,
    Listed,
    page_count,
    parse_nodes,
    parse_own_exchange,
    parse_queues,
    parse_version,
    sort_out,
)
from celeryscope.readings import BrokerReading

PAGE_SIZE = 500  # queues: the most that the API gives at once
MAX_PAGES = 100
BINDINGS_PAUSE = 8  # polls between two looks at bindings, while there are queues that are not Celery's

logger = logging.getLogger(__name__)


class ManagementPoller:
    """Asks the management API for all queues of a virtual host, and for the nodes.

    Its numbers are up to 5 s old, as often as the broker counts. Where it fails, `fallback` is asked: lengths and
    consumers of the queues whose names are known, so that a backlog stays visible; the log says so once.
    """

    def __init__(
        self,
        url: str,
        vhost: str,
        known: Callable[[], Collection[str]],
        keeps: Callable[[str], bool],
        *,
        timeout: float = TIMEOUT,
        fallback: BrokerPoller | None = None,
    ) -> None:
        """`url` is http(s)://user:password@host:15672, `vhost` the virtual host as the broker has it: "/" by default.

        `known` returns the names that events, workers and the configuration tell, `keeps` says which to show;
        `timeout` is in seconds, for each answer. Raises ConfigError where the URL cannot be read.
        """
        self._api = ManagementApi(url, timeout=timeout)
        self._vhost = quote(vhost, safe="")
        self._known = known
        self._keeps = keeps
        self._fallback = fallback
        self._own_exchange: set[str] = set()  # queues found to be Celery's by their bindings
        self._others: set[str] = set()  # queues that were not, when bindings were last read
        self._bindings_pause = 0  # polls
        self._columns: tuple[str, ...] = QUEUE_COLUMNS
        self._trouble = ""

    def poll(self) -> BrokerReading:
        """Return all that the API tells, else what the fallback does; raise PollError where both fail."""
        try:
            reading = self._read()
        except PollError as error:
            if self._fallback is None:
                raise
            reading = self._fallback.poll()
            self._report(str(error))
            return reading
        self._report("")
        return reading

    def close(self) -> None:
        """Close the fallback's connection; the API has none that is kept."""
        if self._fallback is not None:
            self._fallback.close()

    def _report(self, trouble: str) -> None:
        if trouble == self._trouble:
            return
        if trouble:
            logger.warning("%s; lengths and consumers of known queues are all that is told meanwhile", trouble)
        else:
            logger.info("the management API at %s answers again", self._api.address)
        self._trouble = trouble

    def _read(self) -> BrokerReading:
        queues = self._queues()
        known = set(self._known())
        self._look_at_bindings({queue.name for queue in queues if queue.is_lasting_work} - known)
        readings = sort_out(queues, known, self._keeps, self._own_exchange.__contains__)
        try:
            nodes = parse_nodes(self._api.get(f"nodes?columns={','.join(NODE_COLUMNS)}"))
        except Refused as error:
            if error.status not in {401, 403}:
                raise
            nodes = BrokerReading()  # only users with the tag monitoring may ask
        version = parse_version(self._api.get("overview?columns=rabbitmq_version&disable_stats=true"))
        return replace(nodes, queues=readings, version=version)

    def _queues(self) -> list[Listed]:
        """Return every queue of the virtual host, page by page."""
        found: dict[str, Listed] = {}
        page, pages = 1, 1
        path = f"queues/{self._vhost}?page_size={PAGE_SIZE}&columns={','.join(self._columns)}&page="
        while page <= pages:
            try:
                answer = self._api.get(f"{path}{page}")
            except Refused as error:
                if error.status == 400 and page > 1:
                    break  # so many queues have gone meanwhile that there is no such page any more
                raise
            pages = page_count(answer)
            if pages > MAX_PAGES:
                raise PollError(f"the virtual host has more than {MAX_PAGES * PAGE_SIZE} queues, too many to read")
            found |= {queue.name: queue for queue in parse_queues(answer)}
            page += 1
        # From the next poll on: the columns cost more than all others together.
        has_priorities = any(queue.has_priorities for queue in found.values())
        self._columns = QUEUE_COLUMNS + (PRIORITY_COLUMNS if has_priorities else ())
        return list(found.values())

    def _look_at_bindings(self, unnamed: set[str]) -> None:
        """Find Celery's among queues that nobody named; at once for new ones, for the rest now and then."""
        self._own_exchange &= unnamed
        others = unnamed - self._own_exchange
        self._bindings_pause -= 1
        if others <= self._others and self._bindings_pause > 0:
            return
        if others:
            columns = ",".join(BINDING_COLUMNS)
            self._own_exchange = (
                parse_own_exchange(self._api.get(f"bindings/{self._vhost}?columns={columns}")) & unnamed
            )
        # What became Celery's is no other any more; what is not may be bound a moment after it was declared.
        self._others = unnamed - self._own_exchange
        self._bindings_pause = BINDINGS_PAUSE
