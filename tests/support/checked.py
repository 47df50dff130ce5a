"""Clusters for `celeryscope check`: workers that are careful or careless, and what a look at them finds."""

import contextlib
import functools
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from celery import Celery

from celeryscope import broker, config
from celeryscope.check.facts import Facts
from celeryscope.check.judge import report
from celeryscope.check.look import Look
from celeryscope.check.model import Finding, Report, Severity
from celeryscope.clock import SystemClock
from support.processes import Process, python, pythonpath, started
from support.waiting import NeverAgain, wait_until

START_TIMEOUT = 60.0  # seconds
MODULE = "checked_tasks"
TASKS = """
import json
import os
import time

wrong_by = float(os.environ.get("CLOCK", "0"))  # seconds
if wrong_by:
    right = time.time
    time.time = lambda: right() + wrong_by

from celery import Celery
from celery.worker import state

if "VERSION" in os.environ:
    state.SOFTWARE_INFO["sw_ver"] = os.environ["VERSION"]

app = Celery("checked", broker=os.environ["OBSERVED_BROKER"])
app.conf.update(json.loads(os.environ["SETTINGS"]))


@app.task(name="checked.wait")
def wait(gate):
    while not os.path.exists(gate):
        time.sleep(0.05)


@app.task(name="checked.quick")
def quick():
    pass


if "EXTRA" in os.environ:

    @app.task(name=os.environ["EXTRA"], rate_limit="10/m")
    def extra():
        pass
"""
CAREFUL: Mapping[str, object] = {
    "worker_send_task_events": True,
    "task_send_sent_event": True,
    "task_soft_time_limit": 60,
    "task_time_limit": 90,
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
}


class Proof(NamedTuple):
    """The checks that a test provokes for real, and those that stay silent in a look that has all they judge by."""

    provoked: frozenset[str]
    silent: frozenset[str]


PROOFS: dict[str, Proof] = {}  # by test
_looks: list[frozenset[str]] = []  # what each look of the running test found


def proves(provoked: str = "", silent: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that keeps what a test proves, by codes, and fails it where its looks tell otherwise."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        proof = PROOFS[test.__name__] = Proof(frozenset(provoked.split()), frozenset(silent.split()))

        @functools.wraps(test)
        def run(*arguments: object, **fixtures: object) -> None:
            _looks.clear()
            test(*arguments, **fixtures)
            assert sorted(proof.provoked.difference(*_looks)) == [], "not found in any look"
            always = frozenset.intersection(*_looks)
            assert sorted(proof.silent & always) == [], "found in every look"

        return run

    return decorate


@contextlib.contextmanager
def node(
    url: str,
    folder: Path,
    name: str,
    *options: str,
    queues: str,
    settings: Mapping[str, object] = CAREFUL,
    pool: Sequence[str] = ("threads", "2"),
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Process]:
    """A worker for the length of a block, which may not answer yet."""
    folder.mkdir(exist_ok=True)
    (folder / f"{MODULE}.py").write_text(TASKS)
    command = python("-m", "celery", "-A", MODULE, "worker", "-n", name, "-Q", queues, "-P", pool[0], "-c", pool[1])
    command += ["-l", "INFO"]
    base = {"OBSERVED_BROKER": url, "SETTINGS": json.dumps(dict(settings)), "PYTHONPATH": pythonpath(folder)}
    base["C_FORCE_ROOT"] = "1"  # else Celery refuses pickle to root, whom tests may run as
    log = folder / f"{name}-{len(list(folder.glob('*.log')))}.log"
    with started([*command, *options], log, {**base, **environ}) as process:
        yield process
        process.kill()  # nothing of it is needed any more


def wait_ready(process: Process) -> None:
    """Wait until a worker says that it is ready: some answer nobody."""

    def ready() -> bool:
        if process.returncode is not None:
            raise NeverAgain(process.tail())
        return " ready." in process.log

    wait_until(ready, START_TIMEOUT, "the worker is ready")


@contextlib.contextmanager
def producer(url: str) -> Iterator[Celery]:
    """An app that sends tasks, and says so with events."""
    with Celery("producer", broker=url, set_as_current=False) as made:
        made.conf.task_send_sent_event = True
        yield made


def look_at(url: str, **options: object) -> tuple[Facts, Report]:
    """Look once, with options by key."""
    given = {"broker_url": url, **options} if "app" not in options else options
    configuration = config.load(given, environ={})
    app = broker.celery_app(configuration)
    facts = Look(configuration, app, SystemClock()).facts()
    found = report(facts, 0.0)
    _looks.append(frozenset(by_code(found)))
    return facts, found


def by_code(found: Report) -> dict[str, list[Finding]]:
    """The findings of a report."""
    codes: dict[str, list[Finding]] = {}
    for finding in found.findings:
        codes.setdefault(finding.code, []).append(finding)
    return codes


def above_info(found: Report) -> list[Finding]:
    """What is wrong, without what is only worth knowing."""
    return [finding for finding in found.findings if finding.severity is not Severity.INFO]


@contextlib.contextmanager
def load(app: Celery, task: str, queue: str) -> Iterator[None]:
    """Tasks that are sent all through a block, some every second."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.2):
            app.send_task(task, queue=queue)

    thread = threading.Thread(target=send, name="load")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def checked(
    *arguments: str, log: Path, environ: Mapping[str, str] | None = None, timeout: float = 60.0
) -> tuple[int, str]:
    """Run the command; return its exit code and all that it wrote."""
    with started(
        python("-m", "celeryscope", "check", *arguments), log, {"NO_COLOR": "1", **(environ or {})}
    ) as process:
        code, text = process.wait(timeout), process.log
    if "--json" in arguments:
        _looks.append(frozenset(finding["code"] for finding in json.loads(text)["findings"]))
    return code, text
