"""A real RabbitMQ server of its own, with its Erlang port mapper, on free ports of the loopback interface."""

import base64
import contextlib
import json
import os
import subprocess
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from celery.events.event import get_exchange
from kombu import Connection, Consumer, Queue

from support.processes import Process
from support.programs import missing
from support.record import Heard
from support.server import Server
from support.servers import free_port
from support.waiting import NeverAgain

BINARIES = Path("/usr/lib/rabbitmq/bin")  # not the wrappers in /usr/sbin, which change the user
HTTP_TIMEOUT = 10.0  # seconds
CTL_TIMEOUT = 30.0  # seconds
EVERYTHING = ".*"
QUEUE_FACTS = ("name", "durable", "auto_delete", "exclusive", "arguments", "messages", "message_bytes", "memory")
CONNECTION_FACTS = ("vhost", "timeout", "state", "client_properties")

needs_rabbitmq = pytest.mark.skipif(not (BINARIES / "rabbitmq-server").exists(), reason=missing("rabbitmq-server"))

CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
disk_free_limit.absolute = 50MB
"""


class RabbitMQ(Server):
    """A running server, and its port mapper."""

    START_TIMEOUT = 60.0  # seconds: it takes six on an idle machine
    STOP_TIMEOUT = 30.0  # seconds: as long

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port, self._management, self._distribution, self._mapper_port = (free_port() for _ in range(4))
        self._mapper: Process | None = None

    @property
    def url(self) -> str:
        """The broker URL of the default virtual host."""
        return self.url_of("")

    def url_of(self, vhost: str, user: str = "guest", password: str = "guest") -> str:
        """The broker URL of a virtual host, for a user."""
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    def management_url(self, user: str = "guest", password: str = "guest") -> str:
        """The URL of the management API, for a user."""
        return f"http://{user}:{password}@127.0.0.1:{self._management}"

    def close(self) -> None:
        """End it and its port mapper; nothing of it is needed any more."""
        for process in (self._process, self._mapper):
            if process is not None:
                process.kill()
        self._mapper = None

    def control(self, *arguments: str) -> str:
        """Run `rabbitmqctl`; return what it said."""
        command = [str(BINARIES / "rabbitmqctl"), "--quiet", *arguments]
        environ = {**os.environ, **self._environment}
        result = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=CTL_TIMEOUT, check=False)
        if result.returncode:
            raise AssertionError(f"rabbitmqctl {' '.join(arguments)}: {result.stdout}{result.stderr}")
        return result.stdout

    def manage(self, method: str, path: str, content: object = None) -> Any:
        """Ask the management interface: `path` is what comes after /api/; return its JSON, None where there is none."""
        credentials = base64.b64encode(b"guest:guest").decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        body = None if content is None else json.dumps(content).encode()
        url = f"http://127.0.0.1:{self._management}/api/{path}"
        request = urllib.request.Request(url, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT) as response:
            text = response.read()
        return json.loads(text) if text else None

    def add_vhost(self, name: str = "") -> str:
        """Make a virtual host, with a name of its own by default; return the name."""
        name = name or f"vhost-{uuid.uuid4().hex[:8]}"
        self.manage("PUT", f"vhosts/{quote(name, safe='')}", {})
        self.grant("guest", name)
        return name

    def add_user(self, name: str, password: str, tags: str = "") -> None:
        """Make a user without any permission."""
        self.manage("PUT", f"users/{quote(name, safe='')}", {"password": password, "tags": tags})

    def grant(
        self, user: str, vhost: str, configure: str = EVERYTHING, write: str = EVERYTHING, read: str = EVERYTHING
    ) -> None:
        """Give a user permissions in a virtual host, as regular expressions of names."""
        permissions = {"configure": configure, "write": write, "read": read}
        self.manage("PUT", f"permissions/{quote(vhost, safe='')}/{quote(user, safe='')}", permissions)

    def queues(self, vhost: str) -> list[dict[str, Any]]:
        """The queues of a virtual host, as they are now: name, arguments and counts."""
        return self._list("list_queues", "-p", vhost, *QUEUE_FACTS)

    def connections(self) -> list[dict[str, Any]]:
        """The connections of all clients, as they are now."""
        return self._list("list_connections", *CONNECTION_FACTS)

    def _list(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.control(*arguments, "--formatter", "json") or "[]")
        return found

    def _launched(self) -> Process:
        (self.directory / "home").mkdir(parents=True, exist_ok=True)
        (self.directory / "plugins").write_text("[rabbitmq_management].")
        configuration = CONFIGURATION.format(port=self.port, management=self._management)
        (self.directory / "rabbitmq.conf").write_text(configuration)
        if self._mapper is None:
            # One of our own: a port mapper that the server starts would outlive it.
            mapper = ["epmd", "-address", "127.0.0.1", "-port", str(self._mapper_port)]
            self._mapper = Process(mapper, self.directory / "epmd.log")
        return Process([str(BINARIES / "rabbitmq-server")], self.directory / "rabbitmq.log", self._environment)

    @property
    def _environment(self) -> dict[str, str]:
        here = self.directory
        return {
            "HOME": str(here / "home"),
            "RABBITMQ_NODENAME": f"n{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(here / "mnesia"),
            "RABBITMQ_LOG_BASE": str(here / "log"),
            "RABBITMQ_CONFIG_FILE": str(here / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # The process that is started is the Erlang machine itself, not a shell around it.
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def _answers(self, process: Process) -> bool:
        if process.returncode is not None:
            raise NeverAgain(f"RabbitMQ ended with {process.returncode}")
        answer = self.manage("GET", "health/checks/port-listener/" + str(self.port))
        return bool(answer["status"] == "ok")


@contextmanager
def listening(url: str) -> Iterator[list[Heard]]:
    """Everything published to the event exchange of a virtual host during a block, as it comes."""
    heard: list[Heard] = []
    over = threading.Event()

    def hear(message: Any) -> None:
        body = message.body if isinstance(message.body, bytes) else message.body.encode()
        heard.append(Heard(time.time(), message.content_type, message.content_encoding, body))

    with Connection(url) as connection:
        queue = Queue("listener", exchange=get_exchange(connection), routing_key="#", exclusive=True)

        def listen() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    connection.drain_events(timeout=0.2)

        with Consumer(connection, [queue], no_ack=True, on_message=hear):
            thread = threading.Thread(target=listen, name="listener")
            thread.start()
            try:
                yield heard
            finally:
                over.set()
                thread.join()


@contextmanager
def rabbitmq(directory: Path) -> Iterator[RabbitMQ]:
    """A RabbitMQ server with its files in `directory` for the length of a block."""
    directory.mkdir(parents=True, exist_ok=True)
    server = RabbitMQ(directory)
    try:
        server.start()
        yield server
    finally:
        server.close()
