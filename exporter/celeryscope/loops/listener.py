"""The stream, read into the tracker."""

import logging
import threading
from collections.abc import Sequence

from celeryscope.errors import InvalidEvent, StreamError
from celeryscope.events import Decoded, EventDecoder
from celeryscope.loops.core import Core
from celeryscope.stream import Received, Stream

READ_TIMEOUT = 0.25  # seconds: how long a quiet stream keeps what was held back waiting
FEW_MESSAGES = 20  # in one read: one by one they cost several times what they cost together
GATHER_TIME = 0.01  # seconds in which more of them come

logger = logging.getLogger(__name__)


class Listener:
    """Reads the stream into the tracker, from connection to loss."""

    def __init__(self, core: Core, stream: Stream, decoder: EventDecoder) -> None:
        self._core = core
        self._stream = stream
        self._decoder = decoder
        core.health.stream_expected()
        self.connected = threading.Event()
        self.opened = 0  # times that the stream was opened
        self.attempted = threading.Event()  # the first attempt to connect is over, whatever came of it
        self.since = core.clock.now().elapsed  # since when the stream is open, or is not
        self.reason = ""  # why it is not

    def run(self, stop: threading.Event) -> None:
        """Listen until told to stop; raise StreamError where the connection cannot be opened, or is lost."""
        try:
            self._open()
            while not stop.is_set():
                began = self._core.clock.now().elapsed
                messages = self._stream.read(READ_TIMEOUT)
                self.take(messages)
                all_read = len(messages) < FEW_MESSAGES
                self._check_hearing(began if all_read else None)
                if all_read:
                    stop.wait(GATHER_TIME)
        except StreamError as error:
            self.reason = str(error)
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
        self.since, self.reason = self._core.clock.now().elapsed, ""
        self.connected.set()
        logger.info("listening to events")

    def _close(self) -> None:
        if self.connected.is_set():
            self.since = self._core.clock.now().elapsed
        self.reason = self.reason or "listening ended by an error of its own: the log says which"
        self.connected.clear()
        self._stream.close()
        with self._core.store.lock:
            self._core.tracker.hearing.lost(self._core.clock.now().elapsed)
        self._core.health.stream_lost()

    def _check_hearing(self, heard_until: float | None) -> None:
        now = self._core.clock.now()
        with self._core.store.lock:
            self._core.tracker.listened(now, heard_until)
            missed = self._core.tracker.hearing.has_missed(now.elapsed)
        if missed:
            raise StreamError("connected, but none of the events that were sent as a test came back: subscribing again")
