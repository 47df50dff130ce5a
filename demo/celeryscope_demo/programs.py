"""The programs of the demo: what is started, as anybody would start it."""

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from celeryscope_demo import queues
from celeryscope_demo.address import Address
from celeryscope_demo.processes import Program, Stage

MODULE = (sys.executable, "-m")
CELERY = (*MODULE, "celery", "-A", "celeryscope_demo.app")


@dataclass(frozen=True)
class Worker:
    """A worker: its part of the name, its queues, and how it works on them. `slots`: tasks at once, at most."""

    name: str
    queues: Sequence[str]
    pool: str
    options: Sequence[str]
    slots: int

    @property
    def node(self) -> str:
        """The node name, as `celery worker -n` takes it."""
        return f"{queues.PREFIX}-{self.name}@%h"


# Each pool is where its kind of work is at home, and takes its queues in this order. No worker here has others to
# synchronise with: without mingle and gossip it starts a second earlier.
WORKERS = (
    # Processes: for what computes, leaks, or needs a time limit. The pool grows to 4 with the work, and shrinks to 2; a
    # process is replaced after 200 tasks, or when it holds 200 MB.
    Worker(
        "general",
        (queues.URGENT, queues.DEFAULT, queues.ETL, queues.TRICKLE, queues.LOW),
        "prefork",
        ("--autoscale", "4,2", "--max-tasks-per-child", "200", "--max-memory-per-child", "200000"),  # KiB
        slots=4,
    ),
    # Threads: for what waits for others. Time limits do not work there: a call needs a timeout of its own. Tasks are
    # short, so it may have as many at hand as it runs.
    Worker(
        "calls",
        (queues.URGENT, queues.CALLS, queues.MAIL, queues.FEEDS, queues.LOW),
        "threads",
        ("-c", "12", "--prefetch-multiplier", "2"),
        slots=12,
    ),
    # Solo: one task at a time, in the worker's own process. While it works, it says nothing and hears nothing.
    Worker("heavy", (queues.HEAVY,), "solo", ("--prefetch-multiplier", "1"), slots=1),
)

# Somebody's own worker, with settings of its own on its command line: all that is on the broker suffers from them.
HASTY_VISIBILITY_TIMEOUT = 5  # seconds
_HASTY = {
    "visibility_timeout": HASTY_VISIBILITY_TIMEOUT,
    "unacked_restore_throttle": 1,  # it looks for what is overdue every 10 s instead of every 100 s
    "priority_steps": queues.PRIORITY_STEPS,
    "queue_order_strategy": "priority",
}
HASTY = Worker(
    "hasty",
    (queues.CALLS,),
    "threads",
    ("-c", "2", f"broker.transport_options=(json){json.dumps(_HASTY)}"),
    slots=2,
)


def worker(kind: Worker, environ: Mapping[str, str]) -> Program:
    """A worker. It is started again when it ends: Celery 5.7's do, of prefork and of threads, as Redis is restarted."""
    command = [*CELERY, "worker", "-E", "-n", kind.node, "-Q", ",".join(kind.queues)]
    # At INFO a busy worker's log grows by hundreds of megabytes a day.
    command += ["--loglevel", "WARNING"]
    command += ["--without-mingle", "--without-gossip", "--pool", kind.pool, *kind.options]
    endings = [(signal.SIGTERM, 2.8), (signal.SIGQUIT, 0.4)]
    return Program(f"worker-{kind.name}", command, Stage.WORKERS, endings, restarts=3, environ=environ)


def beat(environ: Mapping[str, str]) -> Program:
    """The clock."""
    command = [*CELERY, "beat", "--schedule", "beat-schedule", "--pidfile", "", "--loglevel", "WARNING"]
    return Program("beat", command, Stage.PRODUCERS, [(signal.SIGTERM, 0.5)], restarts=3, environ=environ)


def load(options: Sequence[str], environ: Mapping[str, str]) -> Program:
    """The producer."""
    command = [*MODULE, "celeryscope_demo.load", *options]
    return Program("load", command, Stage.PRODUCERS, [(signal.SIGTERM, 0.5)], restarts=3, environ=environ)


def provider(port: int, environ: Mapping[str, str]) -> Program:
    """The simulated third party."""
    command = [*MODULE, "celeryscope_demo.provider.server", "--port", str(port)]
    return Program("provider", command, Stage.SERVERS, [(signal.SIGTERM, 0.3)], restarts=3, environ=environ)


def pager(port: int) -> Program:
    """The receiver of what Alertmanager sends."""
    command = [*MODULE, "celeryscope_demo.pager", "--port", str(port)]
    return Program("pager", command, Stage.WATCHERS, [(signal.SIGTERM, 0.3)], restarts=3)


def exporter(listen: Address, options: Sequence[str], environ: Mapping[str, str]) -> Program:
    """The exporter, with the application's own settings: its beat schedule tells how often tasks are to run."""
    command = [*MODULE, "celeryscope", "run", "-A", "celeryscope_demo.app", "--listen-address", str(listen)]
    return Program("exporter", [*command, *options], Stage.WATCHERS, [(signal.SIGTERM, 0.8)], environ=environ)
