"""The running demo: every part of it, in the order of its start, for whoever shows it or disturbs it."""

import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import redis
from celery import Celery

from celeryscope_demo import borrowed, broker, environment, programs, store
from celeryscope_demo.address import Address, free_port
from celeryscope_demo.processes import Child, Children
from celeryscope_demo.programs import WORKERS, Worker

SETTINGS = Path(__file__).with_name("celeryscope.toml")
CONTROL_TIMEOUT = 1.0  # seconds for the broker to take a remote control command


@dataclass(frozen=True)
class Node:
    """A worker of the demo and its process."""

    kind: Worker
    child: Child

    @property
    def name(self) -> str:
        """The full node name, as metrics show it."""
        return self.kind.node.replace("%h", socket.gethostname())


@dataclass
class Cluster:
    """What runs. `broker` is None where the broker is somebody else's: it is used, never disturbed."""

    children: Children
    broker_url: str
    broker: broker.Running | None
    store_url: str
    environ: dict[str, str]  # of everything but the exporter
    provider: Child
    exporter: Child
    workers: dict[str, Node] = field(default_factory=dict)
    beat: Child | None = None

    @cached_property
    def store(self) -> redis.Redis:
        """The application's own Redis."""
        return store.connect_in_haste(self.store_url)

    @cached_property
    def control(self) -> Celery:
        """An application that knows no task, to send remote control commands with."""
        app = Celery("control", broker=self.broker_url, set_as_current=False)
        # Redis knows no other timeouts.
        timeouts = {"socket_connect_timeout": CONTROL_TIMEOUT, "socket_timeout": CONTROL_TIMEOUT}
        app.conf.update(broker_connection_timeout=CONTROL_TIMEOUT, broker_transport_options=timeouts)
        return app

    def command(self, node: Node, name: str, **arguments: object) -> None:
        """Send a worker a remote control command; it is not waited for.

        Raises kombu's OperationalError where the broker is not there.
        """
        with self.control.connection_for_write() as connection:
            # Publishing alone would try again until the broker is back.
            connection.ensure_connection(max_retries=0, timeout=CONTROL_TIMEOUT)
        self.control.control.broadcast(name, arguments, destination=[node.name])

    def start_workers(self) -> None:
        """Start every worker; does not wait for them."""
        for kind in WORKERS:
            self.workers[kind.name] = Node(kind, self.children.start(programs.worker(kind, self.environ)))

    def start_producers(self, load: Sequence[str]) -> None:
        """Start what sends tasks; `load` are options of the load."""
        self.beat = self.children.start(programs.beat(self.environ))
        self.children.start(programs.load(load, self.environ))


def start(
    children: Children,
    broker_url: str | None,
    listen: Address,
    management_url: str | None,
    tell: Callable[[str, str], None],
    *,
    sent_events: bool,
) -> Cluster:
    """Start the broker where none is given, the store, the provider, the exporter and the workers.

    `tell` is told the name of each part and a line about it. Raises ChildFailed, NoBroker, Stopped.
    """
    server = broker.find_server(broker.packaged_server, shutil.which)
    if broker_url:
        embedded = None
        exporter_url = broker_url
        tell("broker", f"{borrowed.masked(broker_url)}: yours, so none is started")
    else:
        embedded = broker.start(server, children, "broker", broker.BROKER_OPTIONS)
        broker_url, exporter_url = f"{embedded.url}/0", f"{embedded.url_for(broker.EXPORTER_USER)}/0"
        tell("broker", f"{embedded.version} ({server.origin}) at {broker_url}, pid {embedded.child.pid}")
    own = broker.start(server, children, "store")
    tell("store", f"{own.version} at {own.url}: limits, locks and results, pid {own.child.pid}")
    port = free_port()
    environ = {
        "CELERY_BROKER_URL": broker_url,
        environment.STORE_URL: own.url,
        environment.PROVIDER_URL: f"http://127.0.0.1:{port}",
        environment.SENT_EVENTS: "yes" if sent_events else "no",
    }
    exporter_environ = {**environ, "CELERY_BROKER_URL": exporter_url}
    if management_url:
        exporter_environ[environment.MANAGEMENT_URL] = management_url
    exporter = children.start(programs.exporter(listen, ["--config", str(SETTINGS)], exporter_environ))
    tell("exporter", f"celeryscope run --listen-address {listen} ..., pid {exporter.pid}")
    provider = children.start(programs.provider(port, environ))
    tell(
        "provider", f"a third party with limits and outages at {environ[environment.PROVIDER_URL]}, pid {provider.pid}"
    )
    cluster = Cluster(children, broker_url, embedded, own.url, environ, provider, exporter)
    cluster.start_workers()
    return cluster
