"""A few seconds of the event stream, and whether our own canary comes back on it."""

import uuid
from collections import Counter
from collections.abc import Callable
from threading import Event

from celeryscope.check.facts import Beat, Heard
from celeryscope.clock import Clock
from celeryscope.errors import StreamError
from celeryscope.events import Canary as CanaryEvent
from celeryscope.events import EventDecoder, TaskSent, WorkerHeartbeat, WorkerTaskEvent
from celeryscope.stream import RawMessage, Stream
from celeryscope.stream.canary import Canary

READ = 0.2  # seconds that one read waits at most
MOST_BEATS = 100  # of one worker that are kept
MOST_WORKERS = 10_000


class Listening:
    """Listens until it is told to stop; `result` may be asked for at any time, from another thread too."""

    def __init__(self, stream: Stream, decoder: EventDecoder, canary: Canary | None, clock: Clock) -> None:
        """`canary` is None where nothing may be sent."""
        self._stream, self._decoder, self._canary, self._clock = stream, decoder, canary, clock
        self._id = uuid.uuid4().hex
        self._began: float | None = None  # elapsed seconds
        self._proven = False
        self._sent_events = 0
        self._beats: dict[str, list[Beat]] = {}
        self._task_events: Counter[str] = Counter()
        self.subscribed = Event()
        self.unsent: str | None = None  # why the canary could not be sent

    def run(self, stop: Callable[[], bool]) -> Heard:
        """Subscribe, send the canary, listen; raises StreamError."""
        try:
            self._stream.connect()
            self._began = self._clock.now().elapsed
            self.subscribed.set()
            self._send_canary()
            while not stop():
                for message in self._stream.read(READ):
                    if isinstance(message, RawMessage):
                        self._take(message)
            return self.result()
        finally:
            self._stream.close()
            if self._canary is not None:
                self._canary.close()

    def beat_at(self, worker: str) -> float | None:
        """Unix seconds here of the last heartbeat of a worker; None where none was heard."""
        beats = self._beats.get(worker)
        return beats[-1].at if beats else None

    def beating(self) -> frozenset[str]:
        """The workers whose heartbeats were heard."""
        return frozenset(list(self._beats))

    def result(self) -> Heard:
        """What was heard so far."""
        now = self._clock.now()
        return Heard(
            seconds=0.0 if self._began is None else now.elapsed - self._began,
            until=now.wall,
            proven=self._proven,
            beats={name: tuple(beats) for name, beats in list(self._beats.items())},
            task_events=dict(self._task_events),
            sent_events=self._sent_events,
        )

    def _send_canary(self) -> None:
        if self._canary is not None:
            try:
                self._canary.connect()
                self._canary.send(self._id, self._clock.now().wall)
            except StreamError as error:
                self.unsent = str(error)

    def _take(self, message: RawMessage) -> None:
        at = self._clock.now().wall
        for event in self._decoder.decode(message.body, message.content_type):
            if isinstance(event, TaskSent):
                self._sent_events += 1
            elif isinstance(event, CanaryEvent):
                self._proven = self._proven or event.id == self._id
            elif isinstance(event, WorkerHeartbeat):
                self._beat(event, at)
            elif isinstance(event, WorkerTaskEvent):
                self._task_events[event.hostname] += 1

    def _beat(self, event: WorkerHeartbeat, at: float) -> None:
        if event.hostname not in self._beats and len(self._beats) >= MOST_WORKERS:
            return
        beats = self._beats.setdefault(event.hostname, [])
        if len(beats) < MOST_BEATS:
            beats.append(Beat(at, event.timestamp, event.pid, event.active, event.processed, event.sw_ver))
