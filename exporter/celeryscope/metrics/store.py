"""Values of every series, by label tuple, under one lock and one budget.

Writers hold `Store.lock` while they move cells, once per batch of events; a snapshot takes the same lock, so a scrape
never sees half a batch. Cells are looked up once and kept by their owner, which makes a count one attribute addition.
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from celeryscope.metrics.catalog import EXPORTER_SERIES, EXPORTER_SERIES_DROPPED, OVERFLOW, Kind, Spec

KEPT_FREE = 10  # this fraction of the budget

Labels = tuple[str, ...]
Exemplar = tuple[str, float, float]  # task id, value, Unix seconds


class Cell:
    """One counter or gauge series."""

    __slots__ = ("exemplar", "value")

    def __init__(self, value: float = 0.0) -> None:
        self.value = value
        self.exemplar: Exemplar | None = None


class HistogramCell:
    """One histogram series: counts per bucket (not cumulated, the last is +Inf) and the sum of what was observed."""

    __slots__ = ("bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.exemplars: list[Exemplar | None] | None = None

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def observe_with_exemplar(self, value: float, task_id: str, timestamp: float) -> None:
        """Count one observation and remember whose it was."""
        bucket = bisect_left(self.bounds, value)
        self.counts[bucket] += 1
        self.sum += value
        if self.exemplars is None:
            self.exemplars = [None] * len(self.counts)
        self.exemplars[bucket] = (task_id, value, timestamp)


@dataclass(frozen=True, slots=True)
class ValueSample:
    """A counter's or gauge's series at one instant."""

    labels: Labels
    value: float
    exemplar: Exemplar | None


@dataclass(frozen=True, slots=True)
class HistogramSample:
    """A histogram's series at one instant. `counts` are per bucket, not cumulated; the last one is +Inf."""

    labels: Labels
    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float
    exemplars: tuple[Exemplar | None, ...]


@dataclass(frozen=True, slots=True)
class FamilySnapshot:
    """All series of one metric at one instant."""

    spec: Spec
    values: list[ValueSample]
    histograms: list[HistogramSample]


class Store:
    """All series of one monitor.

    `series_limit` bounds the samples of an exposition (a histogram has its buckets, +Inf, sum and count). A counter or
    histogram that finds no room shares one series labelled `__overflow__`; a gauge that finds none is not exported.
    """

    def __init__(self, specs: Iterable[Spec], series_limit: int = 50_000) -> None:
        self.lock = threading.Lock()
        self.series_limit = series_limit
        self.samples = 0
        #: Called with the lock held before each snapshot, to set gauges that are computed rather than counted.
        self.before_snapshot: list[Callable[[], None]] = []
        self._specs = tuple(specs)
        self._cells: dict[Spec, dict[Labels, Cell]] = {}
        self._histograms: dict[Spec, dict[Labels, HistogramCell]] = {}
        for spec in self._specs:
            if spec.kind is Kind.HISTOGRAM:
                self._histograms[spec] = {}
            else:
                self._cells[spec] = {}

    def cell(self, spec: Spec, labels: Labels = ()) -> Cell:
        """Return the series of a counter or gauge, made at 0 where it is new."""
        family = self._cells[spec]
        cell = family.get(labels)
        if cell is None:
            self._check(spec, labels)
            labels = self._admit(spec, labels)
            if spec.kind is Kind.GAUGE and OVERFLOW in labels:
                return Cell()
            cell = family.get(labels)
            if cell is None:
                cell = family[labels] = Cell()
                self.samples += 1
        return cell

    def histogram(self, spec: Spec, labels: Labels, bounds: tuple[float, ...] | None = None) -> HistogramCell:
        """Return the series of a histogram, made empty where it is new.

        `bounds` replaces the catalog's buckets for a new series.
        """
        family = self._histograms[spec]
        histogram = family.get(labels)
        if histogram is None:
            self._check(spec, labels)
            bounds = bounds or spec.buckets
            labels = self._admit(spec, labels, len(bounds) + 3)
            histogram = family.get(labels)
            if histogram is None:
                histogram = family[labels] = HistogramCell(spec.buckets if OVERFLOW in labels else bounds)
                self.samples += len(histogram.counts) + 2
        return histogram

    def set(self, spec: Spec, labels: Labels, value: float) -> None:
        """Set a gauge's series."""
        self.cell(spec, labels).value = value

    def increment(self, spec: Spec, labels: Labels, amount: float = 1.0) -> None:
        """Raise a counter's series."""
        self.cell(spec, labels).value += amount

    def remove(self, spec: Spec, labels: Labels) -> None:
        """Forget one series of a counter or gauge, where it exists."""
        if self._cells[spec].pop(labels, None) is not None:
            self.samples -= 1

    def clear(self, spec: Spec) -> None:
        """Forget all series of a counter or gauge."""
        family = self._cells[spec]
        self.samples -= len(family)
        family.clear()

    def purge(self, matching: Mapping[str, str]) -> None:
        """Forget every series that has all these labels with exactly these values, of whatever metric."""
        self.purge_each(tuple(matching), {tuple(matching.values())})

    def purge_each(self, names: Labels, values: AbstractSet[Labels]) -> None:
        """Forget every series whose labels of these names are one of these combinations, in one walk for all."""
        for spec, cells in self._cells.items():
            for labels in _matching(spec, cells, names, values):
                del cells[labels]
                self.samples -= 1
        for spec, histograms in self._histograms.items():
            for labels in _matching(spec, histograms, names, values):
                self.samples -= len(histograms.pop(labels).counts) + 2

    def has_room(self, samples: int) -> bool:
        """Whether this many more samples fit the budget."""
        return self.samples + samples <= self.series_limit

    def has_room_for_new(self, samples: int) -> bool:
        """Whether this many samples of a task not known before fit.

        A tenth of the budget stays for the histograms and exception classes of those that are known already.
        """
        return self.has_room(samples + self.series_limit // KEPT_FREE)

    def values(self, spec: Spec) -> dict[Labels, float]:
        """Return the values of a counter's or gauge's series as they stand; computed ones are not computed anew."""
        return {labels: cell.value for labels, cell in self._cells[spec].items()}

    def snapshot(self) -> list[FamilySnapshot]:
        """Return a consistent copy of every family that has series, in the order of the catalog."""
        with self.lock:
            for refresh in self.before_snapshot:
                refresh()
            series = self.cell(EXPORTER_SERIES)
            series.value = self.samples
            return [self._family(spec) for spec in self._specs if self._cells.get(spec) or self._histograms.get(spec)]

    def _family(self, spec: Spec) -> FamilySnapshot:
        return FamilySnapshot(
            spec,
            [ValueSample(labels, cell.value, cell.exemplar) for labels, cell in self._cells.get(spec, {}).items()],
            [
                HistogramSample(labels, cell.bounds, tuple(cell.counts), cell.sum, tuple(cell.exemplars or ()))
                for labels, cell in self._histograms.get(spec, {}).items()
            ],
        )

    def _check(self, spec: Spec, labels: Labels) -> None:
        if len(labels) != len(spec.labels):
            raise ValueError(f"{spec.name} has the labels {spec.labels}, not {len(labels)} of them: {labels}")

    def _admit(self, spec: Spec, labels: Labels, samples: int = 1) -> Labels:
        # The exporter's own few series are exempt: they are what says that the budget is reached.
        exempt = not labels or OVERFLOW in labels or spec.name.startswith("celery_exporter_")
        if exempt or self.has_room(samples):
            return labels
        self.increment(EXPORTER_SERIES_DROPPED, (spec.name,))
        return tuple(OVERFLOW for _ in labels)


def _matching(spec: Spec, series: Iterable[Labels], names: Labels, values: AbstractSet[Labels]) -> list[Labels]:
    if any(name not in spec.labels for name in names):
        return []
    positions = [spec.labels.index(name) for name in names]
    return [labels for labels in series if tuple([labels[position] for position in positions]) in values]
