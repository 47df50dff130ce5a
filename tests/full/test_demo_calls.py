"""Incidents of a third party, in a whole demo: seen where an operator would look, and over when it is over."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from celeryscope_demo import queues
from support.demo import Demo, steady_demo
from support.exporter import Metrics

pytestmark = [pytest.mark.full, pytest.mark.timeout(400)]

SEEN = 60.0  # seconds
OVER = 120.0  # seconds
LIMITERS = ("places", "translations", "previews")
TASKS = ("partners.locate", "partners.translate", "partners.preview")


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    # What has nothing to do with calls only takes the machine's time here.
    with steady_demo(tmp_path, "--workload", "likes=0", "--workload", "photos=0") as found:
        yield found


def of_partners(metrics: Metrics, name: str, **labels: str) -> float:
    return sum(metrics.sum(name, task=task, queue=queues.CALLS, **labels) for task in TASKS)


def throttled(metrics: Metrics, limiter: str) -> float:
    return metrics.sum("celery_task_rate_limited_total", limiter=limiter)


def wait_for_health(demo: Demo, before: Metrics) -> None:
    """Wait until nobody waits any more, and new calls succeed."""
    demo.wait_until(
        lambda found: of_partners(found, "celery_tasks_in_flight", state="scheduled") <= 1, OVER, "nobody waits"
    )
    succeeded = of_partners(before, "celery_task_succeeded_total")
    demo.wait_until(
        lambda found: of_partners(found, "celery_task_succeeded_total") > succeeded + 10, OVER, "calls succeed"
    )
    demo.wait_until(lambda found: found.sum("celery_queue_length", queue=queues.CALLS) == 0, OVER, "no backlog")


def test_lowered_limits_are_seen_and_all_calls_are_made_in_the_end(demo: Demo) -> None:
    before = demo.metrics()
    with demo.during("rate-limit"):
        demo.wait_until(
            lambda found: all(throttled(found, name) >= throttled(before, name) + 3 for name in LIMITERS),
            SEEN,
            "all limiters throttle",
        )
        found = demo.wait_until(
            lambda found: (
                of_partners(found, "celery_task_rate_limit_delay_seconds_bucket", le="1.0")
                < of_partners(found, "celery_task_rate_limit_delay_seconds_count")
            ),
            SEEN,
            "delays are longer than a second",
        )
        assert found.value("celery_rate_limiter_limit", limiter="places") == 3
        assert found.value("celery_rate_limiter_limit", limiter="translations") == 3
        assert found.value("celery_rate_limiter_limit", limiter="previews") is None
        retried = of_partners(found, "celery_task_retried_total") - of_partners(before, "celery_task_retried_total")
        assert retried >= 9
        assert found.sum("celery_task_exceptions_total", exception="RateLimited", outcome="retried") >= 9
        assert found.sum("celery_task_exceptions_total", exception="RateLimited", outcome="failed") == 0
    wait_for_health(demo, found)
    after = demo.metrics()
    assert after.sum("celery_task_exceptions_total", exception="RateLimited", outcome="failed") == 0


def test_an_outage_is_seen_first_as_retries_then_as_failures(demo: Demo) -> None:
    def exceptions(found: Metrics, exception: str, outcome: str) -> float:
        return of_partners(found, "celery_task_exceptions_total", exception=exception, outcome=outcome)

    with demo.during("provider-outage"):
        demo.wait_until(lambda found: exceptions(found, "ProviderUnavailable", "retried") > 0, SEEN, "503 is retried")
        demo.wait_until(lambda found: exceptions(found, "ProviderTimeout", "retried") > 0, SEEN, "silence is retried")
        found = demo.wait_until(
            lambda found: exceptions(found, "ProviderUnavailable", "failed") > 0, SEEN, "the first give up"
        )
        slow = of_partners(found, "celery_task_runtime_seconds_count", outcome="retried") - of_partners(
            found, "celery_task_runtime_seconds_bucket", outcome="retried", le="1.0"
        )
        assert slow > 0
    wait_for_health(demo, found)
    failed = of_partners(demo.metrics(), "celery_task_failed_total")
    succeeded = of_partners(demo.metrics(), "celery_task_succeeded_total")
    later = demo.wait_until(
        lambda found: of_partners(found, "celery_task_succeeded_total") >= succeeded + 50, OVER, "calls succeed"
    )
    assert of_partners(later, "celery_task_failed_total") - failed <= 2  # what can never be processed
