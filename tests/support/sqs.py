"""An Amazon SQS of its own: moto's server, on a free port of the loopback interface."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.processes import Process, python
from support.servers import free_port
from support.waiting import NeverAgain, wait_until

START_TIMEOUT = 40.0  # seconds
HTTP_TIMEOUT = 5.0  # seconds
OPTIONS = {"region": "us-east-1", "is_secure": False}  # transport options that go with the URL


class Sqs:
    """A running server."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.url = f"sqs://key-id:secret-key@127.0.0.1:{self.port}//"
        command = python("-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port))
        self.process = Process(command, directory / "moto.log")

    def wait(self) -> None:
        """Wait until it answers."""
        wait_until(self._answers, START_TIMEOUT, f"moto answers on port {self.port}")

    def reset(self) -> None:
        """Forget everything."""
        self._ask("POST", "moto-api/reset")

    def client(self) -> Any:
        """A new client of boto3."""
        import boto3  # type: ignore[import-untyped]

        return boto3.client(
            "sqs",
            endpoint_url=self.endpoint,
            region_name=OPTIONS["region"],
            aws_access_key_id="key-id",
            aws_secret_access_key="secret-key",
        )

    def queues(self) -> list[str]:
        """The names of all queues."""
        return sorted(url.rpartition("/")[2] for url in self.client().list_queues().get("QueueUrls", []))

    def _answers(self) -> bool:
        if self.process.returncode is not None:
            raise NeverAgain(f"moto ended: {self.process.tail()}")
        return isinstance(json.loads(self._ask("GET", "moto-api/data.json")), dict)

    def _ask(self, method: str, path: str) -> bytes:
        request = urllib.request.Request(f"{self.endpoint}/{path}", method=method)
        with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT) as response:
            body: bytes = response.read()
            return body


@contextmanager
def sqs(directory: Path) -> Iterator[Sqs]:
    """A server for the length of a block."""
    server = Sqs(directory)
    try:
        server.wait()
        yield server
    finally:
        server.process.kill()
