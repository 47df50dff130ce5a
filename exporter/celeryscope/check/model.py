"""What a check is, and what it finds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from celeryscope.check.facts import Facts, Gap

MOST_FOUND = 20  # findings of one check, before the rest is counted
MOST_NAMES = 3  # in one line; the rest is counted


class Severity(Enum):
    """How bad it is, the worst first."""

    ERROR = "error"  # work is lost, or stands still, or may at any moment
    WARNING = "warning"  # it will hurt, or nobody would see it
    INFO = "info"  # worth knowing, and may be meant

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Found:
    """What one check saw. Without a severity or a remedy of its own, the check's first and only ones hold."""

    subject: str  # what it is about: "queue reports", "3 workers", "broker"
    evidence: str
    severity: Severity | None = None
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look for. All texts are one line without a full stop at its end."""

    code: str
    title: str
    severities: tuple[Severity, ...]  # that its findings may have; the first is the usual one
    consequence: str
    remedy: str  # the exact setting
    judge: Callable[[Facts], Iterable[Found]]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, as it is told."""

    severity: Severity
    code: str
    subject: str
    title: str
    evidence: str
    consequence: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Report:
    """All that one look brought, findings worst first."""

    broker: str  # its address, without credentials
    findings: tuple[Finding, ...]
    gaps: tuple[Gap, ...]
    workers: int
    queues: int
    seconds: float  # that it took

    def count(self, severity: Severity) -> int:
        """How many findings are as bad as that."""
        return sum(1 for finding in self.findings if finding.severity is severity)

    @property
    def incomplete(self) -> bool:
        """Whether something could not be looked at that should have been."""
        return any(gap.unexpected for gap in self.gaps)


def findings(checks: Iterable[Check], facts: Facts) -> tuple[Finding, ...]:
    """Return what the checks find, worst first, else in their order."""
    found: list[Finding] = []
    for check in checks:
        its = sorted((_finding(check, each) for each in check.judge(facts)), key=_rank)
        found += its[:MOST_FOUND]
        if rest := its[MOST_FOUND:]:
            subjects = some(each.subject for each in rest)
            more = Found(f"{len(rest)} more", f"the same of {subjects}", rest[0].severity)
            found.append(_finding(check, more))
    return tuple(sorted(found, key=_rank))


def _finding(check: Check, found: Found) -> Finding:
    return Finding(
        severity=found.severity or check.severities[0],
        code=check.code,
        subject=found.subject,
        title=check.title,
        evidence=found.evidence,
        consequence=check.consequence,
        remedy=found.remedy or check.remedy,
    )


def _rank(finding: Finding) -> int:
    return finding.severity.rank


def some(names: Iterable[str], most: int = MOST_NAMES) -> str:
    """Return names on one line, sorted: "a, b, c and 4 more"."""
    listed = sorted(names)
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest} more" if rest > 0 else "")


def counted(number: int, noun: str) -> str:
    """Return "1 worker", "3 workers"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def named(told: str, names: Sequence[str]) -> str:
    """Return what is told with the names that it is about, unless `subject_of` tells the only one."""
    return told if len(names) == 1 else f"{told}: {some(names)}"


def subject_of(noun: str, names: Sequence[str]) -> str:
    """Return what a finding is about: "worker a@h" for one, "3 workers" for more."""
    return f"{noun} {names[0]}" if len(names) == 1 else counted(len(names), noun)


def duration(seconds: float) -> str:
    """Return seconds as a person says them: "4.5 s", "12 min", "3.0 h", "2.1 d"."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 and seconds % 1 else f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def size(count: int) -> str:
    """Return bytes as a person says them: "12 KiB", "1.5 GiB"."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.3g} {unit}"
        amount /= 1024
    return f"{amount:.3g} GiB"
