"""Workers that die, freeze, or go on without working."""

import signal
from collections.abc import Generator

from celeryscope_demo.cluster import Cluster
from celeryscope_demo.incidents import Incident


def _worker_killed(cluster: Cluster) -> Generator[None]:
    child = cluster.workers["general"].child
    cluster.children.hold(child, signal.SIGKILL)
    try:
        while True:
            yield
    finally:
        cluster.children.release(child)


INCIDENTS = (
    Incident(
        "worker-killed",
        "A worker is killed with all that it runs, and does not come back: kill -9, or the machine is gone.",
        "celery_worker_up of demo-general is 0 after 30 s without a heartbeat, celery_worker_lost_total rises, "
        "celery_queue_workers of demo and demo-etl is 0 while celery_queue_length grows. Back again, it starts the "
        "tasks that it had: celery_task_redelivered_total, once their visibility timeout is over.",
        action=_worker_killed,
        part="worker-general",
    ),
)
