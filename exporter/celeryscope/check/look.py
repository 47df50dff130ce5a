"""One look at a cluster: everything is asked at once, and whatever happens it is over within `LONGEST` seconds."""

from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import partial
from threading import Event
from typing import Any

from celery import Celery
from kombu.connection import Connection

from celeryscope import broker
from celeryscope.check.asking import Asking
from celeryscope.check.broker import is_local
from celeryscope.check.facts import Facts, Gap, Heads, Heard, Keys, Project
from celeryscope.check.jobs import Job
from celeryscope.check.listening import Listening
from celeryscope.check.project import read_project
from celeryscope.check.surveying import read_heads, read_keys
from celeryscope.clock import Clock
from celeryscope.config import Config
from celeryscope.connections import drop, open_now
from celeryscope.diagnosis import reason_of
from celeryscope.errors import ConfigError, PollError
from celeryscope.events import EventDecoder
from celeryscope.naming import NameRules
from celeryscope.pollers import BrokerPoller
from celeryscope.pollers.amqp import AmqpPoller
from celeryscope.pollers.generic import GenericPoller
from celeryscope.pollers.mailbox import Mailbox
from celeryscope.pollers.management import ManagementPoller
from celeryscope.pollers.redis import RedisPoller
from celeryscope.pollers.redis_link import Link
from celeryscope.pollers.sqs import SqsPoller
from celeryscope.readings import BrokerReading
from celeryscope.redaction import redact
from celeryscope.stream.canary import Canary
from celeryscope.stream.kombu import KombuStream
from celeryscope.stream.redis import RedisStream

LONGEST = 8.0  # seconds that a look takes at most: with the start of Python below 10
REACH = 3.5  # seconds in which the broker has to let us in
NEVER = 10 * 365 * 86_400.0  # seconds
TIMEOUT = 3.0  # seconds for one answer of the broker
LISTEN = 5.0  # seconds of the event stream: two heartbeats and more
ASK_AGAIN = 2.3  # seconds into the listening, when those that are heard and have not answered are asked by name
AFTERWARDS = 0.5  # seconds after that question from which a heartbeat shows that the worker could have answered
SCAN = 1.5  # seconds for the keys of a Redis database
WORKERS = 3.5  # seconds that the queues wait for the workers, who know their names

Tell = Callable[[str], None]


def bound(app: Celery) -> float | None:
    """Let no answer of the broker take longer than fits into a look, and let us deliver nobody's messages again.

    Return the app's own visibility timeout, in seconds, where it has one. Raises ConfigError.
    """
    options = app.conf.broker_transport_options
    if broker.speaks_redis(app):
        names = ("socket_timeout", "socket_connect_timeout")
    elif broker.speaks_amqp(app):
        names = ("read_timeout", "write_timeout")
    else:
        return None
    changed = {name: min(_seconds(options, name) or TIMEOUT, TIMEOUT) for name in names}
    own = _seconds(options, "visibility_timeout")
    if broker.speaks_redis(app):
        # Whoever waits for answers with kombu puts messages back into their queues that were not acknowledged for as
        # long as his own timeout says, which is not the workers'.
        changed["visibility_timeout"] = NEVER
    app.conf.broker_transport_options = {**options, **changed}
    app.conf.broker_connection_timeout = min(app.conf.broker_connection_timeout or TIMEOUT, TIMEOUT)
    return own


def _seconds(options: Mapping[str, Any], name: str) -> float | None:
    value = options.get(name)
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"the transport option {name} cannot be {value!r}: it is a number of seconds") from None


def has_credentials(connection: Any) -> bool:
    """Whether a kombu connection brings a password, another proof of who we are, or a certificate of ours."""
    tls = connection.ssl if isinstance(connection.ssl, Mapping) else {}
    return bool(connection.password or getattr(connection, "credential_provider", None) or tls.get("ssl_certfile"))


class Look:
    """Collects the facts of one cluster."""

    def __init__(self, config: Config, app: Celery, clock: Clock, tell: Tell = lambda _: None) -> None:
        """`app` is bounded here; `tell` is called with what is being done, for a person who waits."""
        self._visibility_timeout = bound(app)
        self._config, self._app, self._clock, self._tell = config, app, clock, tell
        self._connect: Callable[[], Connection] = partial(broker.connect, app)
        self._gaps: list[Gap] = []
        self._names: set[str] = set(config.queues)  # of queues
        self._answered = Event()  # the workers have, or nobody waits for them any more
        self._asked_again_at: float | None = None  # Unix seconds
        self._listening: Listening | None = None
        self._asking: Asking | None = None
        self._poller: BrokerPoller = self._poller_of_broker()

    def facts(self) -> Facts:
        """Return all that could be seen. Raises PollError where the broker cannot be reached."""
        clock, config, app = self._clock, self._config, self._app
        project = self._project() if config.app else None  # it takes as long as the project's own code does
        end = clock.now().elapsed + LONGEST
        self._tell(f"connecting to {broker.broker_address(app)}")
        self._reach(clock.now().elapsed + REACH)
        carries = broker.carries_events(app)
        listen_until = min(clock.now().elapsed + LISTEN, end - 0.7)
        hearing: Job[Heard] | None = None
        asking: Job[None] | None = None
        if carries:
            listening = self._listening = self._new_listening()
            hearing = Job("stream", partial(listening.run, lambda: clock.now().elapsed >= listen_until), clock)
            if config.passive:
                self._gap("workers", "--passive asks them nothing: settings, queues, tasks and limits are not known")
            else:
                mailbox = Mailbox(app, self._connect, describe=broker.describe)
                self._asking = Asking(mailbox, clock, end - 1.0)
                asking = Job("workers", partial(self._ask, self._asking, listening, listen_until), clock)
        else:
            why = f"the transport {broker.transport_name(app)} carries neither events nor remote control"
            self._gap("events and workers", why)
        if asking is None:
            self._answered.set()
        survey: Job[tuple[BrokerReading, tuple[Heads, ...], Keys | None]]
        survey = Job("broker", partial(self._survey, listen_until), clock)
        self._wait_for_workers(asking)
        self._tell(f"listening to events for {LISTEN:.0f} s" if carries else "asking the broker for its queues")

        heard = self._outcome(hearing, "events", end)
        self._outcome(asking, "workers", end)
        told = self._outcome(survey, "broker", end)
        if heard is None and self._listening is not None and self._listening.subscribed.is_set():
            heard = self._listening.result()
        if heard is not None and not (heard.proven or heard.beats or config.passive):
            unsent = self._listening.unsent if self._listening is not None else None
            why = "our own canary did not come back, so silence means nothing"
            self._gap("events", why if unsent is None else f"our own canary: {unsent}", unexpected=True)
        # What came before a question failed is told.
        answered = dict(self._asking.workers) if self._asking is not None else {}
        workers = answered if answered or (asking is not None and asking.failure is None) else None
        mute, silent = self._unanswered(heard, set(answered)) if workers is not None else (frozenset(), frozenset())
        reading, heads, keys = told or (None, (), None)
        connection: Any = self._connect()
        return Facts(
            now=clock.now().wall,
            transport=broker.transport_name(app),
            address=broker.broker_address(app),
            local=is_local(connection.hostname or ""),
            credentials=has_credentials(connection),
            own_visibility_timeout=self._visibility_timeout,
            wanted_queues=frozenset(config.queues),
            allowed_wait={
                queue.queue: self._allowed_wait(queue.queue) for queue in (reading.queues if reading else ())
            },
            heard=heard,
            workers=workers,
            mute=mute,
            silent=silent,
            broker=reading,
            heads=heads,
            keys=keys,
            project=project,
            gaps=tuple(self._gaps),
        )

    def _reach(self, until: float) -> None:
        """Open a connection and let it go: what is wrong with the broker is told once, and soon."""

        def reach() -> bool:
            connection: Any = self._connect()
            try:
                open_now(connection)
                if broker.speaks_redis(self._app):
                    connection.channel()
            finally:
                with suppress(Exception):
                    drop(connection)
            return True

        job = Job("reach", reach, self._clock)
        if not job.wait(until):
            late = f"{broker.broker_address(self._app)} did not answer within {REACH:g} s"
            reason = job.failure if job.over else f"{late}: is it frozen, or does a firewall drop what is sent there?"
            raise PollError(reason or late)

    def _project(self) -> Project | None:
        self._tell("importing the project")
        try:
            project = read_project(self._app)
        except Exception as error:  # noqa: BLE001  # the project's own code may raise anything
            why = redact(f"{type(error).__name__}: {reason_of(error)}")
            self._gap("the project's schedule and routes", why, unexpected=True)
            return None
        self._names |= set(project.routes.values())
        return project

    def _new_listening(self) -> Listening:
        config, app = self._config, self._app
        exchange = config.event_exchange or app.conf.event_exchange
        stream = (RedisStream if broker.speaks_redis(app) else KombuStream)(
            partial(broker.connect, app, heartbeat=True),
            exchange,
            max_message_bytes=config.max_message_bytes,
            clock=self._clock,
            describe=broker.describe,
        )
        canary = None if config.passive else Canary(self._connect, exchange, describe=broker.describe)
        return Listening(stream, EventDecoder(config.accept_content), canary, self._clock)

    def _ask(self, asking: Asking, listening: Listening, listen_until: float) -> None:
        with closing(asking):
            try:
                asking.ask()
            finally:
                self._answered.set()
            Event().wait(max(0.0, listen_until - LISTEN + ASK_AGAIN - self._clock.now().elapsed))
            lacking = asking.lacking(listening.beating())
            if lacking:
                self._asked_again_at = self._clock.now().wall
                asking.ask_again(lacking)

    def _survey(self, listen_until: float) -> tuple[BrokerReading, tuple[Heads, ...], Keys | None]:
        clock = self._clock
        with closing(self._poller):
            if not broker.speaks_redis(self._app):
                self._answered.wait(WORKERS)
                self._gap("what waits in queues", "only Redis lets messages be read without taking them")
                return self._poller.poll(), (), None
            with closing(Link.open(self._connect)) as link:
                keys, queues = read_keys(link, clock, clock.now().elapsed + SCAN)
                self._names |= queues
                self._answered.wait(WORKERS)
                reading = self._poller.poll()
                by_name = {queue.queue: queue for queue in reading.queues}
                heads = [read_heads(link, by_name, clock)]
                if self._listening is not None:
                    Event().wait(max(0.0, listen_until - clock.now().elapsed))
                    heads.append(read_heads(link, by_name, clock))
                if link.refused:
                    self._gap("what the broker's user may not ask", ", ".join(sorted(link.refused)), unexpected=True)
                return reading, tuple(heads), keys

    def _wait_for_workers(self, asking: Job[None] | None) -> None:
        if asking is not None:
            self._tell("asking the workers")
            self._answered.wait(WORKERS)

    def _unanswered(self, heard: Heard | None, answered: set[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Return the workers that could have answered, and those that fell silent."""
        beats = {} if heard is None else heard.beats
        unusable = self._asking.unusable if self._asking is not None else frozenset()
        missing = unusable.union(beats) - answered
        asked_at = self._asked_again_at
        mute = frozenset(
            name
            for name in missing & beats.keys()
            if asked_at is not None and beats[name][-1].at > asked_at + AFTERWARDS
        )
        return mute, missing - mute

    def _outcome(self, job: "Job[Any] | None", what: str, until: float) -> Any:
        if job is None:
            return None
        value = job.wait(until)
        if job.failure is not None:
            self._gap(what, job.failure, unexpected=True)
        return value

    def _gap(self, what: str, why: str, *, unexpected: bool = False) -> None:
        self._gaps.append(Gap(what, why, unexpected))

    def _allowed_wait(self, queue: str) -> float:
        own = self._config.objectives.queues.get(queue)
        return self._config.queue_wait_objective if own is None or own.allowed_wait is None else own.allowed_wait

    def _poller_of_broker(self) -> BrokerPoller:
        config, app = self._config, self._app
        rules = NameRules((), config.queue_include, config.queue_exclude)

        def known() -> set[str]:
            workers = [] if self._asking is None else list(self._asking.workers.values())
            return self._names.union(*(worker.reading.queues or () for worker in workers))

        def keeps(name: str) -> bool:
            return rules.apply(name) is not None

        if broker.speaks_amqp(app):
            by_name = AmqpPoller(self._connect, known, keeps, describe=broker.describe)
            if not config.management_url:
                why = "without --management-url, RabbitMQ tells lengths and consumers of known queues alone"
                self._gap("alarms, memory, unacknowledged messages", why)
                return by_name
            vhost = broker.virtual_host(app)
            return ManagementPoller(config.management_url, vhost, known, keeps, timeout=TIMEOUT, fallback=by_name)
        if config.management_url:
            name = broker.transport_name(app)
            raise ConfigError(f"management_url is RabbitMQ's, and the broker's transport is {name}")
        if broker.speaks_redis(app):
            return RedisPoller(self._connect, known, keeps, describe=broker.describe, clock=self._clock)
        poller = SqsPoller if broker.transport_name(app) == broker.SQS_TRANSPORT else GenericPoller
        return poller(self._connect, known, keeps, describe=broker.describe)
