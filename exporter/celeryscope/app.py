"""The composition root: builds every room from the configuration and joins them. No logic lives here."""

import gc
import logging
import signal
import threading
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from types import MappingProxyType

import celery
from kombu.connection import Connection

from celeryscope import __version__, beat, broker
from celeryscope.clock import Clock, SystemClock
from celeryscope.config import Config
from celeryscope.events import EventDecoder
from celeryscope.metrics.catalog import ALL
from celeryscope.metrics.collector import expose, registry
from celeryscope.metrics.health import ExporterHealth
from celeryscope.metrics.store import Store
from celeryscope.monitor import CanaryRounds, Core, EventSwitching, Listener, Monitor, WorkerPolls
from celeryscope.naming import NameRules
from celeryscope.pages import HEALTH_PATHS, Site
from celeryscope.pollers.mailbox import Mailbox
from celeryscope.pollers.task_events import TaskEventsSwitch
from celeryscope.pollers.workers import WorkersPoller
from celeryscope.stream.canary import Canary
from celeryscope.stream.kombu import KombuStream
from celeryscope.stream.redis import RedisStream
from celeryscope.tracker import Tracker, TrackerSettings
from celeryscope.web import WebServer

YOUNG_OBJECTS = 50_000  # that are made between two collections: tracked tasks are many and form no cycles
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
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
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
    tracker = Tracker(store, tracker_settings(config, beat.intervals(app) if config.app else {}))
    health = ExporterHealth(store, clock, {"celery": celery.__version__})
    health.transport(broker.transport_name(app))
    stream = (RedisStream if broker.speaks_redis(app) else KombuStream)(
        partial(broker.connect, app, heartbeat=True),
        exchange,
        max_message_bytes=config.max_message_bytes,
        clock=clock,
        describe=broker.describe,
    )
    core = Core(store, tracker, health, clock)
    listener = Listener(core, stream, EventDecoder(config.accept_content))
    if config.passive:
        return Monitor(core, listener)
    mailbox = partial(Mailbox, app, connect, describe=broker.describe)
    canary = Canary(connect, exchange, describe=broker.describe)
    poller = WorkersPoller(mailbox(), lambda: tracker.askable_workers(clock.now()), tracker.worker_system)
    return Monitor(
        core,
        listener,
        CanaryRounds(core, canary, config.canary_interval, listener),
        WorkerPolls(core, poller, config.workers_poll_interval),
        EventSwitching(core, TaskEventsSwitch(mailbox())) if config.enable_events else None,
    )


def tracker_settings(config: Config, beat_intervals: Mapping[str, float] = MappingProxyType({})) -> TrackerSettings:
    """Return what the tracker is told of the configuration, and of the app's schedule."""
    return TrackerSettings(
        canary_interval=inf if config.passive else config.canary_interval,
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
        task_names=NameRules(config.task_rename, config.task_include, config.task_exclude),
        queue_names=NameRules((), config.queue_include, config.queue_exclude),
        objectives=config.objectives,
        queue_wait_objective=config.queue_wait_objective,
        beat_intervals=beat_intervals,
    )
