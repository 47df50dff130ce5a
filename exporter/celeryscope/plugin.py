"""The command `celery scope`: the exporter, with everything of the broker from the project's own configuration.

Celery imports this at each of its commands, so nothing heavy is imported before it is needed.
"""

from typing import Any

import click

_NOT_HERE = ("broker_url", "broker_url_file", "app")  # given by the app, or with the options of `celery` itself
_EXAMPLES = """\
\b
Examples:
  celery -A proj scope
  celery -A proj scope --listen-address :9808 --config celeryscope.toml
  celery -A proj -b redis://localhost:6379/1 scope
"""


class ScopeCommand(click.Command):
    """A command whose options are made when something asks for them."""

    _options: list[click.Parameter] | None = None

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the options of `celeryscope run`, and what a project adds to all of Celery's commands."""
        if self._options is None:
            self._options = _options()
        return [*self._options, *super().get_params(ctx)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options."""
        from celeryscope.options import write_options

        write_options(self.get_params(ctx), ctx, formatter)


def _options() -> list[click.Parameter]:
    from celeryscope.options import settings

    @click.command()
    @click.option("--broker-url", "--broker-url-file", hidden=True, expose_value=False, callback=_refuse)
    @settings(without=_NOT_HERE)
    def all_but_the_broker() -> None:
        pass

    return all_but_the_broker.params


def _refuse(ctx: click.Context, _: click.Parameter, given: str | None) -> None:
    if given is not None:
        raise click.UsageError(
            "the broker is the app's own here. Another one: celery -A APP -b URL scope, or celeryscope run", ctx
        )


@click.command(
    "scope",
    cls=ScopeCommand,
    short_help="Serve this cluster's metrics to Prometheus (celeryscope).",
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.pass_context
def scope(ctx: click.Context, /, **options: Any) -> None:
    """Serve the metrics of this app's cluster until SIGTERM or Ctrl-C.

    Broker, transport options, event exchange and beat schedule are the app's. All else is as for `celeryscope run`:
    options, CELERYSCOPE_* variables, the --config file.
    """
    from celeryscope.cli import serve
    from celeryscope.config import SETTINGS

    project = ctx.obj.app
    named = ctx.find_root().params.get("app")
    # A project may have added options of its own to all commands.
    given = {key: value for key, value in options.items() if key in SETTINGS}
    given["app"] = named if isinstance(named, str) else project.main or "the default app"
    ctx.exit(serve(given, options["file"], project))
