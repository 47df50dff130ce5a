"""A process that ends what the demo started where the demo itself could not: after SIGKILL, or a crash.

It reads its standard input, a pipe whose other end the demo alone holds: `+PID` is a started process, leader
of its own group, `-PID` one that ended. When the pipe closes, whatever is still noted is ended, the last
started first, and the temporary folder (the first argument) is removed. It ignores the signals that the demo
stops on: it has to outlive the demo. It cannot know of a process that was started in the instant before the
demo was killed.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

GRACE = 2.0  # seconds for a group to end in order
PAUSE = 0.05  # seconds between looks at it


def read(lines: Iterable[str]) -> list[int]:
    """The processes that run when the lines end, in the order of their start."""
    running: list[int] = []
    for line in lines:
        sign, pid = line[0], int(line[1:])
        if sign == "+":
            running.append(pid)
        elif pid in running:
            running.remove(pid)
    return running


def end_group(pid: int) -> None:
    """Ask a process to end, give it `GRACE`, then kill it with all of its group."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(PAUSE)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def main(folder: str) -> None:
    """Wait for the pipe to close, and clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for pid in reversed(read(sys.stdin)):
        end_group(pid)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
