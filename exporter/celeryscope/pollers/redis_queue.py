"""One queue of Redis: its lists, what is asked of them, and how often its head may be read."""

from collections.abc import Sequence
from typing import Any

from celeryscope.pollers.redis_layout import Layout
from celeryscope.pollers.redis_link import Command
from celeryscope.pollers.redis_replies import parse_count, parse_head
from celeryscope.readings import Head, QueueReading

HEAD_BYTES = 4 * 2**20  # of the heads of all queues in a poll, on average
MOST_ALLOWANCE = 64 * 1024  # bytes of one queue's head per poll, on average
LONGEST_DEBT = 60  # polls after which even the largest head is read again


class RedisQueue:
    """What is remembered of one queue between polls.

    Redis tells the size of a list's element only with the element. So a queue has an allowance of bytes per poll, and a
    larger head puts it into debt: it is read again once that is paid off. Until then the last head stands, unless the
    queue is shorter than it was, or another of its lists comes first.
    """

    def __init__(self, name: str, layout: Layout) -> None:
        self.name = name
        self.length: int | None = None
        self._priorities = [priority for priority, _ in layout.lists]
        keys = layout.keys(name)
        self._lengths: list[Command] = [("LLEN", key) for key in keys]
        # Of every list: which one comes first is not known before the answer, and of an empty one it costs nothing.
        self._both: list[Command] = [*self._lengths, *(("LINDEX", key, -1) for key in keys)]
        self._allowed = 0.0  # bytes; below 0, debt
        self._counts: list[int | None] = [None] * len(keys)
        self._head: Head | None = None
        self._head_list: int | None = None

    def commands(self, allowance: float) -> Sequence[Command]:
        """Return what to ask in a poll that allows so many bytes for this queue's head."""
        self._allowed = min(allowance, max(self._allowed, -LONGEST_DEBT * allowance) + allowance)
        return self._both if self._allowed > 0 else self._lengths

    def take(self, replies: Sequence[Any]) -> None:
        """Take the replies to what was asked, as many."""
        size = len(self._lengths)
        self._counts = [parse_count(reply) for reply in replies[:size]]
        counts = [count for count in self._counts if count is not None]
        length = sum(counts) if len(counts) == size else None
        first = next((index for index, count in enumerate(self._counts) if count), None)
        if len(replies) > size:
            messages = {index: reply for index, reply in enumerate(replies[size:]) if isinstance(reply, bytes)}
            self._allowed -= sum(map(len, messages.values()))
            self._head_list = min(messages, default=None)
            self._head = None if self._head_list is None else parse_head(messages[self._head_list])
        elif length is None or length < (self.length or 0) or first != self._head_list:
            self._head, self._head_list = None, None
        self.length = length

    def reading(self, unacked: int | None) -> QueueReading:
        """Return what was told of the queue."""
        pairs = zip(self._priorities, self._counts, strict=True)
        return QueueReading(
            queue=self.name,
            length=self.length,
            by_priority={priority: count for priority, count in pairs if count is not None},
            unacked=unacked,
            head=self._head,
        )


def allowance(queues: int) -> float:
    """Return the bytes that each of so many queues with messages may spend on its head in a poll."""
    return min(HEAD_BYTES / max(queues, 1), MOST_ALLOWANCE)
