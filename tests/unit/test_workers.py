"""What the tracker makes of workers: up, left or lost, restarts, orphans, events that are off or lost."""

from typing import Any

import pytest

from celeryscope.readings import RunningReading
from celeryscope.tracker import workers
from support.story import EPOCH, Story

W = "celery@one"
ONE = ("app.work", "fast")


@pytest.fixture
def story() -> Story:
    """A story in which we listen."""
    story = Story()
    story.listen()
    return story


def beat(story: Story, seconds: float, processed: int = 0) -> None:
    """Let a worker beat every 2 s, and a canary come back every 10 s."""
    for number in range(int(seconds / 2)):
        story.heartbeat(processed=processed)
        if number % 5 == 0:
            story.canary()
        story.wait(2)


def silence(story: Story, seconds: float) -> None:
    """Let time pass in which only canaries are heard."""
    for _ in range(int(seconds / 10)):
        story.wait(10)
        story.canary()


def test_a_heartbeat_tells_what_the_worker_does(story: Story) -> None:
    story.wait(5)
    story.heartbeat(processed=7, active=2)
    assert story.value("celery_worker_up", W) == 1
    assert story.value("celery_worker_tasks_active", W) == 2
    assert story.value("celery_worker_tasks_processed_total", W) == 7
    assert story.value("celery_worker_load1", W) == 0.5
    assert story.value("celery_worker_last_heartbeat_timestamp_seconds", W) == EPOCH + 5
    assert story.value("celery_worker_info", W, "5.7.0", "py-celery", "Linux", "") == 1
    for counter in ("restarts", "lost", "events_lost"):
        assert story.value(f"celery_worker_{counter}_total", W) == 0


def test_two_workers_of_one_host_stay_two(story: Story) -> None:
    story.heartbeat(hostname="one@host")
    story.heartbeat(hostname="two@host")
    assert story.series("celery_worker_up") == {("one@host",): 1, ("two@host",): 1}


def test_inspection_tells_what_heartbeats_do_not(story: Story) -> None:
    story.heartbeat()
    story.inspect(pool="prefork", concurrency=4, processes=4, prefetch=16, uptime=60.0, memory_max_bytes=1024)
    assert story.value("celery_worker_info", W, "5.7.0", "py-celery", "Linux", "prefork") == 1
    assert len(story.series("celery_worker_info")) == 1
    assert story.value("celery_worker_concurrency", W) == 4
    assert story.value("celery_worker_prefetch_limit", W) == 16
    assert story.value("celery_worker_start_time_seconds", W) == EPOCH - 60
    assert story.value("celery_worker_main_process_resident_memory_max_bytes", W) == 1024


class TestLoss:
    def test_silence_while_we_provably_hear_is_a_loss(self, story: Story) -> None:
        beat(story, 10)
        silence(story, 40)
        assert story.value("celery_worker_up", W) == 0
        assert story.value("celery_worker_lost_total", W) == 1
        assert story.value("celery_worker_tasks_active", W) is None

    def test_silence_without_a_canary_proves_nothing(self, story: Story) -> None:
        beat(story, 10)
        story.wait(600)
        assert story.value("celery_worker_up", W) == 1
        assert story.value("celery_worker_lost_total", W) == 0

    def test_a_canary_proves_only_what_was_published_before_it(self, story: Story) -> None:
        # The exporter was stopped for 10 minutes: canary and heartbeats lie in the socket, in order.
        beat(story, 10)
        story.canary(travels=600)
        assert story.value("celery_worker_lost_total", W) == 0

    def test_silence_is_counted_from_when_the_connection_was_opened(self, story: Story) -> None:
        beat(story, 10)
        story.tracker.hearing.lost(story.now.elapsed)
        story.wait(600)
        story.listen()
        story.canary()
        story.wait(1)
        assert story.value("celery_worker_up", W) == 1

    def test_a_worker_that_beats_again_is_up_again(self, story: Story) -> None:
        beat(story, 10)
        silence(story, 40)
        story.heartbeat()
        assert story.value("celery_worker_up", W) == 1
        assert story.value("celery_worker_lost_total", W) == 1
        assert story.value("celery_worker_restarts_total", W) == 0

    def test_its_task_events_are_a_sign_of_life_too(self, story: Story) -> None:
        beat(story, 4)
        for number in range(10):
            story.run(f"u{number}")
            story.wait(10)
            story.canary()
        assert story.value("celery_worker_up", W) == 1

    def test_a_solo_worker_may_be_silent_for_an_hour(self, story: Story) -> None:
        story.heartbeat()
        story.inspect(pool="solo")
        silence(story, 3000)
        assert story.value("celery_worker_up", W) == 1
        silence(story, 700)
        assert story.value("celery_worker_up", W) == 0

    def test_what_a_solo_worker_runs_is_not_known_while_it_is_silent(self, story: Story) -> None:
        story.heartbeat(active=0)
        story.inspect(pool="solo")
        assert story.value("celery_worker_tasks_active", W) == 0
        story.wait(10)
        story.tracker.apply([], story.now)
        assert story.series("celery_worker_tasks_active") == {}
        story.heartbeat(active=0)
        assert story.value("celery_worker_tasks_active", W) == 0

    def test_a_solo_worker_that_is_busy_is_not_asked(self, story: Story) -> None:
        story.heartbeat()
        assert story.tracker.askable_workers(story.now) == [W]
        story.inspect(pool="solo")
        assert story.tracker.askable_workers(story.now) == [W]
        story.wait(5)
        assert story.tracker.askable_workers(story.now) == []


class TestLeaving:
    def test_a_worker_that_said_farewell_is_down_and_not_lost(self, story: Story) -> None:
        story.heartbeat()
        story.heartbeat(kind="worker-offline")
        assert story.value("celery_worker_up", W) == 0
        silence(story, 100)
        assert story.value("celery_worker_lost_total", W) == 0

    def test_its_series_disappear_after_the_retention_and_nothing_else_does(self) -> None:
        story = Story(worker_retention=600)
        story.listen()
        for worker in (W, "celery@one.more"):
            story.heartbeat(hostname=worker)
        story.sent("a")
        story.run("a")
        story.heartbeat(kind="worker-offline")
        for _ in range(61):
            story.heartbeat(hostname="celery@one.more")
            story.wait(10)
        assert story.series("celery_worker_up") == {("celery@one.more",): 1}
        assert story.value("celery_task_started_total", *ONE) == 1
        for family in story.store.snapshot():
            if family.spec.labels[:1] == ("worker",):
                labels = {sample.labels[0] for sample in family.values}
                assert labels <= {"celery@one.more"}, family.spec.name

    def test_ends_that_come_after_the_farewell_count(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.heartbeat(kind="worker-offline")
        story.wait(5)
        story.succeeded("a")
        assert story.value("celery_task_succeeded_total", *ONE) == 1
        assert story.value("celery_worker_up", W) == 0

    def test_a_stale_farewell_is_ignored(self, story: Story) -> None:
        story.heartbeat()
        story.wait(10)
        story.heartbeat()
        story.heartbeat(kind="worker-offline", at=5)
        assert story.value("celery_worker_up", W) == 1
        assert story.value("celery_exporter_disorder_total", "stale_offline") == 1


class TestOrphans:
    def begin(self, story: Story) -> None:
        story.heartbeat()
        story.sent("a")
        story.received("a")
        story.started("a")

    def test_a_task_started_on_a_lost_worker_is_one_after_an_hour(self, story: Story) -> None:
        self.begin(story)
        silence(story, 3500)
        assert story.value("celery_task_orphaned_total", *ONE) == 0
        silence(story, 300)
        assert story.value("celery_task_orphaned_total", *ONE) == 1
        assert story.moved("celery_tasks_in_flight") == {}

    def test_one_of_a_worker_that_came_back_as_another_process_is_one_too(self) -> None:
        story = Story(orphan_timeout=60)
        self.begin(story)
        story.heartbeat(pid=2, kind="worker-online")
        story.heartbeat(pid=2)
        story.wait(10)
        story.heartbeat(pid=2)
        assert story.value("celery_exporter_tracked_tasks_evicted_total", "no_end") == 0
        story.wait(60)
        assert story.value("celery_task_orphaned_total", *ONE) == 1

    def test_one_whose_worker_was_only_unreachable_is_none(self) -> None:
        story = Story(orphan_timeout=60)
        story.listen()
        self.begin(story)
        silence(story, 50)
        for _ in range(60):
            story.heartbeat(active=1, processed=1)
            story.wait(2)
        assert story.value("celery_worker_lost_total", W) == 1
        assert story.value("celery_task_orphaned_total", *ONE) == 0
        story.succeeded("a")
        assert story.value("celery_task_succeeded_total", *ONE) == 1

    def test_one_that_was_started_again_elsewhere_is_redelivered_instead(self) -> None:
        story = Story(orphan_timeout=60)
        story.listen()
        self.begin(story)
        story.received("a", hostname="celery@two")
        story.started("a", hostname="celery@two")
        story.succeeded("a", hostname="celery@two")
        silence(story, 200)
        assert story.value("celery_task_orphaned_total", *ONE) == 0
        assert story.value("celery_task_redelivered_total", *ONE) == 1
        assert story.moved("celery_tasks_in_flight") == {}

    def test_one_that_was_started_again_after_its_worker_was_lost_ends_with_that_run(self) -> None:
        story = Story(orphan_timeout=3600)
        story.listen()
        self.begin(story)
        silence(story, 50)
        story.received("a", hostname="celery@two")
        story.started("a", hostname="celery@two")
        story.succeeded("a", hostname="celery@two")
        assert story.moved("celery_tasks_in_flight") == {}
        silence(story, 3700)
        assert story.value("celery_task_orphaned_total", *ONE) == 0

    def test_a_retry_on_the_same_worker_is_watched_although_its_retry_was_told_late(self) -> None:
        story = Story(orphan_timeout=60)
        story.listen()
        self.begin(story)
        story.sent("a", retries=1)
        story.received("a", retries=1)
        story.started("a")
        story.retried("a")
        silence(story, 200)
        assert story.value("celery_task_orphaned_total", *ONE) == 1

    def test_one_whose_start_we_hear_after_the_farewell_is_one_too(self) -> None:
        story = Story(orphan_timeout=60)
        story.sent("a")
        story.received("a")
        story.heartbeat(kind="worker-offline")
        story.started("a")
        story.wait(61)
        assert story.value("celery_task_orphaned_total", *ONE) == 1


class TestTasksWithoutAnEnd:
    def test_two_heartbeats_with_nothing_active_close_what_started_before(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.heartbeat(active=1, processed=1)
        story.wait(2)
        story.heartbeat(active=0, processed=1)
        assert story.value("celery_tasks_in_flight", *ONE, "started") == 1
        story.wait(2)
        story.heartbeat(active=0, processed=1)
        assert story.value("celery_tasks_in_flight", *ONE, "started") == 0
        assert story.value("celery_exporter_tracked_tasks_evicted_total", "no_end") == 1

    def test_every_pair_of_heartbeats_judges_anew(self, story: Story) -> None:
        for uuid in ("a", "b", "c"):
            story.sent(uuid)
            story.received(uuid)
            story.started(uuid)
            story.wait(1)
            story.heartbeat(active=0)
            story.wait(1)
        story.heartbeat(active=0)
        assert story.value("celery_tasks_in_flight", *ONE, "started") == 0

    def test_a_run_elsewhere_goes_on(self, story: Story) -> None:
        story.sent("a")
        for worker in (W, "celery@two"):
            story.received("a", hostname=worker)
            story.started("a", hostname=worker)
        for _ in range(5):
            story.wait(2)
            story.heartbeat(active=0, processed=1)
            story.heartbeat(active=1, processed=1, hostname="celery@two")
        assert story.value("celery_tasks_in_flight", *ONE, "started") == 1
        assert story.value("celery_exporter_tracked_tasks_evicted_total", "no_end") == 1

    def test_an_end_that_comes_later_still_counts(self, story: Story) -> None:
        self.test_two_heartbeats_with_nothing_active_close_what_started_before(story)
        story.succeeded("a")
        assert story.value("celery_task_succeeded_total", *ONE) == 1

    def test_what_started_after_the_first_of_them_is_left_alone(self, story: Story) -> None:
        story.heartbeat(active=0)
        story.wait(1)
        story.sent("a")
        story.received("a")
        story.started("a")
        story.wait(1)
        story.heartbeat(active=0)
        assert story.value("celery_tasks_in_flight", *ONE, "started") == 1

    def test_an_answer_closes_what_it_leaves_out_and_nothing_else(self, story: Story) -> None:
        for uuid in ("ends", "runs", "has no end"):
            story.sent(uuid)
            story.received(uuid)
            story.started(uuid)
        story.wait(1)
        story.started("late", at=story.seconds)
        story.tracker.apply_running([RunningReading(W, story.now.elapsed, frozenset({"runs"}))], story.now)
        story.succeeded("ends")
        story.wait(6)
        assert story.moved("celery_tasks_in_flight") == {(*ONE, "started"): 1, ("unknown", "unknown", "started"): 1}
        assert story.value("celery_exporter_tracked_tasks_evicted_total", "no_end") == 1

    def test_a_worker_that_runs_fewer_than_we_know_is_asked_now_and_then(self, story: Story) -> None:
        for uuid in ("a", "b", "c"):
            story.started(uuid)
        story.heartbeat(active=3)
        story.wait(2)
        story.heartbeat(active=2)
        assert story.tracker.workers_to_look_at(story.now) == []
        story.wait(2)
        story.heartbeat(active=2)
        assert story.tracker.workers_to_look_at(story.now) == [W]
        assert story.tracker.workers_to_look_at(story.now) == []
        story.wait(5)
        assert story.tracker.workers_to_look_at(story.now) == [W]
        story.heartbeat(active=3)
        story.wait(5)
        assert story.tracker.workers_to_look_at(story.now) == []

    def test_what_was_started_after_a_heartbeat_is_not_missed_in_it(self, story: Story) -> None:
        story.started("a")
        for _ in range(5):
            story.wait(2)
            story.heartbeat(active=1, at=story.seconds)
            story.started(f"at {story.seconds}", at=story.seconds + 0.5)
            story.succeeded(f"at {story.seconds}")
            assert story.tracker.workers_to_look_at(story.now) == []


class TestAnswers:
    GAUGES = (
        "celery_worker_concurrency",
        "celery_worker_processes",
        "celery_worker_prefetch_limit",
        "celery_worker_main_process_resident_memory_max_bytes",
        "celery_worker_tasks_reserved",
        "celery_worker_tasks_scheduled",
    )

    def answer(self, story: Story, **facts: Any) -> None:
        told: dict[str, Any] = {
            "concurrency": 4,
            "processes": 4,
            "prefetch": 20,
            "memory_max_bytes": 1024,
            "reserved": 3,
            "scheduled": 4,
        }
        story.inspect(**told | {"running": frozenset(), "asked_at": story.now.elapsed} | facts)

    def shown(self, story: Story) -> set[str]:
        return {name for name in self.GAUGES if story.value(name, W) is not None}

    def test_what_is_not_told_any_more_disappears(self, story: Story) -> None:
        beat(story, 2)
        self.answer(story, cpu_user=1.0)
        assert story.value("celery_worker_tasks_reserved", W) == 3
        assert story.value("celery_worker_tasks_scheduled", W) == 4
        beat(story, 118)
        assert self.shown(story) == set(self.GAUGES)
        beat(story, 4)
        assert self.shown(story) == set()
        assert story.value("celery_worker_main_process_cpu_seconds_total", W, "user") is None
        assert story.value("celery_worker_up", W) == 1
        self.answer(story)
        assert self.shown(story) == set(self.GAUGES)

    def test_a_busy_solo_worker_is_spared(self, story: Story) -> None:
        story.heartbeat()
        self.answer(story, pool="solo")
        silence(story, 600)
        assert self.shown(story) == set(self.GAUGES)
        story.heartbeat()
        assert self.shown(story) == set(self.GAUGES)

    def test_it_disappears_sooner_where_that_is_wanted(self) -> None:
        story = Story(poll_stale_after=10)
        self.answer(story)
        story.wait(11)
        assert self.shown(story) == set()

    def test_scheduled_tasks_that_are_not_listed_are_what_raises_the_prefetch(self, story: Story) -> None:
        self.answer(story, prefetch=20_016, reserved=None, scheduled=None)
        assert story.value("celery_worker_tasks_scheduled", W) == 20_000
        assert story.value("celery_worker_tasks_reserved", W) is None

    def test_a_clock_that_was_set_back_is_no_restart(self, story: Story) -> None:
        story.listen()
        self.answer(story, uptime=100.0, accepted={"app.work": 1_000})
        story.wait(30)
        self.answer(story, uptime=122.0, accepted={"app.work": 1_010})
        assert story.value("celery_task_accepted_total", "app.work") == 10
        assert story.moved("celery_worker_restarts_total") == {}
        story.wait(30)
        self.answer(story, uptime=20.0, accepted={"app.work": 5})
        assert story.value("celery_task_accepted_total", "app.work") == 15
        assert story.value("celery_worker_restarts_total", W) == 1

    def test_the_usual_prefetch_is_learned_from_what_was_listed(self, story: Story) -> None:
        for _ in range(2):
            self.answer(story, prefetch=44, scheduled=4)
        self.answer(story, prefetch=5_040, reserved=None, scheduled=None)
        assert story.value("celery_worker_tasks_scheduled", W) == 5_000

    def test_what_was_listed_while_tasks_came_teaches_nothing(self, story: Story) -> None:
        self.answer(story, prefetch=10, scheduled=0)
        self.answer(story, prefetch=110, scheduled=300)  # told some time after the prefetch
        self.answer(story, prefetch=5_010, reserved=None, scheduled=None)
        assert story.value("celery_worker_tasks_scheduled", W) == 5_000

    def test_without_a_limit_of_the_prefetch_neither_is_known(self, story: Story) -> None:
        self.answer(story, prefetch=0, reserved=None, scheduled=None)
        assert story.value("celery_worker_tasks_scheduled", W) is None

    def test_processes_that_took_the_place_of_others_are_counted(self, story: Story) -> None:
        counted = []
        for pids in ((1, 2), (1, 2), (1, 3), (4, 5), (4, 5, 6), (4,), (4, 7)):
            self.answer(story, pids=frozenset(pids))
            counted.append(story.value("celery_worker_child_replacements_total", W))
        assert counted == [0, 0, 1, 3, 3, 3, 3]

    def test_those_of_another_life_are_not(self, story: Story) -> None:
        self.answer(story, pids=frozenset({1, 2}))
        story.heartbeat(pid=1)
        story.heartbeat(pid=9)
        self.answer(story, pids=frozenset({3, 4}))
        assert story.value("celery_worker_child_replacements_total", W) == 0


class TestWorkersWithoutHeartbeats:
    def test_they_are_asked_for_as_long_as_they_answer(self, story: Story) -> None:
        story.inspect(running=frozenset({"a"}), asked_at=story.now.elapsed)
        assert story.value("celery_worker_up", W) is None
        assert story.value("celery_worker_tasks_active", W) == 1
        for _ in range(4):
            assert story.tracker.askable_workers(story.now) == [W]
            story.wait(60)
            story.inspect()
        story.wait(130)
        assert story.tracker.askable_workers(story.now) == []
        assert story.value("celery_worker_tasks_active", W) is None

    def test_names_that_only_events_tell_are_not_asked(self, story: Story) -> None:
        story.started("a", hostname="made@up")
        assert story.tracker.askable_workers(story.now) == []

    def test_what_inspection_told_of_them_stays_for_the_retention(self) -> None:
        story = Story(worker_retention=600)  # the monotonic clock began longer ago
        story.inspect(concurrency=4)
        story.wait(10)
        assert story.value("celery_worker_concurrency", W) == 4
        story.wait(700)
        assert story.value("celery_worker_concurrency", W) is None

    def test_an_answer_after_the_farewell_brings_no_capacity_back(self, story: Story) -> None:
        story.heartbeat()
        story.heartbeat(kind="worker-offline")
        story.inspect(concurrency=4)
        assert story.value("celery_worker_concurrency", W) is None


class TestRestarts:
    def test_another_pid_is_a_restart(self, story: Story) -> None:
        story.heartbeat(pid=1)
        story.heartbeat(pid=2)
        assert story.value("celery_worker_restarts_total", W) == 1

    def test_a_count_of_processed_tasks_that_fell_is_one(self, story: Story) -> None:
        story.heartbeat(processed=5)
        story.heartbeat(processed=0)
        assert story.value("celery_worker_restarts_total", W) == 1

    def test_an_uptime_that_shrank_is_one(self, story: Story) -> None:
        story.heartbeat()
        story.inspect(uptime=100.0)
        story.wait(30)
        story.inspect(uptime=131.0)
        assert story.value("celery_worker_restarts_total", W) == 0
        story.wait(30)
        story.inspect(uptime=10.0)
        assert story.value("celery_worker_restarts_total", W) == 1
        assert story.value("celery_worker_start_time_seconds", W) == EPOCH + 50

    def test_coming_online_again_after_a_broker_restart_is_none(self, story: Story) -> None:
        story.heartbeat(processed=5)
        story.heartbeat(processed=5, kind="worker-online")
        assert story.value("celery_worker_restarts_total", W) == 0

    def test_two_processes_under_one_name_are_told_and_do_not_restart_forever(self, story: Story) -> None:
        for _ in range(10):
            for pid in (1, 2):
                story.heartbeat(pid=pid)
        assert story.value("celery_worker_restarts_total", W) == 1
        assert story.value("celery_exporter_disorder_total", "duplicate_node_name") == 9


class TestTaskEvents:
    def test_whether_they_are_enabled_is_absent_until_known(self, story: Story) -> None:
        story.heartbeat()
        assert story.value("celery_worker_task_events_enabled", W) is None
        story.started("a")
        assert story.value("celery_worker_task_events_enabled", W) == 1

    def test_they_are_off_where_three_heartbeats_rose_without_any(self, story: Story) -> None:
        for processed in (5, 6, 7):
            story.heartbeat(processed=processed)
            story.wait(2)
        assert story.value("celery_worker_task_events_enabled", W) is None
        story.heartbeat(processed=8)
        assert story.value("celery_worker_task_events_enabled", W) == 0

    def test_an_idle_worker_leaves_it_open(self, story: Story) -> None:
        for _ in range(10):
            story.heartbeat(processed=5)
            story.wait(2)
        assert story.value("celery_worker_task_events_enabled", W) is None

    def test_accepted_totals_move_where_they_are_off(self, story: Story) -> None:
        story.inspect(accepted={"app.work": 100}, uptime=1000.0)
        assert story.value("celery_task_accepted_total", "app.work") == 0
        story.inspect(accepted={"app.work": 130}, uptime=1030.0)
        assert story.value("celery_task_accepted_total", "app.work") == 30

    def test_accepted_totals_of_a_worker_that_started_later_count_whole(self, story: Story) -> None:
        story.wait(100)
        story.inspect(accepted={"app.work": 12}, uptime=20.0)
        assert story.value("celery_task_accepted_total", "app.work") == 12


class TestLostEvents:
    def steady(self, story: Story, rounds: int, lose: int = 0) -> None:
        """Run 5 tasks between heartbeats, whose started events arrive a little after the heartbeat that counts them."""
        processed = getattr(self, "processed", 0)
        for number in range(rounds):
            started_at = story.seconds
            story.wait(2)
            processed += 5
            story.heartbeat(processed=processed)
            story.wait(0.1)
            for task in range(5 - (lose if number == 0 else 0)):
                story.started(f"{processed}-{task}", at=started_at + 1)
        self.processed = processed

    def test_none_is_counted_under_steady_load(self, story: Story) -> None:
        story.heartbeat(processed=0)
        self.steady(story, 20)
        assert story.value("celery_worker_events_lost_total", W) == 0

    def test_what_did_not_arrive_is_counted_once(self, story: Story) -> None:
        story.heartbeat(processed=0)
        self.steady(story, 3)
        self.steady(story, 6, lose=3)
        assert story.value("celery_worker_events_lost_total", W) == 3

    def test_a_task_accepted_between_the_two_readings_of_a_heartbeat_is_not_lost(self, story: Story) -> None:
        story.heartbeat(processed=0)
        for number in range(1, 10):
            story.wait(2)
            story.heartbeat(processed=number)
            story.started(f"u{number}", at=story.seconds + (0.001 if number % 3 else -1))
        assert story.value("celery_worker_events_lost_total", W) == 0

    def test_tasks_that_send_no_events_are_taken_out(self, story: Story) -> None:
        story.heartbeat(processed=0)
        story.inspect(silent_tasks=frozenset({"app.silent"}), accepted={"app.silent": 0})
        for number in range(1, 11):
            story.wait(2)
            story.started(f"u{number}", at=story.seconds - 1)
            story.heartbeat(processed=5 * number)  # 4 of 5 tasks are silent
            story.inspect(silent_tasks=frozenset({"app.silent"}), accepted={"app.silent": 4 * number})
        assert story.value("celery_worker_events_lost_total", W) == 0

    def test_none_is_counted_where_events_are_switched_off(self, story: Story) -> None:
        story.heartbeat(processed=0)
        self.steady(story, 3)
        for number in range(4, 10):
            story.wait(2)
            story.heartbeat(processed=5 * number)
        assert story.value("celery_worker_task_events_enabled", W) == 0
        assert story.value("celery_worker_events_lost_total", W) == 0


class TestHearing:
    def test_a_canary_tells_its_round_trip(self, story: Story) -> None:
        story.canary(travels=0.25)
        assert story.value("celery_exporter_canary_round_trip_seconds") == 0.25
        assert story.value("celery_exporter_canary_last_success_timestamp_seconds") == EPOCH + 0.25

    def test_anothers_canary_proves_nothing(self, story: Story) -> None:
        story.deliver(story.event("celeryscope-canary", id="foreign"))
        assert story.series("celery_exporter_canary_round_trip_seconds") == {}

    def test_time_without_a_connection_is_deaf(self, story: Story) -> None:
        story.canary()
        story.tracker.hearing.lost(story.now.elapsed)
        story.wait(20)
        story.listen()
        story.canary()
        story.wait(5)
        assert story.value("celery_exporter_deaf_seconds_total") == pytest.approx(20)

    def test_a_connection_that_hears_no_canary_is_deaf_since_the_last_one(self, story: Story) -> None:
        silence(story, 100)
        assert story.value("celery_exporter_deaf_seconds_total") == 0
        story.wait(100)
        assert story.value("celery_exporter_deaf_seconds_total") == pytest.approx(100)

    def test_canaries_that_do_not_come_back_call_for_a_new_subscription(self, story: Story) -> None:
        hearing = story.tracker.hearing
        for number in range(2):
            assert not hearing.has_missed(story.now.elapsed)
            hearing.canary_sent(str(number), story.now.elapsed)
            story.wait(15)
        assert hearing.has_missed(story.now.elapsed)
        story.canary()
        assert not hearing.has_missed(story.now.elapsed)

    def test_time_in_subscriptions_that_never_hear_one_is_deaf(self, story: Story) -> None:
        hearing = story.tracker.hearing
        hearing.lost(story.now.elapsed)
        for _ in range(10):
            story.listen()
            for number in range(2):
                hearing.canary_sent(str(number), story.now.elapsed)
                story.wait(15)
            assert hearing.has_missed(story.now.elapsed)
            hearing.lost(story.now.elapsed)
        assert story.value("celery_exporter_deaf_seconds_total") == pytest.approx(300)

    def test_one_that_could_not_be_published_is_not_waited_for(self, story: Story) -> None:
        hearing = story.tracker.hearing
        for number in range(5):
            hearing.canary_sent(str(number), story.now.elapsed)
            hearing.canary_failed(str(number))
            story.wait(15)
        assert not hearing.has_missed(story.now.elapsed)


class TestTooMany:
    def test_workers_that_are_gone_make_room_before_those_that_live(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workers, "MAX_WORKERS", 5)
        story = Story()
        for number in range(5):
            story.heartbeat(hostname=f"celery@{number}")
        story.heartbeat(hostname="celery@3", kind="worker-offline")
        story.heartbeat(hostname="celery@new")
        assert {labels[0] for labels in story.series("celery_worker_up")} == {
            *("celery@0", "celery@1", "celery@2", "celery@4", "celery@new")
        }

    def test_made_up_names_do_not_cost_those_that_live_their_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workers, "MAX_WORKERS", 50)
        story = Story()
        story.heartbeat(hostname="celery@real")
        for number in range(1_000):
            story.started(f"uuid-{number}", hostname=f"made@up{number}")
        assert story.value("celery_worker_up", "celery@real") == 1
        assert len(list(story.tracker._workers)) <= 50
