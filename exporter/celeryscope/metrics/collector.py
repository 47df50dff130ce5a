"""The store as metric families, and the families as an exposition. prometheus_client writes every format."""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.core import Exemplar as FamilyExemplar
from prometheus_client.exposition import choose_encoder
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from celeryscope.metrics.catalog import ALL, Kind, Spec
from celeryscope.metrics.store import Exemplar, FamilySnapshot, HistogramSample, Store, ValueSample

EXEMPLAR_LABEL = "task_id"
TASK_ID_LIMIT = 128 - len(EXEMPLAR_LABEL)  # OpenMetrics, of label names and values together


class StoreCollector:
    """A store's snapshot as fresh families at every scrape, in its order. `specs` are those of the store."""

    def __init__(self, store: Store, specs: Sequence[Spec] = ALL) -> None:
        self._store = store
        self._specs = specs

    def describe(self) -> list[Metric]:
        """Return the families without samples: registration needs their names alone."""
        return [_family(spec) for spec in self._specs]

    def collect(self) -> Iterator[Metric]:
        """Yield every family that has series."""
        for snapshot in self._store.snapshot():
            family = _family(snapshot.spec)
            family.samples = _samples(snapshot, family.name)
            yield family


def registry(store: Store, specs: Sequence[Spec] = ALL) -> CollectorRegistry:
    """Return a registry of the store's metrics and of this process's own (`process_*`, `python_*`)."""
    # auto_describe: the process collectors describe nothing, and what nobody described no filter finds.
    collectors = CollectorRegistry(auto_describe=True)
    collectors.register(StoreCollector(store, specs))
    ProcessCollector(registry=collectors)
    PlatformCollector(registry=collectors)
    GCCollector(registry=collectors)
    return collectors


def expose(collectors: CollectorRegistry, accept: str, names: Sequence[str] = ()) -> tuple[bytes, str]:
    """Return a whole exposition and its content type, in the format that an Accept header asks for.

    `names` restricts it to the samples with these names; names that do not exist select nothing.
    """
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version in the header that is not made of numbers
        encode, content_type = choose_encoder("")
    return encode(collectors.restricted_registry(names) if names else collectors), content_type


def _family(spec: Spec) -> Metric:
    match spec.kind:
        case Kind.COUNTER:
            return CounterMetricFamily(spec.name, spec.help)
        case Kind.GAUGE:
            return GaugeMetricFamily(spec.name, spec.help)
        case Kind.HISTOGRAM:
            return HistogramMetricFamily(spec.name, spec.help)


def _samples(snapshot: FamilySnapshot, family: str) -> list[Sample]:
    # Not with the families' add_metric, which takes half as long again: there may be tens of thousands.
    names = snapshot.spec.labels
    if snapshot.spec.kind is Kind.HISTOGRAM:
        return _histogram_samples(family, names, snapshot.histograms)
    return _value_samples(snapshot.spec.name, names, snapshot.values)


def _value_samples(name: str, label_names: tuple[str, ...], values: list[ValueSample]) -> list[Sample]:
    return [
        Sample(
            name,
            dict(zip(label_names, value.labels, strict=True)),
            value.value,
            None,
            value.exemplar and _exemplar(value.exemplar),
        )
        for value in values
    ]


def _histogram_samples(family: str, label_names: tuple[str, ...], histograms: list[HistogramSample]) -> list[Sample]:
    bucket_name, count_name, sum_name = family + "_bucket", family + "_count", family + "_sum"
    samples: list[Sample] = []
    edges_of: dict[tuple[float, ...], list[str]] = {}
    for histogram in histograms:
        edges = edges_of.get(histogram.bounds)
        if edges is None:
            edges = edges_of[histogram.bounds] = [*map(floatToGoString, histogram.bounds), "+Inf"]
        labels = dict(zip(label_names, histogram.labels, strict=True))
        exemplars = histogram.exemplars or (None,) * len(edges)
        total = 0
        for edge, count, exemplar in zip(edges, histogram.counts, exemplars, strict=True):
            total += count
            samples.append(Sample(bucket_name, {**labels, "le": edge}, total, None, exemplar and _exemplar(exemplar)))
        samples.append(Sample(count_name, labels, total))
        samples.append(Sample(sum_name, labels, histogram.sum))
    return samples


def _exemplar(exemplar: Exemplar) -> FamilyExemplar | None:
    task_id, value, timestamp = exemplar
    if len(task_id) > TASK_ID_LIMIT:
        return None
    return FamilyExemplar({EXEMPLAR_LABEL: task_id}, value, timestamp)
