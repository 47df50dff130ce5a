"""`celeryscope demo incident`: cause an incident in the demo that runs in another terminal."""

import textwrap

import click
import redis

from celeryscope_demo import runfile, store, switches
from celeryscope_demo.incidents import requests
from celeryscope_demo.incidents.all import INCIDENTS
from celeryscope_demo.options import DAY, Finite

TIMEOUT = 15.0  # seconds for the demo to answer
WIDTH = 100

_pid = click.option("--pid", type=int, help="The demo's process, where several run.")


@click.group()
def incident() -> None:
    """Cause an incident in the demo that runs, and see what it looks like."""


@incident.command("list")
@_pid
def list_incidents(pid: int | None) -> None:
    """Show every incident, and which are on."""
    on, hint = set[str](), ""
    try:
        on = set(switches.read(store.connect(runfile.find(pid).store_url)))
    except (runfile.NoDemo, redis.RedisError) as error:
        if pid is not None:
            raise click.ClickException(str(error)) from error
        hint = f"\n{error}"
    width = max(map(len, INCIDENTS))
    for name, found in INCIDENTS.items():
        mark = "*" if name in on else " "
        lines = textwrap.wrap(found.summary, WIDTH - width - 4)
        click.echo(f"{mark} {name:<{width}}  {lines[0]}")
        for line in lines[1:]:
            click.echo(f"{'':<{width + 4}}{line}")
    click.echo("\n* is on now" if on else "\ncauses one: celeryscope demo incident start NAME")
    if hint:
        click.echo(hint)


@incident.command(epilog="\b\nExamples:\n  celeryscope demo incident start backlog --seconds 60")
@click.argument("name", type=click.Choice(list(INCIDENTS)), metavar="NAME")
@click.option("--seconds", type=Finite(min=1, max=DAY), help="How long it lasts; each has a time of its own.")
@_pid
def start(name: str, seconds: float | None, pid: int | None) -> None:
    """Cause one; it ends by itself. What an operator will see is printed."""
    _ask("start", name, seconds, pid)


@incident.command(epilog="\b\nExamples:\n  celeryscope demo incident stop backlog")
@click.argument("name", required=False, type=click.Choice(list(INCIDENTS)), metavar="[NAME]")
@_pid
def stop(name: str | None, pid: int | None) -> None:
    """End one before its time, or all that are on."""
    _ask("stop", name, None, pid)


def _ask(do: str, name: str | None, seconds: float | None, pid: int | None) -> None:
    try:
        found = runfile.find(pid)
        answer = requests.ask(store.connect(found.store_url), do, name, seconds, TIMEOUT)
    except runfile.NoDemo as error:
        raise click.ClickException(str(error)) from error
    except redis.RedisError as error:
        raise click.ClickException(f"the demo's store does not answer: {error}") from error
    if answer is None:
        raise click.ClickException(f"the demo (pid {found.pid}) does not answer after {TIMEOUT:.0f} s")
    if not answer.ok:
        raise click.ClickException(answer.text)
    first, *rest = answer.text.splitlines()
    click.echo(first)
    for line in rest:
        click.echo(textwrap.fill(line, WIDTH, initial_indent="  ", subsequent_indent="  "))
    if do == "start":
        click.echo(f"  It ends by itself, or with: celeryscope demo incident stop {name}\n  {found.metrics_url}")
