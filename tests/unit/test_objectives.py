"""What is expected of tasks and queues: which table applies, what is judged, and what it costs."""

import random
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from celeryscope.metrics.catalog import WAIT_BUCKETS
from celeryscope.naming import NameRules, Rename
from celeryscope.objectives import ByName, Objectives, QueueObjectives, TaskObjectives
from support.story import EPOCH, Story
from unit.test_tracker_fuzz import Cluster

ONE = ("app.work", "fast")
SLO_METRICS = (
    "celery_slo_tasks_total", "celery_slo_good_tasks_total", "celery_slo_objective_ratio",
    "celery_slo_threshold_seconds",
)  # fmt: skip


def expecting(
    tasks: dict[str, TaskObjectives] | None = None, queues: dict[str, QueueObjectives] | None = None, **settings: Any
) -> Story:
    return Story(objectives=Objectives(ByName(tasks or {}), ByName(queues or {})), **settings)


def judged(story: Story, slo: str, pair: tuple[str, ...] = ONE) -> tuple[float, float]:
    """Return how many were good, and of how many."""
    return story.value("celery_slo_good_tasks_total", *pair, slo), story.value("celery_slo_tasks_total", *pair, slo)


class TestWhichTable:
    def test_the_exact_name_wins_then_the_first_that_fits(self) -> None:
        named = ByName({"app.*": 1, "app.mail.*": 2, "app.mail.send": 3, "*.x": 4})
        assert [named.get(name) for name in ("app.mail.send", "app.mail.fetch", "other.x", "else")] == [3, 1, 4, None]

    def test_only_the_asterisk_is_special(self) -> None:
        named = ByName({"a.b*[c]?": 1})
        assert named.get("a.b-anything-[c]?") == 1
        assert named.get("aXb[c]?") is None
        assert named.get("a.b[c]") is None

    @pytest.mark.parametrize(
        ("name", "fits"), [("a.b.c", True), ("a.b.b.c", True), ("a.bc", True), ("a.c", False), ("a.b.cd", False)]
    )
    def test_several_asterisks(self, name: str, fits: bool) -> None:
        assert (ByName({"a*b*c": 1}).get(name) == 1) is fits

    @pytest.mark.timeout(5)
    def test_no_name_takes_a_glob_of_many_asterisks_long(self) -> None:
        assert ByName({f"{'*a' * 12}*b": 1}).get("a" * 200) is None

    def test_a_glob_does_not_fit_what_is_no_name(self) -> None:
        story = expecting(
            {"*": TaskObjectives(success_ratio=0.9)}, task_names=NameRules(exclude=(re.compile("app.noise"),))
        )
        story.run("a")
        story.run("b", name="app.noise")
        story.started("c")
        assert {labels[0] for labels in story.series("celery_slo_tasks_total")} == {"app.work"}

    def test_a_table_is_found_by_the_name_that_is_shown(self) -> None:
        renaming = NameRules((Rename(re.compile(r"_\d+$"), "_N"),))
        story = expecting({"proj.task_N": TaskObjectives(success_ratio=0.9)}, task_names=renaming)
        story.run("a", name="proj.task_1")
        story.run("b", name="proj.task_2")
        assert judged(story, "success", ("proj.task_N", "unknown")) == (2, 2)


class TestSuccess:
    @pytest.fixture
    def story(self) -> Story:
        return expecting({"app.work": TaskObjectives(success_ratio=0.999)})

    def test_a_success_is_good_a_failure_and_an_expiry_are_not(self, story: Story) -> None:
        for uuid in "abc":
            story.sent(uuid)
        story.run("a")
        story.received("b")
        story.started("b")
        story.failed("b")
        story.revoked("c", expired=True)
        assert judged(story, "success") == (1, 3)
        assert story.value("celery_slo_objective_ratio", *ONE, "success") == 0.999
        assert story.series("celery_slo_threshold_seconds") == {}

    def test_what_was_retried_or_revoked_by_hand_is_not_judged(self, story: Story) -> None:
        for uuid in "abc":
            story.sent(uuid)
            story.received(uuid)
        story.started("a")
        story.retried("a")
        story.revoked("b")
        story.started("c")
        story.revoked("c", terminated=True)
        assert judged(story, "success") == (0, 0)

    def test_an_end_that_is_told_twice_is_judged_once(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.failed("a")
        story.failed("a")
        assert judged(story, "success") == (0, 1)

    def test_a_retry_that_succeeds_is_one_good_task(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.retried("a")
        story.sent("a", retries=1)
        story.received("a", retries=1)
        story.started("a")
        story.succeeded("a")
        assert judged(story, "success") == (1, 1)


class TestWait:
    @pytest.fixture
    def story(self) -> Story:
        return expecting({"app.work": TaskObjectives(wait=7.0, wait_ratio=0.95)})

    def test_the_threshold_itself_is_good_although_it_is_no_bucket(self, story: Story) -> None:
        for uuid, wait in (("a", 6.999), ("b", 7.0), ("c", 7.001)):
            story.sent(uuid, at=0)
            story.received(uuid, at=wait)
            story.started(uuid, at=wait)
        assert 7.0 not in WAIT_BUCKETS
        assert judged(story, "wait") == (2, 3)
        assert story.value("celery_slo_objective_ratio", *ONE, "wait") == 0.95
        assert story.value("celery_slo_threshold_seconds", *ONE, "wait") == 7.0

    def test_the_wait_for_an_eta_is_not_held_against_it(self, story: Story) -> None:
        eta = datetime.fromtimestamp(EPOCH + 60, UTC).isoformat()
        story.sent("a", eta=eta)
        story.received("a", eta=eta)
        story.wait(62)
        story.started("a")
        assert judged(story, "wait") == (1, 1)

    def test_a_wait_that_is_not_known_is_not_judged(self, story: Story) -> None:
        story.run("a")
        assert judged(story, "wait", ("app.work", "unknown")) == (0, 0)

    def test_a_second_start_is_not_judged_again(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.wait(60)
        story.received("a", hostname="celery@two")
        story.started("a", hostname="celery@two")
        assert judged(story, "wait") == (1, 1)


class TestRuntime:
    @pytest.fixture
    def story(self) -> Story:
        return expecting({"app.work": TaskObjectives(runtime=1.5)})

    def test_what_succeeded_is_judged_by_the_threshold_itself(self, story: Story) -> None:
        for uuid, runtime in (("a", 1.4), ("b", 1.5), ("c", 1.50001)):
            story.sent(uuid)
            story.received(uuid)
            story.started(uuid)
            story.succeeded(uuid, runtime=runtime)
        assert judged(story, "runtime") == (2, 3)
        assert story.value("celery_slo_objective_ratio", *ONE, "runtime") == 0.99
        assert story.value("celery_slo_threshold_seconds", *ONE, "runtime") == 1.5

    def test_failures_and_unknown_runtimes_are_not_judged(self, story: Story) -> None:
        story.sent("a")
        story.received("a")
        story.started("a")
        story.failed("a")
        story.sent("b")
        story.succeeded("b", runtime=None)
        assert judged(story, "runtime") == (0, 0)


class TestLifeOfTheSeries:
    ALL = TaskObjectives(success_ratio=0.99, wait=60.0, runtime=5.0)

    def test_all_of_a_pair_are_born_together_at_zero(self) -> None:
        story = expecting({"app.work": self.ALL})
        story.sent("a")
        for name in SLO_METRICS[:2]:
            assert story.series(name) == {(*ONE, slo): 0 for slo in ("success", "wait", "runtime")}

    def test_they_are_forgotten_with_it_and_begin_anew(self) -> None:
        story = expecting({"app.work": self.ALL}, pair_retention=600)
        story.sent("a")
        story.run("a")
        story.wait(800)
        assert [story.series(name) for name in SLO_METRICS] == [{}, {}, {}, {}]
        story.sent("b")
        assert judged(story, "success") == (0, 0)
        story.run("b")
        assert judged(story, "success") == (1, 1)

    def test_there_are_none_where_nothing_is_asked_for(self) -> None:
        story = expecting({"app.work": TaskObjectives(expected_interval=60.0)})
        story.sent("a")
        story.run("a")
        assert [story.series(name) for name in SLO_METRICS] == [{}, {}, {}, {}]
        assert story.tracker._pairs.get(*ONE).slos is None

    def test_a_task_that_only_succeeds_costs_at_most_60_series_and_eleven_more_with_all_objectives(self) -> None:
        costs = []
        for story in (Story(), expecting({"app.work": self.ALL})):
            story.heartbeat()
            story.inspect(queues=("fast", "slow"))
            story.tracker.refresh(story.now)
            before = story.store.samples - 2  # the queues' objectives: one of them is this task's
            story.sent("a")
            story.received("a")
            story.inspect(accepted={"app.work": 1})
            story.started("a")
            story.succeeded("a")
            story.tracker.refresh(story.now)
            costs.append(story.store.samples - before - 1)
        assert costs[0] <= 60
        assert costs[1] == costs[0] + 11

    def test_a_pair_that_does_not_fit_with_its_objectives_is_folded_as_a_whole(self) -> None:
        story = expecting({"*": self.ALL}, series_limit=2_000)
        for number in range(50):
            story.sent(f"a{number}", name=f"app.t{number}")
            story.run(f"a{number}", name=f"app.t{number}")
        shown = {task for task, _ in story.series("celery_task_started_total")} - {"__overflow__"}
        for name in SLO_METRICS[:3]:
            assert {labels[0] for labels in story.series(name)} == shown
        assert story.store.samples <= 2_000
        assert "celery_slo_tasks_total" not in {
            labels[0] for labels in story.series("celery_exporter_series_dropped_total")
        }

    @pytest.mark.parametrize("seed", range(4))
    def test_in_chaos_they_agree_with_the_counters_beside_them(self, seed: int) -> None:
        story = expecting({"*": TaskObjectives(success_ratio=0.9, wait=10.0, runtime=0.5)})
        story.listen()
        cluster = Cluster(story, random.Random(seed))
        for _ in range(200):
            cluster.step()
        for labels in story.series("celery_task_started_total"):
            if "unknown" in labels[0]:
                continue
            good, tasks = judged(story, "success", labels)
            value = {name: story.value(f"celery_task_{name}_total", *labels) for name in ("succeeded", "failed")}
            assert good == value["succeeded"]
            expired = story.value("celery_task_revoked_total", *labels, "expired")
            assert tasks == value["succeeded"] + value["failed"] + expired
            assert judged(story, "wait", labels)[1] == (story.value("celery_task_wait_seconds", *labels) or (0, 0))[0]
            runtimes = story.value("celery_task_runtime_seconds", *labels, "succeeded") or (0, 0)
            assert judged(story, "runtime", labels)[1] == runtimes[0]


class TestBuckets:
    def test_a_task_has_its_own_and_the_others_the_common_ones(self) -> None:
        own = TaskObjectives(runtime_buckets=(1.0, 2.0), wait_buckets=(60.0,))
        story = expecting({"app.work": own}, runtime_buckets=(0.5,))
        for name in ("app.work", "app.other"):
            story.sent(name, name=name)
            story.run(name, name=name)
        bounds = {
            (family.spec.name, histogram.labels[0]): histogram.bounds
            for family in story.store.snapshot()
            for histogram in family.histograms
        }
        assert bounds["celery_task_runtime_seconds", "app.work"] == (1.0, 2.0)
        assert bounds["celery_task_wait_seconds", "app.work"] == (60.0,)
        assert bounds["celery_task_runtime_seconds", "app.other"] == (0.5,)
        assert len(bounds["celery_task_wait_seconds", "app.other"]) == 14


class TestQueues:
    NAME = "celery_queue_wait_objective_seconds"

    def test_every_queue_that_is_known_has_one(self) -> None:
        story = expecting(
            {}, {"slow.*": QueueObjectives(allowed_wait=7_200.0), "named": QueueObjectives(allowed_wait=60.0)}
        )
        story.sent("a")
        story.sent("b", queue="slow.one")
        story.inspect(queues=("slow.two", "idle"))
        assert story.series(self.NAME) == {
            ("fast",): 900.0, ("idle",): 900.0, ("named",): 60.0, ("slow.one",): 7_200.0, ("slow.two",): 7_200.0,
        }  # fmt: skip

    def test_it_disappears_with_its_queue_but_for_what_is_named(self) -> None:
        story = expecting(
            {}, {"named": QueueObjectives()}, pair_retention=600, worker_retention=300, queue_wait_objective=30.0
        )
        story.sent("a")
        story.run("a")
        story.heartbeat()
        story.inspect(queues=("fast", "idle"))
        assert story.series(self.NAME) == {("fast",): 30.0, ("idle",): 30.0, ("named",): 30.0}
        story.heartbeat(kind="worker-offline")
        story.wait(400)
        assert story.series(self.NAME) == {("fast",): 30.0, ("named",): 30.0}
        story.wait(400)
        assert story.series(self.NAME) == {("named",): 30.0}

    def test_what_is_no_queue_has_none(self) -> None:
        story = expecting({}, {"*": QueueObjectives()}, queue_names=NameRules(exclude=(re.compile("private"),)))
        story.run("a")
        story.sent("b", queue="private")
        story.inspect(queues=("private",))
        assert story.series(self.NAME) == {}


class TestExpectedInterval:
    NAME = "celery_task_expected_interval_seconds"

    def test_is_configured_or_of_the_beat_schedule_and_what_is_configured_wins(self) -> None:
        story = expecting(
            {
                "report.daily": TaskObjectives(expected_interval=90_000.0),
                "sync.*": TaskObjectives(expected_interval=600.0),
                "app.work": TaskObjectives(success_ratio=0.9),
            },
            beat_intervals={"report.daily": 86_400.0, "app.work": 30.0, "sync.users": 60.0},
        )
        assert story.series(self.NAME) == {("report.daily",): 90_000.0, ("app.work",): 30.0, ("sync.users",): 600.0}

    def test_a_glob_asks_of_the_tasks_that_are_known(self) -> None:
        story = expecting({"sync.*": TaskObjectives(expected_interval=600.0)}, pair_retention=600)
        assert story.series(self.NAME) == {}
        story.run("a", name="sync.users")
        assert story.series(self.NAME) == {("sync.users",): 600.0}
        story.wait(800)
        assert story.series(self.NAME) == {}

    def test_of_several_tasks_of_one_label_the_least_counts_and_what_is_kept_out_has_none(self) -> None:
        shown = NameRules((Rename(re.compile(r"\d+"), "N"),), exclude=(re.compile("noise"),))
        story = Story(task_names=shown, beat_intervals={"t1": 60.0, "t2": 30.0, "t3": 90.0, "noise": 5.0})
        assert story.series(self.NAME) == {("tN",): 30.0}
