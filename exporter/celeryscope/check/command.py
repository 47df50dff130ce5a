"""`celeryscope check`: look once, print what is wrong, and say it with the exit code too."""

import logging
import shutil
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import click

from celeryscope import broker, config
from celeryscope.check import render
from celeryscope.check.facts import Facts, Gap
from celeryscope.check.judge import report as report_of
from celeryscope.check.look import Look
from celeryscope.check.model import Severity
from celeryscope.clock import SystemClock
from celeryscope.errors import CeleryscopeError
from celeryscope.options import GroupedCommand, settings
from celeryscope.redaction import redact

FOUND = 1  # exit code: something is as bad as --fail-on says
NOT_LOOKED = 2  # exit code: the broker, or a part of what was asked for, could not be looked at
# What of the exporter's settings says where and how to look.
SETTINGS = frozenset(
    {
        *("broker_url", "broker_url_file", "app", "broker_transport_options", "event_exchange", "accept_content"),
        *("queues", "management_url", "management_url_file", "passive"),
        *("queue_include", "queue_exclude", "queue_wait_objective"),
    }
)
_EXAMPLES = """\
\b
Examples:
  celeryscope check --broker-url redis://localhost:6379/0
  celeryscope check -A proj.celery --fail-on warning
  celeryscope check --broker-url-file /run/secrets/broker --json
"""


class _Warnings(logging.Handler):
    """Keeps what the rooms below would write into a log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(redact(record.getMessage()))


@click.command(cls=GroupedCommand, epilog=_EXAMPLES)
@settings(without=config.SETTINGS.keys() - SETTINGS)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--fail-on",
    type=click.Choice([severity.value for severity in Severity]),
    default=Severity.ERROR.value,
    metavar="LEVEL",
    help="What makes it 1: error, warning, info [error].",
)
@click.pass_context
def check(ctx: click.Context, /, file: Path | None, as_json: bool, fail_on: str, **options: object) -> None:
    """Look at a cluster once, for 6 s, and tell what is wrong with it and how to mend it.

    It changes nothing: it asks the workers, listens to events, and reads queues.
    Exit code: 0 nothing wrong, 1 something is, 2 could not look.
    """
    warnings = _Warnings()
    logging.getLogger("celeryscope").addHandler(warnings)
    logging.getLogger().addHandler(logging.NullHandler())
    clock = SystemClock()
    began = clock.now().elapsed
    for line in config.unknown_variables():
        click.echo(f"celeryscope: warning: {line}", err=True)
    try:
        with redirect_stdout(sys.stderr):  # a project may print while it is imported
            configuration = config.load(options, file=file)
            app = broker.celery_app(configuration)
            facts = Look(configuration, app, clock, _tell).facts()
    except CeleryscopeError as error:
        _tell("")
        message = render.safe(str(error))
        if as_json:
            click.echo(render.error_as_json(message), nl=False)
        click.echo(f"celeryscope: error: {message}", err=True)
        ctx.exit(NOT_LOOKED)
    _tell("")
    report = report_of(_with_gaps(facts, warnings.lines), clock.now().elapsed - began)
    threshold = Severity(fail_on)
    fails = any(finding.severity.rank <= threshold.rank for finding in report.findings)
    if as_json:
        click.echo(render.as_json(report, fails), nl=False)
    else:
        terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if terminal else render.WIDEST
        click.echo(
            render.text(report, width=width, colour=terminal and not config.no_colour()), nl=False, color=terminal
        )
    ctx.exit(FOUND if fails else NOT_LOOKED if report.incomplete else 0)


def _with_gaps(facts: Facts, lines: list[str]) -> Facts:
    """Return the facts with what was warned of while they were collected."""
    gaps = tuple(Gap("part of it", line, unexpected=True) for line in dict.fromkeys(lines))
    return replace(facts, gaps=(*facts.gaps, *gaps))


def _tell(what: str) -> None:
    """Show what is being done, on one line of a terminal that the next replaces."""
    if sys.stderr.isatty():
        columns = shutil.get_terminal_size().columns - 1
        click.echo(f"\r{render.safe(what)[:columns]:<{columns}}\r", err=True, nl=False)
