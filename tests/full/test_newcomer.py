"""A newcomer's path, from an empty folder to an own project that is watched, with no step that README.md lacks."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import pytest

from support.exporter import Metrics
from support.processes import REPOSITORY
from support.servers import free_port, valkey
from support.waiting import NeverAgain, wait_until

MOST_TIME = 600  # seconds, for all of it

pytestmark = [pytest.mark.full, pytest.mark.integration, pytest.mark.timeout(MOST_TIME)]

HEADING = "## From nothing to your own cluster"
WAIT = 60.0  # seconds
PASSED_ON = re.compile(r"PIP_\w+|\w+_proxy|SSL_CERT_FILE", re.IGNORECASE)  # the way to packages, on this machine
COMMANDS = ("git clone", "script/demo", "pip install", "worker", "scope", "call", "check", "kill")


class Shell:
    """A shell into which a person types line by line, in an environment that knows nothing of us."""

    def __init__(self, folder: Path, log: Path, **environ: str) -> None:
        self.log_path = log
        self._typed = 0
        home = folder.with_name("home")
        for made in (folder, home):
            made.mkdir()
        clean = {"PATH": f"{sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"}
        clean |= {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
        # The checkout may be another user's.
        clean |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
        with log.open("wb") as output:
            self._bash = subprocess.Popen(
                ["bash", "--norc"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**clean, **environ},
                cwd=folder,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def type(self, line: str) -> str:
        """Type a line and wait for the prompt; return what it printed. Fails where it does."""
        assert self._bash.stdin is not None
        before, self._typed = len(self.log), self._typed + 1
        self._bash.stdin.write(f'{line}\necho "prompt {self._typed}: $?"\n'.encode())
        self._bash.stdin.flush()
        ended = re.compile(rf"^prompt {self._typed}: (\d+)$", re.MULTILINE)

        def prompt() -> re.Match[str] | None:
            if self._bash.poll() is not None:
                raise NeverAgain(f"the shell ended: {self.log}")
            return ended.search(self.log)

        found = wait_until(prompt, MOST_TIME, f"{line!r} ends")
        assert found is not None
        printed = self.log[before : found.start()]
        assert found[1] == "0", f"{line}\n{printed}"
        return printed

    def kill(self) -> None:
        """End it and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait(WAIT)


@contextmanager
def shell(folder: Path, log: Path, **environ: str) -> Iterator[Shell]:
    """A shell for the length of a block."""
    opened = Shell(folder, log, **environ)
    try:
        yield opened
    finally:
        opened.kill()


def steps() -> Iterator[tuple[str, str]]:
    """The section's blocks, in README.md as it is committed, each behind what is said before it."""
    show = ["git", "-C", str(REPOSITORY), "-c", "safe.directory=*", "show", "HEAD:README.md"]
    text = subprocess.run(show, check=True, capture_output=True, text=True, timeout=WAIT).stdout
    assert f"\n{HEADING}\n" in text, f"README.md has no section {HEADING!r}"
    section = text.partition(f"\n{HEADING}\n")[2].partition("\n## ")[0] + "\n"
    end = 0
    for block in re.finditer(r"(?:^ {4}.*\n(?:\n*(?= {4}))?)+", section, re.MULTILINE):
        yield section[end : block.start()], re.sub("^ {4}", "", block[0], flags=re.MULTILINE)
        end = block.end()


def shown(port: int, path: str) -> str:
    """What the exporter shows; empty while it does not answer."""
    with suppress(OSError), urlopen(f"http://127.0.0.1:{port}{path}", timeout=WAIT) as answer:
        return str(answer.read().decode())
    return ""


def wait_for(port: int, name: str, **labels: str) -> None:
    """Wait until the sum of series is 1."""
    wait_until(lambda: Metrics(shown(port, "/metrics")).sum(name, **labels) == 1, WAIT, f"{name}{labels} is 1")


def test_from_an_empty_folder_to_an_own_project_that_is_watched(tmp_path: Path) -> None:
    folder, port = tmp_path / "empty", free_port()
    typed = []
    with (
        valkey(tmp_path / "valkey") as server,
        shell(folder, tmp_path / "shell.log", CELERYSCOPE_LISTEN_ADDRESS=f"127.0.0.1:{port}") as person,
    ):
        here = {
            "REPOSITORY": str(REPOSITORY),
            "redis://localhost:6379/0": server.url,
            "--seconds 60": f"--seconds 5 --no-monitoring --listen-address 127.0.0.1:{port}",
        }
        for said, written in steps():
            block = written
            for theirs, ours in here.items():
                block = block.replace(theirs, ours)
            if "`proj.py`" in said:
                (folder / "proj.py").write_text(block)
                continue
            for line in block.splitlines():
                printed = person.type(line)
                typed.append(line)
                if "scope" in line.split():
                    wait_for(port, "celery_worker_up")
                    assert "<h1>Connected</h1>" in shown(port, "/")
                if "call" in line.split():
                    wait_for(port, "celery_task_succeeded_total", task="proj.add", queue="celery")
                if "check" in line.split():
                    assert "1 worker, 1 queue looked at" in printed
        assert {command for command in COMMANDS if any(command in line for line in typed)} == set(COMMANDS)
        wait_until(lambda: not shown(port, "/metrics"), WAIT, "the exporter has ended")
