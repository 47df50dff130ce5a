"""Supervised threads: what fails is reported, waits and starts again; nothing dies silently."""

import logging
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from celeryscope.clock import Clock, SystemClock
from celeryscope.errors import CeleryscopeError

FIRST_BACKOFF = 0.1  # seconds
LAST_BACKOFF = 5.0  # seconds: a broker that is back is used again within 10 s, connecting included
STEADY_AFTER = 10.0  # seconds that a component has run without an error when its backoff starts anew
REPEAT_INTERVAL = 60.0  # seconds between two log records of the same failure
REMEMBERED_LINES = 32  # different failures of one component whose repetition is recognised

logger = logging.getLogger(__name__)


class Component(Protocol):
    """What a supervised thread runs."""

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. After an exception, or a return before that, it is started again."""
        ...


class Backoff:
    """Waiting times before the next attempt: exponential, with full jitter."""

    def __init__(
        self,
        first: float = FIRST_BACKOFF,
        last: float = LAST_BACKOFF,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`first` and `last` bound the longest wait, in seconds; `uniform(a, b)` picks from what is below."""
        self._first = first
        self._last = last
        self._uniform = uniform
        self._ceiling = first

    def reset(self) -> None:
        """Something worked."""
        self._ceiling = self._first

    def next(self) -> float:
        """Return how many seconds to wait now; the next answer may be twice as long."""
        wait = self._uniform(0.0, self._ceiling)
        self._ceiling = min(self._last, self._ceiling * 2)
        return wait


class RepeatedLines:
    """Lets a line of log through once per interval, whoever says it, and counts what it kept back."""

    def __init__(self, interval: float = REPEAT_INTERVAL) -> None:
        """`interval` is in seconds."""
        self._interval = interval
        self._lock = threading.Lock()
        # Line -> when it was let through (elapsed seconds), and how often it was kept back since.
        self._lines: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def admit(self, line: str, now: float) -> int | None:
        """Return how often `line` was kept back since it was let through; None: keep it back now."""
        with self._lock:
            logged_at, kept_back = self._lines.get(line, (None, 0))
            if logged_at is not None and now - logged_at < self._interval:
                self._lines[line] = (logged_at, kept_back + 1)
                return None
            self._lines[line] = (now, 0)
            self._lines.move_to_end(line)
            if len(self._lines) > REMEMBERED_LINES:
                self._lines.popitem(last=False)
            return kept_back


class Supervisor:
    """Runs components as named daemon threads, until it is stopped."""

    def __init__(
        self,
        stop: threading.Event | None = None,
        *,
        clock: Clock | None = None,
        wait: Callable[[float], bool] | None = None,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        """`wait(seconds)` pauses and tells whether to stop; by default it waits on the `stop` event."""
        self.stopping = stop or threading.Event()
        self._clock = clock or SystemClock()
        self._wait = wait or self.stopping.wait
        self._backoff = backoff
        self._threads: list[threading.Thread] = []
        self._interrupts: list[Callable[[], None]] = []
        # One for all: a broker that is away costs every connection, and is one thing to say.
        self._lines = RepeatedLines()

    def start(self, name: str, component: Component, interrupt: Callable[[], None] | None = None) -> None:
        """Run a component in a thread of this name. `interrupt` ends what blocks it; `stop` calls it."""
        thread = threading.Thread(target=self.supervise, args=(name, component), name=name, daemon=True)
        self._threads.append(thread)
        if interrupt is not None:
            self._interrupts.append(interrupt)
        thread.start()

    def stop(self, timeout: float) -> list[str]:
        """Set the stop event and join every thread; return the names of those alive after `timeout` s."""
        self.stopping.set()
        deadline = time.monotonic() + timeout
        for interrupt in self._interrupts:
            try:
                interrupt()
            except Exception:  # one that fails must not keep the others from being stopped
                logger.exception("cannot interrupt a component")
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return [thread.name for thread in self._threads if thread.is_alive()]

    def supervise(self, name: str, component: Component) -> None:
        """Run a component in this thread, again and again, until the stop event is set."""
        backoff = self._backoff()
        while not self.stopping.is_set():
            started = self._clock.now().elapsed
            error: Exception | None = None
            try:
                component.run(self.stopping)
            except Exception as caught:  # noqa: BLE001 - a bug in one component must not end the others, nor itself
                error = caught
            if self.stopping.is_set():
                if error is not None and not isinstance(error, CeleryscopeError):
                    logger.error("%s failed while it was stopped", name, exc_info=error)
                return
            now = self._clock.now().elapsed
            _report(name, error, self._lines, now)
            if now - started >= STEADY_AFTER:
                backoff.reset()
            # An error holds the frames it came through, and with them what the component had open.
            del error
            if self._wait(backoff.next()):
                return


def _report(name: str, error: Exception | None, lines: RepeatedLines, now: float) -> None:
    foreseen = isinstance(error, CeleryscopeError)
    if foreseen:
        line = str(error)
    else:
        line = f"{name}: " + (f"{type(error).__name__}: {error}" if error else "ended before it was stopped")
    kept_back = lines.admit(line, now)
    if kept_back is None:
        return
    if kept_back:
        line = f"{line} ({kept_back} more times since last reported)"
    if foreseen or error is None or kept_back:
        logger.warning("%s", line)
    else:
        logger.error("%s", line, exc_info=error)


@dataclass(frozen=True)
class Periodic:
    """A component that calls `action` at once, and again after each pause of about `interval` seconds."""

    interval: float  # seconds
    jitter: float  # the part of the interval by which a pause may be shorter or longer: 0.1 is a tenth
    action: Callable[[], object]
    uniform: Callable[[float, float], float] = random.uniform

    def run(self, stop: threading.Event) -> None:
        """Call `action` until `stop` is set; its exceptions are the supervisor's."""
        while not stop.is_set():
            self.action()
            stop.wait(self.interval * self.uniform(1 - self.jitter, 1 + self.jitter))


def periodic(interval: float, jitter: float, action: Callable[[], object]) -> Component:
    """Return a component that calls `action` every `interval` seconds, give or take `jitter` x `interval`."""
    return Periodic(interval, jitter, action)
