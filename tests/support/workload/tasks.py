"""The tasks. Each says in the ledger that it started and what it is about to do, and then does it.

Run by `celery -A support.workload.tasks worker`; the environment names the broker and the ledger's folder.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore, Reject

from support.workload import BROKER_VARIABLE, LEDGER_VARIABLE, SENT_EVENTS_VARIABLE
from support.workload.errors import OddError, PathError, PaymentError, TwoArgumentsError, ValidationError
from support.workload.ledger import Ledger

FOREVER = 120.0  # seconds: longer than any test lets a task run

ledger = Ledger(Path(os.environ.get(LEDGER_VARIABLE, ".")))
app = Celery("workload", broker=os.environ.get(BROKER_VARIABLE))
app.conf.update(
    task_send_sent_event=os.environ.get(SENT_EVENTS_VARIABLE, "1") == "1",
    task_default_queue="alpha",
    broker_connection_retry_on_startup=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
)

EXCEPTIONS: dict[str, Exception] = {
    "builtin": ValueError("wrong value"),
    "own": PaymentError("declined"),
    "path": PathError("declined"),
    "odd": OddError("no identifier"),
    "lines": RuntimeError("first line\nKeyError: a decoy\n  indented\nlast"),
    "validation": ValidationError(),
    "unpickleable": TwoArgumentsError(7, "two arguments"),
}


class Recorded(Task):
    """A task that writes the start of every attempt before its body runs."""

    abstract = True

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self.record("start", host=self.request.hostname)

    def record(self, what: str, **fields: Any) -> None:
        """Write a record about the present attempt."""
        request = self.request
        queue = request.delivery_info["routing_key"]
        ledger.write(what, uuid=request.id, task=self.name, queue=queue, retries=request.retries, **fields)

    def will(self, outcome: str, exception: str = "") -> None:
        """Write how the present attempt is about to end."""
        self.record("end", outcome=outcome, exception=exception, host=self.request.hostname)

    def will_retry(self, exception: str, countdown: float) -> None:
        """Write that the present attempt ends in a retry, which sends the task again to the same queue."""
        self.will("retried", exception)
        self.will_send(self.name, self.request.retries + 1, countdown)

    def will_send(self, task: str, retries: int, countdown: float = 0.0) -> None:
        """Write that a message with this task's own id goes to this task's own queue."""
        queue = self.request.delivery_info["routing_key"]
        due = time.time() + countdown
        fields = {"uuid": self.request.id, "task": task, "queue": queue, "retries": retries}
        ledger.write("send", **fields, due=due, eta=countdown > 0, fate="run", by="worker")


def _task(name: str, **options: Any) -> Any:
    return app.task(name=f"workload.{name}", base=Recorded, bind=True, **options)


@_task("add")
def add(self: Recorded, first: int, second: int) -> int:
    self.will("succeeded")
    return first + second


@_task("quiet", ignore_result=True)
def quiet(self: Recorded) -> None:
    self.will("succeeded")


@_task("nap")
def nap(self: Recorded, seconds: float) -> None:
    time.sleep(seconds)
    self.will("succeeded")


@_task("eventless", send_events=False)
def eventless(self: Recorded) -> None:
    self.will("succeeded")


@_task("fail")
def fail(self: Recorded, kind: str) -> None:
    error = EXCEPTIONS[kind]
    self.will("failed", type(error).__name__)
    raise error


@_task("fail_with_cause")
def fail_with_cause(self: Recorded) -> None:
    self.will("failed", "OddError")
    try:
        raise KeyError("the cause")
    except KeyError as cause:
        raise OddError("the consequence") from cause


@_task("retry_with_cause", max_retries=3)
def retry_with_cause(self: Recorded, countdown: float) -> None:
    if self.request.retries < 2:
        self.will_retry("PaymentError", countdown)
        raise self.retry(exc=PaymentError("try again"), countdown=countdown)
    self.will("succeeded")


@_task("retry_without_cause", max_retries=3)
def retry_without_cause(self: Recorded) -> None:
    if self.request.retries < 1:
        self.will_retry("Retry", 0)
        raise self.retry(countdown=0)
    self.will("succeeded")


@_task("retry_exhausted", max_retries=1)
def retry_exhausted(self: Recorded) -> None:
    if self.request.retries == 1:
        self.will("failed", "MaxRetriesExceededError")
    else:
        self.will_retry("Retry", 0)
    raise self.retry(countdown=0)


@_task("autoretry", autoretry_for=(ConnectionError,), retry_kwargs={"max_retries": 1, "countdown": 0})
def autoretry(self: Recorded) -> None:
    if self.request.retries == 1:
        self.will("failed", "ConnectionError")
    else:
        self.will_retry("ConnectionError", 0)
    raise ConnectionError("unreachable")


@_task("wait_for_signal")
def wait_for_signal(self: Recorded) -> None:
    self.will("terminated")
    time.sleep(FOREVER)


@_task("reject")
def reject(self: Recorded) -> None:
    # The message was acknowledged on receipt: all that is left to tell is a failure.
    self.will("failed", "Reject")
    raise Reject("unfit", requeue=False)


@_task("reject_late", acks_late=True)
def reject_late(self: Recorded) -> None:
    self.will("failed", "Reject")
    self.will("rejected")
    raise Reject("unfit", requeue=False)


@_task("requeue_late", acks_late=True)
def requeue_late(self: Recorded) -> None:
    if ledger.once(self.request.id):
        self.will("requeued")
        raise Reject("later", requeue=True)
    self.will("succeeded")


@_task("requeue_early")
def requeue_early(self: Recorded) -> None:
    # The message was acknowledged on receipt: it is not put back, and no event tells of an end.
    self.will("silence")
    raise Reject("too late", requeue=True)


@_task("ignore")
def ignore(self: Recorded) -> None:
    self.will("silence")
    raise Ignore


@_task("replace")
def replace(self: Recorded) -> None:
    self.will("silence")
    self.will_send("workload.add", 0)
    raise self.replace(add.si(1, 2).set(queue=self.request.delivery_info["routing_key"]))


@_task("soft_limit", soft_time_limit=1)
def soft_limit(self: Recorded) -> None:
    self.will("failed", "SoftTimeLimitExceeded")
    time.sleep(FOREVER)


@_task("hard_limit", time_limit=1)
def hard_limit(self: Recorded) -> None:
    self.will("failed", "TimeLimitExceeded")
    time.sleep(FOREVER)


def die() -> None:
    """Kill the pool's process, once its parent must know what it was running.

    A job that the parent has not seen accepted is handed to another process, and no event tells that it ran twice.
    """
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(FOREVER)


@_task("killed")
def killed(self: Recorded) -> None:
    self.will("failed", "WorkerLostError")
    die()


@_task("killed_late", acks_late=True, reject_on_worker_lost=True)
def killed_late(self: Recorded) -> None:
    if ledger.once(self.request.id):
        self.will("requeued")
        die()
    self.will("succeeded")


@_task("throttled")
def throttled(self: Recorded, limiter: str, delay: float) -> None:
    self.record("limited", limiter=limiter, delay=delay)
    self.send_event("task-rate-limited", limiter=limiter, delay=delay, limit=350, remaining=0)
    self.will("succeeded")
