"""A report as text for a terminal, and as JSON for a program."""

import json
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from celeryscope.check.facts import Gap
from celeryscope.check.model import Finding, Report, Severity, counted
from celeryscope.redaction import redact

FORMAT = 1  # of the JSON: raised when something in it changes its meaning
LABEL = 9  # columns before what is said
NARROWEST, WIDEST = 40, 110  # columns
RESET = "\033[0m"
BOLD = "\033[1m"
DIM = "\033[2m"
Paint: TypeAlias = Callable[[str, str], str]  # words and the code of how they are to look

COLOURS = {Severity.ERROR: "\033[1;31m", Severity.WARNING: "\033[1;33m", Severity.INFO: "\033[1;36m"}


def text(report: Report, *, width: int, colour: bool) -> str:
    """Return the report as lines that are no wider than `width` columns, where words allow it."""
    width = max(NARROWEST, min(width, WIDEST))
    paint = _painted if colour else _plain
    blocks = ["\n".join(_finding(finding, width, paint)) for finding in report.findings]
    if report.gaps:
        blocks.append("\n".join(_gaps(report.gaps, width, paint)))
    blocks.append("\n".join(_wrapped(summary(report), width)))
    return "\n\n".join(blocks) + "\n"


def summary(report: Report) -> str:
    """Return one line: what was found, in what."""
    counts = [counted(report.count(severity), severity.value) for severity in Severity if report.count(severity)]
    found = ", ".join(counts).replace("infos", "info") if counts else "nothing found wrong"
    seen = f"{counted(report.workers, 'worker')}, {counted(report.queues, 'queue')} looked at in {report.seconds:.1f} s"
    return f"{found}: {seen}"


def as_json(report: Report, fails: bool) -> str:
    """Return the report as one JSON object; `fails` says whether it has what --fail-on asks for."""
    return _dumped(
        {
            "format": FORMAT,
            "broker": report.broker,
            "failed": fails,
            "complete": not report.incomplete,
            "counts": {severity.value: report.count(severity) for severity in Severity},
            "findings": [
                {
                    "severity": finding.severity.value,
                    "code": finding.code,
                    "subject": finding.subject,
                    "title": finding.title,
                    "evidence": finding.evidence,
                    "consequence": finding.consequence,
                    "remedy": finding.remedy,
                }
                for finding in report.findings
            ],
            "not_looked_at": [{"what": gap.what, "why": gap.why, "unexpected": gap.unexpected} for gap in report.gaps],
            "workers": report.workers,
            "queues": report.queues,
            "seconds": round(report.seconds, 1),
        }
    )


def error_as_json(message: str) -> str:
    """Return what is told instead of a report where nothing could be looked at."""
    return _dumped({"format": FORMAT, "error": message})


def _finding(finding: Finding, width: int, paint: Paint) -> Iterator[str]:
    label = f"{finding.severity.value:<{LABEL}}"
    head = _wrapped(f"{finding.subject}: {finding.title} [{finding.code}]", width - LABEL)
    for index, line in enumerate(head):
        yield (paint(label, COLOURS[finding.severity]) if not index else " " * LABEL) + paint(line, BOLD)
    for name, what in (("seen", finding.evidence), ("means", finding.consequence), ("do", finding.remedy)):
        for index, line in enumerate(_wrapped(what, width - LABEL)):
            yield paint(f"  {name if not index else '':<{LABEL - 2}}", DIM) + line


def _gaps(gaps: tuple[Gap, ...], width: int, paint: Paint) -> Iterator[str]:
    yield paint("not looked at", BOLD)
    for gap in gaps:
        yield from _wrapped(f"{gap.what}: {gap.why}", width, "  ", "    ")


def _painted(words: str, code: str) -> str:
    return f"{code}{words}{RESET}"


def _plain(words: str, _: str) -> str:
    return words


def safe(words: str) -> str:
    """Return words without secrets, and without control characters.

    Names come from whoever can write to the broker, and a terminal obeys.
    """
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in redact(words))


def _wrapped(words: str, width: int, first: str = "", others: str = "") -> list[str]:
    return textwrap.wrap(safe(words), width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)


def _dumped(document: dict[str, Any]) -> str:
    return json.dumps(_redacted(document), indent=2) + "\n"


def _redacted(value: Any) -> Any:
    """Return a document without secrets; in its JSON, which escapes, some could not be told any more."""
    if isinstance(value, dict):
        return {key: _redacted(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_redacted(each) for each in value]
    return redact(value) if isinstance(value, str) else value
