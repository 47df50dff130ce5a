"""Each incident of the demo makes its alert fire in a real Prometheus, arrive once at a receiver, and end with it.

Rules and routes are the committed ones, with all their durations divided by one factor.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from celeryscope_demo.incidents.alerts import ARRIVES
from celeryscope_demo.queues import QUEUES
from support.demo import Demo, steady_demo
from support.programs import needs
from support.prometheus import Prometheus
from support.waiting import wait_until

HURRY = "20"

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(600),
    needs("prometheus"),
    needs("prometheus-alertmanager"),
]

FIRES = 240.0  # seconds from the start of an incident until its alert has arrived
RESOLVES = 200.0  # seconds from its end until the receiver is told so

Labels = dict[str, str]

# Fires always; and what was spent of a budget of days is remembered for hours, at any hurry.
LASTING = {"CeleryWatchdog", "CelerySLOBurn"}

# What the cause mutes: fired perhaps, and never told.
MUTED: dict[str, set[str]] = {
    "no-workers": {"CeleryQueueStuck", "CeleryQueueBacklogHigh", "CeleryQueueOldestTaskTooOld"},
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for all incidents, with Prometheus, Alertmanager and the receiver."""
    with steady_demo(tmp_path_factory.mktemp("demo"), "--monitoring", "--hurry", HURRY) as running:
        wait_until(running.firing, FIRES, "the watchdog fires")
        # A queue that never had a worker is nobody's fault; here every one has been seen with workers.
        server = Prometheus(running.server("prometheus")[1])
        served = "count(job_queue:celery_queue_workers:max > 0)"
        wait_until(lambda: server.query(served)[0][1] == len(QUEUES), FIRES, "every queue has workers")
        yield running


def arrived(pages: list[dict[str, Any]], receiver: str, labels: Labels, status: str) -> list[dict[str, Any]]:
    """The messages to a receiver that tell of an alert with these labels."""
    return [
        page
        for page in pages
        if page["receiver"] == receiver
        and any(alert["status"] == status and labels.items() <= alert.items() for alert in page["alerts"])
    ]


@pytest.mark.parametrize("incident", ARRIVES)
def test_it_arrives_once_and_ends(demo: Demo, incident: str) -> None:
    arrival = ARRIVES[incident]
    receiver, labels = arrival.receiver, {"alertname": arrival.alert, **arrival.labels}
    wait_until(lambda: {alert["alertname"] for alert in demo.firing()} <= LASTING, RESOLVES, "it is quiet")
    before = len(demo.pages())
    with demo.during(incident, seconds=2 * FIRES):
        (page, *others) = wait_until(
            lambda: arrived(demo.pages()[before:], receiver, labels, "firing"), FIRES, f"{labels} arrives"
        )
        assert not others
        assert page["status"] == "firing"
    wait_until(lambda: arrived(demo.pages()[before:], receiver, labels, "resolved"), RESOLVES, f"{labels} is over")
    told = {alert["alertname"] for page in demo.pages()[before:] for alert in page["alerts"]}
    assert not told & MUTED.get(incident, set())
