"""Time, passed in: rooms that are replayed from a recording never ask the machine for it."""

import time
from typing import NamedTuple, Protocol


class Moment(NamedTuple):
    """One instant on two clocks."""

    wall: float  # Unix seconds: compared with timestamps that other machines wrote
    elapsed: float  # seconds of a clock that never jumps: for timeouts and ages of what we saw ourselves


class Clock(Protocol):
    """Where moments come from."""

    def now(self) -> Moment:
        """Return the present moment."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> Moment:
        """Return the present moment."""
        return Moment(time.time(), time.monotonic())
