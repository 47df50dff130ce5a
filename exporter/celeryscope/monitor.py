"""Everything about one broker: its stream, canary, pollers, tracker and store, and the loops that join them.

One process runs one monitor today; nothing in here knows that.
"""

import logging
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from celeryscope.advice import advice
from celeryscope.clock import Clock
from celeryscope.errors import InvalidEvent, StreamError
from celeryscope.events import Decoded, EventDecoder
from celeryscope.metrics.health import ExporterHealth
from celeryscope.metrics.store import Store
from celeryscope.pollers.task_events import TaskEventsSwitch
from celeryscope.pollers.workers import WorkersPoller
from celeryscope.stream import Received, Stream
from celeryscope.stream.canary import Canary
from celeryscope.supervisor import Supervisor, periodic
from celeryscope.tracker import Tracker

READ_TIMEOUT = 0.25  # seconds: how long a quiet stream keeps what was held back waiting
FEW_MESSAGES = 20  # in one read: one by one they cost several times what they cost together
GATHER_TIME = 0.01  # seconds in which more of them come
TICK_INTERVAL = 0.25  # seconds
ADVICE_INTERVAL = 10.0  # seconds
MOST_ADVICE = 20  # lines in the life of a process: names of workers come and go
MOST_SAID = 1000  # workers of which the log says, once, that their events were switched on
MOST_NAMES = 10  # of workers in one line
POLL_CHECK_INTERVAL = 1.0  # seconds between two looks whether a worker has appeared that was not asked yet

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Core:
    """What every loop of a monitor works on. Whoever touches the tracker holds the store's lock."""

    store: Store
    tracker: Tracker
    health: ExporterHealth
    clock: Clock


class Listener:
    """Reads the stream into the tracker, from connection to loss."""

    def __init__(self, core: Core, stream: Stream, decoder: EventDecoder) -> None:
        self._core = core
        self._stream = stream
        self._decoder = decoder
        self.connected = threading.Event()
        self.opened = 0  # times that the stream was opened
        self.attempted = threading.Event()  # the first attempt to connect is over, whatever came of it

    def run(self, stop: threading.Event) -> None:
        """Listen until told to stop; raise StreamError where the connection cannot be opened, or is lost."""
        try:
            self._open()
            while not stop.is_set():
                messages = self._stream.read(READ_TIMEOUT)
                self.take(messages)
                self._check_hearing()
                if len(messages) < FEW_MESSAGES:
                    stop.wait(GATHER_TIME)
        except StreamError:
            self._core.health.broker("stream", works=False)
            raise
        finally:
            self._close()

    def interrupt(self) -> None:
        """Make a read that is under way return."""
        self._stream.close()

    def take(self, messages: Sequence[Received]) -> None:
        """Decode messages and hand their events to the tracker, as one batch."""
        if not messages:
            return
        decode = self._decoder.decode
        events: list[Decoded] = []
        for message in messages:
            if isinstance(message, InvalidEvent):
                events.append(message)
            else:
                events += decode(message.body, message.content_type)
        with self._core.store.lock:
            self._core.tracker.handle(events, self._core.clock.now())

    def _open(self) -> None:
        try:
            self._stream.connect()
        finally:
            self.attempted.set()
        with self._core.store.lock:
            self._core.tracker.listening(self._core.clock.now())
        self._core.health.stream_opened()
        self._core.health.broker("stream", works=True)
        self.opened += 1
        self.connected.set()
        logger.info("listening to events")

    def _close(self) -> None:
        self.connected.clear()
        self._stream.close()
        with self._core.store.lock:
            self._core.tracker.hearing.lost(self._core.clock.now().elapsed)
        self._core.health.stream_lost()

    def _check_hearing(self) -> None:
        now = self._core.clock.now()
        with self._core.store.lock:
            self._core.tracker.listened(now)
            missed = self._core.tracker.hearing.has_missed(now.elapsed)
        if missed:
            raise StreamError("connected, but none of the events that were sent as a test came back: subscribing again")


class CanaryRounds:
    """Sends a canary as soon as the stream is open, and then at every interval."""

    def __init__(self, core: Core, canary: Canary, interval: float, listener: Listener) -> None:
        """`interval` is in seconds."""
        self._core = core
        self._canary = canary
        self._interval = interval
        self._listener = listener

    def run(self, stop: threading.Event) -> None:
        """Send canaries until told to stop; raise StreamError where the broker does not take them."""
        opened, next_at = 0, 0.0
        try:
            self._canary.connect()
            self._core.health.broker("canary", works=True)
            while not stop.is_set():
                now = self._core.clock.now().elapsed
                if self._listener.connected.is_set() and (now >= next_at or opened != self._listener.opened):
                    if opened not in (0, self._listener.opened):
                        self._canary.connect()  # what cost the stream its connection has hardly spared this one
                    opened, next_at = self._listener.opened, now + self._interval
                    self._send()
                stop.wait(TICK_INTERVAL)
        except StreamError:
            self._core.health.broker("canary", works=False)
            raise
        finally:
            self._canary.close()

    def _send(self) -> None:
        hearing, identity, now = self._core.tracker.hearing, uuid.uuid4().hex, self._core.clock.now()
        with self._core.store.lock:
            hearing.canary_sent(identity, now.elapsed)
        try:
            self._canary.send(identity, now.wall)
        except StreamError:
            with self._core.store.lock:
                hearing.canary_failed(identity)
            raise


class WorkerPolls:
    """Asks the workers at every interval, and a worker that appears at once."""

    def __init__(self, core: Core, poller: WorkersPoller, interval: float) -> None:
        """`interval` is in seconds."""
        self._core = core
        self._poller = poller
        self._interval = interval
        self._polled_at: float | None = None
        self._asked: frozenset[str] = frozenset()
        self.attempted = threading.Event()

    def poll_if_due(self) -> None:
        """Poll where the interval is over or a worker has appeared; raise PollError where the broker fails."""
        now = self._core.clock.now()
        with self._core.store.lock:
            workers = frozenset(self._core.tracker.askable_workers(now))
        overdue = self._polled_at is None or now.elapsed - self._polled_at >= self._interval
        if not overdue and workers <= self._asked:
            return
        succeeded = False
        try:
            readings = self._poller.poll()
            with self._core.store.lock:
                self._core.tracker.apply(readings, self._core.clock.now())
            succeeded = True
            # A poll that failed is tried again after the supervisor's pause, not after the interval.
            self._polled_at, self._asked = now.elapsed, workers
        finally:
            self._core.health.broker("workers", works=succeeded)
            self._core.health.polled("workers", succeeded, self._core.clock.now().elapsed - now.elapsed)
            self.attempted.set()


class EventSwitching:
    """Switches on the task events of workers that send none."""

    def __init__(self, core: Core, switch: TaskEventsSwitch) -> None:
        self._core = core
        self._switch = switch
        self._said: set[tuple[str, str]] = set()

    def look(self) -> None:
        """Ask the workers that need it; raise PollError where the broker fails."""
        now = self._core.clock.now()
        with self._core.store.lock:
            senders = self._core.tracker.event_senders(now)
        switched_on, unmoved = self._switch.switch_on(senders, now.elapsed)
        with self._core.store.lock:
            self._core.tracker.switched_on(switched_on)
        self._say(logging.INFO, "switched on the task events of", switched_on)
        self._say(
            logging.WARNING, "no answer to the request for task events (start with -E where they are off):", unmoved
        )

    def _say(self, level: int, text: str, workers: Sequence[str]) -> None:
        new = [worker for worker in workers if (text, worker) not in self._said][: MOST_SAID - len(self._said)]
        self._said.update((text, worker) for worker in new)
        if new:
            more = f" and {len(new) - MOST_NAMES} more" if len(new) > MOST_NAMES else ""
            logger.log(level, "%s %s%s", text, ", ".join(new[:MOST_NAMES]), more)


class Adviser:
    """Logs what a person should change, each line once."""

    def __init__(self, core: Core, *, events_switched: bool = False) -> None:
        """`events_switched` says that workers are asked for task events: nobody need be told."""
        self._core = core
        self._events_switched = events_switched
        self._said: set[str] = set()

    def look(self) -> None:
        """Say what has not been said."""
        with self._core.store.lock:
            facts = self._core.tracker.facts(self._core.clock.now())
        for line in advice(facts, events_switched=self._events_switched):
            if line not in self._said and len(self._said) < MOST_ADVICE:
                self._said.add(line)
                logger.warning("%s", line)


class Monitor:
    """Watches one broker from `start` to `stop`. What writes to it may be left out."""

    def __init__(
        self,
        core: Core,
        listener: Listener,
        canary: CanaryRounds | None = None,
        polls: WorkerPolls | None = None,
        switching: EventSwitching | None = None,
    ) -> None:
        self._core = core
        self._listener = listener
        self._canary = canary
        self._polls = polls
        self._switching = switching
        self._adviser = Adviser(core, events_switched=switching is not None)
        self._supervisor = Supervisor(clock=core.clock)
        core.store.before_snapshot.append(lambda: core.tracker.refresh(core.clock.now()))

    @property
    def store(self) -> Store:
        """All series of this broker."""
        return self._core.store

    def start(self) -> None:
        """Start all threads."""
        start = self._supervisor.start
        start("celeryscope-tick", periodic(TICK_INTERVAL, 0.0, self._tick))
        start("celeryscope-stream", self._listener, interrupt=self._listener.interrupt)
        start("celeryscope-advice", periodic(ADVICE_INTERVAL, 0.1, self._adviser.look))
        if self._canary is not None:
            start("celeryscope-canary", self._canary)
        if self._polls is not None:
            start("celeryscope-poll-workers", periodic(POLL_CHECK_INTERVAL, 0.1, self._polls.poll_if_due))
        if self._switching is not None:
            start("celeryscope-task-events", periodic(POLL_CHECK_INTERVAL, 0.1, self._switching.look))

    def stop(self, timeout: float) -> list[str]:
        """Stop all threads; return the names of those that did not end within `timeout` seconds."""
        return self._supervisor.stop(timeout)

    def is_ready(self) -> bool:
        """Whether the first attempt to connect and the first polls are over; what came of them the metrics tell."""
        return self._listener.attempted.is_set() and (self._polls is None or self._polls.attempted.is_set())

    def _tick(self) -> None:
        with self.store.lock:
            self._core.tracker.tick(self._core.clock.now())
