"""The composition root: builds every room from the configuration and joins them. No logic lives here."""

import gc
import logging
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import inf
from types import MappingProxyType

import celery
from kombu.connection import Connection

from celeryscope import __version__, beat, broker, logs, runbooks
from celeryscope.clock import Clock, SystemClock
from celeryscope.config import Config
from celeryscope.errors import ConfigError
from celeryscope.events import EventDecoder
from celeryscope.loops.canary import CanaryRounds
from celeryscope.loops.core import Core
from celeryscope.loops.listener import Listener
from celeryscope.loops.polls import WorkerPolls
from celeryscope.loops.queues import QueuePolls
from celeryscope.loops.switching import EventSwitching
from celeryscope.metrics.catalog import ALL
from celeryscope.metrics.collector import expose, registry
from celeryscope.metrics.health import ExporterHealth
from celeryscope.metrics.store import Store
from celeryscope.monitor import Monitor
from celeryscope.naming import NameRules
from celeryscope.pages import HEALTH_PATHS, Site
from celeryscope.pollers import BrokerPoller
from celeryscope.pollers.amqp import AmqpPoller
from celeryscope.pollers.generic import GenericPoller
from celeryscope.pollers.mailbox import Mailbox
from celeryscope.pollers.management import ManagementPoller
from celeryscope.pollers.redis import RedisPoller
from celeryscope.pollers.sqs import SqsPoller
from celeryscope.pollers.task_events import TaskEventsSwitch
from celeryscope.pollers.workers import WorkersPoller
from celeryscope.stream.canary import Canary
from celeryscope.stream.kombu import KombuStream
from celeryscope.stream.redis import RedisStream
from celeryscope.tracker import Tracker, TrackerSettings
from celeryscope.web import WebServer
from celeryscope.web.policy import OPEN, Policy, PolicyFile

YOUNG_OBJECTS = 50_000  # that are made between two collections: tracked tasks are many and form no cycles
STOP_TIMEOUT = 1.5  # seconds, of the 2 that a stop may take: a worker may be asked just now

logger = logging.getLogger(__name__)


def run(config: Config, project: celery.Celery | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Raises ConfigError for what can never work.

    `project` is the project's app where that is loaded already.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    clock = SystemClock()
    app = broker.celery_app(config, project)
    monitor = build(config, app, clock)
    if config.app:
        logs.setup(config.log_level, config.log_format)  # the project's own code may have set up logs of its own
    site = Site(
        expose=partial(expose, registry(monitor.store)),
        ready=monitor.is_ready,
        status=partial(monitor.status, broker.broker_address(app)),
        runbook=runbooks.find,
    )
    host, port = config.listen_address
    server = WebServer(host, port, site.answer, always=HEALTH_PATHS, policy=web_policy(config, clock), clock=clock)
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


def web_policy(config: Config, clock: Clock) -> Callable[[], Policy]:
    """Return what tells the web server what to ask of clients. Raises ConfigError."""
    return PolicyFile(config.web_config_file, clock).current if config.web_config_file else lambda: OPEN


def build(config: Config, app: celery.Celery, clock: Clock) -> Monitor:
    """Return the monitor of one broker."""
    connect: Callable[[], Connection] = partial(broker.connect, app)
    exchange = config.event_exchange or app.conf.event_exchange
    store = Store(ALL, config.series_limit)
    settings = tracker_settings(config, beat.intervals(app) if config.app else {})
    tracker = Tracker(store, replace(settings, hears=broker.carries_events(app)))
    health = ExporterHealth(store, clock, {"celery": celery.__version__})
    health.transport(broker.transport_name(app))
    core = Core(store, tracker, health, clock)
    queue_polls = QueuePolls(core, queue_poller(config, app, core), config.queues_poll_interval)
    if not broker.carries_events(app):
        name = broker.transport_name(app)
        logger.warning("the transport %s carries neither events nor remote control: only queues are shown", name)
        return Monitor(core, queue_polls=queue_polls)
    stream = (RedisStream if broker.speaks_redis(app) else KombuStream)(
        partial(broker.connect, app, heartbeat=True),
        exchange,
        max_message_bytes=config.max_message_bytes,
        clock=clock,
        describe=broker.describe,
    )
    listener = Listener(core, stream, EventDecoder(config.accept_content))
    if config.passive:
        return Monitor(core, listener, queue_polls=queue_polls)

    def askable() -> list[str]:
        with store.lock:
            return tracker.askable_workers(clock.now())

    mailbox = partial(Mailbox, app, connect, describe=broker.describe)
    canary = Canary(connect, exchange, describe=broker.describe)
    poller = WorkersPoller(mailbox(), askable, tracker.worker_system, clock)
    return Monitor(
        core,
        listener,
        CanaryRounds(core, canary, config.canary_interval, listener),
        WorkerPolls(core, poller, config.workers_poll_interval),
        EventSwitching(core, TaskEventsSwitch(mailbox())) if config.enable_events else None,
        queue_polls,
    )


def queue_poller(config: Config, app: celery.Celery, core: Core) -> BrokerPoller:
    """Return what asks this kind of broker for its queues. Raises ConfigError where the settings do not fit it."""
    connect: Callable[[], Connection] = partial(broker.connect, app)

    rules = queue_names(config)

    def known() -> set[str]:
        with core.store.lock:
            return core.tracker.known_queues()

    def keeps(name: str) -> bool:
        return rules.apply(name) is not None

    if broker.speaks_amqp(app):
        by_name = AmqpPoller(connect, known, keeps, describe=broker.describe)
        if not config.management_url:
            return by_name
        return ManagementPoller(config.management_url, broker.virtual_host(app), known, keeps, fallback=by_name)
    if config.management_url:
        raise ConfigError(f"management_url is RabbitMQ's, and the broker's transport is {broker.transport_name(app)}")
    if broker.speaks_redis(app):
        return RedisPoller(connect, known, keeps, describe=broker.describe, clock=core.clock)
    poller = SqsPoller if broker.transport_name(app) == broker.SQS_TRANSPORT else GenericPoller
    return poller(connect, known, keeps, describe=broker.describe)


def queue_names(config: Config) -> NameRules:
    """Return which queues are shown."""
    return NameRules((), config.queue_include, config.queue_exclude)


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
        queue_names=queue_names(config),
        objectives=config.objectives,
        queue_wait_objective=config.queue_wait_objective,
        queues=config.queues,
        poll_stale_after=config.poll_stale_after,
        beat_intervals=beat_intervals,
    )
