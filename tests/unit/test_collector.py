"""The collector: what a snapshot becomes in the text formats, read back by parsers that are not ours."""

import math
import re
import shutil
import subprocess
from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from celeryscope.metrics import catalog
from celeryscope.metrics.catalog import Kind
from celeryscope.metrics.collector import StoreCollector, expose, registry
from celeryscope.metrics.store import Store

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PAIR = ("shop.tasks.pay", "celery")
UUID = "4f1d2ad5-3a6e-4d0c-9b5e-2f0c1b7f9a11"
HOSTILE = 'quote " backslash \\ newline \n tab \t brace } comma , equals = é 任務 \u2028'


def parse_openmetrics(text: str) -> Iterable[Metric]:
    return openmetrics_parser.text_string_to_metric_families(text)  # type: ignore[no-untyped-call, no-any-return]


def small_store() -> Store:
    """Two counters, a gauge and a histogram, with an exemplar each where one may be."""
    store = Store(catalog.ALL)
    store.cell(catalog.TASK_SENT, PAIR)
    failed = store.cell(catalog.TASK_EXCEPTIONS, (*PAIR, "ValueError", "failed"))
    failed.value += 3
    failed.exemplar = (UUID, 1.0, 1700000000.25)
    store.set(catalog.WORKER_UP, ("celery@w1",), 1.0)
    runtime = store.histogram(catalog.TASK_RUNTIME, (*PAIR, "succeeded"))
    for value in (0.005, 0.3, 0.4, 5000.0):
        runtime.observe(value)
    runtime.observe_with_exemplar(0.75, UUID, 1700000001.5)
    return store


def exposition(store: Store, accept: str = "", names: Iterable[str] = ()) -> str:
    collectors = CollectorRegistry()
    collectors.register(StoreCollector(store))
    return expose(collectors, accept, tuple(names))[0].decode()


def samples(families: Iterable[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], Sample]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample for family in families for sample in family.samples
    }


def bucket_counts(store: Store, accept: str = "") -> dict[str, float]:
    parse = parse_openmetrics if accept else parse_text
    return {
        sample.labels["le"]: sample.value
        for family in parse(exposition(store, accept))
        for sample in family.samples
        if sample.name == "celery_task_runtime_seconds_bucket"
    }


class TestCollecting:
    def test_registering_reads_names_and_collects_nothing(self) -> None:
        store = small_store()
        store.before_snapshot.append(lambda: pytest.fail("collected"))
        collectors = CollectorRegistry(auto_describe=True)
        collectors.register(StoreCollector(store))

    def test_families_are_described_without_samples_in_catalog_order(self) -> None:
        described = StoreCollector(Store(catalog.ALL)).describe()
        assert [family.name for family in described] == [
            spec.name.removesuffix("_total") if spec.kind is Kind.COUNTER else spec.name for spec in catalog.ALL
        ]
        assert [family.type for family in described] == [spec.kind.value for spec in catalog.ALL]
        assert not any(family.samples for family in described)

    def test_families_are_collected_in_catalog_order(self) -> None:
        order = {family.name: index for index, family in enumerate(StoreCollector(small_store()).describe())}
        collected = [order[family.name] for family in StoreCollector(small_store()).collect()]
        assert len(collected) == 5
        assert collected == sorted(collected)

    def test_an_exposition_is_one_snapshot(self) -> None:
        store = small_store()
        families = StoreCollector(store).collect()
        first = next(families)
        assert first.samples[0].value == 0
        store.increment(catalog.TASK_EXCEPTIONS, (*PAIR, "ValueError", "failed"))
        assert next(families).samples[0].value == 3


class TestHistograms:
    @pytest.mark.parametrize("accept", ["", OPENMETRICS])
    def test_buckets_are_cumulated_up_to_inf(self, accept: str) -> None:
        counts = bucket_counts(small_store(), accept)
        assert list(counts.values()) == [1, 1, 1, 1, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5]
        assert list(counts)[-1] == "+Inf"

    def test_bounds_are_written_as_go_writes_them(self) -> None:
        store = Store(catalog.ALL)
        labels = (*PAIR, "succeeded")
        store.histogram(catalog.TASK_RUNTIME, labels, (0.05, 1.0, 2.5, 1e7)).observe(1.0)
        assert list(bucket_counts(store)) == ["0.05", "1.0", "2.5", "1e+07", "+Inf"]

    def test_count_equals_the_inf_bucket_and_sum_is_what_was_observed(self) -> None:
        found = samples(parse_text(exposition(small_store())))
        labels = (("outcome", "succeeded"), ("queue", "celery"), ("task", "shop.tasks.pay"))
        assert found["celery_task_runtime_seconds_count", labels].value == 5
        assert found["celery_task_runtime_seconds_sum", labels].value == pytest.approx(5001.455)

    def test_an_observation_beyond_the_last_bound_is_in_inf_alone(self) -> None:
        store = Store(catalog.ALL)
        store.histogram(catalog.TASK_RUNTIME, (*PAIR, "failed"), (1.0,)).observe(math.inf)
        assert bucket_counts(store) == {"1.0": 0, "+Inf": 1}

    def test_series_of_one_family_may_have_different_bounds(self) -> None:
        store = Store(catalog.ALL)
        store.histogram(catalog.TASK_WAIT, ("a", "q"), (1.0,)).observe(0.5)
        store.histogram(catalog.TASK_WAIT, ("b", "q"), (2.0, 4.0)).observe(3.0)
        assert [
            (sample.labels["task"], sample.labels["le"], sample.value)
            for family in parse_openmetrics(exposition(store, OPENMETRICS))
            for sample in family.samples
            if sample.name == "celery_task_wait_seconds_bucket"
        ] == [("a", "1.0", 1), ("a", "+Inf", 1), ("b", "2.0", 0), ("b", "4.0", 1), ("b", "+Inf", 1)]


class TestExemplars:
    def exemplars(self, store: Store) -> list[tuple[str, str, float]]:
        return [
            (sample.name, sample.exemplar.labels["task_id"], sample.exemplar.value)
            for family in parse_openmetrics(exposition(store, OPENMETRICS))
            for sample in family.samples
            if sample.exemplar
        ]

    def test_openmetrics_shows_whose_count_it_was(self) -> None:
        assert self.exemplars(small_store()) == [
            ("celery_task_exceptions_total", UUID, 1.0),
            ("celery_task_runtime_seconds_bucket", UUID, 0.75),
        ]

    def test_the_exemplar_stands_at_the_bucket_it_fell_into(self) -> None:
        text = exposition(small_store(), OPENMETRICS)
        (bucket,) = [line for line in text.splitlines() if "_bucket" in line and " # " in line]
        assert 'le="1.0"' in bucket
        assert bucket.endswith(f'# {{task_id="{UUID}"}} 0.75 1700000001.5')

    def test_the_text_format_has_none(self) -> None:
        assert "task_id" not in exposition(small_store())

    @pytest.mark.parametrize(("length", "kept"), [(121, 1), (122, 0), (5000, 0)])
    def test_a_task_id_that_would_exceed_128_characters_of_labels_is_left_out(self, length: int, kept: int) -> None:
        store = Store(catalog.ALL)
        store.cell(catalog.TASK_EXCEPTIONS, (*PAIR, "E", "failed")).exemplar = ("é" * length, 1.0, 1.7e9)
        assert len(self.exemplars(store)) == kept

    def test_a_task_id_is_escaped(self) -> None:
        store = Store(catalog.ALL)
        store.cell(catalog.TASK_EXCEPTIONS, (*PAIR, "E", "failed")).exemplar = ('a"b\\c\nd', 1.0, 1.7e9)
        assert r' # {task_id="a\"b\\c\nd"} 1.0 1700000000.0' in exposition(store, OPENMETRICS)


class TestFormats:
    @pytest.mark.parametrize(
        ("accept", "content_type"),
        [
            ("", "text/plain; version=0.0.4; charset=utf-8"),
            ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
            ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
            (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"),
            (
                PROMETHEUS_3,
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            ),
            ("text/plain;version=1.0.0", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"),
            ("application/openmetrics-text;version=one", "text/plain; version=0.0.4; charset=utf-8"),
            ('text/plain;version="1.0.0"', "text/plain; version=0.0.4; charset=utf-8"),
            (";;==,;version=", "text/plain; version=0.0.4; charset=utf-8"),
        ],
    )
    def test_the_accept_header_chooses_and_nonsense_gets_the_oldest(self, accept: str, content_type: str) -> None:
        body, chosen = expose(registry(small_store()), accept)
        assert chosen == content_type
        assert body.endswith(b"# EOF\n") is content_type.startswith("application/openmetrics-text")

    def test_both_formats_say_the_same(self) -> None:
        store = small_store()
        text = samples(parse_text(exposition(store)))
        openmetrics = samples(parse_openmetrics(exposition(store, OPENMETRICS)))
        assert {key: sample.value for key, sample in text.items()} == {
            key: sample.value for key, sample in openmetrics.items()
        }

    @pytest.mark.parametrize("accept", ["", OPENMETRICS])
    def test_there_are_no_created_lines(self, accept: str) -> None:
        assert not re.search(r"^celery_\w*_created", exposition(small_store(), accept), re.MULTILINE)

    @pytest.mark.parametrize("accept", ["", OPENMETRICS, PROMETHEUS_3])
    def test_hostile_label_values_come_back_as_they_were(self, accept: str) -> None:
        store = Store(catalog.ALL)
        store.increment(catalog.TASK_SENT, (HOSTILE, "q" * 5000))
        parse = parse_openmetrics if accept else parse_text
        (found,) = [
            sample
            for family in parse(exposition(store, accept))
            for sample in family.samples
            if sample.name == "celery_task_sent_total"
        ]
        assert found.labels == {"task": HOSTILE, "queue": "q" * 5000}

    def test_numbers_that_are_none_are_valid(self) -> None:
        store = Store(catalog.ALL)
        for worker, value in (("nan", math.nan), ("inf", math.inf), ("-inf", -math.inf), ("huge", 1e300)):
            store.set(catalog.WORKER_LOAD1, (worker,), value)
        loads = {
            sample.labels["worker"]: sample.value
            for family in parse_openmetrics(exposition(store, OPENMETRICS))
            for sample in family.samples
            if sample.name == "celery_worker_load1"
        }
        assert math.isnan(loads.pop("nan"))
        assert loads == {"inf": math.inf, "-inf": -math.inf, "huge": 1e300}

    def test_a_filter_shows_the_samples_with_these_names_alone(self) -> None:
        text = exposition(small_store(), names=["celery_task_sent_total", "celery_worker_up", "nobody"])
        assert [line for line in text.splitlines() if not line.startswith("#")] == [
            'celery_task_sent_total{queue="celery",task="shop.tasks.pay"} 0.0',
            'celery_worker_up{worker="celery@w1"} 1.0',
        ]

    def test_a_filter_for_what_does_not_exist_shows_nothing(self) -> None:
        assert exposition(small_store(), names=["nobody"]) == ""


class TestRegistry:
    def test_it_has_the_store_and_this_process_and_nothing_of_the_global_one(self) -> None:
        from prometheus_client import REGISTRY, Counter

        stray = Counter("celeryscope_test_stray", "Registered globally.")
        try:
            names = {family.name for family in registry(small_store()).collect()}
        finally:
            REGISTRY.unregister(stray)
        assert {"celery_task_sent", "python_info", "python_gc_objects_collected"} <= names
        assert "process_cpu_seconds" in names
        assert "celeryscope_test_stray" not in names

    def test_several_do_not_meet(self) -> None:
        first, second = registry(small_store()), registry(Store(catalog.ALL))
        assert first.get_sample_value("celery_worker_up", {"worker": "celery@w1"}) == 1.0
        assert second.get_sample_value("celery_worker_up", {"worker": "celery@w1"}) is None

    def test_process_metrics_can_be_filtered_for(self) -> None:
        body, _ = expose(registry(small_store()), "", ["process_cpu_seconds_total"])
        assert [line.split()[0] for line in body.decode().splitlines() if not line.startswith("#")] == [
            "process_cpu_seconds_total"
        ]

    @pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (package prometheus)")
    def test_promtool_has_nothing_to_say_about_any_metric(self) -> None:
        store = Store(catalog.ALL)
        for spec in catalog.ALL:
            labels = ("x",) * len(spec.labels)
            if spec.kind is Kind.HISTOGRAM:
                store.histogram(spec, labels).observe_with_exemplar(1.0, UUID, 1.7e9)
            else:
                store.cell(spec, labels).value += 1
        store.increment(catalog.TASK_SENT, (HOSTILE, "q" * 5000))
        text, _ = expose(registry(store), "")
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30, check=False
        )
        ours = [line for line in (checked.stdout + checked.stderr).decode().splitlines() if "celery" in line]
        assert ours == []
        assert b"error" not in checked.stderr.lower()
