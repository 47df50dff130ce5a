"""What polls of the broker tell of queues: absent where it is not known, gone where it is too old."""

import re
from typing import Any

import pytest

from celeryscope.metrics.catalog import BY_NAME
from celeryscope.naming import NameRules
from celeryscope.objectives import ByName, Objectives, QueueObjectives
from celeryscope.readings import Head, QueueReading
from celeryscope.tracker.pairs import MAX_QUEUE_NAMES
from support.story import EPOCH, WORKER, Story

STALE = 120.0  # seconds: the default of poll_stale_after
OTHER = "celery@two"
OLDEST = "celery_queue_oldest_task_timestamp_seconds"
POLLED = [name for name in BY_NAME if name.startswith("celery_queue_") and "objective" not in name]
BROKER = [
    name
    for name in BY_NAME
    if name.startswith("celery_broker_") and name not in {"celery_broker_up", "celery_broker_info"}
]


@pytest.fixture
def story() -> Story:
    return Story()


def queue(
    name: str = "fast", length: int | None = 3, head: str | None = None, size: int = 700, **facts: Any
) -> QueueReading:
    return QueueReading(name, length=length, head=Head(head, size) if head else None, **facts)


def excluding(pattern: str) -> Story:
    return Story(queue_names=NameRules((), (), (re.compile(pattern),)))


def oldest(story: Story, name: str = "fast") -> float | None:
    """Seconds since the story began."""
    value = story.value(OLDEST, name)
    return None if value is None else value - EPOCH


def shown(story: Story, names: list[str]) -> set[str]:
    return {name for name in names if story.series(name)}


class TestWhatIsTold:
    def test_every_fact_of_a_queue_has_its_gauge(self, story: Story) -> None:
        facts: dict[str, Any] = {"unacked": 4, "delayed": 5, "consumers": 6, "bytes": 7000}
        story.poll(queue(length=3, by_priority={0: 1, 9: 2}, **facts))
        for name, value in {**facts, "length": 3}.items():
            assert story.series(f"celery_queue_{name}") == {("fast",): value}
        assert story.series("celery_queue_priority_length") == {("fast", "0"): 1, ("fast", "9"): 2}

    def test_what_is_not_told_is_absent(self, story: Story) -> None:
        story.poll(QueueReading("fast"))
        assert shown(story, POLLED) == set()
        assert shown(story, BROKER) == set()

    def test_an_empty_queue_has_a_length_of_zero(self, story: Story) -> None:
        story.poll(queue(length=0))
        assert story.value("celery_queue_length", "fast") == 0

    def test_a_fact_that_is_told_no_more_goes(self, story: Story) -> None:
        story.poll(queue(by_priority={0: 1, 9: 2}, unacked=1, head="a"), memory_max=10)
        story.poll(queue(by_priority={0: 3}))
        assert story.series("celery_queue_priority_length") == {("fast", "0"): 3}
        assert shown(story, [*POLLED, *BROKER]) == {"celery_queue_length", "celery_queue_priority_length"}

    def test_a_queue_that_is_gone_goes(self, story: Story) -> None:
        story.poll(queue("fast"), queue("slow"))
        story.poll(queue("slow"))
        assert story.series("celery_queue_length") == {("slow",): 3}
        assert story.series("celery_queue_wait_objective_seconds") == {("slow",): 900}

    def test_a_queue_that_is_polled_has_an_objective(self) -> None:
        story = Story(objectives=Objectives(queues=ByName({"slow*": QueueObjectives(allowed_wait=60.0)})))
        story.poll(queue("fast"), queue("slow-1"))
        assert story.series("celery_queue_wait_objective_seconds") == {("fast",): 900, ("slow-1",): 60}

    def test_the_broker_has_its_gauges(self, story: Story) -> None:
        story.poll(
            memory_used=10,
            memory_max=20,
            evicted_keys=3,
            eviction_policy="allkeys-lru",
            alarms={"memory": True, "disk": False},
            oldest_unacked=EPOCH - 60,
            visibility_timeout=3600.0,
        )
        assert story.series("celery_broker_memory_used_bytes") == {(): 10}
        assert story.series("celery_broker_memory_max_bytes") == {(): 20}
        assert story.series("celery_broker_evicted_keys_total") == {(): 3}
        assert story.series("celery_broker_eviction_policy_info") == {("allkeys-lru",): 1}
        assert story.series("celery_broker_alarm") == {("memory",): 1, ("disk",): 0}
        assert story.series("celery_broker_oldest_unacked_timestamp_seconds") == {(): EPOCH - 60}
        assert story.series("celery_broker_visibility_timeout_seconds") == {(): 3600}

    def test_another_eviction_policy_takes_the_place_of_the_one_before(self, story: Story) -> None:
        story.poll(eviction_policy="allkeys-lru")
        story.poll(eviction_policy="noeviction")
        assert story.series("celery_broker_eviction_policy_info") == {("noeviction",): 1}

    def test_a_server_that_was_restarted_counts_evictions_anew(self, story: Story) -> None:
        story.poll(evicted_keys=30)
        story.poll(evicted_keys=1)
        assert story.value("celery_broker_evicted_keys_total") == 1


class TestSharedLabels:
    def test_what_can_be_added_is_added(self) -> None:
        story = excluding("p.*")
        story.poll(
            queue("p1", 3, by_priority={0: 1, 3: 2}, bytes=10, unacked=1),
            queue("p2", 4, by_priority={0: 4}, bytes=20),
            queue("fast", 5),
        )
        assert story.series("celery_queue_length") == {("other",): 7, ("fast",): 5}
        assert story.series("celery_queue_priority_length") == {("other", "0"): 5, ("other", "3"): 2}
        assert story.series("celery_queue_bytes") == {("other",): 30}
        assert story.series("celery_queue_unacked") == {("other",): 1}

    def test_the_oldest_task_and_the_largest_head_are_shown(self) -> None:
        story = excluding("p.*")
        story.sent("a", queue="p1")
        story.wait(10)
        story.sent("b", queue="p2")
        story.poll(queue("p2", head="b", size=900), queue("p1", head="a", size=100))
        assert oldest(story, "other") == 0
        assert story.value("celery_queue_head_message_bytes", "other") == 900

    def test_a_worker_of_two_of_them_is_one_worker(self) -> None:
        story = excluding("p.*")
        story.heartbeat()
        story.inspect(queues=("p1", "p2", "fast"), concurrency=4)
        assert story.series("celery_queue_workers") == {("other",): 1, ("fast",): 1}
        assert story.series("celery_queue_concurrency") == {("other",): 4, ("fast",): 4}


class TestOldestTask:
    def test_the_task_that_is_next_was_due_when_it_was_sent(self, story: Story) -> None:
        story.wait(5)
        story.sent("a")
        story.wait(60)
        story.poll(queue(head="a"))
        assert oldest(story) == 5

    def test_with_an_eta_it_is_due_then(self, story: Story) -> None:
        story.sent("a", eta="2023-11-14T22:14:20+00:00")  # 60 s after the story began
        story.poll(queue(head="a"))
        assert oldest(story) == 60

    def test_with_an_eta_it_is_due_then_without_task_sent_too(self, story: Story) -> None:
        for _ in range(2):
            story.poll(QueueReading("fast", length=1, head=Head("a", 100, eta=EPOCH + 60)))
            story.wait(15)
        assert oldest(story) == 60

    def test_without_task_sent_it_has_waited_at_least_since_it_was_first_seen_there(self, story: Story) -> None:
        story.wait(30)
        story.poll(queue(head="a"))
        story.wait(15)
        story.poll(queue(head="a"))
        assert oldest(story) == 30
        story.poll(queue(head="b"))
        assert oldest(story) == 45

    def test_each_queue_has_its_own(self, story: Story) -> None:
        story.poll(queue("fast", head="a"))
        story.wait(15)
        story.poll(queue("fast", head="a"), queue("slow", head="b"))
        assert (oldest(story, "fast"), oldest(story, "slow")) == (0, 15)

    def test_a_poll_that_failed_in_between_does_not_make_it_younger(self, story: Story) -> None:
        story.poll(queue(head="a"))
        story.wait(STALE + 60)
        assert oldest(story) is None
        story.poll(queue(head="a"))
        assert oldest(story) == 0

    def test_a_task_sent_event_that_comes_later_tells_better(self, story: Story) -> None:
        story.wait(30)
        story.poll(queue(head="a"))
        story.sent("a", at=10)
        story.poll(queue(head="a"))
        assert oldest(story) == 10

    def test_what_was_known_of_it_stays_known(self) -> None:
        story = Story(max_sent_tasks=1)
        story.sent("a")
        story.wait(30)
        story.poll(queue(head="a"))
        story.sent("b")  # for which "a" gives way
        story.poll(queue(head="a"))
        assert oldest(story) == 0

    def test_an_empty_queue_has_none(self, story: Story) -> None:
        story.poll(queue(head="a"))
        story.poll(queue(length=0))
        assert story.series(OLDEST) == {}
        story.poll(queue(length=0, head="a"))  # taken between two questions of one poll
        assert story.series(OLDEST) == {}
        assert story.series("celery_queue_head_message_bytes") == {}

    def test_a_task_that_comes_back_to_the_head_has_not_waited_meanwhile(self, story: Story) -> None:
        story.poll(queue(head="a"))
        story.wait(15)
        story.poll(queue(length=0))
        story.wait(15)
        story.poll(queue(head="a"))
        assert oldest(story) == 30

    def test_a_head_that_is_no_tasks_tells_nothing_of_age(self, story: Story) -> None:
        story.poll(QueueReading("fast", length=1, head=Head(None, 5)))
        assert story.series(OLDEST) == {}
        assert story.value("celery_queue_head_message_bytes", "fast") == 5

    def test_a_task_that_was_given_back_is_as_old_as_it_was(self, story: Story) -> None:
        story.sent("a")
        story.wait(20)
        story.received("a")
        story.rejected("a", requeue=True)
        story.wait(20)
        story.poll(queue(head="a"))
        assert oldest(story) == 0

    def test_the_retry_of_a_task_is_not_as_old_as_the_task(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.wait(100)
        story.sent("a", retries=1)
        story.retried("a")
        story.poll(queue(head="a"))
        assert oldest(story) == 100

    def test_nor_is_a_retry_of_which_no_event_tells(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.wait(100)
        story.poll(queue(head="a"))
        assert oldest(story) == 100

    def test_an_eta_without_a_time_zone_is_not_compared(self, story: Story) -> None:
        story.sent("a", eta="2023-11-14T22:14:20")
        story.wait(30)
        story.poll(queue(head="a"))
        assert oldest(story) == 30


class TestWorkersOfAQueue:
    def test_every_known_queue_has_workers_and_concurrency_zero_included(self) -> None:
        tables = Objectives(queues=ByName({"tabled": QueueObjectives(), "any*": QueueObjectives()}))
        story = Story(queues=("named",), objectives=tables)
        story.sent("a", queue="evented")
        story.poll(queue("polled"))
        story.heartbeat()
        story.inspect(queues=("fast", "polled"), concurrency=4)
        none = {(name,): 0 for name in ("named", "tabled", "evented")}
        assert story.series("celery_queue_workers") == {**none, ("fast",): 1, ("polled",): 1}
        assert story.series("celery_queue_concurrency") == {**none, ("fast",): 4, ("polled",): 4}

    def test_a_worker_that_beats_and_never_told_may_consume_any_queue(self, story: Story) -> None:
        story.poll(queue("slow"))
        story.heartbeat()
        story.inspect(queues=("fast",), concurrency=4)
        for _ in range(6):
            story.heartbeat(hostname=OTHER)
            story.inspect(queues=("fast",), concurrency=4)
            story.wait(2)
        assert story.series("celery_queue_workers") == {("fast",): 1}
        assert story.series("celery_queue_concurrency") == {("fast",): 4}
        story.inspect(OTHER, queues=(), concurrency=4)
        assert story.series("celery_queue_workers") == {("fast",): 1, ("slow",): 0}

    def test_one_that_ends_as_soon_as_it_has_begun_hides_no_zero(self, story: Story) -> None:
        story.poll(queue("slow"))
        for pid in range(1, 31):
            story.heartbeat(hostname=OTHER, pid=pid)
            story.wait(2)
            story.tracker.apply([], story.now)
            assert story.series("celery_queue_workers") == {("slow",): 0}

    def test_they_add_up(self, story: Story) -> None:
        for name, slots in ((WORKER, 4), (OTHER, 8)):
            story.heartbeat(hostname=name)
            story.inspect(name, queues=("fast",), concurrency=slots)
        assert story.value("celery_queue_workers", "fast") == 2
        assert story.value("celery_queue_concurrency", "fast") == 12

    def test_who_they_are_is_told_for_as_long_as_they_count(self, story: Story) -> None:
        for name in (WORKER, OTHER):
            story.heartbeat(hostname=name)
            story.inspect(name, queues=("fast", "slow"), concurrency=4)
        story.inspect(OTHER, queues=("fast",), concurrency=4)
        assert story.series("celery_queue_worker_info") == {
            ("fast", WORKER): 1,
            ("slow", WORKER): 1,
            ("fast", OTHER): 1,
        }
        story.heartbeat(kind="worker-offline", hostname=OTHER)
        assert story.series("celery_queue_worker_info") == {("fast", WORKER): 1, ("slow", WORKER): 1}

    def test_nothing_is_told_before_the_workers_were_polled(self, story: Story) -> None:
        story.poll(queue())
        story.heartbeat()
        assert story.series("celery_queue_workers") == {}
        assert story.series("celery_queue_concurrency") == {}

    def test_where_nobody_answers_there_are_none(self, story: Story) -> None:
        story.poll(queue())
        story.tracker.apply([], story.now)
        assert story.series("celery_queue_workers") == {("fast",): 0}
        assert story.series("celery_queue_concurrency") == {("fast",): 0}

    def test_a_worker_that_left_does_not_count(self, story: Story) -> None:
        story.heartbeat()
        story.inspect(queues=("fast",), concurrency=4)
        story.heartbeat(kind="worker-offline")
        assert story.series("celery_queue_workers") == {("fast",): 0}
        assert story.series("celery_queue_concurrency") == {("fast",): 0}

    def test_nor_does_one_that_was_lost(self, story: Story) -> None:
        story.listen()
        story.heartbeat()
        story.inspect(queues=("fast",), concurrency=4)
        for _ in range(5):
            story.wait(10)
            story.canary()
            story.tracker.apply([], story.now)
        assert story.value("celery_worker_up", WORKER) == 0
        assert story.series("celery_queue_workers") == {("fast",): 0}

    def test_a_busy_solo_worker_keeps_its_queues(self, story: Story) -> None:
        story.listen()
        story.heartbeat()
        story.inspect(queues=("fast",), concurrency=1, pool="solo")
        for _ in range(30):
            story.wait(30)
            story.canary()
            story.tracker.apply([], story.now)
        assert story.series("celery_queue_workers") == {("fast",): 1}
        assert story.series("celery_queue_concurrency") == {("fast",): 1}

    def test_a_worker_without_heartbeats_counts(self, story: Story) -> None:
        story.inspect(queues=("fast",), concurrency=2)
        assert story.series("celery_queue_workers") == {("fast",): 1}

    def test_a_worker_that_consumes_no_more_does_not_count(self, story: Story) -> None:
        story.poll(queue())
        story.heartbeat()
        story.inspect(queues=("fast",), concurrency=4)
        story.inspect(queues=(), concurrency=4)
        assert story.series("celery_queue_workers") == {("fast",): 0}

    def test_a_concurrency_that_is_not_known_is_not_added(self, story: Story) -> None:
        story.heartbeat()
        story.inspect(queues=("fast",), concurrency=4)
        story.heartbeat(hostname=OTHER)
        story.inspect(OTHER, queues=("fast", "slow"))
        assert story.series("celery_queue_workers") == {("fast",): 2, ("slow",): 1}
        assert story.series("celery_queue_concurrency") == {}


class TestStaleness:
    def test_without_a_new_poll_gauges_of_queues_and_broker_go_and_leave_no_zero(self, story: Story) -> None:
        full: dict[str, Any] = {"unacked": 1, "delayed": 1, "consumers": 1, "bytes": 1, "by_priority": {0: 3}}
        story.poll(queue(head="a", **full), memory_used=1, memory_max=2, evicted_keys=3, eviction_policy="noeviction")
        before = shown(story, [*POLLED, *BROKER])
        assert len(before) == 12
        story.wait(STALE)
        assert shown(story, [*POLLED, *BROKER]) == before
        story.wait(0.25)
        assert shown(story, [*POLLED, *BROKER]) == set()
        assert story.series("celery_queue_wait_objective_seconds") == {}

    def test_they_come_back_with_the_next_poll(self, story: Story) -> None:
        story.poll(queue())
        story.wait(10 * STALE)
        assert story.series("celery_queue_length") == {}
        story.poll(queue(length=1))
        assert story.series("celery_queue_length") == {("fast",): 1}

    def test_polls_of_the_broker_and_of_the_workers_go_stale_each_for_itself(self, story: Story) -> None:
        story.heartbeat()
        story.inspect(queues=("fast",), concurrency=4)
        story.poll(queue())
        for _ in range(2):
            story.wait(STALE - 10)
            story.poll(queue())
        assert story.series("celery_queue_length") == {("fast",): 3}
        assert story.series("celery_queue_workers") == {}
        assert story.series("celery_queue_concurrency") == {}
        story.tracker.apply([], story.now)
        story.wait(STALE - 10)
        story.tracker.apply([], story.now)
        story.wait(20)
        assert story.series("celery_queue_length") == {}
        assert story.series("celery_queue_workers") == {("fast",): 1}

    def test_it_can_be_set(self) -> None:
        story = Story(poll_stale_after=5.0)
        story.poll(queue())
        story.wait(6)
        assert story.series("celery_queue_length") == {}


class TestKnownQueues:
    def test_from_configuration_workers_and_events(self) -> None:
        tables = Objectives(queues=ByName({"tabled": QueueObjectives(), "any*": QueueObjectives()}))
        story = Story(queues=("named",), objectives=tables)
        story.sent("a", queue="evented")
        story.sent("b", queue=None, exchange="topic", routing_key="somewhere")
        story.inspect(queues=("consumed",))
        story.poll(queue("polled", 0))
        assert story.tracker.known_queues() == {"named", "tabled", "evented", "consumed"}

    def test_a_backlog_is_asked_for_when_those_who_named_its_queue_are_long_gone(self) -> None:
        story = Story(worker_retention=600.0)
        story.heartbeat()
        story.inspect(queues=("fast", "slow"), concurrency=4)
        story.poll(queue("fast"), queue("slow", 0))
        story.heartbeat(kind="worker-offline")
        story.wait(700)
        assert story.tracker.known_queues() == {"fast"}
        story.poll(queue("fast"))
        story.tracker.apply([], story.now)
        assert story.series("celery_queue_workers") == {("fast",): 0}
        story.poll(queue("fast", 0))
        assert story.tracker.known_queues() == set()

    def test_names_are_as_events_tell_them(self) -> None:
        story = excluding(".*private")
        story.sent("a", queue="one.private")
        assert story.tracker.known_queues() == {"one.private"}

    def test_those_of_events_go_with_their_tasks(self) -> None:
        story = Story(pair_retention=600.0)
        story.sent("a", queue="once")
        story.run("a")
        story.wait(300)
        story.sent("b", queue="often")
        story.run("b")
        story.wait(400)
        assert story.tracker.known_queues() == {"often"}

    def test_they_are_bounded(self, story: Story) -> None:
        for number in range(MAX_QUEUE_NAMES + 50):
            story.sent(str(number), queue=f"queue-{number}")
        assert len(story.tracker.known_queues()) == MAX_QUEUE_NAMES

    def test_a_full_series_budget_hides_no_queue_from_the_polls(self) -> None:
        story = Story(series_limit=100)
        for number in range(5):
            story.sent(str(number), queue=f"queue-{number}")
        assert len(story.tracker.known_queues()) == 5

    def test_a_name_of_a_megabyte_is_none(self, story: Story) -> None:
        story.sent("a", queue="x" * 2**20)
        assert story.tracker.known_queues() == set()
