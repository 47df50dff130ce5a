"""Add up pytest's JUnit reports into one closing line: `closing_line.py REPORT.xml...`.

The exit code is 1 where no test ran.
"""

import sys
from pathlib import Path
from xml.etree import ElementTree as ET


def count(reports: list[Path]) -> dict[str, int]:
    """Tests by outcome, over all reports that were written."""
    totals = {"failed": 0, "passed": 0, "skipped": 0, "errors": 0}
    for report in reports:
        if not report.exists():
            continue
        for suite in ET.parse(report).iter("testsuite"):  # noqa: S314 - our own pytest wrote it
            tests, failed, errors, skipped = (
                int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
            )
            totals["failed"] += failed
            totals["errors"] += errors
            totals["skipped"] += skipped
            totals["passed"] += max(tests - failed - errors - skipped, 0)
    return totals


def main(arguments: list[str]) -> int:
    """Print the line in pytest's own form."""
    totals = count([Path(argument) for argument in arguments])
    told = [f"{number} {outcome}" for outcome, number in totals.items() if number or outcome == "passed"]
    print(f"===== all stages: {', '.join(told)} =====")
    return 0 if totals["passed"] or totals["failed"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
