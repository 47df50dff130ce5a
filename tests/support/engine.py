"""A container engine of a test's own: a dockerd with folders of its own, which leaves nothing behind.

It runs as root, beside an engine that may be there already: it has no default bridge, listens on a socket file alone,
and what it adds to the packet filter is taken out again.
"""

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.processes import Process
from support.waiting import NeverAgain, wait_until

START_TIMEOUT = 60.0  # seconds
STOP_TIMEOUT = 60.0  # seconds
COMMAND_TIMEOUT = 600.0  # seconds
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
TABLES = ("filter", "nat")


@dataclass(frozen=True)
class Engine:
    """A running dockerd and how to talk to it."""

    process: Process
    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        """The variables under which `docker` and `docker-compose` talk to this engine."""
        return {**os.environ, "DOCKER_HOST": f"unix://{self.folder / 'docker.sock'}", "DOCKER_CONFIG": str(self.folder)}

    def docker(self, *arguments: str, timeout: float = COMMAND_TIMEOUT) -> str:
        """What `docker ARGUMENTS` prints. Raises AssertionError with what it said where it fails."""
        return run(["docker", *arguments], self.environ, timeout)

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine knows of a container, image or network."""
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", name))
        return found[0]

    def load(self, rootfs: Path, name: str, *changes: str) -> None:
        """Make an image of a folder; `changes` are lines of a Dockerfile."""
        options = [option for change in changes for option in ("--change", change)]
        archive = subprocess.Popen(["tar", "-C", str(rootfs), "-c", "."], stdout=subprocess.PIPE)
        command = ["docker", "import", *options, "-", name]
        done = subprocess.run(
            command, env=self.environ, stdin=archive.stdout, capture_output=True, text=True, check=False
        )
        assert archive.wait() == 0 and done.returncode == 0, done.stderr  # noqa: PT018 - a pipe is one command


def run(command: Sequence[str], environ: dict[str, str], timeout: float = COMMAND_TIMEOUT) -> str:
    """What a command prints. Raises AssertionError with what it said where it fails."""
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def engine() -> Iterator[Engine]:
    """Run an engine for a block; afterwards its processes, mounts, files and packet filter rules are gone."""
    forwarding, before = FORWARDING.read_text(), PacketFilter.now()
    # Not below a test's own folder: names of socket files must be short.
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    command = ["dockerd", "--host", f"unix://{folder / 'docker.sock'}", "--pidfile", str(folder / "pid")]
    command += ["--data-root", str(folder / "root"), "--exec-root", str(folder / "exec"), "--bridge", "none"]
    process = Process(command, folder / "dockerd.log")
    running = Engine(process, folder)

    def answers() -> bool:
        if process.returncode is not None:
            raise NeverAgain(process.tail())
        return bool(running.docker("info", timeout=5.0))

    try:
        wait_until(answers, START_TIMEOUT, "dockerd answers")
        yield running
        for kind in ("container", "network", "volume"):
            remove_all(running, kind)
    finally:
        process.stop(STOP_TIMEOUT)
        before.restore()
        FORWARDING.write_text(forwarding)
        for mount in reversed(mounts_below(folder)):
            run(["umount", mount], dict(os.environ))
        shutil.rmtree(folder)


def mounts_below(folder: Path) -> list[str]:
    """Where something is mounted in a folder, outer ones first."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{folder}/")]


def remove_all(running: Engine, kind: str) -> None:
    """Remove what a test left of a kind; the engine's own networks stay."""
    own = ["--filter", "type=custom"] if kind == "network" else ["--all"] if kind == "container" else []
    names = running.docker(kind, "ls", "--quiet", *own).split()
    if names:
        running.docker(kind, "rm", *([] if kind == "network" else ["--force"]), *names)


@dataclass(frozen=True)
class PacketFilter:
    """What is in the packet filter, each with its table: rules as iptables-save writes them, made chains, policies."""

    rules: tuple[tuple[str, str], ...]
    chains: frozenset[tuple[str, str]]
    policies: frozenset[tuple[str, str, str]]  # all but ACCEPT, which is that of a table without chains too

    @classmethod
    def now(cls) -> "PacketFilter":
        """What is there now."""
        rules, chains, policies = [], set(), set()
        for table in TABLES:
            for line in run(["iptables-save", "-t", table], dict(os.environ)).splitlines():
                if line.startswith("-A "):
                    rules.append((table, line.removeprefix("-A ")))
                elif line.startswith(":"):
                    chain, policy, _ = line.removeprefix(":").split()
                    if policy == "-":
                        chains.add((table, chain))
                    elif policy != "ACCEPT":
                        policies.add((table, chain, policy))
        return cls(tuple(rules), frozenset(chains), frozenset(policies))

    def restore(self) -> None:
        """Take out what has come since, and set policies as they were."""
        current = PacketFilter.now()
        for table, rule in current.rules:
            if (table, rule) not in self.rules:
                iptables(table, "-D", *shlex.split(rule))
        for table, chain in current.chains - self.chains:
            iptables(table, "-X", chain)
        for table, chain, _ in current.policies - self.policies:
            iptables(table, "-P", chain, "ACCEPT")
        for table, chain, policy in self.policies - current.policies:
            iptables(table, "-P", chain, policy)


def iptables(table: str, *arguments: str) -> None:
    """Change a table of the packet filter."""
    run(["iptables", "-t", table, *arguments], dict(os.environ))
