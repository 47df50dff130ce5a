"""`celeryscope rules`: print the rules with chosen settings."""

from collections.abc import Iterable

import click

from celeryscope.errors import ConfigError
from celeryscope.rules import core, extra, recording, render
from celeryscope.rules.model import Alert, Group
from celeryscope.rules.settings import DASHBOARDS, RUNBOOKS, THRESHOLDS, Settings, choose

PARTS = {"recording": recording.groups, "core": core.groups, "extra": extra.groups}
HEAD = "# Written by `celeryscope rules {part}`, which can choose thresholds, labels and links. Do not edit.\n"

_EXAMPLES = """\
\b
Examples:
  celeryscope rules recording core > celery.rules.yml
  celeryscope rules core --set retry_ratio=1 --for CeleryBrokerDown=5m
  celeryscope rules --kubernetes --namespace monitoring | kubectl apply -f -
"""


def alert_names() -> frozenset[str]:
    """The names of all alerts."""
    return frozenset(
        rule.name
        for part in PARTS.values()
        for group in part(Settings())
        for rule in group.rules
        if isinstance(rule, Alert)
    )


def excluding_names() -> frozenset[str]:
    """The names of the alerts that can leave tasks out."""
    settings = Settings(excluded=dict.fromkeys(alert_names(), "left out"))
    return frozenset(
        rule.name
        for part in PARTS.values()
        for group in part(settings)
        for rule in group.rules
        if isinstance(rule, Alert) and "left out" in rule.expr
    )


def committed(part: str) -> str:
    """What `alerts/<part>.rules.yml` holds: the part with the default settings."""
    return render.prometheus(PARTS[part](Settings()), Settings(), HEAD.format(part=part))


def _pairs(option: str, given: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name or not value:
            raise ConfigError(f"{option} {text}: expected NAME=VALUE")
        pairs[name] = value
    return pairs


def _show_thresholds(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        width = max(map(len, THRESHOLDS))
        for name, found in THRESHOLDS.items():
            click.echo(f"{name:<{width}}  {found.default:<8g} {found.meaning} ({found.least:g} to {found.most:g})")
        ctx.exit()


@click.command(epilog=_EXAMPLES)
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)), metavar="[recording|core|extra]...")
@click.option("--set", "thresholds", multiple=True, metavar="NAME=NUMBER", help="A threshold; --thresholds lists them.")
@click.option("--for", "holds", multiple=True, metavar="ALERT=DURATION", help="How long it has to hold until it fires.")
@click.option("--disable", multiple=True, metavar="ALERT", help="Leave an alert out.")
@click.option("--exclude-task", multiple=True, metavar="ALERT=REGEX", help="Tasks that an alert does not concern.")
@click.option("--required-queues", default="", metavar="REGEX", help="Queues without workers page, seen before or not.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label of every alert.")
@click.option("--group-by", multiple=True, metavar="LABEL", help="Labels, beside job, that tell clusters apart.")
@click.option("--replica-label", default="instance", metavar="LABEL", help="What tells exporters apart [instance].")
@click.option("--runbooks", default=RUNBOOKS, metavar="URL", help=f"Default: {RUNBOOKS}")
@click.option("--dashboards", default=DASHBOARDS, metavar="URL", help=f"Grafana [{DASHBOARDS}].")
@click.option("--kubernetes", is_flag=True, help="Print a PrometheusRule manifest.")
@click.option("--name", metavar="NAME", help="The manifest's name [celeryscope].")
@click.option("--namespace", metavar="NAME", help="The manifest's namespace.")
@click.option(
    "--thresholds",
    "show_thresholds",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_thresholds,
    help="List the thresholds.",
)
def rules(
    parts: tuple[str, ...],
    thresholds: tuple[str, ...],
    holds: tuple[str, ...],
    disable: tuple[str, ...],
    exclude_task: tuple[str, ...],
    required_queues: str,
    labels: tuple[str, ...],
    group_by: tuple[str, ...],
    replica_label: str,
    runbooks: str,
    dashboards: str,
    kubernetes: bool,
    name: str | None,
    namespace: str | None,
) -> None:
    """Print rules for Prometheus: all, or those that are named.

    Alerts (core, extra) build on the recording rules: load these too.
    """
    if not kubernetes and (name or namespace):
        raise click.UsageError(f"{'--name' if name else '--namespace'} is that of a manifest: add --kubernetes")
    try:
        settings = choose(
            alerts=alert_names(),
            excluding=excluding_names(),
            thresholds=_pairs("--set", thresholds),
            holds=_pairs("--for", holds),
            disabled=frozenset(disable),
            excluded=_pairs("--exclude-task", exclude_task),
            required_queues=required_queues,
            labels=_pairs("--label", labels),
            group_by=group_by,
            replica_label=replica_label,
            runbooks=runbooks,
            dashboards=dashboards,
        )
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    chosen = list(dict.fromkeys(parts)) or list(PARTS)
    groups: list[Group] = [group for part in chosen for group in PARTS[part](settings)]
    if kubernetes:
        click.echo(render.manifest(groups, settings, name or "celeryscope", namespace), nl=False)
    else:
        click.echo(render.prometheus(groups, settings), nl=False)
