"""Sends tasks, and writes in the ledger what it sent and what must become of it."""

import logging
import time
import uuid as uuids
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Celery

from support.waiting import wait_until
from support.workload.ledger import Ledger

# It warns of every task that is sent with an expiry in the past, and here that is meant.
logging.getLogger("celery.app.base").setLevel(logging.ERROR)


class Producer:
    """A producer of the workload's tasks; `sent_events` is its own task_send_sent_event."""

    def __init__(self, broker_url: str, ledger: Ledger, *, sent_events: bool = True) -> None:
        self.ledger = ledger
        self.sent_events = sent_events
        # RabbitMQ drops a message whose task has expired, and nobody is told.
        self.expired_are_delivered = not broker_url.startswith("amqp")
        self.app = Celery("producer", broker=broker_url, set_as_current=False)
        self.app.conf.update(task_send_sent_event=sent_events, task_default_queue="alpha")

    def send(
        self,
        task: str,
        queue: str,
        *args: object,
        fate: str = "run",
        uuid: str = "",
        delay: float = 0.0,
        **options: Any,
    ) -> str:
        """Send `workload.<task>`; return its id.

        `fate`: run, expired, revoked (both before a worker takes it), expired_eta, revoked_eta (both while it waits
        for its ETA), unregistered (no worker knows it), eventless (its worker tells nothing). `delay`: seconds to its
        ETA.
        """
        uuid = uuid or str(uuids.uuid4())
        name = f"workload.{task}"
        if delay:
            options["eta"] = datetime.now(UTC) + timedelta(seconds=delay)
        if fate == "expired":
            options["expires"] = datetime.now(UTC) - timedelta(minutes=1)
        if fate == "expired_eta":
            options["expires"] = datetime.now(UTC) + timedelta(seconds=delay - 1)
        fields = {"uuid": uuid, "task": name, "queue": queue, "retries": 0, "fate": fate, "by": "producer"}
        self.ledger.write("send", **fields, due=time.time() + delay, eta=delay > 0, shadow=options.get("shadow"))
        self.app.send_task(name, args=args, queue=queue, task_id=uuid, **options)
        return uuid

    def revoke(self, ids: list[str], workers: int, *, terminate: bool = False) -> None:
        """Revoke tasks on all workers, and wait until this many have confirmed it."""

        def confirmed() -> bool:
            replies = self.app.control.revoke(ids, terminate=terminate, reply=True, timeout=2.0, limit=workers)
            return len(replies or []) >= workers

        if not confirmed():
            raise AssertionError(f"not all of {workers} workers confirmed the revocation of {len(ids)} tasks")

    def terminate_started(self, ids: list[str], timeout: float) -> None:
        """Terminate tasks, each once its start is in the ledger."""
        waiting = set(ids)

        def done() -> bool:
            started = {record["uuid"] for record in self.ledger.records() if record["what"] == "start"} & waiting
            if started:
                self.app.control.revoke(sorted(started), terminate=True)
                waiting.difference_update(started)
            return not waiting

        wait_until(done, timeout, f"{len(ids)} tasks start, to be terminated")

    def workers(self) -> set[str]:
        """The names of the workers that answer a ping now."""
        replies = self.app.control.ping(timeout=0.5)
        return {name for reply in replies for name in reply}
