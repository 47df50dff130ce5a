"""Three minutes of the demo show every metric that its broker can have, and each does what it should in health."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from celeryscope.metrics.catalog import ALL, BY_NAME, Kind
from support.demo import UP_TIMEOUT, steady_demo
from support.exporter import Metrics

pytestmark = [pytest.mark.full, pytest.mark.timeout(400)]

RUN = 180.0  # seconds from the first task

# Counters and histograms that go up, and timestamps that advance, while all is well.
RISES = {
    "celery_task_sent_total",
    "celery_task_received_total",
    "celery_task_started_total",
    "celery_task_succeeded_total",
    "celery_task_failed_total",
    "celery_task_retried_total",
    "celery_task_exceptions_total",
    "celery_task_runtime_seconds",
    "celery_task_wait_seconds",
    "celery_task_prefetch_seconds",
    "celery_task_last_sent_timestamp_seconds",
    "celery_task_last_succeeded_timestamp_seconds",
    "celery_task_accepted_total",
    "celery_slo_tasks_total",
    "celery_slo_good_tasks_total",
    "celery_task_rate_limited_total",
    "celery_task_rate_limit_delay_seconds",
    "celery_worker_last_heartbeat_timestamp_seconds",
    "celery_worker_tasks_processed_total",
    "celery_worker_main_process_cpu_seconds_total",
    "celery_worker_child_replacements_total",
    "celery_exporter_events_total",
    "celery_exporter_last_event_timestamp_seconds",
    "celery_exporter_canary_last_success_timestamp_seconds",
    "celery_exporter_poll_last_success_timestamp_seconds",
}

# Gauges that are above 0 at least for a moment.
SHOWN = {
    "celery_tasks_in_flight",
    "celery_task_oldest_received_timestamp_seconds",
    "celery_task_oldest_started_timestamp_seconds",
    "celery_task_expected_interval_seconds",
    "celery_tasks_rate_limit_held",
    "celery_slo_objective_ratio",
    "celery_slo_threshold_seconds",
    "celery_queue_length",
    "celery_queue_priority_length",
    "celery_queue_unacked",
    "celery_queue_workers",
    "celery_queue_worker_info",
    "celery_queue_concurrency",
    "celery_queue_oldest_task_timestamp_seconds",
    "celery_queue_head_message_bytes",
    "celery_queue_wait_objective_seconds",
    "celery_task_rate_limit_per_second",
    "celery_rate_limiter_limit",
    "celery_worker_up",
    "celery_worker_info",
    "celery_worker_start_time_seconds",
    "celery_worker_tasks_active",
    "celery_worker_tasks_reserved",
    "celery_worker_tasks_scheduled",
    "celery_worker_concurrency",
    "celery_worker_processes",
    "celery_worker_prefetch_limit",
    "celery_worker_load1",
    "celery_worker_load5",
    "celery_worker_load15",
    "celery_worker_main_process_resident_memory_max_bytes",
    "celery_worker_task_events_enabled",
    "celery_broker_up",
    "celery_broker_info",
    "celery_broker_memory_used_bytes",
    "celery_broker_memory_max_bytes",
    "celery_broker_eviction_policy_info",
    "celery_broker_oldest_unacked_timestamp_seconds",
    "celery_broker_visibility_timeout_seconds",
    "celery_exporter_event_lag_seconds",
    "celery_exporter_connected",
    "celery_exporter_canary_round_trip_seconds",
    "celery_exporter_tracked_tasks",
    "celery_exporter_series",
    "celery_exporter_poll_success",
    "celery_exporter_poll_duration_seconds",
    "celery_exporter_build_info",
}

# What says that something went wrong, and stands still while nothing does: each has its incident.
ZERO = {
    "celery_task_cancelled_total",
    "celery_task_rejected_total",
    "celery_task_revoked_total",
    "celery_task_redelivered_total",
    "celery_task_orphaned_total",
    "celery_task_wait_unknown_total",
    "celery_worker_restarts_total",
    "celery_worker_lost_total",
    "celery_worker_events_lost_total",
    "celery_broker_evicted_keys_total",
    "celery_exporter_invalid_events_total",
    "celery_exporter_deaf_seconds_total",
    "celery_exporter_reconnects_total",
}

# Absent until a label of theirs is known: a kind of disorder, a reason, a metric that found no room.
SILENT = {
    "celery_exporter_series_dropped_total",
    "celery_exporter_tracked_tasks_evicted_total",
}

# Any value is right: a limiter that throttles has nothing left, no clock is quite right, two connections disagree.
ANY = {
    "celery_rate_limiter_remaining",
    "celery_worker_clock_skew_seconds",
    "celery_exporter_disorder_total",
}

# What a Redis or Valkey cannot tell (docs/operations.md).
NOT_ON_REDIS = {
    "celery_queue_delayed",
    "celery_queue_consumers",
    "celery_queue_bytes",
    "celery_broker_alarm",
}


def total(metrics: Metrics, name: str) -> float | None:
    """The sum of a metric, a histogram's observations; None where it is absent."""
    sample = f"{name}_count" if BY_NAME[name].kind is Kind.HISTOGRAM else name
    return metrics.sum(sample) if sample in metrics.names else None


def moved(name: str, first: Metrics, last: Metrics) -> bool:
    return (total(last, name) or 0.0) > (total(first, name) or 0.0)


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Metrics]]:
    """What `/metrics` said, time and again, for as long as the run took."""
    folder: Path = tmp_path_factory.mktemp("demo")
    with steady_demo(
        folder, "--workload", "photos=2", "--workload", "translations=0.6", "--workload", "pings=0.1"
    ) as demo:
        found = [demo.metrics()]
        start = seconds(found[0])

        def over(metrics: Metrics) -> bool:
            found.append(metrics)
            return seconds(metrics) - start >= RUN

        demo.wait_until(over, RUN + UP_TIMEOUT, "the run is over")
        yield found


def seconds(metrics: Metrics) -> float:
    """The moment of a scrape, by the last event that was heard."""
    return metrics.sum("celery_exporter_last_event_timestamp_seconds")


def test_every_metric_of_the_catalog_has_its_place() -> None:
    groups = (RISES, SHOWN, ZERO, SILENT, ANY, NOT_ON_REDIS)
    assert set().union(*groups) == {spec.name for spec in ALL}
    assert sum(map(len, groups)) == len(ALL)


@pytest.mark.parametrize("name", sorted(RISES))
def test_what_should_move_moves(readings: list[Metrics], name: str) -> None:
    assert moved(name, readings[0], readings[-1])


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_what_should_show_shows(readings: list[Metrics], name: str) -> None:
    assert any((total(metrics, name) or 0.0) > 0 for metrics in readings)


@pytest.mark.parametrize("name", sorted(ZERO))
def test_what_tells_of_trouble_is_there_and_stands_still(readings: list[Metrics], name: str) -> None:
    # Before it was first connected the exporter was deaf, for a moment.
    assert total(readings[-1], name) == pytest.approx(0.0, abs=0.5)
    assert len({total(metrics, name) for metrics in readings}) == 1


@pytest.mark.parametrize("name", sorted(SILENT))
def test_what_has_nothing_to_tell_is_absent(readings: list[Metrics], name: str) -> None:
    assert not total(readings[-1], name)


@pytest.mark.parametrize("name", sorted(ANY))
def test_what_depends_is_there(readings: list[Metrics], name: str) -> None:
    assert total(readings[-1], name) is not None


@pytest.mark.parametrize("name", sorted(NOT_ON_REDIS))
def test_what_cannot_be_known_is_absent(readings: list[Metrics], name: str) -> None:
    assert total(readings[-1], name) is None
