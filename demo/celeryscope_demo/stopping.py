"""How a stop is asked for: by signals, heard at once wherever the program waits."""

import select
import signal
import socket
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """A stop was asked for while something was waited for."""


class StopSignal:
    """The signals, counted: the first asks for a stop in order, the second for a quick one.

    Used in the main thread alone, as signal handlers are.
    """

    def __init__(self) -> None:
        self.count = 0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # A wake-up socket: setting a threading.Event in a signal handler can deadlock with a wait for it.
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            # Under nohup the end of the terminal is none of ours.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._reader.close()
        self._writer.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1

    def wait(self, seconds: float) -> bool:
        """Wait this long, or until a stop is asked for; return whether one was."""
        if not self.count:
            select.select([self._reader], [], [], max(0.0, seconds))
        return self.count > 0
