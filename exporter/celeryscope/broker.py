"""The way to the broker: a Celery app, and connections that notice when their peer is gone.

A wrong URL or an unreachable broker is no error of `celery_app`: it shows when a connection is used, and the
exporter goes on serving. Only an app that cannot be loaded is a `ConfigError`.
"""

import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from celery.app.defaults import DEFAULTS
from celery.app.utils import find_app
from celery.loaders.base import BaseLoader
from kombu.connection import Connection
from kombu.utils.url import parse_url, url_to_parts
from redis.backoff import NoBackoff
from redis.retry import Retry

from celeryscope.config import Config
from celeryscope.diagnosis import URL_FORM, describe, reason_of
from celeryscope.errors import ConfigError, StreamError
from celeryscope.redaction import redact, register, register_options, register_url

__all__ = [
    "broker_address",
    "carries_events",
    "celery_app",
    "connect",
    "describe",
    "speaks_amqp",
    "speaks_redis",
    "transport_name",
    "virtual_host",
]

REDIS_TRANSPORTS = frozenset({"redis", "rediss", "sentinel"})
AMQP_TRANSPORTS = frozenset({"amqp", "amqps"})
SQS_TRANSPORT = "sqs"
KEEPALIVE_IDLE = 10  # seconds of silence before the first probe
KEEPALIVE_INTERVAL = 5  # seconds between probes
KEEPALIVE_PROBES = 3  # unanswered: a dead peer is known after 10 + 3 * 5 = 25 s
UNACKNOWLEDGED_TIMEOUT = 25_000  # milliseconds; while sent data is not acknowledged, no probe is sent
CONNECT_TIMEOUT = 5.0  # seconds
SOCKET_TIMEOUT = 10.0  # seconds; without one, TLS spoken to a port without it waits for ever
HEALTH_CHECK_INTERVAL = 10  # seconds
NO_URL = "amqp://guest@localhost//"  # where Celery connects for an app that names no broker
HEARTBEAT = 10.0  # seconds; the broker may ask for less. A peer that is gone is known after two of them

# What kombu answers to a URL that it cannot use: bad form, unknown transport or parameter, missing library.
_URL_ERRORS = (ValueError, KeyError, TypeError, AttributeError, NameError, ImportError)
_TRANSPORT_NAMES = {"pyamqp": "amqp", "librabbitmq": "amqp"}


class _NoSettingsModule(BaseLoader):
    """Keeps a celeryconfig.py or CELERY_CONFIG_MODULE that happens to be around out of our own app."""

    def read_configuration(self, env: str = "") -> dict[str, Any]:
        """Return no settings."""
        return {}


class _OwnApp(Celery):
    """An app that connects to its own URL alone: Celery's settings prefer CELERY_BROKER_URL and its like."""

    def connection_for_read(self, url: str | None = None, **options: Any) -> Connection:
        """Return a new connection."""
        connection: Connection = self._connection(url or self.conf["broker_url"], **options)
        return connection

    connection_for_write = connection_for_read


def celery_app(config: Config, project: Celery | None = None) -> Celery:
    """Return the project's app (given, or by -A), else a bare one for the broker URL. Raises `ConfigError`."""
    app = _project_app(config.app, project) if config.app else _own_app(config.broker_url)
    options = {**app.conf.broker_transport_options, **config.broker_transport_options}
    register_options(options)
    url = _read_url(app)
    for text in (url, _joined(app.conf.broker_write_url), _joined(app.conf.result_backend)):
        register_url(text)
    register(str(app.conf.broker_password or ""))
    # In the app's settings, so that they hold for its pool of producers too, which inspection publishes with.
    transport = transport_name(app)
    app.conf.broker_transport_options = _with_sentinels(transport, _defaults(transport, url) | options)
    app.conf.accept_content = list(config.accept_content)
    if config.event_exchange is not None:
        app.conf.event_exchange = config.event_exchange
    return app


def connect(app: Celery, *, heartbeat: bool = False) -> Connection:
    """Return a new connection to where the app reads from, not opened yet.

    Its first use opens it, with one attempt per URL; kombu's own `connect` sleeps 2 s for a second one. Where it asks
    for a `heartbeat` (AMQP), the broker drops it unless its owner calls `heartbeat_check` every second.
    Raises `StreamError` where the URL is wrong.
    """
    url = _read_url(app)
    _check(url, has_transport=bool(app.conf.broker_transport))
    try:
        connection: Connection = app.connection_for_read(url, heartbeat=_heartbeat(app) if heartbeat else None)
        return connection
    except _URL_ERRORS as error:
        message = describe(error)
    raise StreamError(message)  # outside of the handler: kombu's error may quote a password


def speaks_redis(app: Celery) -> bool:
    """Whether the broker is Redis or Valkey."""
    return transport_name(app) in REDIS_TRANSPORTS


def speaks_amqp(app: Celery) -> bool:
    """Whether the broker is RabbitMQ, or another that speaks AMQP 0-9-1."""
    return transport_name(app) in AMQP_TRANSPORTS


def carries_events(app: Celery) -> bool:
    """Whether events and remote control may come through. What other transports lack shows when they are opened."""
    return transport_name(app) != SQS_TRANSPORT or bool(app.conf.broker_transport_options.get("supports_fanout"))


def virtual_host(app: Celery) -> str:
    """Return the virtual host of an AMQP broker; the default one for a wrong URL, of which connections tell."""
    try:
        return str(connect(app).virtual_host or "/")
    except StreamError:
        return "/"


def transport_name(app: Celery) -> str:
    """Return the transport, as in the URL: redis, rediss, sentinel, amqp and so on; known to kombu or not."""
    scheme, separator, _ = _read_url(app).partition("://")
    name = scheme.partition("+")[0] if separator else app.conf.broker_transport or "amqp"
    return _TRANSPORT_NAMES.get(name, name)


def broker_address(app: Celery) -> str:
    """Return the URL that the app reads from, without credentials."""
    return redact(_read_url(app))


def _project_app(name: str, project: Celery | None) -> Celery:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as the celery command does, but to stay: projects import lazily
    try:
        app = find_app(name) if project is None else project
        if isinstance(app, Celery):
            app.conf.broker_url  # noqa: B018  # reads the project's settings now, while an error can still be told
    except Exception as error:  # the project's own code may raise anything
        reason = redact(f"{type(error).__name__}: {reason_of(error)}")
        raise ConfigError(
            f"app cannot be {name!r} (-A): loading it failed with {reason}; the current folder is {folder}, "
            "and the project with all that it imports must be installed here"
        ) from error
    if not isinstance(app, Celery):
        raise ConfigError(
            f"app cannot be {name!r} (-A): it is of type {type(app).__name__}; name a Celery app, as module:attribute"
        )
    return app


def _own_app(url: str) -> Celery:
    return _OwnApp("celeryscope", loader=_NoSettingsModule, broker=url, set_as_current=False, fixups=())


def _joined(urls: str | Iterable[str] | None) -> str:
    return urls if isinstance(urls, str) else ";".join(urls or ())


def _read_url(app: Celery) -> str:
    # Not through its settings for our own app: they prefer the environment.
    url = _joined(app.conf["broker_url"] if isinstance(app, _OwnApp) else app.conf.broker_read_url)
    return url or ("" if app.conf.broker_transport else NO_URL)


def _defaults(transport: str, url: str) -> dict[str, Any]:
    """Return transport options for what the user left open."""
    # One attempt per URL: our supervisor waits between attempts, and wakes at once when it is stopped.
    options: dict[str, Any] = {"max_retries": 0 if transport == "sentinel" else url.count(";")}
    if transport in REDIS_TRANSPORTS:
        options |= {
            "socket_keepalive": True,
            "socket_keepalive_options": _keepalive_options(),
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "socket_timeout": SOCKET_TIMEOUT,
            "health_check_interval": HEALTH_CHECK_INTERVAL,
        }
    if transport in AMQP_TRANSPORTS:
        options |= {
            "read_timeout": SOCKET_TIMEOUT,
            "write_timeout": SOCKET_TIMEOUT,
            "socket_settings": _keepalive_options(),
            "client_properties": {"connection_name": "celeryscope"},
            **_amqp_tls(url),
        }
    if transport == SQS_TRANSPORT:
        # botocore's own: a minute for each, five times.
        options["client-config"] = {
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": SOCKET_TIMEOUT,
            "retries": {"total_max_attempts": 2},
        }
    return options


def _with_sentinels(transport: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with `sentinel_kwargs`, in which redis-py is told of the way to the sentinels themselves."""
    if transport != "sentinel":
        return dict(options)
    # By itself redis-py asks a sentinel that is gone four times, with up to ten seconds between, before the next one.
    ways = {name: value for name, value in options.items() if name.startswith("socket_")}
    ways["retry"] = Retry(NoBackoff(), 0)
    return {**options, "sentinel_kwargs": {**ways, **(options.get("sentinel_kwargs") or {})}}


def _amqp_tls(url: str) -> dict[str, Any]:
    """Return the option that takes TLS settings in a URL (`?ssl_ca_certs=`) to py-amqp, in its own names."""
    try:
        settings: Mapping[str, Any] = parse_url(url.partition(";")[0]).get("ssl") or {}
    except _URL_ERRORS:
        return {}  # told when connecting
    # kombu hands them on under the names of redis-py.
    return {"ssl": {name.removeprefix("ssl_"): value for name, value in settings.items()}} if settings else {}


def _heartbeat(app: Celery) -> float:
    """Return the heartbeat to ask for, in seconds: the app's own where it has one, 0 for none included."""
    asked = app.conf.broker_heartbeat
    return HEARTBEAT if asked is None or asked == DEFAULTS["broker_heartbeat"] else float(asked)


def _keepalive_options() -> Mapping[int, int]:
    wanted = {
        "TCP_KEEPIDLE": KEEPALIVE_IDLE,
        "TCP_KEEPALIVE": KEEPALIVE_IDLE,  # the same on macOS
        "TCP_KEEPINTVL": KEEPALIVE_INTERVAL,
        "TCP_KEEPCNT": KEEPALIVE_PROBES,
        "TCP_USER_TIMEOUT": UNACKNOWLEDGED_TIMEOUT,
    }
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def _check(url: str, *, has_transport: bool) -> None:
    """Refuse URLs whose errors would come later, quoting a piece of a password, or as a mere wrong host."""
    for part in url.split(";"):
        if "://" not in part:
            if part == url and not has_transport:
                raise StreamError(f"the broker URL has no transport, such as redis://: {URL_FORM}")
            continue
        try:
            scheme, host, _, _, _, path, _ = url_to_parts(part)
        except ValueError:
            raise StreamError(f"the broker URL cannot be read: {URL_FORM}") from None
        database = (path or "").strip("/")
        # As it stands in the URL: in a virtual host's name, a percent-encoded @ is right.
        if "@" in f"{host}{urlsplit(part).path}":
            raise StreamError(f"the broker URL cannot be read: {URL_FORM}")
        if scheme in REDIS_TRANSPORTS and database and not database.isdecimal():
            raise StreamError(f"the broker URL's path is no number of a database: {URL_FORM}")
