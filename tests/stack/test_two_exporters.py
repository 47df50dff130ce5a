"""Two exporters on one broker are one: counts and alerts are the same as with a single one."""

from pathlib import Path

import pytest

from support.demo import steady_demo
from support.exporter import exporter
from support.programs import needs
from support.prometheus import Prometheus, prometheus
from support.waiting import wait_until

pytestmark = [pytest.mark.full, pytest.mark.timeout(400), needs("prometheus")]

HURRY = 20.0
SETTLED = 120.0  # seconds until both have seen enough
COUNTED = (
    "job:celery_worker_up:sum",
    "job:celery_worker_concurrency:sum",
    'job_queue:celery_queue_workers:max{queue="demo-urgent"}',
    'sum(job_task:celery_task_failed:increase5m{task="comments.screen"})',
    'sum(job_task:celery_task_started:rate5m{task="comments.screen"})',
)
TOLERANCE = 0.15  # of the value: two servers scrape at different moments


def alert_names(server: Prometheus) -> set[tuple[str, str]]:
    return {
        (alert["labels"]["alertname"], alert["labels"].get("task", ""))
        for alert in server.alerts()
        if alert["state"] == "firing" and alert["labels"].get("task") == "comments.screen"
    }


def test_counts_and_alerts_are_the_same(tmp_path: Path) -> None:
    with steady_demo(tmp_path) as demo:
        first = f"127.0.0.1:{demo.port}"
        with (
            exporter(demo.broker_url(), "--queues-poll-interval", "5s", log=tmp_path / "second.log") as second,
            prometheus(tmp_path / "one", [first], hurry=HURRY) as one,
            prometheus(tmp_path / "two", [first, second.url.removeprefix("http://")], hurry=HURRY) as two,
            demo.during("error-spike"),
        ):
            wait_until(lambda: len(two.query("celery_exporter_connected")) == 2, SETTLED, "both are scraped")
            wanted = {("CeleryTaskFailureRatioHigh", "comments.screen")}
            wait_until(lambda: alert_names(one) == alert_names(two) == wanted, SETTLED, "both say the same")

            def equal() -> bool:
                for expr in COUNTED:
                    ((_, alone),), ((_, pair),) = one.query(expr), two.query(expr)
                    assert pair == pytest.approx(alone, rel=TOLERANCE), expr
                return True

            wait_until(equal, SETTLED, "counts are the same")
