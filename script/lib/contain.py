"""Run a command and fail where it leaves processes behind: `contain.py COMMAND...`.

On Linux every process that the command started, however far it detached itself, becomes a child of this one
when its own parent ends, and so is found. Elsewhere only the exit code is passed on.
"""

import contextlib
import ctypes
import signal
import subprocess
import sys
import time

import psutil

PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
GRACE = 3.0  # seconds in which processes that were told to stop may still do so
LEFT_BEHIND = 70  # exit code: the command succeeded and processes are left


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, where the system knows how."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def left_behind() -> list[psutil.Process]:
    """What still runs below this process after the grace period."""
    deadline = time.monotonic() + GRACE
    while True:
        running = [process for process in psutil.Process().children(recursive=True) if is_running(process)]
        if not running or time.monotonic() > deadline:
            return running
        time.sleep(0.05)


def is_running(process: psutil.Process) -> bool:
    """Tell a process from one that has ended and waits to be reaped."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def describe(process: psutil.Process) -> str:
    """The process id and command line, as far as they can be read."""
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return str(process.pid)


def main(command: list[str]) -> int:
    """Run `command`; return its exit code, or LEFT_BEHIND."""
    adopt_orphans()
    child = subprocess.Popen(command)
    # A terminal sends Ctrl-C to the child too, which ends in its own way; SIGTERM reaches this process alone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    status = child.wait()
    leftovers = left_behind()
    for process in leftovers:
        print(f"left behind: {describe(process)}", file=sys.stderr)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    if leftovers and status == 0:
        return LEFT_BEHIND
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
