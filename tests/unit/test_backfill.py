"""What workers hold, taken over when we begin to listen: named, in flight, and counted once they end."""

from typing import Any

import pytest

from celeryscope.readings import HeldTask, Stage
from support.story import EPOCH, Story

W = "celery@one"
SLOW = ("app.work", "slow")
PATIENCE = 5.0  # seconds


@pytest.fixture
def story() -> Story:
    """A story in which we have just begun to listen."""
    story = Story(backfill_patience=PATIENCE)
    story.listen()
    return story


def held(uuid: str, stage: Stage = Stage.ACTIVE, **facts: Any) -> HeldTask:
    at = EPOCH - 10 if stage is Stage.ACTIVE else None
    return HeldTask(uuid, "app.work", "app.work", "slow", stage, at)._replace(**facts)


def lists(story: Story, *tasks: HeldTask, **facts: Any) -> None:
    """A worker tells all that it holds."""
    running = frozenset(task.uuid for task in tasks if task.stage is Stage.ACTIVE)
    told: dict[str, Any] = {"held": tasks, "running": running, "holds_listed": True, "asked_at": story.now.elapsed}
    story.inspect(**told | facts)


class TestTasksThatWereTakenBefore:
    def test_one_that_runs_is_in_flight_and_only_its_end_is_counted(self, story: Story) -> None:
        lists(story, held("a"))
        assert story.moved("celery_tasks_in_flight") == {(*SLOW, "started"): 1}
        assert story.value("celery_task_oldest_started_timestamp_seconds", *SLOW) == EPOCH - 10
        story.wait(2)
        story.succeeded("a", runtime=None)
        assert story.value("celery_task_succeeded_total", *SLOW) == 1
        assert story.value("celery_task_runtime_seconds", *SLOW, "succeeded") == (1, pytest.approx(12))
        for name in ("received", "started", "redelivered", "wait_unknown"):
            assert story.value(f"celery_task_{name}_total", *SLOW) == 0, name
        assert story.moved("celery_exporter_disorder_total") == {}
        assert story.moved("celery_tasks_in_flight") == {}

    def test_one_that_waits_counts_its_start_without_a_wait(self, story: Story) -> None:
        lists(story, held("a", Stage.RESERVED))
        assert story.moved("celery_tasks_in_flight") == {(*SLOW, "received"): 1}
        story.started("a")
        story.failed("a")
        assert story.value("celery_task_received_total", *SLOW) == 0
        assert story.value("celery_task_started_total", *SLOW) == 1
        assert story.value("celery_task_wait_unknown_total", *SLOW) == 1
        assert story.value("celery_task_failed_total", *SLOW) == 1
        assert story.moved("celery_exporter_disorder_total") == {}

    def test_one_whose_eta_is_ahead_has_a_wait(self, story: Story) -> None:
        lists(story, held("a", Stage.SCHEDULED, at=EPOCH + 10))
        assert story.moved("celery_tasks_in_flight") == {(*SLOW, "scheduled"): 1}
        story.wait(12)
        assert story.moved("celery_tasks_in_flight") == {(*SLOW, "received"): 1}
        story.started("a")
        assert story.value("celery_task_wait_seconds", *SLOW) == (1, pytest.approx(2))

    def test_a_retry_of_it_is_another_attempt(self, story: Story) -> None:
        lists(story, held("a"))
        story.received("a", retries=3)
        story.started("a")
        story.retried("a")
        story.succeeded("a")
        story.wait(1)  # for a task-sent event, which does not come
        assert story.value("celery_task_retried_total", *SLOW) == 1
        pair = ("app.work", "unknown")  # no task-sent told where the retry went
        assert story.value("celery_task_succeeded_total", *pair) == 1
        assert story.moved("celery_tasks_in_flight") == {}
        assert story.moved("celery_exporter_disorder_total") == {}

    def test_one_that_runs_again_elsewhere_is_redelivered(self, story: Story) -> None:
        lists(story, held("a"))
        story.started("a", hostname="celery@two")
        assert story.value("celery_task_redelivered_total", *SLOW) == 1
        story.succeeded("a", hostname="celery@two")
        story.succeeded("a")
        assert story.value("celery_task_succeeded_total", *SLOW) == 2
        assert story.moved("celery_tasks_in_flight") == {}

    def test_its_name_is_the_tasks_and_not_the_shadow(self, story: Story) -> None:
        lists(story, held("a", name="nickname"))
        story.succeeded("a")
        assert story.value("celery_task_succeeded_total", *SLOW) == 1

    def test_the_only_queue_of_its_worker_is_its_queue(self, story: Story) -> None:
        lists(story, held("a", queue=None), queues=("only",))
        story.succeeded("a")
        assert story.value("celery_task_succeeded_total", "app.work", "only") == 1

    def test_a_task_that_sends_no_events_is_left_out(self, story: Story) -> None:
        lists(story, held("a"), silent_tasks=frozenset({"app.work"}))
        assert story.moved("celery_tasks_in_flight") == {}

    def test_a_worker_that_sends_no_events_is_left_out(self, story: Story) -> None:
        for processed in range(5):
            story.heartbeat(processed=processed, active=1)
            story.wait(2)
        assert story.value("celery_worker_task_events_enabled", W) == 0
        lists(story, held("a"))
        assert story.moved("celery_tasks_in_flight") == {}

    def test_what_is_listed_again_is_not_begun_again(self, story: Story) -> None:
        lists(story, held("a"))
        story.succeeded("a")
        story.wait(70)
        lists(story, held("a"))  # an answer that was under way for long
        assert story.moved("celery_tasks_in_flight") == {}


class TestEventsThatAreUnderWay:
    def test_a_start_that_inspection_knew_first_is_counted_once(self, story: Story) -> None:
        lists(story, held("a", at=EPOCH))
        story.received("a", at=-0.01, retries=2)
        story.started("a", at=0.001)
        story.succeeded("a")
        assert story.value("celery_task_received_total", *SLOW) == 1
        assert story.value("celery_task_started_total", *SLOW) == 1
        assert story.value("celery_task_wait_unknown_total", *SLOW) == 1
        assert story.value("celery_task_redelivered_total", *SLOW) == 0
        assert story.moved("celery_tasks_in_flight") == {}
        assert story.moved("celery_exporter_disorder_total") == {}

    def test_ends_wait_until_inspection_has_named_their_tasks(self, story: Story) -> None:
        story.succeeded("a")
        assert story.series("celery_task_succeeded_total") == {}
        story.wait(1)
        lists(story, held("a"))
        assert story.moved("celery_task_succeeded_total") == {SLOW: 1}
        assert story.moved("celery_exporter_disorder_total") == {}

    def test_a_start_from_before_the_retry_that_inspection_showed_is_no_redelivery(self, story: Story) -> None:
        story.started("a")
        story.wait(0.5)
        story.received("a", retries=1)
        story.retried("a")
        story.wait(3)
        story.started("a")
        lists(story, held("a", at=EPOCH + 3.5))
        story.wait(1)
        story.succeeded("a", runtime=None)
        story.wait(1)
        unknown = ("app.work", "unknown")  # the retry's queue: this worker may consume any
        assert story.moved("celery_task_redelivered_total") == {}
        assert story.moved("celery_task_started_total") == {SLOW: 1, unknown: 1}
        assert story.moved("celery_task_retried_total") == {SLOW: 1}
        assert story.moved("celery_task_succeeded_total") == {unknown: 1}
        assert story.series("celery_task_runtime_seconds") == {
            (*SLOW, "retried"): (1, pytest.approx(0.5)), (*unknown, "succeeded"): (1, pytest.approx(1)),
        }  # fmt: skip
        assert story.moved("celery_exporter_disorder_total") == {}
        assert story.moved("celery_tasks_in_flight") == {}

    def test_nor_is_the_retry_of_a_task_whose_start_waited_for_its_name(self, story: Story) -> None:
        story.started("a")
        story.sent("a", queue="slow", retries=1)
        story.received("a", retries=1)
        story.started("a")
        story.retried("a")
        lists(story)
        story.succeeded("a")
        story.wait(1)
        for name, number in (("started", 2), ("retried", 1), ("succeeded", 1), ("redelivered", 0), ("wait_unknown", 1)):
            assert story.series(f"celery_task_{name}_total") == {SLOW: number}, name
        assert story.moved("celery_exporter_disorder_total") == {}
        assert story.moved("celery_tasks_in_flight") == {}

    def test_and_no_longer_than_that(self, story: Story) -> None:
        story.succeeded("a")
        story.wait(PATIENCE)
        assert story.moved("celery_task_succeeded_total") == {("unknown", "unknown"): 1}

    def test_a_task_whose_life_we_hear_whole_does_not_wait(self, story: Story) -> None:
        story.sent("a", queue="slow")
        story.run("a")
        assert story.moved("celery_task_succeeded_total") == {SLOW: 1}

    def test_answers_to_a_question_from_before_we_listened_are_not_taken_over(self, story: Story) -> None:
        lists(story, held("a"), asked_at=story.now.elapsed - 1)
        assert story.moved("celery_tasks_in_flight") == {}
        lists(story, held("a"))
        assert story.moved("celery_tasks_in_flight") == {(*SLOW, "started"): 1}

    def test_a_task_that_was_sent_and_taken_in_between_keeps_its_labels(self, story: Story) -> None:
        story.sent("a", queue="fast")
        lists(story, held("a", Stage.RESERVED))
        assert story.moved("celery_tasks_in_flight") == {("app.work", "fast", "sent"): 1}
        story.run("a")
        assert story.moved("celery_task_succeeded_total") == {("app.work", "fast"): 1}


class TestAfterAGap:
    def deaf(self, story: Story) -> None:
        story.tracker.hearing.lost(story.now.elapsed)
        story.wait(10)
        story.listen()

    def test_a_task_that_was_started_meanwhile_ends_in_order(self, story: Story) -> None:
        story.sent("a", queue="slow")
        story.received("a")
        self.deaf(story)
        lists(story, held("a", at=EPOCH + 3))
        assert story.moved("celery_tasks_in_flight") == {(*SLOW, "started"): 1}
        story.succeeded("a")
        assert story.moved("celery_task_succeeded_total") == {SLOW: 1}
        assert story.moved("celery_exporter_disorder_total") == {}

    def test_a_task_that_was_received_and_started_meanwhile_is_known_from_its_sending(self, story: Story) -> None:
        story.sent("a", queue="slow")
        self.deaf(story)
        lists(story, held("a", at=EPOCH + 3, queue=None))
        story.succeeded("a")
        assert story.moved("celery_task_succeeded_total") == {SLOW: 1}

    def test_a_task_that_ended_meanwhile_is_closed(self, story: Story) -> None:
        story.sent("a", queue="slow")
        story.received("a")
        story.started("a")
        self.deaf(story)
        lists(story)
        story.wait(4)
        assert story.moved("celery_tasks_in_flight") == {(*SLOW, "started"): 1}
        story.wait(2)
        assert story.moved("celery_tasks_in_flight") == {}
        assert story.value("celery_exporter_tracked_tasks_evicted_total", "no_end") == 1

    def test_a_start_of_which_nothing_was_known_gets_its_name_for_its_end(self) -> None:
        story = Story()  # nothing waits for inspection
        story.listen()
        story.started("a")
        lists(story, held("a"))
        story.succeeded("a")
        assert story.moved("celery_task_started_total") == {("unknown", "unknown"): 1}
        assert story.moved("celery_task_succeeded_total") == {SLOW: 1}
        assert story.moved("celery_tasks_in_flight") == {}

    def test_a_queue_that_events_left_open_stays_unknown(self, story: Story) -> None:
        story.wait(PATIENCE)
        story.received("a")
        story.wait(61)
        story.started("a")
        lists(story, held("a"))
        story.succeeded("a")
        assert story.moved("celery_task_succeeded_total") == {("app.work", "unknown"): 1}


class TestWhatOnlyInspectionTells:
    def test_it_is_forgotten_when_two_answers_do_not_tell_of_it(self, story: Story) -> None:
        lists(story, held("a", Stage.RESERVED), held("b", Stage.RESERVED))
        lists(story, held("b", Stage.RESERVED))
        assert story.moved("celery_tasks_in_flight") == {(*SLOW, "received"): 2}
        lists(story, held("b", Stage.RESERVED))
        assert story.moved("celery_tasks_in_flight") == {(*SLOW, "received"): 1}

    def test_not_where_a_token_bucket_may_have_it(self, story: Story) -> None:
        limits = {"app.work": 0.1}
        lists(story, held("a", Stage.SCHEDULED, at=EPOCH + 1), rate_limits=limits)
        for _ in range(5):
            story.wait(30)
            lists(story, rate_limits=limits)
        assert story.moved("celery_tasks_in_flight") == {(*SLOW, "received"): 1}
