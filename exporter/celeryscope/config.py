"""The configuration: one frozen value, from options, environment, a TOML file and defaults, validated once.

Each setting is declared once, as a field of `Config`; options, variables, the file's keys and the help follow
from that declaration. Only this module reads the environment.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from celeryscope import tables, values
from celeryscope.errors import ConfigError
from celeryscope.naming import Rename
from celeryscope.objectives import DEFAULT_ALLOWED_WAIT, Objectives
from celeryscope.redaction import redact, register_options, register_url
from celeryscope.settings import PREFIX, Setting, declare, parse, shown, suggestion
from celeryscope.values import Address

FILE_VARIABLE = "CELERYSCOPE_CONFIG"
FALLBACK_BROKER_VARIABLE = "CELERY_BROKER_URL"
BROKER_KEYS = (
    "broker_url",
    "broker_url_file",
    "app",
)  # exactly one is in effect
MANAGEMENT_KEYS = ("management_url", "management_url_file")  # at most one is
POLLS_BEFORE_STALE = 2  # that fail before what was polled goes: one may always be late
DEMO_PREFIX = "CELERYSCOPE_DEMO_"  # the demo's own variables

BROKER = "Broker"
OUTPUT = "Output"
METRICS = "Metrics"
NAMES = "Names that metrics show (repeatable)"
TIMING = "Times (seconds, or 500ms, 30s, 5m, 1h, 1d)"
BOUNDS = "Bounds"

# The catalog's, which this room must not import; a test holds the two together.
RUNTIME_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
WAIT_BUCKETS = (0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0, 43200.0)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that a user can set. Durations are seconds, sizes bytes."""

    broker_url: str = declare("", values.URL, BROKER, "The broker, as in Celery. Several: URL;URL.", secret=True)
    broker_url_file: Path | None = declare(  # noqa: RUF009  # it declares a field
        None, values.PATH, BROKER, "Or: a file that holds the URL."
    )
    app: str = declare("", values.APP, BROKER, "Or: your Celery app, for its own.", flag="-A")
    broker_transport_options: Mapping[str, Any] = declare(
        MappingProxyType({}),
        values.OPTIONS,
        BROKER,
        "Such as global_keyprefix=x. Repeatable.",
        secret=True,
        flag="--broker-transport-option",
        repeated=True,
    )
    event_exchange: str | None = declare(None, values.NAME, BROKER, "The events' exchange [celeryev].")
    accept_content: tuple[str, ...] = declare(
        ("json",), values.subset("json", "msgpack"), BROKER, "Formats of events: json, msgpack."
    )
    queues: tuple[str, ...] = declare(
        (), values.NAMES, BROKER, "A queue to poll in any case. Repeatable.", flag="--queue", repeated=True
    )
    management_url: str = declare(
        "", values.HTTP_URL, BROKER, "RabbitMQ's management API: more of queues.", secret=True
    )
    management_url_file: Path | None = declare(  # noqa: RUF009  # it declares a field
        None, values.PATH, BROKER, "A file that holds its URL."
    )
    enable_events: bool = declare(False, values.FLAG, BROKER, "Make workers send task events, as -E does.")
    passive: bool = declare(False, values.FLAG, BROKER, "Only listen: no canary, no inspection, less known.")

    listen_address: Address = declare(  # noqa: RUF009  # it declares a field
        Address("127.0.0.1", 9808), values.ADDRESS, OUTPUT, "Where /metrics is served."
    )
    web_config_file: Path | None = declare(  # noqa: RUF009  # it declares a field
        None, values.PATH, OUTPUT, "TLS and passwords, as Prometheus has them."
    )
    log_level: str = declare(
        "info", values.choice("debug", "info", "warning", "error"), OUTPUT, "debug, info, warning or error."
    )
    log_format: str = declare("logfmt", values.choice("logfmt", "json"), OUTPUT, "logfmt or json, on stderr.")

    runtime_buckets: tuple[float, ...] = declare(
        RUNTIME_BUCKETS, values.BUCKETS, METRICS, "Upper bounds of runtime histograms."
    )
    wait_buckets: tuple[float, ...] = declare(WAIT_BUCKETS, values.BUCKETS, METRICS, "Upper bounds of wait histograms.")
    prefetch_histogram: bool = declare(False, values.FLAG, METRICS, "Export celery_task_prefetch_seconds.")
    rate_limit_exceptions: tuple[str, ...] = declare(
        (), values.CLASS_NAMES, METRICS, "Classes that mean: throttled outside."
    )

    task_rename: tuple[Rename, ...] = declare((), values.RENAMES, NAMES, "Rewrite names, as [0-9]+=>N.", repeated=True)
    task_include: tuple[re.Pattern[str], ...] = declare(
        (), values.PATTERNS, NAMES, "Tasks to show; the rest is task=other.", repeated=True
    )
    task_exclude: tuple[re.Pattern[str], ...] = declare(
        (), values.PATTERNS, NAMES, "Tasks to count as task=other.", repeated=True
    )
    queue_include: tuple[re.Pattern[str], ...] = declare(
        (), values.PATTERNS, NAMES, "Queues to poll; tasks of others: queue=other.", repeated=True
    )
    queue_exclude: tuple[re.Pattern[str], ...] = declare(
        (), values.PATTERNS, NAMES, "Queues not to poll: likewise.", repeated=True
    )

    canary_interval: float = declare(15.0, values.DURATION, TIMING, "Between own events that prove we hear.")
    workers_poll_interval: float = declare(30.0, values.DURATION, TIMING, "Between inspections of workers.")
    queues_poll_interval: float = declare(15.0, values.DURATION, TIMING, "Between looks at the queues.")
    poll_stale_after: float = declare(120.0, values.DURATION, TIMING, "How long polled facts show without a new poll.")
    worker_timeout: float = declare(30.0, values.DURATION, TIMING, "Silence that means: worker lost.")
    solo_worker_timeout: float = declare(3600.0, values.DURATION, TIMING, "The same for solo pools, mute at work.")
    worker_retention: float = declare(3600.0, values.DURATION, TIMING, "How long a worker that is gone shows.")
    orphan_timeout: float = declare(3600.0, values.DURATION, TIMING, "How long its tasks may still end.")
    task_ttl: float = declare(86400.0, values.DURATION, TIMING, "How long a task without an end is kept.")
    pair_retention: float = declare(86400.0, values.DURATION, TIMING, "How long an idle (task, queue) shows.")
    queue_wait_objective: float = declare(
        DEFAULT_ALLOWED_WAIT, values.DURATION, TIMING, "How long tasks may wait in a queue."
    )

    max_tracked_tasks: int = declare(50_000, values.COUNT, BOUNDS, "Received and started tasks in memory.")
    max_sent_tasks: int = declare(500_000, values.COUNT, BOUNDS, "Sent tasks in memory: your backlog.")
    max_message_bytes: int = declare(4 * 2**20, values.SIZE, BOUNDS, "Largest event message read.")
    series_limit: int = declare(50_000, values.COUNT, BOUNDS, "Most samples of one scrape.")

    objectives: Objectives = field(default_factory=Objectives)  # in the file alone: its tables of tasks and queues


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {declared.name: Setting(key=declared.name, **declared.metadata) for declared in fields(Config) if declared.metadata}
)


@dataclass(frozen=True)
class _Source:
    """Settings given at one level of precedence, and how one of them is called there."""

    given: Mapping[str, object]
    name: Mapping[str, str]


def load(
    options: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Config:
    """Return the configuration: option, else variable, else file, else default.

    `options` is by key; None and empty tuples are as good as absent. `environ` is the process's where it
    is None. The file is `file`, else what the variable CELERYSCOPE_CONFIG names. Raises `ConfigError`.
    """
    environ = os.environ if environ is None else environ
    if file is None and environ.get(FILE_VARIABLE, "").strip():
        file = Path(environ[FILE_VARIABLE].strip()).expanduser()
    sources = [_from_options(options or {}), _from_environment(environ)]
    chosen: dict[str, Any] = {}
    if file is not None:
        document = _read(file)
        sources.append(_from_file(document, file))
        chosen["objectives"] = tables.objectives(document, file)
    for key, setting in SETTINGS.items():
        if key not in (*BROKER_KEYS, *MANAGEMENT_KEYS):
            source = next((source for source in sources if key in source.given), None)
            if source is not None:
                chosen[key] = _parse(setting, source.given[key], source.name[key])
    chosen |= _broker(sources, environ)
    chosen |= _one_of(MANAGEMENT_KEYS, "the management API", sources)
    config = Config(**chosen)
    if config.solo_worker_timeout < config.worker_timeout:
        raise ConfigError(
            f"solo_worker_timeout is {config.solo_worker_timeout:g} s: must not be below worker_timeout, "
            f"which is {config.worker_timeout:g} s"
        )
    for key in ("queues_poll_interval", "workers_poll_interval"):
        interval = getattr(config, key)
        if config.poll_stale_after < POLLS_BEFORE_STALE * interval:
            raise ConfigError(
                f"poll_stale_after is {config.poll_stale_after:g} s: must be at least {POLLS_BEFORE_STALE} times "
                f"{key}, which is {interval:g} s"
            )
    if config.passive and config.enable_events:
        raise ConfigError("passive and enable_events exclude each other: to ask workers for events is to write")
    register_url(config.broker_url)
    register_url(config.management_url)
    register_options(config.broker_transport_options)
    return config


def listen_address(environ: Mapping[str, str] | None = None) -> Address:
    """Return where an exporter of this environment listens: by variable, else by file, else by default.

    Nothing else is looked at, so that a probe needs no broker. Raises `ConfigError`.
    """
    environ = os.environ if environ is None else environ
    setting = SETTINGS["listen_address"]
    sources = [_from_environment(environ)]
    if file := environ.get(FILE_VARIABLE, "").strip():
        sources.append(_from_file(_read(Path(file).expanduser()), Path(file)))
    source = next((source for source in sources if setting.key in source.given), None)
    address: Address = (
        setting.default if source is None else _parse(setting, source.given[setting.key], source.name[setting.key])
    )
    return address


def no_colour(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the user wants text without colours, as https://no-color.org has it."""
    return bool((os.environ if environ is None else environ).get("NO_COLOR"))


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """Return a line on every CELERYSCOPE_* variable that is no setting.

    Worth a warning but no error: other programs name variables too.
    """
    environ = os.environ if environ is None else environ
    known = {setting.variable for setting in SETTINGS.values()} | {FILE_VARIABLE}
    # Kubernetes tells pods of every service: one that is called celeryscope sets CELERYSCOPE_PORT and more.
    services = [name.removesuffix("_SERVICE_HOST") for name in environ if name.endswith("_SERVICE_HOST")]
    links = re.compile("|".join(rf"{re.escape(service)}_(?:SERVICE|PORT)(?:_\w+)?" for service in services) or r"(?!)")
    return [
        f"the variable {name} is not known and ignored{suggestion(name, known)}"
        for name in sorted(environ)
        if name.startswith(PREFIX)
        and not name.startswith(DEMO_PREFIX)
        and name not in known
        and not links.fullmatch(name)
    ]


def _from_options(options: Mapping[str, object]) -> _Source:
    unknown = sorted(set(options) - set(SETTINGS))
    if unknown:
        raise ConfigError(f"unknown option {unknown[0]}{suggestion(unknown[0], SETTINGS)}")
    given = {key: value for key, value in options.items() if value is not None and value != ()}
    return _Source(given, {key: f"option {SETTINGS[key].flags[-1]}" for key in given})


def _from_environment(environ: Mapping[str, str]) -> _Source:
    given = {key: environ.get(setting.variable, "") for key, setting in SETTINGS.items()}
    given = {key: value for key, value in given.items() if value.strip()}
    return _Source(given, {key: f"variable {SETTINGS[key].variable}" for key in given})


def _read(file: Path) -> Mapping[str, object]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"the configuration file {file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        hint = "; between single quotes a \\ stands for itself" if "Unescaped" in str(error) else ""
        raise ConfigError(f"the configuration file {file} is not TOML: {redact(str(error))}{hint}") from error


def _from_file(document: Mapping[str, object], file: Path) -> _Source:
    known = {*SETTINGS, *tables.TABLES}
    for key in document:
        if key not in known:
            hint = suggestion(key.replace("-", "_"), known) or "; keys are options with _ for -"
            raise ConfigError(f"unknown key {shown(key)} in {file}{hint}")
    given = {key: value for key, value in document.items() if key in SETTINGS}
    return _Source(given, {key: f"{key} in {file}" for key in given})


def _parse(setting: Setting, value: object, origin: str) -> Any:
    return parse(setting.key, setting.kind, value, origin, secret=setting.secret)


def _one_of(keys: tuple[str, ...], what: str, sources: list[_Source]) -> dict[str, Any]:
    """Return the one of these settings that is given, and with a file what is in it; empty where none is."""
    for source in sources:
        given = [key for key in keys if key in source.given]
        if len(given) > 1:
            names = " and ".join(source.name[key] for key in given)
            raise ConfigError(f"{what} is given more than once, by {names}: leave one of them")
        if given:
            key = given[0]
            parsed = _parse(SETTINGS[key], source.given[key], source.name[key])
            if isinstance(parsed, Path):
                url, origin = SETTINGS[key.removesuffix("_file")], f"the file {parsed}, from {source.name[key]}"
                return {key: parsed, url.key: _parse(url, _read_url(parsed, what, source.name[key]), origin)}
            return {key: parsed}
    return {}


def _broker(sources: list[_Source], environ: Mapping[str, str]) -> dict[str, Any]:
    given = _one_of(BROKER_KEYS, "the broker", sources)
    if given:
        return given
    url = environ.get(FALLBACK_BROKER_VARIABLE, "").strip()
    if url:
        return {"broker_url": url}
    raise ConfigError(
        "no broker is given: say which one to watch with --broker-url URL, with --broker-url-file FILE, or "
        "with -A APP for your Celery app's own (or a variable: CELERYSCOPE_BROKER_URL, CELERY_BROKER_URL)"
    )


def _read_url(file: Path, whose: str, origin: str) -> str:
    try:
        url = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{whose} URL's file {file}, from {origin}, cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        url = ""
    if not url or "\n" in url:
        raise ConfigError(f"{whose} URL's file {file}, from {origin}, must hold one line, the URL") from None
    return url
