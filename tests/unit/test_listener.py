"""What the tracker makes of a stream that is read late."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from celeryscope.events import EventDecoder
from celeryscope.loops.core import Core
from celeryscope.loops.listener import FEW_MESSAGES, Listener
from celeryscope.metrics.health import ExporterHealth
from celeryscope.stream import RawMessage, Received
from celeryscope.tracker.holding import LONGEST_LAG
from support.story import PRODUCER, Story, StoryClock

NAME, QUEUE = "app.work", "fast"
Read = Callable[[], Sequence[Received]]


class Stream:
    """A stream of which every read does what a test says; after the last, listening ends."""

    def __init__(self, reads: Sequence[Read]) -> None:
        self.ended = threading.Event()
        self._reads = list(reads)

    def connect(self) -> None:
        pass

    def read(self, timeout: float) -> Sequence[Received]:
        read = self._reads.pop(0)
        if not self._reads:
            self.ended.set()
        return read()

    def close(self) -> None:
        pass


def message(event: dict[str, Any]) -> RawMessage:
    return RawMessage(msgspec.json.encode(event), "application/json", "utf-8")


def sent(story: Story, uuid: str) -> RawMessage:
    fields: dict[str, Any] = {
        "retries": 0,
        "eta": None,
        "exchange": "",
        "routing_key": QUEUE,
        "queue": QUEUE,
        "hostname": PRODUCER,
    }
    return message(story.event("task-sent", uuid=uuid, name=NAME, **fields))


def received(story: Story, uuid: str) -> RawMessage:
    return message(story.event("task-received", uuid=uuid, name=NAME, retries=0, eta=None))


def listened(story: Story, *reads: Read) -> dict[tuple[str, ...], float]:
    """What was received, by task and queue, after these reads."""
    clock = StoryClock(story)
    core = Core(story.store, story.tracker, ExporterHealth(story.store, clock, {}), clock)
    stream = Stream(reads)
    Listener(core, stream, EventDecoder(("json",))).run(stream.ended)
    return {labels: value for labels, value in story.series("celery_task_received_total").items() if value}


class Late:
    """Reads of a stream in which task `a` is received, and was sent: that is read `seconds` later."""

    def __init__(self, story: Story, seconds: float) -> None:
        self.story = story
        self.seconds = seconds

    def overtaken(self) -> Sequence[Received]:
        return [sent(self.story, "b"), received(self.story, "a")]

    def busy(self) -> Sequence[Received]:
        """The rest of the exporter goes on meanwhile."""
        self.story.wait(self.seconds)
        return [sent(self.story, "a")]

    def quiet(self) -> Sequence[Received]:
        self.story.wait(self.seconds)
        return []

    def full(self) -> Sequence[Received]:
        self.story.wait(self.seconds)
        return [received(self.story, "b")] * FEW_MESSAGES


def test_an_event_that_waited_to_be_read_has_come_in_time() -> None:
    late = Late(Story(), 3.0)
    assert listened(late.story, late.overtaken, late.busy) == {(NAME, QUEUE): 1}


def test_an_event_that_came_too_late_is_not_waited_for() -> None:
    late = Late(Story(), 1.5)
    assert listened(late.story, late.overtaken, late.quiet, late.quiet, late.busy) == {(NAME, "unknown"): 1}


def test_a_stream_that_is_never_read_to_its_end_is_waited_for_but_not_for_ever() -> None:
    late = Late(Story(), LONGEST_LAG / 4)
    assert listened(late.story, late.overtaken, late.full, late.full, late.busy)[NAME, QUEUE] > 1
    late = Late(Story(), LONGEST_LAG)
    assert listened(late.story, late.overtaken, late.full, late.full, late.busy)[NAME, "unknown"] == 1
