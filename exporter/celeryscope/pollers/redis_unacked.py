"""Messages of Redis that are delivered and not acknowledged: how many of each queue, and since when."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from celeryscope.pollers.redis_bindings import Bindings
from celeryscope.pollers.redis_layout import Layout
from celeryscope.pollers.redis_link import Command
from celeryscope.pollers.redis_replies import UnackedSample, parse_count, parse_oldest, parse_unacked

MOST_BYTES = 2**20  # that a poll reads, on average
MOST_ENTRIES = 1000  # that a poll reads, about
SAMPLES = 5  # messages that the server takes for all of them, to tell their size
LIKELY_BYTES = 16 * 1024  # of a message, where the server does not tell
LONGEST_DEBT = 60  # polls after which even the largest messages are read again


class Unacked:
    """Which queue a message came from is known only from the message's own entry, which holds all of it.

    So a poll first asks how many entries there are, and how large, and then reads as many as it may. Where these are
    not all, they stand for the others: which they are is decided by random ids, so no queue is favoured. Counts of
    single queues are then estimates.
    """

    def __init__(self) -> None:
        self.oldest: float | None = None  # Unix seconds of the oldest delivery
        self._total: int | None = None
        self._sample: UnackedSample | None = None
        self._debt = 0  # bytes that were read beyond what a poll may
        self._sampled = False  # whether this poll reads entries

    def survey(self, layout: Layout) -> list[Command]:
        """Return what to ask first."""
        if layout.unacked is None:
            return []
        return [("HLEN", layout.unacked), ("MEMORY", "USAGE", layout.unacked, "SAMPLES", SAMPLES)]

    def commands(self, layout: Layout, survey: Sequence[Any]) -> list[Command]:
        """Return what to ask after the replies to `survey`."""
        if layout.unacked is None or layout.unacked_index is None:
            return []
        total, size = map(parse_count, survey)
        self._total = total
        commands: list[Command] = [("ZRANGE", layout.unacked_index, 0, 0, "WITHSCORES")]
        self._debt = max(0, self._debt - MOST_BYTES)
        self._sampled = self._debt == 0
        if self._sampled:
            average = size / total if size and total else LIKELY_BYTES
            if self._sample is not None and self._sample.entries:
                average = max(average, self._sample.bytes / self._sample.entries)
            count = min(max(int(MOST_BYTES / average), 1), MOST_ENTRIES)
            commands.append(("HSCAN", layout.unacked, 0, "COUNT", count))
        return commands

    def take(self, replies: Sequence[Any]) -> None:
        """Take the replies to `commands`."""
        if not replies:
            return
        self.oldest = parse_oldest(replies[0])
        if self._sampled:
            self._sample = parse_unacked(replies[1])
            if self._sample is not None:
                self._debt = min(max(0, self._sample.bytes - MOST_BYTES), LONGEST_DEBT * MOST_BYTES)

    def by_queue(self, bindings: Bindings) -> Counter[str] | None:
        """Return the messages of each queue that has any; None where they are not known."""
        sample = self._sample
        if self._total == 0 or (self._total is None and sample is not None and sample.complete and not sample.entries):
            return Counter()
        if sample is None or not sample.entries:
            return None
        counts: Counter[str] = Counter()
        for (exchange, routing_key), count in sample.routes.items():
            queue = bindings.route(exchange, routing_key)
            if queue is not None:
                counts[queue] += count
        if counts.total() < sample.entries and not bindings.complete:
            return None  # whose they are may yet be found
        if sample.complete and self._sampled:
            return counts
        if self._total is None:
            return None
        return Counter({queue: round(count * self._total / sample.entries) for queue, count in counts.items()})
