"""The store: births, budget, purge, and one instant per snapshot."""

import threading

import pytest

from celeryscope.metrics import catalog
from celeryscope.metrics.catalog import OVERFLOW, Kind, Spec
from celeryscope.metrics.store import FamilySnapshot, Labels, Store

COUNTER = Spec("celery_test_jobs_total", Kind.COUNTER, "Jobs.", ("task", "queue"))
GAUGE = Spec("celery_test_depth", Kind.GAUGE, "Depth.", ("queue",))
WORKER_GAUGE = Spec("celery_test_up", Kind.GAUGE, "Up.", ("worker",))
HISTOGRAM = Spec("celery_test_wait_seconds", Kind.HISTOGRAM, "Wait.", ("task", "queue"), (1.0, 5.0))
EXPORTER_COUNTER = Spec("celery_exporter_test_total", Kind.COUNTER, "Ours.", ("reason",))
SPECS = (
    COUNTER,
    HISTOGRAM,
    GAUGE,
    WORKER_GAUGE,
    EXPORTER_COUNTER,
    catalog.EXPORTER_SERIES,
    catalog.EXPORTER_SERIES_DROPPED,
)
HISTOGRAM_SAMPLES = 5  # two buckets, +Inf, sum, count


def store_of(series_limit: int = 1000) -> Store:
    return Store(SPECS, series_limit)


def family(store: Store, spec: Spec) -> FamilySnapshot | None:
    return next((family for family in store.snapshot() if family.spec is spec), None)


def values(store: Store, spec: Spec) -> dict[Labels, float]:
    found = family(store, spec)
    return {sample.labels: sample.value for sample in found.values} if found else {}


def exposed_samples(store: Store) -> int:
    return sum(
        len(family.values) + sum(len(histogram.counts) + 2 for histogram in family.histograms)
        for family in store.snapshot()
    )


class TestSeries:
    def test_a_series_is_born_at_0(self) -> None:
        store = store_of()
        store.cell(COUNTER, ("add", "celery"))
        assert values(store, COUNTER) == {("add", "celery"): 0.0}

    def test_a_histogram_is_born_empty(self) -> None:
        store = store_of()
        store.histogram(HISTOGRAM, ("add", "celery"))
        found = family(store, HISTOGRAM)
        assert found is not None
        assert [(sample.counts, sample.sum) for sample in found.histograms] == [((0, 0, 0), 0.0)]

    def test_a_metric_without_series_is_not_in_a_snapshot(self) -> None:
        assert [family.spec for family in store_of().snapshot()] == [catalog.EXPORTER_SERIES]

    def test_a_cell_is_found_again_and_counts_where_it_is_kept(self) -> None:
        store = store_of()
        cell = store.cell(COUNTER, ("add", "celery"))
        cell.value += 1
        store.increment(COUNTER, ("add", "celery"), 2)
        assert store.cell(COUNTER, ("add", "celery")) is cell
        assert values(store, COUNTER) == {("add", "celery"): 3.0}

    def test_a_gauge_is_what_it_was_last_set_to(self) -> None:
        store = store_of()
        store.set(GAUGE, ("celery",), 7.0)
        store.set(GAUGE, ("celery",), 3.0)
        assert values(store, GAUGE) == {("celery",): 3.0}

    def test_an_observation_falls_into_the_first_bucket_whose_bound_it_does_not_exceed(self) -> None:
        store = store_of()
        histogram = store.histogram(HISTOGRAM, ("add", "celery"))
        for value in (0.0, 1.0, 1.1, 5.0, 6.0):
            histogram.observe(value)
        assert histogram.counts == [2, 2, 1]
        assert histogram.sum == pytest.approx(13.1)

    def test_a_bucket_remembers_whose_observation_was_its_last(self) -> None:
        store = store_of()
        histogram = store.histogram(HISTOGRAM, ("add", "celery"))
        histogram.observe_with_exemplar(2.0, "first", 100.0)
        histogram.observe_with_exemplar(3.0, "second", 101.0)
        found = family(store, HISTOGRAM)
        assert found is not None
        assert found.histograms[0].exemplars == (None, ("second", 3.0, 101.0), None)

    def test_a_histogram_may_have_bounds_of_its_own(self) -> None:
        store = store_of()
        assert store.histogram(HISTOGRAM, ("add", "celery"), (0.5,)).bounds == (0.5,)
        assert store.histogram(HISTOGRAM, ("mul", "celery")).bounds == HISTOGRAM.buckets
        assert store.samples == 4 + HISTOGRAM_SAMPLES

    @pytest.mark.parametrize("labels", [(), ("add",), ("add", "celery", "more")])
    def test_a_label_count_that_is_not_the_metrics_raises(self, labels: Labels) -> None:
        store = store_of()
        with pytest.raises(ValueError, match="celery_test_jobs_total"):
            store.cell(COUNTER, labels)
        with pytest.raises(ValueError, match="celery_test_wait_seconds"):
            store.histogram(HISTOGRAM, labels)
        assert store.samples == 0


class TestRemoval:
    def test_purge_matches_values_exactly_and_not_their_beginning(self) -> None:
        store = store_of()
        for worker in ("w1", "w10", "w", "1w1"):
            store.set(WORKER_GAUGE, (worker,), 1.0)
        store.purge({"worker": "w1"})
        assert set(values(store, WORKER_GAUGE)) == {("w10",), ("w",), ("1w1",)}

    def test_purge_looks_at_the_label_and_not_at_any_value(self) -> None:
        store = store_of()
        store.cell(COUNTER, ("celery", "add"))
        store.cell(COUNTER, ("add", "celery"))
        store.purge({"queue": "celery"})
        assert set(values(store, COUNTER)) == {("celery", "add")}

    def test_purge_needs_every_label_given_and_spares_metrics_that_lack_one(self) -> None:
        store = store_of()
        store.cell(COUNTER, ("add", "celery"))
        store.cell(COUNTER, ("add", "other"))
        store.histogram(HISTOGRAM, ("add", "celery"))
        store.histogram(HISTOGRAM, ("add", "other"))
        store.set(GAUGE, ("celery",), 1.0)
        store.purge({"task": "add", "queue": "celery"})
        assert set(values(store, COUNTER)) == {("add", "other")}
        assert set(values(store, GAUGE)) == {("celery",)}
        found = family(store, HISTOGRAM)
        assert found is not None
        assert [sample.labels for sample in found.histograms] == [("add", "other")]

    def test_a_purged_series_is_born_again_at_0(self) -> None:
        store = store_of()
        store.increment(COUNTER, ("add", "celery"), 5)
        store.purge({"task": "add"})
        store.cell(COUNTER, ("add", "celery"))
        assert values(store, COUNTER) == {("add", "celery"): 0.0}

    def test_removing_and_clearing_forget_what_exists_and_bear_with_what_does_not(self) -> None:
        store = store_of()
        store.set(GAUGE, ("a",), 1.0)
        store.set(GAUGE, ("b",), 1.0)
        store.set(GAUGE, ("c",), 1.0)
        store.remove(GAUGE, ("a",))
        store.remove(GAUGE, ("a",))
        assert set(values(store, GAUGE)) == {("b",), ("c",)}
        store.clear(GAUGE)
        store.clear(GAUGE)
        assert values(store, GAUGE) == {}


class TestBudget:
    def test_counters_beyond_it_share_one_series_and_are_counted_as_dropped(self) -> None:
        store = store_of(series_limit=2)
        for task in ("a", "b", "c", "d"):
            store.increment(COUNTER, (task, "celery"))
        assert values(store, COUNTER) == {
            ("a", "celery"): 1.0,
            ("b", "celery"): 1.0,
            (OVERFLOW, OVERFLOW): 2.0,
        }
        assert values(store, catalog.EXPORTER_SERIES_DROPPED) == {(COUNTER.name,): 2.0}

    def test_histograms_beyond_it_share_one_series_and_are_counted_as_dropped(self) -> None:
        store = store_of(series_limit=HISTOGRAM_SAMPLES)
        for task in ("a", "b", "c"):
            store.histogram(HISTOGRAM, (task, "celery")).observe(0.5)
        found = family(store, HISTOGRAM)
        assert found is not None
        assert [(sample.labels, sample.counts) for sample in found.histograms] == [
            (("a", "celery"), (1, 0, 0)),
            ((OVERFLOW, OVERFLOW), (2, 0, 0)),
        ]
        assert values(store, catalog.EXPORTER_SERIES_DROPPED) == {(HISTOGRAM.name,): 2.0}

    def test_a_histogram_that_fits_only_in_part_does_not_fit(self) -> None:
        store = store_of(series_limit=HISTOGRAM_SAMPLES - 1)
        store.histogram(HISTOGRAM, ("a", "celery"))
        found = family(store, HISTOGRAM)
        assert found is not None
        assert [sample.labels for sample in found.histograms] == [(OVERFLOW, OVERFLOW)]

    def test_gauges_beyond_it_are_left_out_and_counted_as_dropped(self) -> None:
        store = store_of(series_limit=1)
        store.set(GAUGE, ("a",), 1.0)
        store.set(GAUGE, ("b",), 2.0)
        assert values(store, GAUGE) == {("a",): 1.0}
        assert values(store, catalog.EXPORTER_SERIES_DROPPED) == {(GAUGE.name,): 1.0}

    def test_series_that_exist_are_not_touched_by_a_budget_that_is_reached(self) -> None:
        store = store_of(series_limit=1)
        store.increment(COUNTER, ("a", "celery"))
        store.increment(COUNTER, ("b", "celery"))
        store.increment(COUNTER, ("a", "celery"))
        assert values(store, COUNTER)["a", "celery"] == 2.0

    def test_the_exporters_own_metrics_are_exempt(self) -> None:
        store = store_of(series_limit=0)
        store.increment(EXPORTER_COUNTER, ("json",))
        assert values(store, EXPORTER_COUNTER) == {("json",): 1.0}

    def test_room_that_a_purge_gives_back_is_used_again(self) -> None:
        store = store_of(series_limit=1)
        store.increment(COUNTER, ("a", "celery"))
        assert not store.has_room(1)
        store.purge({"task": "a"})
        assert store.has_room(1)
        store.increment(COUNTER, ("b", "celery"))
        assert values(store, COUNTER) == {("b", "celery"): 1.0}

    def test_the_sample_count_is_exact_through_births_removals_purges_and_overflow(self) -> None:
        store = store_of(series_limit=40)
        for index in range(6):
            task, queue = f"t{index}", f"q{index % 2}"
            store.cell(COUNTER, (task, queue))
            store.histogram(HISTOGRAM, (task, queue), (0.5,) if index % 2 else None)
            store.set(GAUGE, (queue,), 1.0)
            store.set(WORKER_GAUGE, (task,), 1.0)
        assert exposed_samples(store) == store.samples
        assert values(store, catalog.EXPORTER_SERIES_DROPPED)  # the budget was reached on the way
        store.purge({"queue": "q1"})
        store.remove(WORKER_GAUGE, ("t1",))
        store.remove(WORKER_GAUGE, ("t1",))
        store.clear(GAUGE)
        store.purge({"task": "nobody"})
        assert exposed_samples(store) == store.samples


class TestSnapshot:
    def test_families_stand_in_the_order_of_the_catalog(self) -> None:
        store = Store(catalog.ALL)
        for spec in reversed(catalog.ALL):
            if spec.kind is Kind.HISTOGRAM:
                store.histogram(spec, ("x",) * len(spec.labels))
            else:
                store.cell(spec, ("x",) * len(spec.labels))
        assert [family.spec for family in store.snapshot()] == list(catalog.ALL)

    def test_it_tells_how_many_samples_it_has_from_the_first_one_on(self) -> None:
        store = store_of()
        store.cell(COUNTER, ("a", "celery"))
        assert values(store, catalog.EXPORTER_SERIES) == {(): 2.0}
        assert values(store, catalog.EXPORTER_SERIES) == {(): 2.0}

    def test_it_is_a_copy_that_later_counts_do_not_change(self) -> None:
        store = store_of()
        store.increment(COUNTER, ("a", "celery"))
        store.histogram(HISTOGRAM, ("a", "celery")).observe(0.5)
        counter, histogram, _ = store.snapshot()
        store.increment(COUNTER, ("a", "celery"))
        store.histogram(HISTOGRAM, ("a", "celery")).observe(0.5)
        assert counter.values[0].value == 1.0
        assert histogram.histograms[0].counts == (1, 0, 0)

    def test_computed_gauges_are_set_before_it_under_the_same_lock(self) -> None:
        store = store_of()

        def refresh() -> None:
            assert store.lock.locked()
            store.set(GAUGE, ("celery",), 42.0)

        store.before_snapshot.append(refresh)
        assert values(store, GAUGE) == {("celery",): 42.0}

    def test_a_refresh_that_fails_gives_the_lock_back(self) -> None:
        store = store_of()
        store.before_snapshot.append(lambda: 1 / 0)  # type: ignore[arg-type]
        with pytest.raises(ZeroDivisionError):
            store.snapshot()
        assert not store.lock.locked()

    def test_it_never_shows_half_a_batch_of_a_concurrent_writer(self) -> None:
        store = store_of()
        left, right = store.cell(COUNTER, ("a", "left")), store.cell(COUNTER, ("a", "right"))
        histogram = store.histogram(HISTOGRAM, ("a", "celery"))
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                with store.lock:
                    left.value += 1
                    histogram.observe(0.5)
                    right.value += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(300):
                counter, waits, _ = store.snapshot()
                batches = {sample.value for sample in counter.values}
                assert batches == {waits.histograms[0].counts[0]}
        finally:
            stop.set()
            writer.join()
