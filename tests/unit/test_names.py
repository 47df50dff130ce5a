"""Names as metrics show them: rewritten, kept out, bounded; and events matched by names as they came."""

import re
from collections import Counter
from typing import Any

import pytest

from celeryscope.metrics import catalog
from celeryscope.naming import NameRules, Rename
from celeryscope.tracker import labels
from celeryscope.tracker.labels import Labels
from support.story import Story
from unit.test_cluster_fuzz import BOUNDS, FATES, Checks, Cluster

LIFECYCLE = ("sent", "received", "started", "succeeded", "failed", "retried", "cancelled", "redelivered")


def rules(*renames: tuple[str, str], include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> NameRules:
    return NameRules(
        tuple(Rename(re.compile(pattern), replacement) for pattern, replacement in renames),
        tuple(map(re.compile, include)),
        tuple(map(re.compile, exclude)),
    )


#: Shows tasks of app as one; and tells by its label a task that was looked up by a label instead of by its name.
FOLDING = rules((r"^app\.any$", "taken for its label"), (r"^app\.(?!work$).*$", "app.any"))


def folding(**settings: Any) -> Story:
    """A story in which all tasks of app but app.work are shown as one."""
    return Story(task_names=FOLDING, **settings)


def counts(story: Story, *pair: str) -> dict[str, float]:
    values = {name: story.value(f"celery_task_{name}_total", *pair) for name in LIFECYCLE}
    return {name: value for name, value in values.items() if value}


class TestRules:
    def test_rewriting_replaces_every_match_in_order_and_knows_groups(self) -> None:
        rewriting = rules((r"\d+", "N"), (r"^(\w+)\.legacy\.(.*)$", r"\1.\2"))
        assert rewriting.apply("proj.legacy.task_12_34") == "proj.task_N_N"

    def test_what_is_kept_is_judged_by_the_whole_rewritten_name(self) -> None:
        chosen = rules((r"\d+", "N"), include=(r"proj\.task_N", "mail"))
        assert chosen.apply("proj.task_7") == "proj.task_N"
        assert chosen.apply("mail") == "mail"
        assert chosen.apply("mail.send") is None

    def test_what_is_kept_out_beats_what_is_kept(self) -> None:
        chosen = rules(include=(r"proj\..*",), exclude=(r".*\.noise",))
        assert chosen.apply("proj.work") == "proj.work"
        assert chosen.apply("proj.noise") is None

    def test_a_name_of_which_nothing_is_left_is_kept_out(self) -> None:
        assert rules((".*", "")).apply("proj.work") is None

    def test_what_matches_nothing_is_rewritten_but_not_right_behind_a_match(self) -> None:
        assert rules((".*", "all")).apply("proj.work") == "all"
        assert rules(("[0-9]*$", "N")).apply("proj.work_12") == "proj.work_N"
        assert rules(("^", "shop.")).apply("proj.work") == "shop.proj.work"

    def test_labels_of_no_name_stay_unknown_and_results_are_clean(self) -> None:
        shown = Labels(rules((r"^x$", "a\x00b"), exclude=("noise",)))
        assert [shown.of(name) for name in (None, "", "x", "noise", "y")] == [
            *("unknown", "unknown", "a\N{REPLACEMENT CHARACTER}b", "other", "y")
        ]

    def test_an_expression_runs_once_per_name_and_the_results_have_a_bound(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(labels, "MAX_CACHED_NAMES", 10)
        asked: Counter[str] = Counter()

        class Counting(NameRules):
            def apply(self, name: str) -> str | None:
                asked[name] += 1
                return super().apply(name)

        shown = Labels(Counting(exclude=(re.compile("noise"),)))
        for _ in range(50):
            shown.of("one")
        assert asked == {"one": 1}
        for number in range(1_000):
            assert shown.of(f"name-{number}") == f"name-{number}"
            assert len(shown._known) <= 10

    def test_no_expression_sees_more_of_a_name_than_a_label_holds(self) -> None:
        assert Labels(rules((r"x+$", ""))).of("y" + "x" * 1_000_000) == "y"


class TestShown:
    def test_what_is_kept_out_is_counted_as_other_so_that_totals_stay_true(self) -> None:
        story = Story(task_names=rules(exclude=(r"app\.noise.*",)), queue_names=rules(include=("fast",)))
        for number, name in enumerate(("app.work", "app.noise1", "app.noise2")):
            story.sent(f"a{number}", name=name)
            story.run(f"a{number}", name=name)
        story.sent("b", queue="slow")
        story.run("b")
        assert counts(story, "app.work", "fast")["succeeded"] == 1
        assert counts(story, "other", "fast")["succeeded"] == 2
        assert counts(story, "app.work", "other")["succeeded"] == 1
        assert sum(story.series("celery_task_started_total").values()) == 4

    def test_the_only_queue_of_a_worker_follows_the_rules_too(self) -> None:
        story = Story(queue_names=rules(exclude=("private",)))
        story.inspect(queues=("private",))
        story.run("a")
        assert counts(story, "app.work", "other")["succeeded"] == 1

    def test_accepted_tasks_add_up_where_several_names_share_a_label(self) -> None:
        story = folding()
        story.inspect(accepted={"app.one": 5, "app.two": 7, "app.work": 1})
        story.inspect(accepted={"app.one": 8, "app.two": 11, "app.work": 1})
        assert story.series("celery_task_accepted_total") == {("app.any",): 7, ("app.work",): 0}

    def test_unknown_is_no_name_and_never_kept_out(self) -> None:
        story = Story(task_names=rules(include=("app",)), queue_names=rules(include=("fast",)))
        story.started("a")
        assert counts(story, "unknown", "unknown") == {"started": 1}

    def test_tasks_of_one_label_are_forgotten_together_and_born_again(self) -> None:
        story = folding(pair_retention=600)
        for number, name in enumerate(("app.one", "app.two")):
            story.sent(f"a{number}", name=name)
            story.run(f"a{number}", name=name)
        story.wait(800)
        assert story.series("celery_task_started_total") == {}
        story.sent("b", name="app.two")
        story.run("b", name="app.two")
        assert counts(story, "app.any", "fast") == {"sent": 1, "received": 1, "started": 1, "succeeded": 1}


class TestMatching:
    """Two tasks share a label; which attempt an event belongs to is told by their own names."""

    def test_a_replacement_by_a_task_of_the_same_label_begins_a_new_life(self) -> None:
        story = folding()
        story.sent("a", name="app.one")
        story.received("a", name="app.one")
        story.started("a")
        story.sent("a", name="app.two")
        story.received("a", name="app.two")
        story.started("a")
        story.succeeded("a")
        assert counts(story, "app.any", "fast") == {"sent": 2, "received": 2, "started": 2, "succeeded": 1}
        assert story.moved("celery_tasks_in_flight") == {}
        assert story.value("celery_exporter_tracked_tasks_evicted_total", "no_end") == 1

    def test_of_two_published_under_one_uuid_a_receipt_takes_the_one_of_its_name(self) -> None:
        story = folding()
        story.sent("a", name="app.one")
        story.sent("a", name="app.two", at=2)
        story.received("a", name="app.two")
        story.started("a", at=5)
        assert story.value("celery_task_wait_seconds", "app.any", "fast") == (1, 3.0)

    def test_a_retry_that_is_replaced_is_not_taken_for_an_earlier_attempt(self) -> None:
        story = folding()
        story.sent("a", name="app.one", retries=1)
        story.received("a", name="app.one", retries=1)
        story.started("a")
        story.sent("a", name="app.two")
        story.received("a", name="app.two")
        assert story.moved("celery_tasks_in_flight") == {("app.any", "fast", "received"): 1}

    def test_a_task_that_is_sent_anew_under_its_uuid_begins_a_new_life(self) -> None:
        story = folding()
        story.sent("a", name="app.one")
        story.run("a", name="app.one")
        story.sent("a", name="app.one")
        story.received("a", name="app.one")
        assert story.moved("celery_tasks_in_flight") == {("app.any", "fast", "received"): 1}

    def test_a_retry_takes_the_name_of_the_attempt_that_was_published(self) -> None:
        story = folding()
        story.sent("a", name="app.one")
        story.received("a", name="shown as this", retries=1)
        story.wait(1)
        assert {task for task, _ in story.series("celery_task_started_total")} == {"app.any"}

    def test_a_copy_dropped_as_not_registered_leaves_the_run_alone_whatever_its_shadow(self) -> None:
        story = folding()
        story.sent("a", name="app.one")
        story.received("a", name="shown as this")
        story.started("a")
        story.failed("a", "NotRegistered('app.one')", hostname="celery@two")
        assert story.moved("celery_tasks_in_flight") == {("app.any", "fast", "started"): 1}

    def test_a_retry_stays_under_the_label(self) -> None:
        story = folding()
        story.sent("a", name="app.one")
        story.received("a", name="app.one")
        story.started("a")
        story.retried("a")
        story.received("a", name="app.one", retries=1)
        story.started("a")
        story.succeeded("a")
        story.wait(1)
        assert sum(story.series("celery_task_started_total").values()) == 2
        assert counts(story, "app.any", "unknown") == {"received": 1, "started": 1, "succeeded": 1}
        assert {task for task, _ in story.series("celery_task_started_total")} == {"app.any"}

    def test_a_retry_that_expires_unreceived_stays_under_the_label(self) -> None:
        story = folding()
        story.sent("a", name="app.one")
        story.received("a", name="app.one")
        story.started("a")
        story.retried("a")
        story.revoked("a", expired=True)
        assert story.value("celery_task_revoked_total", "app.any", "unknown", "expired") == 1

    def test_a_shadow_is_no_other_task(self) -> None:
        story = folding()
        story.sent("a", name="app.one")
        story.received("a", name="shown as this")
        story.started("a")
        story.retried("a")
        story.received("a", name="shown as this", retries=1)
        assert {task for task, _ in story.series("celery_task_started_total")} == {"app.any"}

    def test_a_name_that_a_worker_does_not_know_is_compared_as_it_came(self) -> None:
        story = folding()
        story.sent("a", name="app.one")
        story.received("a", name="app.one")
        story.started("a")
        story.failed("a", "NotRegistered('app.two')", hostname="celery@two")
        assert counts(story, "app.any", "fast") == {"sent": 1, "received": 1, "started": 1, "failed": 1}

    def test_a_silent_task_is_told_from_another_of_its_label(self) -> None:
        story = folding()
        story.sent("a", name="app.one")
        story.sent("b", name="app.two")
        story.inspect(silent_tasks=frozenset({"app.one"}))
        assert story.moved("celery_tasks_in_flight") == {("app.any", "fast", "sent"): 1}

    def test_a_name_longer_than_a_label_is_still_itself(self) -> None:
        story = Story()
        name = "app." + "x" * 300
        story.sent("a", name=name)
        story.run("a", name=name)
        assert counts(story, name[:200], "fast") == {"sent": 1, "received": 1, "started": 1, "succeeded": 1}

    @pytest.mark.parametrize("seed", range(8))
    def test_the_numbers_of_a_cluster_are_the_same_whatever_its_tasks_are_called(self, seed: int) -> None:
        fates = ("retries", "replaced", "succeeds", "delivered twice", "unregistered", "expires") if seed % 2 else FATES

        def told(task_names: NameRules) -> Counter[tuple[str, ...]]:
            cluster = Cluster(seed, fates=fates, task_names=task_names, **BOUNDS)
            check = Checks(cluster, BOUNDS)
            for number in range(400):
                cluster.random.choice((cluster.begin, cluster.live, cluster.live))()
                cluster.deliver()
                if number % 20 == 0:
                    cluster.sleep(0.1)
                check()
            cluster.flush()
            cluster.sleep(200)
            numbers: Counter[tuple[str, ...]] = Counter()
            for family in cluster.story.store.snapshot():
                if "task" in family.spec.labels:
                    for value in family.values:
                        numbers[family.spec.name, *value.labels[1:]] += int(value.value)
                    for histogram in family.histograms:
                        numbers[family.spec.name, *histogram.labels[1:]] += sum(histogram.counts)
                elif family.spec in (catalog.EXPORTER_DISORDER, catalog.EXPORTER_EVICTED):
                    numbers.update({(family.spec.name, *one.labels): int(one.value) for one in family.values})
            return Counter({key: number for key, number in numbers.items() if number and "timestamp" not in key[0]})

        assert told(rules(("^any$", "taken for its label"), ("^(app|shown).*$", "any"))) == told(NameRules())


class TestBudget:
    def test_20000_made_up_names_stay_within_it_and_known_tasks_go_on(self) -> None:
        story = Story(series_limit=20_000)
        story.sent("a")
        story.run("a")
        for number in range(20_000):
            story.received(f"uuid-{number}", name=f"made.up.{number}")
            story.started(f"uuid-{number}")
            story.failed(f"uuid-{number}", f"Made{number}Up('x')")
        story.wait(1)
        story.inspect(accepted={f"made.up.{number}": 1 for number in range(20_000)}, uptime=0.0)
        assert story.store.samples <= 20_000
        series = story.series("celery_task_failed_total")
        folded = series["__overflow__", "__overflow__"]
        assert sum(series.values()) == 20_000
        assert story.value("celery_exporter_series_dropped_total", "celery_task_failed_total") == folded > 0
        assert story.value("celery_exporter_series_dropped_total", "celery_task_accepted_total") > 0
        assert sum(story.series("celery_task_accepted_total").values()) == 20_000
        known = ("app.work", "fast")
        story.sent("b")
        story.received("b")
        story.started("b")
        story.failed("b", "NeverSeenBefore('x')")
        story.sent("c")
        story.received("c")
        story.started("c")
        story.retried("c", "AnotherNewOne('x')")
        assert counts(story, *known) == {
            "sent": 3, "received": 3, "started": 3, "succeeded": 1, "failed": 1, "retried": 1,
        }  # fmt: skip
        assert story.value("celery_task_exceptions_total", *known, "NeverSeenBefore", "failed") == 1
        assert story.value("celery_task_exceptions_total", *known, "AnotherNewOne", "retried") == 1
        assert {labels[2] for labels in story.series("celery_task_runtime_seconds") if labels[:2] == known} == {
            *("succeeded", "failed", "retried")
        }

    def test_what_has_no_room_is_looked_for_again_once_there_is(self) -> None:
        story = Story(series_limit=1_000, pair_retention=600)
        for number in range(20):
            story.sent(f"a{number}", name=f"made.up.{number}")
            story.run(f"a{number}", name=f"made.up.{number}")
        assert ("made.up.19", "fast") not in story.series("celery_task_started_total")
        story.wait(800)
        story.sent("b", name="made.up.19")
        assert story.value("celery_task_sent_total", "made.up.19", "fast") == 1

    def test_a_retry_of_what_was_folded_is_folded_too(self) -> None:
        story = Story(series_limit=600)
        for number in range(30):
            story.sent(f"a{number}", name=f"made.up.{number}")
        story.received("a29", name="made.up.29")
        story.started("a29")
        story.retried("a29")
        story.wait(800)
        story.revoked("a29", expired=True)
        assert {labels for labels in story.series("celery_task_started_total") if "__overflow__" in labels} == {
            ("__overflow__", "__overflow__")
        }

    def test_limiters_are_bounded(self) -> None:
        story = Story()
        story.run("a")
        for number in range(60):
            story.deliver(story.event("task-rate-limited", uuid="a", limiter=f"api{number}", limit=5))
        assert len(story.series("celery_rate_limiter_limit")) == 51
        assert story.value("celery_task_rate_limited_total", "app.work", "unknown", "other") == 10

    def test_names_of_one_label_do_not_grow_without_bound(self) -> None:
        story = Story(task_names=rules((r"_\d+$", "_N")))
        for number in range(30_000):
            story.tracker._pairs.get(f"proj.task_{number}", "fast")
        assert len(story.tracker._pairs._by_names) <= 20_010
        assert story.series("celery_task_sent_total") == {("proj.task_N", "fast"): 0}
