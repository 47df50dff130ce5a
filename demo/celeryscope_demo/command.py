"""`celeryscope demo`: a whole cluster on this machine, its exporter, and what the exporter says of it."""

import os
import sys

import click

from celeryscope.errors import CeleryscopeError
from celeryscope.options import write_options
from celeryscope_demo import address, load, terminal
from celeryscope_demo.incident_command import incident
from celeryscope_demo.options import DAY, FASTEST, SLOWEST, Finite
from celeryscope_demo.profiles import PROFILES
from celeryscope_demo.session import Options, Session
from celeryscope_demo.stopping import StopSignal

_EXAMPLES = """\
\b
Examples:
  celeryscope demo --profile peak
  celeryscope demo incident start backlog
"""


class _Demo(click.Group):
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_options(self.get_params(ctx), ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group(cls=_Demo, invoke_without_command=True, epilog=_EXAMPLES)
@click.option("--broker-url", metavar="URL", help="A broker that runs already.")
@click.option("--management-url", metavar="URL", help="RabbitMQ's management API, for the exporter.")
@click.option(
    "--listen-address",
    metavar="HOST:PORT",
    default=address.DEFAULT,
    help=f"Where /metrics is served. [{address.DEFAULT}]",
)
@click.option(
    "--seconds", type=Finite(min=0, min_open=True, max=30 * DAY), metavar="N", help="Stop after so long under load."
)
@click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    default="steady",
    metavar="NAME",
    help=f"How busy: {', '.join(PROFILES)} [steady].",
)
@click.option(
    "--rate",
    type=Finite(min=SLOWEST, max=FASTEST),
    default=1.0,
    metavar="N",
    help="Times every workload's rate.",
)
@click.option(
    "--workload", "workloads", multiple=True, metavar="NAME=RATE", help="Arrivals per second of one; 0: none."
)
@click.option("--seed", type=int, default=load.SEED, metavar="N", help="The same sends the same at the same moments.")
@click.option(
    "--monitoring/--no-monitoring",
    "wants_monitoring",
    default=True,
    help="Prometheus and Grafana, where installed [on].",
)
@click.option(
    "--hurry",
    type=Finite(min=1, max=60),
    default=1.0,
    metavar="N",
    help="Alerts come so many times sooner.",
)
@click.option(
    "--sent-events/--no-sent-events",
    default=True,
    help="task-sent events; Celery has them off [on].",
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

    The broker is an embedded Valkey, else a server on the PATH. At the end, what tasks and producers counted is
    held against what the exporter says.
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
