"""The composition root: builds every room from the configuration and joins them. No logic lives here."""

import logging
import signal
import threading
from collections.abc import Callable
from functools import partial

import celery
from kombu.connection import Connection

from celeryscope import __version__, broker
from celeryscope.clock import Clock, SystemClock
from celeryscope.config import Config
from celeryscope.events import EventDecoder
from celeryscope.metrics.catalog import ALL
from celeryscope.metrics.collector import expose, registry
from celeryscope.metrics.health import ExporterHealth
from celeryscope.metrics.store import Store
from celeryscope.monitor import CanaryRounds, Core, Listener, Monitor, WorkerPolls
from celeryscope.pages import HEALTH_PATHS, Site
from celeryscope.pollers.workers import WorkersPoller
from celeryscope.stream.canary import Canary
from celeryscope.stream.redis import RedisStream
from celeryscope.tracker import Tracker, TrackerSettings
from celeryscope.web import WebServer

STOP_TIMEOUT = 1.5  # seconds, of the 2 that a stop may take: a worker may be asked just now

logger = logging.getLogger(__name__)


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Raises ConfigError for what can never work."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    clock = SystemClock()
    app = broker.celery_app(config)
    monitor = build(config, app, clock)
    site = Site(expose=partial(expose, registry(monitor.store)), ready=monitor.is_ready)
    host, port = config.listen_address
    server = WebServer(host, port, site.answer, always=HEALTH_PATHS, clock=clock)
    server.start()
    logger.info("celeryscope %s serves %s/metrics", __version__, server.url)
    monitor.start()
    try:
        stop.wait()
    finally:
        server.stop()
        unfinished = monitor.stop(STOP_TIMEOUT)
    if unfinished:
        logger.warning("stopped while these were still waiting for the network: %s", ", ".join(unfinished))
    logger.info("stopped")
    return 0


def build(config: Config, app: celery.Celery, clock: Clock) -> Monitor:
    """Return the monitor of one broker."""
    connect: Callable[[], Connection] = partial(broker.connect, app)
    exchange = config.event_exchange or app.conf.event_exchange
    store = Store(ALL, config.series_limit)
    tracker = Tracker(store, tracker_settings(config))
    health = ExporterHealth(store, clock, {"celery": celery.__version__})
    health.transport(broker.transport_name(app))
    stream = RedisStream(
        connect, exchange, max_message_bytes=config.max_message_bytes, clock=clock, describe=broker.describe
    )
    core = Core(store, tracker, health, clock)
    listener = Listener(core, stream, EventDecoder(config.accept_content))
    canary = Canary(connect, exchange, describe=broker.describe)
    poller = WorkersPoller(
        app,
        connect,
        known=lambda: tracker.askable_workers(clock.now()),
        system=tracker.worker_system,
        describe=broker.describe,
    )
    return Monitor(
        core,
        listener,
        CanaryRounds(core, canary, config.canary_interval, listener),
        WorkerPolls(core, poller, config.workers_poll_interval),
    )


def tracker_settings(config: Config) -> TrackerSettings:
    """Return what the tracker is told of the configuration."""
    return TrackerSettings(
        canary_interval=config.canary_interval,
        worker_timeout=config.worker_timeout,
        solo_worker_timeout=config.solo_worker_timeout,
        worker_retention=config.worker_retention,
        orphan_timeout=config.orphan_timeout,
        task_ttl=config.task_ttl,
        pair_retention=config.pair_retention,
        max_tracked_tasks=config.max_tracked_tasks,
        max_sent_tasks=config.max_sent_tasks,
        runtime_buckets=config.runtime_buckets,
        wait_buckets=config.wait_buckets,
        prefetch_histogram=config.prefetch_histogram,
        rate_limit_exceptions=frozenset(config.rate_limit_exceptions),
    )
