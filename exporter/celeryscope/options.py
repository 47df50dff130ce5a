"""Settings as options of commands, and help that fits a screen."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from celeryscope import config
from celeryscope.settings import Setting

#: Settings that nearly everybody needs: `--help` shows these, `--help-all` shows all.
USUAL = frozenset(
    {
        *("broker_url", "broker_url_file", "app", "queues", "management_url"),
        *("enable_events", "listen_address", "web_config_file", "log_level", "log_format"),
    }
)
NAMES_WIDTH = 42  # columns of help, at most
_ALL = "celeryscope.options.all"  # in a context: everything is to be shown

Command = Callable[..., None]


class GroupedCommand(click.Command):
    """A command whose help shows the usual settings, or all by group; what is no setting comes last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options."""
        write_options(self.get_params(ctx), ctx, formatter)


def write_options(parameters: Iterable[click.Parameter], ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the usual options, or all of them by group where all were asked for."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in parameters:
        row = parameter.get_help_record(ctx)
        setting = config.SETTINGS.get(parameter.name or "")
        if row is None or (setting is not None and setting.key not in USUAL and not ctx.meta.get(_ALL)):
            continue
        names = re.sub(r"--(\S+) / --no-\1", r"--[no-]\1", row[0])
        group = "Options" if not ctx.meta.get(_ALL) else setting.group if setting else "Other"
        groups.setdefault(group, []).append((names, row[1]))
    for group, rows in groups.items():
        with formatter.section(group):
            formatter.write_dl(rows, col_max=NAMES_WIDTH)


def settings(*, without: Iterable[str] = ()) -> Callable[[Command], Command]:
    """Return a decorator that adds an option for every setting but some, `--config` and `--help-all`.

    Values stay text: the configuration alone parses them.
    """
    left_out = frozenset(without)

    def decorate(command: Command) -> Command:
        command = _FILE(_HELP_ALL(command))
        for setting in reversed(tuple(config.SETTINGS.values())):
            if setting.key not in left_out:
                command = _option(setting)(command)
        return command

    return decorate


def _option(setting: Setting) -> Callable[[Command], Command]:
    if setting.default is False:
        names = [f"{setting.flags[-1]}/--no-{setting.flags[-1].removeprefix('--')}"]
        return click.option(*names, setting.key, default=None, help=setting.help, allow_from_autoenv=False)
    default = setting.kind.show(setting.default) if setting.default else ""
    return click.option(
        *setting.flags,
        setting.key,
        metavar=setting.kind.metavar,
        multiple=setting.repeated,
        help=f"{setting.help} [{default}]" if default and len(default) <= 20 else setting.help,
        type=click.Path() if setting.kind.metavar == "FILE" else None,
        shell_complete=_completing(setting.kind.words) if setting.kind.words else None,
        allow_from_autoenv=False,  # of the `celery` command: every setting has a variable of its own
    )


def _completing(words: Iterable[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    return lambda _ctx, _parameter, begun: [word for word in words if word.startswith(begun)]


def _print_all(ctx: click.Context, _: click.Parameter, asked: Any) -> None:
    if asked and not ctx.resilient_parsing:
        ctx.meta[_ALL] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


_FILE = click.option(
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="TOML: settings, and what to expect of tasks.",
    allow_from_autoenv=False,
)
_HELP_ALL = click.option(
    "--help-all",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_all,
    help="Show all settings: names, times, bounds.",
    allow_from_autoenv=False,
)
