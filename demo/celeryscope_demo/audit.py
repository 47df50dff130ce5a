"""The demo's ledger against the exporter's counters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from celeryscope_demo.ledger import COLUMNS, Counts, Row

RED, PLAIN = "\x1b[31m", "\x1b[0m"


def exported(exposition: str) -> dict[Row, Counts]:
    """The exporter's counts that are not 0, in the ledger's form, from a text exposition."""
    columns = {f"celery_task_{column}_total": column for column in COLUMNS}
    rows: dict[Row, Counts] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            column = columns.get(sample.name)
            if column is not None and sample.value:
                row = rows.setdefault((sample.labels["task"], sample.labels["queue"]), {})
                row[column] = row.get(column, 0) + round(sample.value)
    return rows


@dataclass(frozen=True)
class Audit:
    """Both accounts. They agree where every count of every task in every queue is the same."""

    ledger: Mapping[Row, Counts]
    exporter: Mapping[Row, Counts]

    @property
    def differences(self) -> int:
        """How many counts differ."""
        return sum(
            self._of(self.ledger, row, column) != self._of(self.exporter, row, column)
            for row in self._rows
            for column in COLUMNS
        )

    @property
    def verdict(self) -> str:
        """One line."""
        if not self.ledger:
            return "no task was sent: there is nothing to compare"
        counts = len(self._rows) * len(COLUMNS)
        if self.differences:
            return f"ledger and exporter differ in {self.differences} of {counts} counts"
        return f"ledger and exporter agree in all of {counts} counts of {len(self._rows)} tasks and queues"

    def table(self, *, colour: bool) -> list[str]:
        """Every count of the ledger; where the exporter's differs, by how much."""
        if not self.ledger:
            return []
        names = [*(f"{task} in {queue}" for task, queue in self._rows), "all"]
        totals = [self._total(self.ledger), self._total(self.exporter)]
        rows = [[self._cell(row, column) for column in COLUMNS] for row in self._rows]
        rows.append([difference(totals[0][column], totals[1][column]) for column in COLUMNS])
        width = max(map(len, names))
        widths = [max(len(column), *(len(row[i]) for row in rows)) for i, column in enumerate(COLUMNS)]
        lines = [f"{'':<{width}}  " + "  ".join(f"{name:>{w}}" for name, w in zip(COLUMNS, widths, strict=True))]
        for name, row in zip(names, rows, strict=True):
            cells = [_coloured(f"{cell:>{w}}", colour) for cell, w in zip(row, widths, strict=True)]
            lines.append(f"{name:<{width}}  " + "  ".join(cells))
        return lines

    @property
    def _rows(self) -> Sequence[Row]:
        return sorted(set(self.ledger) | set(self.exporter))

    def _cell(self, row: Row, column: str) -> str:
        return difference(self._of(self.ledger, row, column), self._of(self.exporter, row, column))

    @staticmethod
    def _of(rows: Mapping[Row, Counts], row: Row, column: str) -> int:
        return rows.get(row, {}).get(column, 0)

    def _total(self, rows: Mapping[Row, Counts]) -> Counts:
        return {column: sum(row.get(column, 0) for row in rows.values()) for column in COLUMNS}


def difference(ledger: int, exporter: int) -> str:
    """The ledger's count, and what the exporter says where that is another number: "12", "12 (exporter: 11)"."""
    return f"{ledger}" if ledger == exporter else f"{ledger} (exporter: {exporter})"


def _coloured(cell: str, colour: bool) -> str:
    return f"{RED}{cell}{PLAIN}" if colour and "exporter" in cell else cell
