"""Queues of Amazon SQS by their attributes, through the boto3 client of kombu's channel; its library is optional.

kombu's own ways to a queue create a missing one. Here a queue is looked up (`GetQueueUrl`), or named by
`predefined_queues`, and its attributes are read. SQS calls its numbers approximate: they settle within a minute.
Every request costs money: a poll makes one for each queue, and one for the list where a prefix is configured.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from kombu.connection import Connection

from celeryscope.pollers.by_name import ByNamePoller
from celeryscope.pollers.session import Errors
from celeryscope.readings import BrokerReading, QueueReading

LENGTH = "ApproximateNumberOfMessages"
UNACKED = "ApproximateNumberOfMessagesNotVisible"
DELAYED = "ApproximateNumberOfMessagesDelayed"
VISIBILITY_TIMEOUT = "VisibilityTimeout"
ATTRIBUTES = (LENGTH, UNACKED, DELAYED, VISIBILITY_TIMEOUT)

PAGE_SIZE = 1000  # queues: the most that SQS gives at once
MAX_PAGES = 10
MISSING = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
_LEGAL = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
# Of remote control, replies and events, as kombu writes their names for SQS.
_INTERNAL = re.compile(r"(.*-)?celery-pidbox|celeryev(-.*)?")


@dataclass(frozen=True, slots=True)
class Told:
    """What SQS told of one queue."""

    reading: QueueReading
    visibility_timeout: float | None  # seconds


class SqsPoller(ByNamePoller[Any]):
    """Asks for every queue that is known, predefined, or begins with the configured prefix."""

    def __init__(
        self,
        connection_factory: Callable[[], Connection],
        known: Callable[[], Collection[str]],
        keeps: Callable[[str], bool],
        *,
        describe: Callable[[Exception], str] = str,
    ) -> None:
        """As of every poller by name; without its library, every poll says so."""
        super().__init__(connection_factory, known, keeps, describe=describe)
        self._urls: dict[str, str] = {}  # SQS name -> URL

    def _enter(self, broker: Any) -> Any:
        return broker.default_channel

    def _further_errors(self) -> Errors:
        try:
            errors = import_module("botocore.exceptions")
        except ImportError:
            return ()  # what is being reported
        return errors.BotoCoreError, errors.ClientError

    def _read(self, channel: Any, due: Collection[str]) -> BrokerReading:
        if channel.predefined_queues:
            self._urls = {name: queue["url"] for name, queue in channel.predefined_queues.items()}
        elif channel.queue_name_prefix:
            self._urls = named_queues(_list(channel.sqs(), channel.queue_name_prefix))
        names = self._names(channel, due)
        told = [self._ask(channel, sqs_name, name) for sqs_name, name in sorted(names.items())]
        return read_queues(one for one in told if one is not None)

    def _names(self, channel: Any, due: Collection[str]) -> dict[str, str]:
        """Return the queues to ask for: SQS name -> name as Celery has it, where that is known."""
        known = {channel.canonical_queue_name(name): name for name in self._roster.names()}
        asked = {channel.canonical_queue_name(name): name for name in due}
        if not channel.predefined_queues and not channel.queue_name_prefix:
            return {sqs_name: name for sqs_name, name in asked.items() if _LEGAL.fullmatch(sqs_name)}
        found = {}
        for sqs_name in self._urls:
            name = known.get(sqs_name) or sqs_name.removeprefix(channel.queue_name_prefix)
            if not _INTERNAL.fullmatch(name) and self._roster.keeps(name):
                found[sqs_name] = name
        return found

    def _ask(self, channel: Any, sqs_name: str, name: str) -> Told | None:
        client = channel.sqs(queue=sqs_name)
        try:
            url = self._urls.get(sqs_name) or client.get_queue_url(QueueName=sqs_name)["QueueUrl"]
            answer = client.get_queue_attributes(QueueUrl=url, AttributeNames=list(ATTRIBUTES))
        except import_module("botocore.exceptions").ClientError as error:
            if error.response.get("Error", {}).get("Code") not in MISSING:
                raise
            self._urls.pop(sqs_name, None)
            self._roster.missing(name)
            return None
        self._urls[sqs_name] = url
        self._roster.found(name)
        return parse_queue(name, answer.get("Attributes", {}))


def parse_queue(name: str, attributes: Mapping[str, str]) -> Told:
    """Return what a queue's attributes tell."""
    reading = QueueReading(
        name,
        length=_count(attributes.get(LENGTH)),
        unacked=_count(attributes.get(UNACKED)),
        delayed=_count(attributes.get(DELAYED)),
    )
    return Told(reading, _count(attributes.get(VISIBILITY_TIMEOUT)))


def read_queues(told: Iterable[Told]) -> BrokerReading:
    """Return the reading of all queues; the shortest visibility timeout is the one that a long task passes first."""
    told = list(told)
    timeouts = [one.visibility_timeout for one in told if one.visibility_timeout is not None]
    return BrokerReading(tuple(one.reading for one in told), visibility_timeout=min(timeouts, default=None))


def named_queues(urls: Iterable[str]) -> dict[str, str]:
    """Return SQS names, and the URLs that end in them."""
    return {url.rpartition("/")[2]: url for url in urls}


def _list(client: Any, prefix: str) -> list[str]:
    """Return the URLs of all queues whose names begin with a prefix."""
    urls: list[str] = []
    more: dict[str, str] = {}
    for _ in range(MAX_PAGES):
        answer = client.list_queues(QueueNamePrefix=prefix, MaxResults=PAGE_SIZE, **more)
        urls += answer.get("QueueUrls", [])
        if not answer.get("NextToken"):
            break
        more = {"NextToken": answer["NextToken"]}
    return urls


def _count(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdecimal() else None
