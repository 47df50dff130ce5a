"""The demo's workloads in a real demo: everything that they send is done, and queues drain."""

from collections.abc import Callable
from pathlib import Path

import pytest

from celeryscope_demo.queues import DEFAULT, ETL, FEEDS, HEAVY, LOW, MAIL, TRICKLE, URGENT
from celeryscope_demo.workloads.all import WORKLOADS
from support.demo import steady_demo
from support.exporter import Metrics

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

DONE_TIMEOUT = 60.0  # seconds; usual are 15
DRAIN_TIMEOUT = 30.0  # seconds

# What is rare, often enough that all of it happens within seconds, and seldom enough that queues drain in between.
RATES = {
    "posts": 0.3,
    "notices": 0.5,
    "logins": 1.0,
    "newsletters": 0.03,
    "digests": 0.1,
    "celebrities": 0.03,
    "listings-sized": 0.2,
    "listings-walked": 0.1,
    "listings-followed": 0.1,
    "imports": 0.3,
    "clips": 0.15,
    "reports": 0.1,
    "searches": 0.2,
    "purges": 0.3,
}
TASKS = {
    "feeds.fan_out",
    "pages.import_known",
    "pages.fetch",
    "pages.walk",
    "pages.follow",
    "mail.flood",
    "mail.chunk",
    "mail.deliver",
    "etl.start",
    "etl.download",
    "etl.process",
    "etl.store",
    "etl.announce",
    "media.transcode",
    "notices.push",
    "reports.render",
    "search.rebuild",
    "sessions.purge",
    "trickle.feed",
    "trickle.migrate",
}
BAD_ENDS = ("failed", "revoked", "rejected", "redelivered", "orphaned", "retried")


def succeeded(found: Metrics) -> set[str]:
    """The tasks that have."""
    return {task for task in TASKS if found.sum("celery_task_succeeded_total", task=task) > 0}


def drained(queue: str) -> Callable[[Metrics], bool]:
    """Whether nothing waits in the queue."""
    return lambda found: found.value("celery_queue_length", queue=queue) == 0


@pytest.mark.full
def test_every_task_runs_and_ends_well_and_every_queue_drains(tmp_path: Path) -> None:
    others = {workload.name: 0 for workload in WORKLOADS if workload.incident is None and workload.name not in RATES}
    options = [option for name, rate in {**RATES, **others}.items() for option in ("--workload", f"{name}={rate}")]
    with steady_demo(tmp_path, *options) as demo:
        demo.wait_until(lambda found: not TASKS - succeeded(found), DONE_TIMEOUT, "every task has succeeded")
        for queue in (DEFAULT, ETL, FEEDS, HEAVY, LOW, MAIL, TRICKLE, URGENT):
            demo.wait_until(drained(queue), DRAIN_TIMEOUT, f"{queue} drains")
        found = demo.metrics()
        for task in TASKS:
            for end in BAD_ENDS:
                assert found.sum(f"celery_task_{end}_total", task=task) == 0, (task, end)
            assert found.sum("celery_task_sent_total", task=task, queue="unknown") == 0
        assert found.sum("celery_worker_up") == 3
    account = [line for line in demo.log.read_text().splitlines() if TASKS & set(line.split()[:1])]
    assert {line.split()[0] for line in account} == TASKS
    assert not [line for line in account if "exporter:" in line]
