"""Real Redis servers beyond the plain one: with TLS, on a Unix socket, and behind a Sentinel that fails over."""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
import trustme

from support.processes import Process
from support.programs import needs
from support.server import Server
from support.servers import Valkey, free_port, valkey
from support.waiting import NeverAgain, wait_until

MASTER_NAME = "shop"
NOTICED_DOWN = 500  # milliseconds without an answer after which the sentinel gives a master up
FAILOVER_TIMEOUT = 20.0  # seconds: it takes one or two

needs_redis = needs("redis-server")
needs_sentinel = needs("redis-sentinel")  # whose package needs that of redis-server


class Redis(Server):
    """A running Redis of the system; after `restart` it is empty."""

    def __init__(self, directory: Path, extra: Sequence[str] = (), *, tls: bool = False) -> None:
        super().__init__(directory)
        self.port = free_port()
        self._extra = list(extra)
        self._tls = _certificates(directory) if tls else None

    @property
    def url(self) -> str:
        """The broker URL of database 0; under TLS it demands the server's certificate to be good."""
        if self._tls is None:
            return f"redis://127.0.0.1:{self.port}/0"
        return f"rediss://localhost:{self.port}/0?ssl_cert_reqs=required&ssl_ca_certs={self._tls['ca']}"

    def client(self) -> redis.Redis:
        """A new client."""
        if self._tls is None:
            return redis.Redis(port=self.port, socket_timeout=5.0)
        return redis.Redis("localhost", self.port, socket_timeout=5.0, ssl=True, ssl_ca_certs=str(self._tls["ca"]))

    def _launched(self) -> Process:
        command = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--dir", str(self.directory)]
        if self._tls is None:
            command += ["--port", str(self.port)]
        else:
            command += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            command += ["--tls-ca-cert-file", str(self._tls["ca"]), "--tls-cert-file", str(self._tls["certificate"])]
            command += ["--tls-key-file", str(self._tls["key"])]
        return Process([*command, *self._extra], self.directory / "redis.log")

    def _answers(self, process: Process) -> bool:
        if process.returncode is not None:
            raise NeverAgain(f"Redis ended with {process.returncode}")
        with contextlib.closing(self.client()) as client:
            return bool(client.ping())


class Sentinel(Server):
    """A sentinel that watches one master, alone."""

    def __init__(self, directory: Path, master: Redis) -> None:
        super().__init__(directory)
        self.port = free_port()
        self._master = master

    def master_port(self) -> int:
        """The port of the present master."""
        with contextlib.closing(self._client()) as client:
            return int(client.sentinel_get_master_addr_by_name(MASTER_NAME)[1])

    def sees_replica(self) -> bool:
        """Whether it knows a replica that could take over."""
        with contextlib.closing(self._client()) as client:
            state = client.sentinel_master(MASTER_NAME)
            return state["num-slaves"] == 1 and not state["is_sdown"]

    def _client(self) -> Any:
        return redis.Redis(port=self.port, socket_timeout=5.0)

    def _launched(self) -> Process:
        # It writes what it learns into its configuration.
        configuration = self.directory / "sentinel.conf"
        configuration.write_text(
            f"port {self.port}\n"
            "bind 127.0.0.1\n"
            f"dir {self.directory}\n"
            f"sentinel monitor {MASTER_NAME} 127.0.0.1 {self._master.port} 1\n"
            f"sentinel down-after-milliseconds {MASTER_NAME} {NOTICED_DOWN}\n"
            f"sentinel failover-timeout {MASTER_NAME} 5000\n"
        )
        return Process(["redis-sentinel", str(configuration)], self.directory / "sentinel.log")

    def _answers(self, process: Process) -> bool:
        if process.returncode is not None:
            raise NeverAgain(f"the sentinel ended with {process.returncode}")
        return self.master_port() == self._master.port


class Watched:
    """A master, its replica, and the sentinel that watches them."""

    def __init__(self, master: Redis, replica: Redis, sentinel: Sentinel) -> None:
        self.master = master
        self.replica = replica
        self.sentinel = sentinel

    @property
    def url(self) -> str:
        """The broker URL; needs the transport option `master_name`. Its first sentinel is not there."""
        return f"sentinel://127.0.0.1:{free_port()}/0;sentinel://127.0.0.1:{self.sentinel.port}/0"


@contextmanager
def redis_server(directory: Path, *extra: str, tls: bool = False) -> Iterator[Redis]:
    """A Redis server with its files in `directory` for the length of a block."""
    directory.mkdir(parents=True, exist_ok=True)
    server = Redis(directory, extra, tls=tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def watched_redis(directory: Path) -> Iterator[Watched]:
    """A master, a replica in step with it, and a sentinel that knows both, for the length of a block."""
    with redis_server(directory / "master", "--repl-diskless-sync-delay", "0") as master:
        following = ("--replicaof", f"127.0.0.1 {master.port}")
        with redis_server(directory / "replica", *following) as replica:
            with contextlib.closing(replica.client()) as client:
                wait_until(
                    lambda: client.info("replication").get("master_link_status") == "up",
                    FAILOVER_TIMEOUT,
                    "the replica is in step",
                )
            (directory / "sentinel").mkdir()
            sentinel = Sentinel(directory / "sentinel", master)
            sentinel.start()
            try:
                wait_until(sentinel.sees_replica, FAILOVER_TIMEOUT, "the sentinel knows the replica")
                yield Watched(master, replica, sentinel)
            finally:
                sentinel.stop()


@contextmanager
def valkey_on_a_socket(directory: Path) -> Iterator[tuple[Valkey, str]]:
    """A Valkey server, and the broker URL of database 3 on its Unix socket."""
    # A socket's path may have 107 characters: names of temporary folders can be longer.
    path = Path(f"/tmp/celeryscope-{free_port()}.sock")
    try:
        with valkey(directory, extra=["--unixsocket", str(path)]) as server:
            yield server, f"redis+socket://{path}?virtual_host=3"
    finally:
        path.unlink(missing_ok=True)


def _certificates(directory: Path) -> dict[str, Path]:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    paths = {name: directory / f"{name}.pem" for name in ("ca", "certificate", "key")}
    authority.cert_pem.write_to_path(str(paths["ca"]))
    issued.cert_chain_pems[0].write_to_path(str(paths["certificate"]))
    issued.private_key_pem.write_to_path(str(paths["key"]))
    return paths
