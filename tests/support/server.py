"""What every server of a test can do, whatever it serves: start, freeze, end."""

import signal
from pathlib import Path

from support.processes import TERM_TIMEOUT, Process
from support.waiting import wait_until


class Server:
    """A program that keeps its files in a directory of its own, and its ports over `restart`."""

    START_TIMEOUT = 10.0  # seconds
    STOP_TIMEOUT = TERM_TIMEOUT

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._running.pid

    @property
    def log(self) -> str:
        """What the server said."""
        return self._running.log

    def start(self) -> None:
        """Start it and wait until it answers."""
        process = self._process = self._launched()
        try:
            wait_until(lambda: self._answers(process), self.START_TIMEOUT, f"{type(self).__name__} answers")
        except AssertionError as error:
            error.add_note(process.tail())
            process.kill()
            raise

    def stop(self) -> None:
        """End it in order (SIGTERM)."""
        self._running.stop(self.STOP_TIMEOUT)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._running.kill()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers (SIGSTOP)."""
        self._running.freeze()

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._running.signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop it where it runs, and start it again on the same ports; only what is durable is kept."""
        self.stop()
        self.start()

    @property
    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process

    def _launched(self) -> Process:
        """Start the program."""
        raise NotImplementedError

    def _answers(self, process: Process) -> bool:
        """Whether it can be used. Raises NeverAgain where it has ended."""
        raise NotImplementedError
