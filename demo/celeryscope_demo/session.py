"""One run of the demo: everything is started, shown, compared with the ledger, and ended."""

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

import redis

from celeryscope_demo import address, borrowed, cluster, ledger, runfile, scrape, terminal
from celeryscope_demo.address import Address
from celeryscope_demo.audit import Audit, exported
from celeryscope_demo.cluster import Cluster
from celeryscope_demo.incidents.director import Director
from celeryscope_demo.monitoring import Monitoring
from celeryscope_demo.processes import Children, Stage
from celeryscope_demo.programs import WORKERS
from celeryscope_demo.stopping import Stopped, StopSignal

EXPORTER_TIMEOUT = 20.0  # seconds until it serves
WORKERS_TIMEOUT = 30.0  # seconds until the exporter has seen them; the load starts in any case
AUDIT_TIMEOUT = 8.0  # seconds for the exporter to have counted what the ledger has
CHECK = 0.2  # seconds between looks at the children
PAGES = 2.0  # seconds between looks at what Alertmanager sent


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    listen: Address
    broker_url: str | None  # None: one of its own
    seconds: float | None  # None: till a stop is asked for
    hurry: float | None  # how many times sooner alerts come; None: without Prometheus and what belongs to it
    sent_events: bool
    load: Sequence[str]  # options of the load
    management_url: str | None  # RabbitMQ's management API, for the exporter


class Session:
    """One run: what is started, in order, what is shown of it, and how it ends."""

    def __init__(self, options: Options, screen: terminal.Screen, stop: StopSignal) -> None:
        self._options = options
        self._address = options.listen
        self._broker_url = options.broker_url
        self._screen = screen
        self._stop = stop
        self._history = scrape.History()
        self._pager: Address | None = None
        self._pages = 0  # that were shown
        self._look_at_pages = 0.0
        self._links = [f"{options.listen.url}metrics", f"{options.listen.url} (status page)"]

    def run(self) -> None:
        """Start everything, show it for as long as was asked for or until a stop is, end everything."""
        address.require_free(self._address)
        if self._options.management_url and not borrowed.speaks_amqp(self._broker_url):
            raise borrowed.BrokerUnusable("--management-url is RabbitMQ's: give its --broker-url amqp://... too")
        if self._broker_url:
            borrowed.require_usable(self._broker_url)
        self._screen.line("celeryscope demo: a Celery cluster on this machine, and its exporter")
        children = Children(os.environ, self._stop)
        try:
            running = self._start(children)
            director = Director(running)
            try:
                self._show(children, director)
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
                borrowed.remove_queues(self._broker_url)
            except borrowed.BrokerUnusable as error:
                self._screen.line(str(error))

    def _start(self, children: Children) -> Cluster:
        options = self._options
        running = cluster.start(
            children,
            options.broker_url,
            options.listen,
            options.management_url,
            self._step,
            sent_events=options.sent_events,
        )
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
        running.start_producers(options.load)
        self._step("load", f"{' '.join(options.load)}, and what runs by the clock (beat)")
        self._step("logs", f"{children.folder} (removed at the end)")
        runfile.write(children.folder, runfile.Found(os.getpid(), running.store_url, f"{self._address.url}metrics"))
        if options.hurry is not None:
            servers = Monitoring(children, self._step, shutil.which, options.hurry)
            servers.start(self._address)
            self._pager = servers.pager
            self._links += [f"{url} ({name})" for name, url in servers.urls.items()]
        if not self._screen.live_capable:
            self._step("look at", "   ".join(self._links))
            self._step("try", "celeryscope demo incident list   (in another terminal)")
        return running

    def _show(self, children: Children, director: Director) -> None:
        seconds = self._options.seconds
        deadline = None if seconds is None else time.monotonic() + seconds
        shown = -self._screen.interval
        while not self._screen.closed:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return
            for news in [*children.check(), *director.step(), *self._paged()]:
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
        if not self._options.sent_events:
            self._screen.line("no comparison with the ledger: without task-sent events the exporter knows few queues")
            return
        deadline = time.monotonic() + AUDIT_TIMEOUT
        while True:
            try:
                found = Audit(ledger.read(running.store), exported(self._get("/metrics")[1]))
            except OSError as error:
                self._screen.line(f"no comparison with the ledger: the exporter does not answer: {error}")
                return
            except redis.RedisError as error:
                self._screen.line(f"no comparison with the ledger: the store does not answer: {error}")
                return
            if not found.differences or time.monotonic() > deadline or self._stop.count > 1:
                break
            time.sleep(CHECK)
        for line in found.table(colour=self._screen.live_capable):
            self._screen.line(f"  {line}")
        self._screen.line(found.verdict)
        if found.differences and incidents:
            self._screen.line(f"what incidents take cannot be counted; there were: {', '.join(incidents)}")

    def _paged(self) -> list[str]:
        """What Alertmanager has sent since the last look: a line for each message."""
        if self._pager is None or time.monotonic() < self._look_at_pages:
            return []
        self._look_at_pages = time.monotonic() + PAGES
        try:
            _, body = scrape.get(self._pager.host, self._pager.port, f"/pages?since={self._pages}")
            pages = json.loads(body)
        except (OSError, ValueError):
            return []  # it is started, or started again
        self._pages += len(pages)
        return [f"{page['receiver']}: {page['title']}" for page in pages if page["receiver"] != "watchdog"]

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
