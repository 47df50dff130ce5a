"""Subprocesses that a test starts: output kept in a file, end guaranteed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from support.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
TAIL = 4000  # characters of a log that a failure shows
TERM_TIMEOUT = 10.0  # seconds between asking and killing
FREEZE_TIMEOUT = 10.0  # seconds
STOPPED = {"T", "t", "Z", "X"}  # states of threads that do nothing (proc_pid_stat(5))


def _states(pid: int) -> Iterator[str]:
    """The state of each thread of a process, a letter."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            # The name before it may hold spaces and parentheses.
            yield stat.read_text().rpartition(")")[2].split()[0]


class Process:
    """One started program and the file that its output goes to."""

    def __init__(self, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None) -> None:
        """Start `command`; `environ` is laid over this process's own environment, without CELERYSCOPE_*."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CELERYSCOPE_")}
        self.command = list(command)
        self.log_path = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**inherited, **(environ or {})},
                cwd=log.parent,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._popen.poll()

    @property
    def log(self) -> str:
        """Everything written so far."""
        return self.log_path.read_text(errors="replace")

    def tail(self) -> str:
        """The end of the log, with the command: what a failure shows."""
        return f"{' '.join(self.command)} (exit code {self.returncode})\n{self.log[-TAIL:]}"

    def signal(self, number: int) -> None:
        """Send a signal, where the process still runs."""
        if self.returncode is None:
            self._popen.send_signal(number)

    def freeze(self) -> None:
        """Stop it where it is (SIGSTOP), and wait until each of its threads has: until then one may still answer."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: set(_states(self.pid)) <= STOPPED, FREEZE_TIMEOUT, "every thread has stopped")

    def terminate(self) -> None:
        """Ask it to end (SIGTERM); does not wait."""
        self.signal(signal.SIGTERM)

    def wait(self, timeout: float) -> int:
        """Return the exit code; raise AssertionError with the log's tail after `timeout` seconds."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s: {self.tail()}") from None

    def stop(self, timeout: float = TERM_TIMEOUT) -> int:
        """Terminate, then kill; return the exit code."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.kill()
        finally:
            self._kill_group()

    def kill(self) -> int:
        """Kill it and the children it left in its session; return the exit code."""
        self.signal(signal.SIGKILL)
        self._kill_group()
        return self._popen.wait(TERM_TIMEOUT)

    def _kill_group(self) -> None:
        # The process leads a session of its own, so its group is what it started: a pool's children, say.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


@contextmanager
def started(
    command: Sequence[str],
    log: Path,
    environ: Mapping[str, str] | None = None,
    stop_timeout: float = TERM_TIMEOUT,
) -> Iterator[Process]:
    """A process for the length of a block. Where the block fails, the end of its log goes with the error."""
    process = Process(command, log, environ)
    try:
        yield process
    except Exception as error:
        error.add_note(process.tail())
        raise
    finally:
        process.stop(stop_timeout)


def python(*arguments: str) -> list[str]:
    """The command that runs this interpreter with arguments."""
    return [sys.executable, *arguments]


def pythonpath(*folders: Path) -> str:
    """A PYTHONPATH of these folders and whatever is there already."""
    present = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join([*map(str, folders), *filter(None, [present])])
