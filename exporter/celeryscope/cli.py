"""The command `celeryscope`. Every command imports what it runs when it runs, so that help is prompt."""

import logging
import platform
from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import click

from celeryscope import __version__, config
from celeryscope.errors import ConfigError
from celeryscope.options import GroupedCommand, settings
from celeryscope.redaction import redact

CONFIG_ERROR = 2  # exit code, as click's for a wrong command line

_EXAMPLES = """\
\b
Examples:
  celeryscope run --broker-url redis://localhost:6379/0
  celeryscope run --broker-url-file /run/secrets/broker --listen-address :9808
  celeryscope run -A proj.celery --config celeryscope.toml
"""
_FIRST_STEPS = """\
\b
Examples:
  celeryscope demo
  celeryscope check -A proj.celery
  celeryscope run -A proj.celery
"""


class DeferredCommand(click.Command):
    """A command of which only the name and one line are known until it is run."""

    def __init__(self, name: str, load: Callable[[], click.Command], short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self._load = load

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Return the context of the real command, which click then invokes."""
        return self._load().make_context(info_name, args, parent=parent, **extra)


def _print_versions(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        libraries = ", ".join(f"{name} {_version(name)}" for name in ("celery", "kombu", "redis"))
        click.echo(f"celeryscope {__version__} (python {platform.python_version()}, {libraries})")
        ctx.exit()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "missing"


@click.group(epilog=_FIRST_STEPS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Print versions.",
)
def celeryscope() -> None:
    """Watch a Celery cluster and tell Prometheus the truth about it."""


@celeryscope.command(cls=GroupedCommand, epilog=_EXAMPLES)
@settings()
@click.pass_context
def run(ctx: click.Context, /, file: Path | None, **options: object) -> None:
    """Serve the metrics of one cluster until SIGTERM or Ctrl-C.

    Every option is also a variable (CELERYSCOPE_LOG_LEVEL) and a key of the --config file (log_level).
    Options win over variables, these over the file.
    """
    ctx.exit(serve(options, file))


def serve(options: Mapping[str, object], file: Path | None, project: Any = None) -> int:
    """Run the exporter with options by key; return the exit code. `project` is a Celery app that is loaded already."""
    try:
        configuration = config.load(options, file=file)
        from celeryscope import app, logs

        logs.setup(configuration.log_level, configuration.log_format)
        for line in config.unknown_variables():
            logging.getLogger(__name__).warning("%s", line)
        return app.run(configuration, project)
    except ConfigError as error:
        click.echo(f"celeryscope: error: {redact(str(error))}", err=True)
        return CONFIG_ERROR


@celeryscope.command()
def metrics() -> None:
    """Print the reference of all metrics, as Markdown."""
    from celeryscope.metrics.reference import reference

    click.echo(reference(), nl=False)


def _load_check() -> click.Command:
    command: click.Command = import_module("celeryscope.check.command").check
    return command


def _load_rules() -> click.Command:
    command: click.Command = import_module("celeryscope.rules.command").rules
    return command


def _load_dashboards() -> click.Command:
    command: click.Command = import_module("celeryscope.dashboards").dashboards
    return command


def _load_demo() -> click.Command:
    try:
        command: click.Command = import_module("celeryscope_demo.command").demo
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"the demo is not installed here ({error.name} is missing): pip install 'celeryscope[demo]'"
        ) from error
    return command


celeryscope.add_command(DeferredCommand("check", _load_check, "Look at a cluster once and tell what is wrong with it."))
celeryscope.add_command(DeferredCommand("rules", _load_rules, "Print alert and recording rules for Prometheus."))
celeryscope.add_command(
    DeferredCommand("dashboards", _load_dashboards, "Write the Grafana dashboards into a directory.")
)
celeryscope.add_command(
    DeferredCommand("demo", _load_demo, "Run a cluster on this machine and watch it: needs no broker.")
)


def main() -> None:
    """Run the command line."""
    celeryscope(prog_name="celeryscope")
