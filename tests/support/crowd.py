"""Very many workers that are none: one thread that answers requests to any of their names, on a real broker."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu import Connection

from support.waiting import wait_until

START_TIMEOUT = 20.0  # seconds


def facts(queue: str = "celery") -> dict[str, Any]:
    """Return what a quiet worker answers, by command; about as large as a real one's answers."""
    stats = {
        "total": {f"shop.task_{number}": number for number in range(50)},
        "pid": 1,
        "clock": "3",
        "uptime": 2,
        "pool": {
            "implementation": "celery.concurrency.prefork:TaskPool",
            "max-concurrency": 8,
            "processes": [*range(8)],
        },
        "prefetch_count": 32,
        "rusage": {"utime": 0.3, "stime": 0.2, "maxrss": 55748},
    }
    request = {"id": "a", "name": "shop.task_1", "type": "shop.task_1", "args": [1, 2], "kwargs": {}}
    held = [
        request | {"id": f"id-{number}", "delivery_info": {"exchange": "", "routing_key": queue}} for number in range(8)
    ]
    return {
        "stats": stats,
        "active_queues": [{"name": queue, "exchange": {"name": queue, "type": "direct"}, "routing_key": queue}],
        "registered": [f"shop.task_{number} [rate_limit=10/m send_events=True]" for number in range(50)],
        "active": held,
        "reserved": held,
        "scheduled": [],
    }


class Crowd:
    """Answers for all names, but for those that are mute."""

    def __init__(self, url: str, names: list[str], answers: Mapping[str, Any], mute: frozenset[str]) -> None:
        self._app = Celery("crowd", broker=url, set_as_current=False)
        self._names = names
        self._answers = answers
        self._mute = mute
        self._over = threading.Event()
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crowd", daemon=True)

    def start(self) -> None:
        """Return once it listens."""
        self._thread.start()
        wait_until(self._listens.is_set, START_TIMEOUT, "the crowd listens")

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()
        self._app.close()

    def _run(self) -> None:
        with self._app.connection_for_read() as listening, self._app.connection_for_write() as answering:
            mailbox = self._app.control.mailbox(listening)
            channel = answering.default_channel
            producer = answering.Producer(channel, auto_declare=False)

            def answer(body: Any, message: Any) -> None:
                asked = body["destination"] or self._names
                reply_to = body["reply_to"]
                for name in asked:
                    if name not in self._mute:
                        reply = {name: self._answers[body["method"]]}
                        headers = {"ticket": body["ticket"], "clock": 1}
                        producer.publish(reply, **reply_to, headers=headers, serializer="json", retry=False)

            node = mailbox.Node("crowd@host", channel=listening.default_channel)
            with node.Consumer(callbacks=[answer]):
                self._listens.set()
                self._drain(listening)

    def _drain(self, connection: Connection) -> None:
        while not self._over.is_set():
            try:
                connection.drain_events(timeout=0.2)
            except TimeoutError:
                continue


@contextmanager
def crowd(url: str, names: list[str], *, mute: frozenset[str] = frozenset()) -> Iterator[Crowd]:
    """A crowd for the length of a block."""
    made = Crowd(url, names, facts(), mute)
    made.start()
    try:
        yield made
    finally:
        made.stop()
