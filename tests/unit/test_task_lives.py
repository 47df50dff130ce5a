"""What the tracker makes of the events of tasks, in order and out of it."""

from datetime import UTC, datetime

import pytest

from support.story import EPOCH, Story

ONE = ("app.work", "fast")
LIFECYCLE = ("sent", "received", "started", "succeeded", "failed", "retried", "cancelled")


@pytest.fixture
def story() -> Story:
    return Story()


def counts(story: Story, labels: tuple[str, ...] = ONE) -> dict[str, float]:
    """Lifecycle counters of one (task, queue) that are not 0."""
    values = {name: story.value(f"celery_task_{name}_total", *labels) for name in LIFECYCLE}
    return {name: value for name, value in values.items() if value}


def in_flight(story: Story) -> dict[str, float]:
    return {labels[2]: value for labels, value in story.moved("celery_tasks_in_flight").items()}


def disorder(story: Story) -> dict[str, float]:
    return {labels[0]: value for labels, value in story.moved("celery_exporter_disorder_total").items()}


def test_a_task_that_succeeds_is_counted_once_at_every_stage(story: Story) -> None:
    story.sent("a")
    story.wait(2)
    story.received("a")
    story.wait(1)
    story.started("a")
    story.succeeded("a", runtime=0.25)
    assert counts(story) == {"sent": 1, "received": 1, "started": 1, "succeeded": 1}
    assert story.value("celery_task_wait_seconds", *ONE) == (1, 3.0)
    assert story.value("celery_task_runtime_seconds", *ONE, "succeeded") == (1, 0.25)
    assert story.value("celery_task_last_sent_timestamp_seconds", *ONE) == EPOCH
    assert story.value("celery_task_last_succeeded_timestamp_seconds", *ONE) == EPOCH + 3
    assert in_flight(story) == {}
    assert disorder(story) == {}


def test_all_lifecycle_counters_of_a_pair_are_born_together_at_zero(story: Story) -> None:
    story.sent("a")
    for name in LIFECYCLE[1:]:
        assert story.value(f"celery_task_{name}_total", *ONE) == 0
    assert story.value("celery_task_redelivered_total", *ONE) == 0
    assert story.value("celery_task_orphaned_total", *ONE) == 0
    assert story.value("celery_task_revoked_total", *ONE, "expired") == 0
    assert story.value("celery_task_rejected_total", *ONE, "false") == 0
    assert story.series("celery_task_runtime_seconds") == {}


def test_in_flight_follows_a_task_through_its_states(story: Story) -> None:
    story.sent("a")
    assert in_flight(story) == {"sent": 1}
    story.received("a")
    assert in_flight(story) == {"received": 1}
    story.started("a")
    assert in_flight(story) == {"started": 1}
    story.failed("a")
    assert in_flight(story) == {}


def test_the_oldest_task_of_each_state_is_told_by_its_timestamp(story: Story) -> None:
    for uuid in ("a", "b", "c"):
        story.sent(uuid)
        story.received(uuid)
        story.wait(10)
    story.started("b")
    assert story.value("celery_task_oldest_received_timestamp_seconds", *ONE) == EPOCH
    assert story.value("celery_task_oldest_started_timestamp_seconds", *ONE) == EPOCH + 30
    story.succeeded("b")
    assert story.series("celery_task_oldest_started_timestamp_seconds") == {}


class TestQueue:
    def test_is_unknown_where_no_task_sent_event_and_no_worker_tells(self, story: Story) -> None:
        story.run("a")
        assert counts(story, ("app.work", "unknown")) == {"received": 1, "started": 1, "succeeded": 1}
        assert story.value("celery_task_wait_unknown_total", "app.work", "unknown") == 1
        assert story.series("celery_task_wait_seconds") == {}

    def test_is_the_only_one_that_the_worker_consumes(self, story: Story) -> None:
        story.heartbeat()
        story.inspect(queues=("only",))
        story.run("a")
        assert counts(story, ("app.work", "only")) == {"received": 1, "started": 1, "succeeded": 1}

    def test_is_not_guessed_from_a_worker_of_two(self, story: Story) -> None:
        story.inspect(queues=("one", "two"))
        story.run("a")
        assert counts(story, ("app.work", "unknown"))["started"] == 1

    def test_is_the_routing_key_of_the_default_exchange(self, story: Story) -> None:
        story.sent("a", queue=None, exchange="", routing_key="direct")
        assert counts(story, ("app.work", "direct")) == {"sent": 1}

    def test_is_not_the_routing_key_of_any_other_exchange(self, story: Story) -> None:
        story.sent("a", queue=None, exchange="topics", routing_key="a.b")
        assert counts(story, ("app.work", "unknown")) == {"sent": 1}


class TestLateTaskSent:
    def test_a_received_event_waits_for_the_task_sent_that_it_overtook(self, story: Story) -> None:
        story.sent("earlier")
        story.received("a")
        story.started("a")
        story.wait(0.1)
        story.sent("a", at=0.05)
        assert counts(story) == {"sent": 2, "received": 1, "started": 1}
        assert story.series("celery_task_wait_unknown_total") == {ONE: 0}

    def test_an_expiry_waits_for_it_too(self, story: Story) -> None:
        story.sent("earlier")
        story.revoked("a", expired=True)
        story.sent("a")
        assert story.value("celery_task_revoked_total", *ONE, "expired") == 1
        assert in_flight(story) == {"sent": 1}  # the earlier one

    def test_it_waits_for_its_own_where_that_of_the_retry_comes_first(self, story: Story) -> None:
        story.sent("earlier")
        story.received("a")
        story.started("a")
        story.sent("a", retries=1)
        story.retried("a")
        story.sent("a")
        story.run("a", retries=1)
        assert counts(story) == {"sent": 3, "received": 2, "started": 2, "retried": 1, "succeeded": 1}
        assert counts(story, ("app.work", "unknown")) == {}

    def test_its_queue_is_unknown_after_a_second(self, story: Story) -> None:
        story.sent("earlier")
        story.received("a")
        story.started("a")
        story.wait(0.75)
        assert counts(story, ("app.work", "unknown")) == {}
        story.wait(0.5)
        assert counts(story, ("app.work", "unknown")) == {"received": 1, "started": 1}
        assert story.value("celery_task_wait_unknown_total", "app.work", "unknown") == 1

    def test_nothing_is_held_where_no_task_sent_event_was_seen_of_late(self, story: Story) -> None:
        story.sent("earlier")
        story.wait(61)
        story.received("a")
        assert counts(story, ("app.work", "unknown")) == {"received": 1}

    def test_the_first_ones_are_waited_for_from_when_we_listen(self, story: Story) -> None:
        story.listen()
        story.received("a")
        story.sent("a")
        assert counts(story) == {"sent": 1, "received": 1}

    def test_one_that_comes_after_the_labels_are_fixed_still_gives_the_wait(self, story: Story) -> None:
        story.sent("earlier")
        story.received("a")
        story.wait(1)
        story.sent("a", at=0)
        story.started("a")
        assert story.value("celery_task_wait_seconds", "app.work", "unknown") == (1, 1.0)
        assert counts(story, ("app.work", "unknown")) == {"received": 1, "started": 1}
        assert counts(story) == {"sent": 2}
        assert in_flight(story) == {"sent": 1, "started": 1}


class TestEta:
    def test_the_wait_counts_from_the_eta(self, story: Story) -> None:
        eta = "2023-11-14T22:14:20+00:00"  # 60 s into the story
        story.sent("a", eta=eta)
        story.received("a", eta=eta)
        assert in_flight(story) == {"scheduled": 1}
        assert story.series("celery_task_oldest_received_timestamp_seconds") == {}
        story.wait(61)
        assert in_flight(story) == {"received": 1}
        assert story.value("celery_task_oldest_received_timestamp_seconds", *ONE) == EPOCH + 60
        story.wait(1)
        story.started("a")
        assert story.value("celery_task_wait_seconds", *ONE) == (1, 2.0)

    def test_an_eta_ahead_of_receipt_tells_the_wait_without_task_sent(self, story: Story) -> None:
        story.received("a", eta="2023-11-14T22:14:20+00:00")
        story.wait(62)
        story.started("a")
        assert story.value("celery_task_wait_seconds", "app.work", "unknown") == (1, 2.0)

    def test_a_task_that_was_not_due_for_longer_than_the_time_to_live_is_kept(self) -> None:
        story = Story(task_ttl=60)
        story.received("a", eta="2023-11-14T22:15:20+00:00")  # 120 s into the story
        story.wait(130)
        assert in_flight(story) == {"received": 1}

    def test_delivered_again_for_ever_it_is_remembered_once(self, story: Story) -> None:
        for _ in range(10):
            story.received("a", eta="2023-11-14T22:15:20+00:00")
        assert len(story.tracker._table._etas) == 1

    def test_one_without_a_time_zone_is_taken_from_the_received_event(self, story: Story) -> None:
        story.sent("a", eta="2023-11-14T15:14:20")
        story.received("a", eta="2023-11-14T15:14:20-07:00")
        story.wait(62)
        story.started("a")
        assert story.value("celery_task_wait_seconds", *ONE) == (1, 2.0)


class TestRetry:
    def test_every_attempt_is_counted(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.sent("a", retries=1)
        story.retried("a")
        story.received("a", retries=1)
        story.started("a")
        story.succeeded("a")
        assert counts(story) == {"sent": 2, "received": 2, "started": 2, "retried": 1, "succeeded": 1}
        assert story.value("celery_task_exceptions_total", *ONE, "OSError", "retried") == 1
        assert in_flight(story) == {}
        assert disorder(story) == {}
        assert story.value("celery_task_redelivered_total", *ONE) == 0

    def test_the_retry_may_start_before_we_hear_of_it(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.sent("a", retries=1)
        story.received("a", retries=1)
        story.wait(1)
        story.started("a")
        story.retried("a", at=0.5)
        assert in_flight(story) == {"started": 1}
        story.succeeded("a")
        assert counts(story) == {"sent": 2, "received": 2, "started": 2, "retried": 1, "succeeded": 1}
        assert story.value("celery_task_runtime_seconds", *ONE, "retried") == (1, 0.5)
        assert in_flight(story) == {}
        assert disorder(story) == {}

    def test_the_retry_may_even_end_before_we_hear_of_it(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.sent("a", retries=1)
        story.received("a", retries=1, hostname="celery@two")
        story.started("a", hostname="celery@two")
        story.succeeded("a", hostname="celery@two")
        story.retried("a")
        assert counts(story) == {"sent": 2, "received": 2, "started": 2, "retried": 1, "succeeded": 1}
        assert in_flight(story) == {}
        assert disorder(story) == {}

    def test_the_retry_may_start_elsewhere_before_we_hear_of_the_first_start(self, story: Story) -> None:
        story.received("a")
        story.received("a", retries=1, hostname="celery@two")
        story.started("a", hostname="celery@two")
        story.succeeded("a", hostname="celery@two")
        story.started("a")
        story.retried("a")
        unknown = ("app.work", "unknown")
        assert counts(story, unknown) == {"received": 2, "started": 2, "retried": 1, "succeeded": 1}
        assert story.value("celery_task_redelivered_total", *unknown) == 0
        assert story.series("celery_task_runtime_seconds").keys() == {(*unknown, "retried"), (*unknown, "succeeded")}
        assert in_flight(story) == {}
        assert disorder(story) == {}

    def test_the_retry_may_be_over_elsewhere_before_we_hear_of_the_first_receipt(self, story: Story) -> None:
        story.sent("a")
        story.sent("a", retries=1)
        story.wait(1)
        story.run("a", retries=1)
        story.received("a", hostname="celery@two")
        story.started("a", hostname="celery@two")
        story.retried("a", hostname="celery@two")
        assert counts(story) == {"sent": 2, "received": 2, "started": 2, "retried": 1, "succeeded": 1}
        assert story.value("celery_task_redelivered_total", *ONE) == 0
        assert in_flight(story) == {}
        assert disorder(story) == {}

    def test_an_attempt_of_which_nothing_more_is_told_goes_with_the_last_one(self, story: Story) -> None:
        story.received("a")
        story.received("a", retries=1, hostname="celery@two")
        story.started("a", hostname="celery@two")
        story.succeeded("a", hostname="celery@two")
        assert in_flight(story) == {"received": 1}
        story.wait(120)
        assert in_flight(story) == {}
        assert story.value("celery_exporter_tracked_tasks") == 0

    @pytest.mark.parametrize("told_first", [False, True])
    def test_one_that_expires_unannounced_and_unreceived_counts(self, story: Story, *, told_first: bool) -> None:
        story.received("a")
        story.started("a")
        if told_first:
            story.retried("a")
        story.revoked("a", expired=True, hostname="celery@two")
        if not told_first:
            story.retried("a")
        unknown = ("app.work", "unknown")
        assert story.value("celery_task_revoked_total", *unknown, "expired") == 1
        assert counts(story, unknown) == {"received": 1, "started": 1, "retried": 1}
        assert in_flight(story) == {}
        assert disorder(story) == {}

    def test_one_that_is_not_registered_where_it_arrives_ends_no_run(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.sent("a", retries=1)
        story.failed("a", "NotRegistered('app.work')", hostname="celery@two")
        assert in_flight(story) == {"started": 1}
        story.retried("a")
        assert counts(story) == {"sent": 2, "received": 1, "started": 1, "failed": 1, "retried": 1}
        assert in_flight(story) == {}

    def test_a_run_may_itself_fail_of_a_name_that_is_not_registered(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.failed("a", "NotRegistered('app.called')")
        assert counts(story)["failed"] == 1
        assert in_flight(story) == {}

    def test_attempts_are_told_apart_without_task_sent(self, story: Story) -> None:
        story.received("a")
        story.started("a")
        story.received("a", retries=1)
        story.started("a")
        story.retried("a")
        story.failed("a")
        unknown = ("app.work", "unknown")
        assert counts(story, unknown) == {"received": 2, "started": 2, "retried": 1, "failed": 1}
        assert story.value("celery_task_redelivered_total", *unknown) == 0
        assert in_flight(story) == {}

    def test_without_a_cause_the_class_is_retry(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.retried("a", exception="None")
        assert story.value("celery_task_exceptions_total", *ONE, "Retry", "retried") == 1


class TestRedelivery:
    def test_a_second_start_of_an_open_attempt_is_one(self, story: Story) -> None:
        story.sent("a")
        for worker in ("celery@one", "celery@two"):
            story.received("a", hostname=worker)
            story.started("a", hostname=worker)
        story.succeeded("a", hostname="celery@two")
        assert counts(story) == {"sent": 1, "received": 2, "started": 2, "succeeded": 1}
        assert story.value("celery_task_redelivered_total", *ONE) == 1
        assert story.value("celery_task_wait_seconds", *ONE)[0] == 1

    def test_each_of_two_runs_may_end(self, story: Story) -> None:
        story.sent("a")
        for worker in ("celery@one", "celery@two"):
            story.received("a", hostname=worker)
            story.started("a", hostname=worker)
        story.succeeded("a", hostname="celery@one")
        assert in_flight(story) == {"started": 1}
        story.succeeded("a", hostname="celery@two")
        assert counts(story)["succeeded"] == 2
        assert in_flight(story) == {}
        assert disorder(story) == {}

    def test_a_prefetched_message_that_is_handed_on_is_none(self, story: Story) -> None:
        story.sent("a")
        story.received("a", hostname="celery@one")
        story.received("a", hostname="celery@two")
        story.started("a", hostname="celery@two")
        story.succeeded("a", hostname="celery@two")
        assert counts(story) == {"sent": 1, "received": 2, "started": 1, "succeeded": 1}
        assert story.value("celery_task_redelivered_total", *ONE) == 0

    def test_a_receipt_that_comes_after_a_run_elsewhere_holds_nothing(self, story: Story) -> None:
        story.sent("a")
        story.wait(1)
        story.run("a")
        story.received("a", hostname="celery@two", at=0.5)
        assert counts(story)["received"] == 2
        assert in_flight(story) == {}

    def test_a_copy_that_is_revoked_elsewhere_stops_no_run(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.received("a", hostname="celery@two")
        story.revoked("a", hostname="celery@two")
        assert in_flight(story) == {"started": 1}
        story.succeeded("a")
        assert counts(story)["succeeded"] == 1
        assert in_flight(story) == {}

    def test_the_run_that_goes_on_keeps_its_own_start(self, story: Story) -> None:
        story.sent("a")
        for worker in ("celery@one", "celery@two"):
            story.received("a", hostname=worker)
            story.started("a", hostname=worker)
            story.wait(10)
        story.failed("a", hostname="celery@two")
        assert story.value("celery_task_oldest_started_timestamp_seconds", *ONE) == EPOCH
        story.failed("a", hostname="celery@one")
        assert story.value("celery_task_runtime_seconds", *ONE, "failed") == (2, 30.0)

    def test_a_message_rejected_back_into_the_queue_starts_again(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.rejected("a", requeue=True)
        assert in_flight(story) == {"sent": 1}
        story.run("a")
        assert counts(story) == {"sent": 1, "received": 2, "started": 2, "succeeded": 1}
        assert story.value("celery_task_rejected_total", *ONE, "true") == 1
        assert story.value("celery_task_redelivered_total", *ONE) == 1
        assert in_flight(story) == {}


class TestEnds:
    def test_a_hard_time_limit_that_gives_the_message_back_counts_once_per_run(self, story: Story) -> None:
        story.sent("a")
        for _ in range(2):
            story.received("a")
            story.started("a")
            story.failed("a", "TimeLimitExceeded(1,)")
            story.rejected("a", requeue=True)
            story.failed("a", "TimeLimitExceeded(1,)")
            assert in_flight(story) == {"sent": 1}
        assert counts(story) == {"sent": 1, "received": 2, "started": 2, "failed": 2}
        assert disorder(story) == {"duplicate_end": 2}
        story.revoked("a", expired=True)
        assert in_flight(story) == {}
        assert story.value("celery_task_revoked_total", *ONE, "expired") == 1

    def test_a_hard_time_limit_fails_twice_and_counts_once(self, story: Story) -> None:
        limit = "billiard.exceptions.TimeLimitExceeded: TimeLimitExceeded(1,)\n"
        story.sent("a")
        story.received("a")
        story.started("a")
        for _ in range(2):
            story.failed("a", "ExceptionWithTraceback()", f'  File "pool.py", line 1, in f\n    raise e\n{limit}')
        assert counts(story)["failed"] == 1
        assert story.moved("celery_task_exceptions_total") == {(*ONE, "TimeLimitExceeded", "failed"): 1}
        assert disorder(story) == {"duplicate_end": 1}

    @pytest.mark.parametrize("reason", ["expired", "terminated", "revoked"])
    def test_a_revoked_task_counts_by_reason_once(self, story: Story, reason: str) -> None:
        flags = {reason: True} if reason != "revoked" else {}
        story.sent("a")
        story.revoked("a", **flags)
        story.revoked("a", hostname="celery@two", **flags)
        assert story.moved("celery_task_revoked_total") == {(*ONE, reason): 1}
        assert in_flight(story) == {}

    def test_a_rejection_for_good_is_no_end_of_its_own(self, story: Story) -> None:
        for uuid, rejected_first in (("a", False), ("b", True)):
            story.sent(uuid)
            story.received(uuid)
            story.started(uuid)
            if rejected_first:
                story.rejected(uuid, requeue=False)
            story.failed(uuid, "reject requeue=False: x")
            if not rejected_first:
                story.rejected(uuid, requeue=False)
        assert counts(story)["failed"] == 2
        assert story.value("celery_task_rejected_total", *ONE, "false") == 2
        assert in_flight(story) == {}

    def test_an_unregistered_task_is_named_by_its_failure(self, story: Story) -> None:
        story.failed("a", "NotRegistered('app.gone')")
        assert counts(story, ("app.gone", "unknown")) == {"failed": 1}
        story.sent("b", name="app.gone")
        story.failed("b", "NotRegistered('app.gone')")
        assert counts(story, ("app.gone", "fast")) == {"sent": 1, "failed": 1}
        assert disorder(story) == {}

    def test_a_cancelled_task_will_be_delivered_again(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.deliver(story.event("task-cancelled", uuid="a"))
        story.run("a")
        assert counts(story) == {"sent": 1, "received": 2, "started": 2, "cancelled": 1, "succeeded": 1}
        assert story.value("celery_task_redelivered_total", *ONE) == 1

    def test_a_success_without_a_runtime_is_measured_between_its_events(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.wait(2)
        story.succeeded("a", runtime=None)
        assert story.value("celery_task_runtime_seconds", *ONE, "succeeded") == (1, 2.0)

    def test_an_end_that_overtakes_its_start_closes_the_attempt(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.succeeded("a")
        story.started("a")
        assert counts(story) == {"sent": 1, "received": 1, "started": 1, "succeeded": 1}
        assert in_flight(story) == {}
        assert disorder(story) == {"unstarted_end": 1, "start_after_end": 1}

    def test_events_of_a_task_that_nobody_announced_are_counted_as_unknown(self, story: Story) -> None:
        story.started("a")
        story.succeeded("a")
        assert counts(story, ("unknown", "unknown")) == {"started": 1, "succeeded": 1}
        assert disorder(story) == {"unreceived_start": 1}

    def test_a_late_end_of_a_task_that_was_forgotten_does_not_hurt(self, story: Story) -> None:
        story.sent("a")
        story.run("a")
        story.wait(120)
        story.succeeded("a")
        assert counts(story)["succeeded"] == 1
        assert counts(story, ("unknown", "unknown")) == {"succeeded": 1}


class TestLivesUnderOneUuid:
    def test_a_replaced_task_begins_a_new_life_and_the_old_one_is_closed(self, story: Story) -> None:
        story.sent("a", name="app.first")
        story.received("a", name="app.first")
        story.started("a")
        story.sent("a", name="app.second", queue="slow")
        story.received("a", name="app.second")
        story.started("a")
        story.succeeded("a")
        assert counts(story, ("app.first", "fast")) == {"sent": 1, "received": 1, "started": 1}
        assert counts(story, ("app.second", "slow")) == {"sent": 1, "received": 1, "started": 1, "succeeded": 1}
        assert story.value("celery_exporter_tracked_tasks_evicted_total", "no_end") == 1
        assert story.value("celery_task_redelivered_total", "app.second", "slow") == 0
        assert in_flight(story) == {}

    def test_a_replacement_is_recognised_without_task_sent(self, story: Story) -> None:
        story.received("a", name="app.first")
        story.started("a")
        story.received("a", name="app.second")
        story.started("a")
        story.succeeded("a")
        assert counts(story, ("app.second", "unknown")) == {"received": 1, "started": 1, "succeeded": 1}
        assert in_flight(story) == {}

    def test_the_name_in_task_sent_wins_over_a_shadow(self, story: Story) -> None:
        story.sent("a")
        story.run("a", name="nickname")
        assert counts(story) == {"sent": 1, "received": 1, "started": 1, "succeeded": 1}
        assert {labels[0] for labels in story.series("celery_task_started_total")} == {"app.work"}

    def test_it_wins_for_the_whole_life_even_where_a_retry_was_not_announced(self, story: Story) -> None:
        story.sent("a")
        story.received("a", name="nickname")
        story.started("a")
        story.wait(61)  # no task-sent of late: nothing is held
        story.received("a", name="nickname", retries=1)
        assert counts(story, ("app.work", "unknown")) == {"received": 1}

    def test_a_task_sent_anew_under_its_uuid_begins_a_new_life(self, story: Story) -> None:
        for _ in range(2):
            story.sent("a")
            story.run("a")
        assert counts(story) == {"sent": 2, "received": 2, "started": 2, "succeeded": 2}
        assert story.value("celery_task_redelivered_total", *ONE) == 0
        assert story.value("celery_task_wait_seconds", *ONE)[0] == 2


class TestTasksThatSendNoEvents:
    def test_they_are_counted_as_sent_and_not_kept_in_flight(self, story: Story) -> None:
        story.sent("a", name="app.silent")
        assert in_flight(story) == {"sent": 1}
        story.inspect(silent_tasks=frozenset({"app.silent"}))
        story.sent("b", name="app.silent")
        assert counts(story, ("app.silent", "fast")) == {"sent": 2}
        assert in_flight(story) == {}


class TestWorkersThatTellLate:
    """Solo, threads and gevent publish from the pool at once, and tell of the task that published afterwards."""

    def test_a_retry_is_published_before_we_hear_of_the_attempt(self, story: Story) -> None:
        story.sent("a")
        story.sent("a", retries=1)
        assert in_flight(story) == {"sent": 2}
        story.wait(1)
        story.received("a")
        story.started("a")
        story.retried("a", exception="Retry(Retry(...), app.PaymentError('try again'), 0)")
        story.wait(1)
        story.run("a", retries=1)
        assert counts(story) == {"sent": 2, "received": 2, "started": 2, "retried": 1, "succeeded": 1}
        assert story.value("celery_task_wait_seconds", *ONE) == (2, 3.0)
        assert story.value("celery_task_exceptions_total", *ONE, "PaymentError", "retried") == 1
        assert in_flight(story) == {}
        assert disorder(story) == {}

    def test_a_replacement_is_published_before_we_hear_of_what_it_replaces(self, story: Story) -> None:
        story.sent("a", name="app.first")
        story.sent("a", name="app.second", queue="slow")
        story.received("a", name="app.first")
        story.started("a")
        story.run("a", name="app.second")
        assert counts(story, ("app.first", "fast")) == {"sent": 1, "received": 1, "started": 1}
        assert counts(story, ("app.second", "slow")) == {"sent": 1, "received": 1, "started": 1, "succeeded": 1}
        assert in_flight(story) == {}

    def test_a_redelivery_is_not_taken_for_the_replacement_that_waits(self, story: Story) -> None:
        story.sent("a", name="app.first")
        story.received("a", name="app.first")
        story.started("a")
        story.sent("a", name="app.second", queue="slow")
        story.received("a", name="app.first", hostname="celery@two")
        story.started("a", hostname="celery@two")
        assert story.value("celery_task_redelivered_total", "app.first", "fast") == 1
        assert counts(story, ("app.second", "slow")) == {"sent": 1}

    def test_what_is_published_under_one_uuid_for_ever_is_bounded(self, story: Story) -> None:
        for _ in range(1_000):
            story.sent("a")
        assert in_flight(story)["sent"] <= 4


class TestRateLimits:
    def limited(self, story: Story) -> None:
        event = story.event("task-rate-limited", uuid="a", limiter="api", delay=12.5, limit=350, remaining=0)
        story.deliver(event)

    def test_an_announcement_counts_under_the_task_and_its_limiter(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        self.limited(story)
        assert story.value("celery_task_rate_limited_total", *ONE, "api") == 1
        assert story.value("celery_task_rate_limit_delay_seconds", *ONE, "api") == (1, 12.5)
        assert story.value("celery_rate_limiter_limit", "api") == 350
        assert story.value("celery_rate_limiter_remaining", "api") == 0

    def test_one_that_overtakes_its_task_waits_for_it(self, story: Story) -> None:
        self.limited(story)
        story.sent("a")
        story.wait(1.5)
        assert story.moved("celery_task_rate_limited_total") == {(*ONE, "api"): 1}

    def test_one_whose_task_is_held_waits_for_as_long(self, story: Story) -> None:
        story.sent("b")
        self.limited(story)
        story.wait(0.75)
        story.received("a")  # held in its turn: its task-sent event may be under way
        story.started("a")
        story.wait(2.0)
        assert story.moved("celery_task_rate_limited_total") == {(ONE[0], "unknown", "api"): 1}

    def test_a_configured_exception_is_a_limiter(self) -> None:
        story = Story(rate_limit_exceptions=frozenset({"TooManyRequests"}))
        story.sent("a")
        story.received("a")
        story.started("a")
        story.retried("a", exception="http.TooManyRequests(429)")
        assert story.value("celery_task_rate_limited_total", *ONE, "TooManyRequests") == 1


class TestTimeZonesAndClocks:
    def beat(self, story: Story, ahead: float, times: int) -> None:
        for _ in range(times):
            story.heartbeat(at=story.seconds + ahead)
            story.wait(2)

    @pytest.mark.parametrize("ahead", [400.0, -400.0])
    def test_a_workers_wrong_clock_is_taken_out_of_the_wait(self, story: Story, ahead: float) -> None:
        self.beat(story, ahead, times=3)
        story.sent("a")
        story.received("a", at=story.seconds + ahead)
        story.wait(2)
        story.started("a", at=story.seconds + ahead)
        assert story.value("celery_task_wait_seconds", *ONE) == (1, pytest.approx(2.0))
        assert story.value("celery_worker_clock_skew_seconds", "celery@one") == pytest.approx(-ahead)

    @pytest.mark.parametrize("ahead", [400.0, -400.0])
    @pytest.mark.parametrize("countdown", [0, 30])
    def test_a_retry_that_the_worker_published_by_its_wrong_clock_waits_rightly(
        self, story: Story, ahead: float, countdown: int
    ) -> None:
        self.beat(story, ahead, times=3)
        story.sent("a")
        story.received("a", at=story.seconds + ahead)
        story.started("a", at=story.seconds + ahead)
        due = datetime.fromtimestamp(EPOCH + story.seconds + ahead + countdown, UTC).isoformat()
        eta = due if countdown else None
        story.sent("a", retries=1, eta=eta, hostname="gen7@one", at=story.seconds + ahead)
        story.received("a", retries=1, eta=eta, at=story.seconds + ahead)
        story.retried("a", at=story.seconds + ahead)
        assert in_flight(story) == ({"scheduled": 1} if countdown else {"received": 1})
        story.wait(countdown + 2)
        story.started("a", at=story.seconds + ahead)
        assert story.value("celery_task_wait_seconds", *ONE) == (2, pytest.approx(2.0))

    @pytest.mark.parametrize("ahead", [400.0, -400.0])
    def test_what_a_task_on_such_a_worker_publishes_waits_rightly(self, story: Story, ahead: float) -> None:
        self.beat(story, ahead, times=3)
        story.sent("parent", name="app.parent")
        story.received("parent", name="app.parent", at=story.seconds + ahead)
        story.started("parent", at=story.seconds + ahead)
        story.sent("child", parent_id="parent", hostname="gen7@one", at=story.seconds + ahead)
        story.wait(2)
        story.received("child", hostname="celery@two")
        story.started("child", hostname="celery@two")
        assert story.value("celery_task_wait_seconds", *ONE) == (1, pytest.approx(2.0))

    def test_less_than_a_second_is_left_alone(self, story: Story) -> None:
        self.beat(story, 0.5, times=3)
        story.sent("a")
        story.received("a")
        story.started("a", at=story.seconds + 0.5)
        assert story.value("celery_task_wait_seconds", *ONE) == (1, pytest.approx(0.5))

    def test_one_late_heartbeat_is_no_wrong_clock(self, story: Story) -> None:
        story.heartbeat(at=story.seconds - 20)
        story.sent("a")
        story.received("a")
        story.started("a")
        assert story.value("celery_task_wait_seconds", *ONE) == (1, 0.0)

    def test_a_negative_wait_is_zero_and_counts_as_disorder(self, story: Story) -> None:
        story.sent("a", at=5)
        story.received("a")
        story.started("a")
        assert story.value("celery_task_wait_seconds", *ONE) == (1, 0.0)
        assert disorder(story) == {"negative_wait": 1}

    def test_one_that_is_shorter_than_publishing_may_take_is_no_disorder(self, story: Story) -> None:
        story.sent("a", at=0.2)
        story.received("a")
        story.started("a")
        assert story.value("celery_task_wait_seconds", *ONE) == (1, 0.0)
        assert not any(disorder(story).values())

    def test_the_offset_that_an_event_announces_changes_nothing(self, story: Story) -> None:
        story.sent("a", utcoffset=7)
        story.received("a", utcoffset=-7)
        story.started("a", utcoffset=-7)
        assert story.value("celery_task_wait_seconds", *ONE) == (1, 0.0)


class TestBounds:
    def test_the_oldest_attempts_are_evicted_and_counted(self) -> None:
        story = Story(max_tracked_tasks=100)
        for number in range(150):
            story.received(f"uuid-{number}")
        story.started("uuid-149")
        assert story.value("celery_exporter_tracked_tasks") <= 100
        evicted = story.value("celery_exporter_tracked_tasks_evicted_total", "capacity")
        assert sum(in_flight(story).values()) == 150 - evicted
        assert in_flight(story)["started"] == 1

    def test_ended_tasks_make_room_before_open_ones(self) -> None:
        story = Story(max_tracked_tasks=100)
        story.received("open")
        for number in range(500):
            story.run(f"uuid-{number}")
        assert story.value("celery_exporter_tracked_tasks_evicted_total", "capacity") == 0
        assert in_flight(story) == {"received": 1}

    def test_ended_ones_of_tasks_retried_since_do_not_cost_open_ones_their_room(self) -> None:
        story = Story(max_tracked_tasks=100)
        for number in range(50):
            story.received(f"open-{number}")
        for retries in range(3):
            for number in range(45):
                story.received(f"uuid-{number}", retries=retries)
                story.started(f"uuid-{number}")
                story.retried(f"uuid-{number}")
        for number in range(20):
            story.run(f"more-{number}")
        assert story.value("celery_exporter_tracked_tasks_evicted_total", "capacity") == 0
        assert in_flight(story) == {"received": 50}

    def test_a_task_that_is_retried_for_ever_is_bounded(self) -> None:
        story = Story(max_tracked_tasks=10)
        for retries in range(100):
            story.received("a", retries=retries)
            story.started("a")
            story.retried("a")
        assert len(story.tracker._table._ended) <= 10

    def test_sent_tasks_have_a_bound_of_their_own(self) -> None:
        story = Story(max_sent_tasks=100, max_tracked_tasks=10)
        for number in range(150):
            story.sent(f"uuid-{number}")
        evicted = story.value("celery_exporter_tracked_tasks_evicted_total", "capacity")
        assert in_flight(story) == {"sent": 150 - evicted}
        assert 50 <= evicted <= 52

    def test_what_was_not_heard_of_for_the_time_to_live_is_given_up(self) -> None:
        story = Story(task_ttl=600)
        story.sent("a")
        story.received("b")
        story.wait(700)
        assert in_flight(story) == {}
        assert story.value("celery_exporter_tracked_tasks_evicted_total", "ttl") == 2

    def test_a_task_that_a_live_worker_still_runs_is_kept(self) -> None:
        story = Story(task_ttl=600)
        story.heartbeat(active=1, processed=1)
        story.sent("a")
        story.received("a")
        story.started("a")
        story.wait(700)
        assert in_flight(story) == {"started": 1}

    def test_exception_classes_of_a_pair_are_bounded(self, story: Story) -> None:
        for number in range(30):
            story.sent(f"u{number}")
            story.failed(f"u{number}", f"Error{number}('x')")
        series = story.series("celery_task_exceptions_total")
        assert len(series) == 21
        assert series[(*ONE, "other", "failed")] == 10

    def test_a_pair_without_events_is_forgotten(self) -> None:
        story = Story(pair_retention=600)
        story.sent("a")
        story.run("a")
        story.wait(300)
        story.sent("b", name="app.other")
        story.run("b", name="app.other")
        story.wait(500)
        assert story.value("celery_task_started_total", *ONE) is None
        assert story.series("celery_task_runtime_seconds").keys() == {("app.other", "fast", "succeeded")}
        assert story.value("celery_task_started_total", "app.other", "fast") == 1

    def test_a_pair_with_a_task_in_flight_is_not(self) -> None:
        story = Story(pair_retention=600)
        story.sent("a")
        story.wait(2000)
        assert counts(story) == {"sent": 1}

    def test_made_up_names_fold_into_one_overflow_and_known_tasks_go_on(self) -> None:
        story = Story(series_limit=5_000)
        story.sent("a")
        for number in range(2_000):
            story.sent(f"uuid-{number}", name=f"made.up.{number}")
            story.run(f"uuid-{number}", name=f"made.up.{number}")
        story.run("a")
        assert counts(story) == {"sent": 1, "received": 1, "started": 1, "succeeded": 1}
        overflow = story.value("celery_task_started_total", "__overflow__", "__overflow__")
        assert overflow + sum(1 for labels in story.series("celery_task_started_total") if "made" in labels[0]) == 2_000
        assert story.store.samples <= 5_000
        assert story.value("celery_exporter_series_dropped_total", "celery_task_started_total") == overflow

    def test_a_task_that_only_succeeds_costs_at_most_60_series(self, story: Story) -> None:
        story.heartbeat()
        before = story.store.samples
        story.sent("a")
        story.run("a")
        assert story.store.samples - before <= 60

    def test_hostile_names_are_cleaned_and_cut(self, story: Story) -> None:
        story.sent("a", name='quo"te\nnew\x00line' + "x" * 5_000)
        (labels,) = story.series("celery_task_sent_total")
        assert len(labels[0]) == 200
        assert labels[0].startswith('quo"te\N{REPLACEMENT CHARACTER}new\N{REPLACEMENT CHARACTER}line')
        assert story.value("celery_exporter_invalid_events_total", "name_cut") == 1
