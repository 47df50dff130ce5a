"""Listens to the event channel of Valkey or Redis, with nothing of the exporter in between.

As a program it runs the workload, and writes what it heard (events.jsonl) and what happened (ledger.jsonl):

    PYTHONPATH=tests python -m support.record tests/data
"""

import base64
import json
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from support.processes import REPOSITORY
from support.servers import Valkey, valkey
from support.waiting import wait_until
from support.workers import worker
from support.workload.ledger import Ledger
from support.workload.producer import Producer
from support.workload.scenario import send_everything

CHANNEL = "/0.celeryev/*"
QUIET = 5.0  # seconds after the last task event until the recording ends
LIMIT = 180.0  # seconds


@dataclass(frozen=True)
class Heard:
    """One message of the channel: when it came (Unix seconds), and what it carried."""

    time: float
    content_type: str
    content_encoding: str
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        """Its events: one, or those of a batch."""
        content = json.loads(self.body)
        return content if isinstance(content, list) else [content]

    def as_json(self) -> str:
        """One line of a recording."""
        body = base64.b64encode(self.body).decode()
        return json.dumps(
            {
                "time": self.time,
                "content_type": self.content_type,
                "content_encoding": self.content_encoding,
                "body": body,
            }
        )


@contextmanager
def listening(server: Valkey) -> Iterator[list[Heard]]:
    """Everything published on the event channel during a block, as it comes."""
    heard: list[Heard] = []
    over = threading.Event()
    client = server.client()
    subscription = client.pubsub()  # type: ignore[no-untyped-call]
    subscription.psubscribe(CHANNEL)
    wait_until(lambda: subscription.get_message(timeout=1.0), 5.0, "the subscription is confirmed")

    def listen() -> None:
        while not over.is_set():
            message = subscription.get_message(ignore_subscribe_messages=True, timeout=0.2)
            if message is not None:
                envelope = json.loads(message["data"])
                body = base64.b64decode(envelope["body"])
                heard.append(Heard(time.time(), envelope["content-type"], envelope["content-encoding"], body))

    thread = threading.Thread(target=listen, name="listener")
    thread.start()
    try:
        yield heard
    finally:
        over.set()
        thread.join()
        client.close()


@contextmanager
def kept_on_failure(listening: AbstractContextManager[list[Heard]], ledger: Ledger, folder: Path) -> Iterator[None]:
    """Where the block fails, leave all that was heard and the ledger in `folder`, to be replayed."""
    with listening as heard:
        try:
            yield
        except BaseException as error:
            _write(folder, heard, list(ledger.records()))
            error.add_note(f"the stream and the ledger are kept in {folder}")
            raise


def record(folder_of_data: Path) -> None:
    """Run a small load on two workers with all that can happen; write messages and ledger as JSON lines."""
    heard, records = heard_of_workload(filling=20, concurrency=1)
    _write(folder_of_data, [_neutral(message) for message in heard], records)
    types = Counter(event["type"] for message in heard for event in message.events)
    print(f"{len(heard)} messages: {dict(types)}")


def heard_of_workload(*, filling: int, concurrency: int) -> tuple[list[Heard], list[dict[str, Any]]]:
    """Run every kind of task and `filling` quick ones on two workers; return what was heard, and the ledger."""
    queues = ("alpha", "beta")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        ledger = Ledger(folder / "ledger")
        ledger.folder.mkdir()
        server = stack.enter_context(valkey(folder / "valkey"))
        heard = stack.enter_context(listening(server))
        for number in (1, 2):
            stack.enter_context(
                worker(
                    server.url,
                    ledger,
                    name=f"worker{number}@example",
                    queues=queues,
                    log=folder / f"worker{number}.log",
                    concurrency=concurrency,
                )
            )
        send_everything(Producer(server.url, ledger), queues, 2, rounds=1, filling=filling)
        wait_until(lambda: _quiet(heard), LIMIT, "no task event any more")
        return heard, list(ledger.records())


def _write(folder: Path, heard: Sequence[Heard], records: Sequence[dict[str, Any]]) -> None:
    (folder / "events.jsonl").write_text("".join(message.as_json() + "\n" for message in heard))
    (folder / "ledger.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def _neutral(message: Heard) -> Heard:
    # Tracebacks carry paths of this machine, and the producers' node names its name.
    body = message.body
    for local, neutral in (
        (sys.prefix, "/venv"),
        (str(REPOSITORY), "/app"),
        (socket.gethostname(), "example"),
    ):
        body = body.replace(local.encode(), neutral.encode())
    return replace(message, body=body)


def _quiet(heard: list[Heard]) -> bool:
    last = max((m.time for m in heard if any(e["type"].startswith("task-") for e in m.events)), default=time.time())
    return time.time() - last > QUIET


if __name__ == "__main__":
    record(Path(sys.argv[1]))
