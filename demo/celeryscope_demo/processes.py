"""The demo's child processes: started in sessions of their own, supervised, and ended in order.

A session of its own keeps a Ctrl-C in the terminal away from a child: only the demo hears it, and ends its
children as it sees fit. Where the demo itself is killed, the guardian (guardian.py) ends them.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from pathlib import Path
from typing import TypeVar

from celeryscope.errors import CeleryscopeError
from celeryscope_demo import guardian
from celeryscope_demo.runfile import FOLDERS
from celeryscope_demo.stopping import Stopped, StopSignal

T = TypeVar("T")

RESTART_WINDOW = 30.0  # seconds in which a child may be restarted `restarts` times
PATIENCE = 25.0  # seconds for a child that is to end while the rest goes on: a worker finishes its tasks first
TAIL_LINES = 15
POLL = 0.05  # seconds between looks at a child that is starting or ending

# Variables that would make a child another on another machine; Celery's command line reads the short ones.
PREFIXES = ("CELERY_", "CELERYSCOPE_")
NAMES = {"APP", "BROKER_URL", "RESULT_BACKEND", "LOADER", "CONFIG_MODULE", "PYTHONPATH"}


class ChildFailed(CeleryscopeError):
    """A child ended that must not end, or did not come up: says which, how, and the last lines of its log."""


class Stage(IntEnum):
    """What ends first, and what ends together."""

    PRODUCERS = 0
    WORKERS = 1
    WATCHERS = 2
    SERVERS = 3


class Intent(Enum):
    """What its end means for a child."""

    RUN = "run"  # it should not have ended
    HELD = "held"  # it stays down until somebody renews it
    RENEWED = "renewed"  # it is started again at once
    DISMISSED = "dismissed"  # it was not needed any more


@dataclass(frozen=True)
class Program:
    """What to start, and how it ends: each signal in turn with the seconds that it is given, then SIGKILL."""

    name: str
    command: Sequence[str]
    stage: Stage
    endings: Sequence[tuple[signal.Signals, float]]
    restarts: int = 0  # how often it may be started again within RESTART_WINDOW; 0: its end is the demo's end
    environ: Mapping[str, str] = field(default_factory=dict)  # on top of every child's


class Child:
    """One started program; its output goes to `<folder>/<name>.log`."""

    def __init__(self, program: Program, folder: Path, environ: Mapping[str, str]) -> None:
        self.program = program
        self.intent = Intent.RUN
        self.deadline: float | None = None  # of time.monotonic: then a child that was asked to end is killed
        self.swept = False  # it ended and so did its group, whose number may be another's by now
        self.log_path = folder / f"{program.name}.log"
        self.starts: deque[float] = deque()
        self._folder = folder
        self._environ = dict(environ)
        self._popen: subprocess.Popen[bytes]
        self.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._popen.pid

    @property
    def status(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    def start(self) -> None:
        """Start it, or start it again."""
        self.starts.append(time.monotonic())
        self.intent, self.deadline, self.swept = Intent.RUN, None, False
        with self.log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                self.program.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env={**self._environ, **self.program.environ},
                start_new_session=True,
            )

    def failure(self, what: str) -> ChildFailed:
        """The error that says what happened, with the end of the log."""
        lines = self.log_path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        tail = "".join(f"\n  {line}" for line in lines)
        return ChildFailed(f"the {self.program.name} {what}; its last lines:{tail or ' none'}")

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal; it may have ended."""
        self._popen.send_signal(number)

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to it and to everything that it started: a worker's pool, say."""
        if not self.swept:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def end(self) -> None:
        """Kill it with its group, and see it end."""
        self.sweep()
        self._popen.wait()

    def sweep(self) -> None:
        """Kill what is left of its group: the pool of a worker that was killed, say."""
        self.signal_group(signal.SIGKILL)
        self.swept = self.status is not None


def end_together(children: Sequence[Child], stop: StopSignal) -> None:
    """End them side by side, each by its own endings. A second stop signal skips the courtesies."""
    due: list[tuple[float, Child, signal.Signals]] = []
    for child in children:
        moment = 0.0
        for number, seconds in child.program.endings:
            due.append((moment, child, number))
            moment += seconds
        due.append((moment, child, signal.SIGKILL))
    due.sort(key=lambda step: step[0])
    start = time.monotonic()
    while due and stop.count < 2 and any(child.status is None for child in children):
        moment, child, number = due[0]
        if time.monotonic() - start < moment:
            time.sleep(POLL)
            continue
        due.pop(0)
        child.send_signal(number)
    for child in children:
        child.end()


def describe(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with exit code {status}"


class Children:
    """All children in the order of their start, their temporary folder, and their guardian."""

    def __init__(self, environ: Mapping[str, str], stop: StopSignal) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDERS))
        # What a killed child leaves in its temporary folder goes away with ours.
        self._environ = {**clean(environ), "TMPDIR": str(self.folder)}
        self._stop = stop
        self._children: list[Child] = []
        self._excused = 0.0  # until then, of time.monotonic(), an end is no crash
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", "-S", guardian.__file__, str(self.folder)],
            bufsize=0,  # a line is told at once
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    @property
    def names(self) -> list[str]:
        """What runs, in the order in which it will be ended."""
        return [child.program.name for stage in Stage for child in self._of(stage)]

    def start(self, program: Program) -> Child:
        """Start a program; its variables come on top of a clean environment."""
        try:
            child = Child(program, self.folder, self._environ)
        except OSError as error:
            raise ChildFailed(f"the {program.name} cannot be started: {error}") from error
        self._children.append(child)
        self._tell("+", child.pid)
        return child

    def discard(self, child: Child) -> None:
        """End a child before its time, for good."""
        end_together([child], self._stop)
        self._tell("-", child.pid)
        self._children.remove(child)

    def excuse(self, seconds: float) -> None:
        """Have what may be started again be started again, however often it ends within so many seconds from now."""
        self._excused = time.monotonic() + seconds

    def hold(self, child: Child, number: signal.Signals) -> None:
        """End a child, by SIGKILL with all that it started, and leave it down until somebody renews it."""
        child.intent = Intent.HELD
        if number == signal.SIGKILL:
            child.signal_group(number)
        else:
            child.send_signal(number)

    def renew(self, child: Child, program: Program | None = None) -> None:
        """Have a child start again, also as another program; where it runs, it is asked to end before.

        Returns at once: `check` starts it.
        """
        child.program = program or child.program
        self._ask_to_end(child, Intent.RENEWED)

    def dismiss(self, child: Child) -> None:
        """Have a child end for good. Returns at once: `check` sees it end."""
        self._ask_to_end(child, Intent.DISMISSED)

    def check(self) -> list[str]:
        """See what has ended, and start again what may be; a line for each. Raises ChildFailed for what may not."""
        return [line for child in list(self._children) if (line := self._look_at(child)) is not None]

    def _ask_to_end(self, child: Child, intent: Intent) -> None:
        child.intent = intent
        child.deadline = time.monotonic() + PATIENCE
        if child.status is None:
            child.signal_group(signal.SIGCONT)  # what is frozen hears nothing else
            child.send_signal(child.program.endings[0][0])

    def _look_at(self, child: Child) -> str | None:
        if child.deadline is not None and child.status is None and time.monotonic() >= child.deadline:
            child.end()
        status = child.status
        if status is None or (child.intent is Intent.HELD and child.swept):
            return None
        if child.intent is Intent.RUN:
            return self._restart(child, status)
        self._ended(child)
        if child.intent is Intent.HELD:
            return f"the {child.program.name} {describe(status)}, and stays down"
        if child.intent is Intent.DISMISSED:
            self._children.remove(child)
            return f"the {child.program.name} {describe(status)}, as it should"
        child.starts.clear()  # what is meant is no crash
        child.start()
        self._tell("+", child.pid)
        return f"the {child.program.name} is started again, pid {child.pid}"

    def _restart(self, child: Child, status: int) -> str:
        self._ended(child)
        now = time.monotonic()
        if now < self._excused:
            child.starts.clear()
        while child.starts and child.starts[0] < now - RESTART_WINDOW:
            child.starts.popleft()
        if not child.program.restarts:
            raise child.failure(describe(status))
        if len(child.starts) > child.program.restarts:
            times = f"{len(child.starts)} times within {RESTART_WINDOW:.0f} s"
            raise child.failure(f"{describe(status)}, {times}")
        child.start()
        self._tell("+", child.pid)
        return f"the {child.program.name} {describe(status)}; started again, pid {child.pid}"

    def wait_for(self, answer: Callable[[], T | None], timeout: float) -> T | None:
        """Ask until there is an answer; None after `timeout` seconds. Raises Stopped; and as `check` does."""
        deadline = time.monotonic() + timeout
        while (found := answer()) is None:
            self.check()
            if self._stop.wait(POLL):
                raise Stopped
            if time.monotonic() >= deadline:
                return None
        return found

    def end_stage(self, stage: Stage) -> None:
        """End every child of a stage."""
        children = self._of(stage)
        end_together(children, self._stop)
        for child in children:
            self._tell("-", child.pid)
            self._children.remove(child)

    def end(self) -> None:
        """End every child, stage by stage, and remove the temporary folder."""
        for stage in Stage:
            self.end_stage(stage)
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        self._guardian.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _of(self, stage: Stage) -> list[Child]:
        return [child for child in reversed(self._children) if child.program.stage is stage]

    def _ended(self, child: Child) -> None:
        if not child.swept:
            child.sweep()
            self._tell("-", child.pid)

    def _tell(self, sign: str, pid: int) -> None:
        assert self._guardian.stdin is not None
        # Without its guardian, should somebody have killed it, the demo still ends its children itself.
        with suppress(BrokenPipeError):
            self._guardian.stdin.write(f"{sign}{pid}\n".encode())


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of every child: the demo's own, without the settings of other Celery applications.

    PYTHONPATH is made absolute, since children work in the temporary folder; their output is not buffered.
    """
    kept = {key: value for key, value in environ.items() if key not in NAMES and not key.startswith(PREFIXES)}
    kept["PYTHONUNBUFFERED"] = "1"
    if path := environ.get("PYTHONPATH"):
        folders = [str(Path(folder).absolute()) for folder in path.split(os.pathsep) if folder]
        kept["PYTHONPATH"] = os.pathsep.join(folders)
    return kept
