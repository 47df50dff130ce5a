"""Celery's events: one decode from message body to typed values.

Field names are Celery's own (`celery/events/dispatcher.py`, `celery/worker/request.py`, `celery/worker/heartbeat.py`).
Timestamps are epochs as the sender wrote them; `utcoffset` and the Lamport `clock` are not read: neither says when.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from math import isfinite
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct

from celeryscope.errors import InvalidEvent

Timestamp = Annotated[float, Meta(gt=0, lt=1e11)]  # Unix seconds, up to the year 5138
Seconds = Annotated[float, Meta(ge=0, lt=1e10)]
Count = Annotated[int, Meta(ge=0, lt=2**53)]
Text = Annotated[str, Meta(min_length=1, max_length=512)]
Name = Annotated[str, Meta(min_length=1)]

LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Event(Struct, gc=False, tag_field="type"):
    """What every event carries. `hostname` is the node name, `celery@host`; producers are `gen<pid>@host`."""

    timestamp: Timestamp
    hostname: Text


class TaskSent(Event, tag="task-sent"):
    """A producer published a task. Off by default (`task_send_sent_event`); the only event that names the queue."""

    uuid: Text
    name: Name
    retries: Count | None = None
    eta: str | None = None
    queue: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    parent_id: str | None = None  # of the task that published it

    @property
    def queue_name(self) -> str | None:
        """The queue, where the event tells it: through the default exchange a routing key is a queue's name."""
        return self.queue or (self.routing_key if self.exchange == "" else None)


class TaskReceived(Event, tag="task-received"):
    """A worker took the message; for a task with an ETA long before it is due."""

    uuid: Text
    name: Name
    retries: Count | None = None
    eta: str | None = None


class TaskStarted(Event, tag="task-started"):
    """A worker started to run the task."""

    uuid: Text


class TaskSucceeded(Event, tag="task-succeeded"):
    """The task returned. `runtime` is null where the worker learnt of the success from the result backend."""

    uuid: Text
    runtime: Seconds | None = None


class TaskFailed(Event, tag="task-failed"):
    """The task raised, was killed, or its name is not registered. `exception` is a repr and may be anything."""

    uuid: Text
    exception: str | None = None
    traceback: str | None = None


class TaskRetried(Event, tag="task-retried"):
    """An attempt ended in a retry. `exception` is the repr of the cause, "None" where there is none."""

    uuid: Text
    exception: str | None = None
    traceback: str | None = None


class TaskRejected(Event, tag="task-rejected"):
    """A message was rejected, back into its queue or not."""

    uuid: Text
    requeue: bool | None = None


class TaskRevoked(Event, tag="task-revoked"):
    """A task was dropped before it ran, or stopped while it ran."""

    uuid: Text
    terminated: bool | None = None
    expired: bool | None = None


class TaskCancelled(Event, tag="task-cancelled"):
    """A worker stopped a late-acknowledged task since it lost its broker; the message will be delivered again."""

    uuid: Text


#: What a worker tells of a task that it holds.
WorkerTaskEvent = (
    TaskReceived | TaskStarted | TaskSucceeded | TaskFailed | TaskRetried | TaskRejected | TaskRevoked | TaskCancelled
)


class TaskRateLimited(Event, tag="task-rate-limited"):
    """An application announced, through `Task.send_event`, that an outside limit holds the task back."""

    uuid: Text
    limiter: Name
    delay: Seconds | None = None
    limit: Seconds | None = None
    remaining: Seconds | None = None


class WorkerEvent(Event):
    """A worker's sign of life. The reply to the remote `heartbeat` command has neither `active` nor `processed`."""

    pid: Count | None = None
    freq: Seconds | None = None
    active: Count | None = None
    processed: Count | None = None
    loadavg: list[float] | None = None
    sw_ident: str | None = None
    sw_ver: str | None = None
    sw_sys: str | None = None


class WorkerOnline(WorkerEvent, tag="worker-online"):
    """A worker connected to the broker."""


class WorkerHeartbeat(WorkerEvent, tag="worker-heartbeat"):
    """A worker is alive."""


class WorkerOffline(WorkerEvent, tag="worker-offline"):
    """A worker takes its leave; tasks that still run may end after it."""


class Canary(Event, tag="celeryscope-canary"):
    """An event of this exporter, or of another one: told apart by `id`."""

    id: Text


class CustomEvent(Struct, gc=False):
    """An event of a type that Celery does not define."""

    type: str


TaskEnd: TypeAlias = TaskSucceeded | TaskFailed | TaskRetried | TaskRevoked | TaskCancelled
KNOWN = (
    TaskSent, TaskReceived, TaskStarted, TaskSucceeded, TaskFailed, TaskRetried, TaskRejected, TaskRevoked,
    TaskCancelled, TaskRateLimited, WorkerOnline, WorkerHeartbeat, WorkerOffline, Canary,
)  # fmt: skip
KnownEvent: TypeAlias = (
    TaskSent | TaskReceived | TaskStarted | TaskSucceeded | TaskFailed | TaskRetried | TaskRejected | TaskRevoked
    | TaskCancelled | TaskRateLimited | WorkerOnline | WorkerHeartbeat | WorkerOffline | Canary
)  # fmt: skip
AnyEvent: TypeAlias = KnownEvent | CustomEvent
Decoded: TypeAlias = AnyEvent | InvalidEvent

TYPE_OF: dict[type[Struct], str] = {cls: str(cls.__struct_config__.tag) for cls in KNOWN}
_KNOWN_TYPES = frozenset(TYPE_OF.values())

# A union is no `type` to a type checker, though it is one to msgspec.
_KNOWN_EVENT: Any = KnownEvent
_decode_one = msgspec.json.Decoder(KnownEvent).decode
_decode_batch = msgspec.json.Decoder(list[KnownEvent]).decode


class EventDecoder:
    """Decodes message bodies in the serialisations that are accepted: `json`, `msgpack`. Pickle is never loaded."""

    def __init__(self, accept: Iterable[str] = ("json",)) -> None:
        self._accept_json = "json" in accept
        self._accept_msgpack = "msgpack" in accept

    def decode(self, body: bytes, content_type: str) -> Sequence[Decoded]:
        """Return the events of one message, in order; an `InvalidEvent` stands for each one that is none."""
        if content_type == "application/json" and self._accept_json:
            try:
                return _decode_batch(body) if body[:1] == b"[" else (_decode_one(body),)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                # Something is unusual: look at each event by itself, so that a bad one never costs its neighbours.
                return _convert_all(_parse_json, body)
        if content_type == "application/x-msgpack" and self._accept_msgpack:
            return _convert_all(msgspec.msgpack.decode, body)
        return [InvalidEvent("content_type")]


def _parse_json(body: bytes) -> Any:
    # More lenient than msgspec: Python's json writes NaN and lone surrogates, and a bad byte spoils one string only.
    return json.loads(body.decode("utf-8", "replace"), parse_constant=lambda _: None)


def _convert_all(parse: Callable[[bytes], Any], body: bytes) -> list[Decoded]:
    try:
        parsed = parse(body)
    except (ValueError, RecursionError):
        return [InvalidEvent("syntax")]
    return [_convert(item) for item in (parsed if isinstance(parsed, list) else [parsed])]


def _convert(item: object) -> Decoded:
    if not isinstance(item, dict):
        return InvalidEvent("not_an_event")
    fields = {key: _cleaned(value) for key, value in item.items()}
    kind = fields.get("type")
    if not isinstance(kind, str) or not kind:
        return InvalidEvent("missing_field" if "type" not in fields else "wrong_type")
    if kind not in _KNOWN_TYPES:
        return CustomEvent(kind)
    try:
        event: AnyEvent = msgspec.convert(fields, _KNOWN_EVENT)
        return event
    except msgspec.ValidationError as error:
        text = str(error)
        if text.startswith("Object missing"):
            return InvalidEvent("missing_field")
        return InvalidEvent("wrong_type" if ", got `" in text else "bad_value")


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, float) and not isfinite(value):
        return None
    return value


def parse_eta(eta: str | None) -> float | None:
    """Return an ISO 8601 ETA as Unix seconds; None for none, for nonsense, and for one without a time zone.

    A naive ETA is in the time zone of an application that we do not know: `task-received` repeats it with its zone.
    """
    if not eta:
        return None
    try:
        moment = datetime.fromisoformat(eta)
        return moment.timestamp() if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


# What a repr starts with where it is a class's, with or without its module path.
_REPR_CLASS = re.compile(r"\s*((?:\w+\.)*\w+)\(")
_FRAME = re.compile(r'^[ \t]+File ".*", line \d+', re.MULTILINE)
_RAISED = re.compile(r"^((?:[\w<>]+\.)*\w+)(?::|$)", re.MULTILINE)
_RETRY_CAUSE = re.compile(r"Retry\(Retry\(\.\.\.\), (.+)", re.DOTALL)
_UNREGISTERED = re.compile(r"""\s*NotRegistered\((['"])(.+?)\1\)""", re.DOTALL)
# Billiard's stand-in for what happened to a lost process or at a hard time limit (`billiard/einfo.py`).
_WRAPPERS = frozenset({"ExceptionWithTraceback"})


def exception_class(exception: str | None, traceback: str | None) -> str:
    """Return the class name, without module path, of an exception told by its repr and its formatted traceback.

    The repr decides, unless it names a wrapper or no class at all (`__repr__` may say anything); then the traceback's
    last raised line does. "unknown" where neither tells.
    """
    if exception:
        match = _REPR_CLASS.match(exception)
        if match:
            name = match[1].rpartition(".")[2]
            if name.isidentifier() and name not in _WRAPPERS:
                return name
    return _raised_in(traceback) if traceback else "unknown"


def retry_class(exception: str | None, traceback: str | None) -> str:
    """Return the class name of a retry's cause; `Retry` where `self.retry()` was called without one.

    Prefork tells the cause itself; solo, threads and gevent the whole exception: `Retry(Retry(...), cause, when)`.
    """
    if exception is None or exception == "None":
        return "Retry"
    match = _RETRY_CAUSE.match(exception)
    if match and match[1].startswith("None,"):
        return "Retry"
    return exception_class(match[1] if match else exception, traceback)


def unregistered_task(exception: str | None) -> str | None:
    """Return the task's name where a failure says that no such task is registered: no other event names it."""
    match = _UNREGISTERED.match(exception) if exception else None
    return match[2] if match else None


def _raised_in(traceback: str) -> str:
    # The raised line is the first unindented one behind the last frame: messages and notes follow it.
    start = 0
    for frame in _FRAME.finditer(traceback):
        start = frame.end()
    match = _RAISED.search(traceback, traceback.find("\n", start) + 1 if start else 0)
    return match[1].rpartition(".")[2] if match else "unknown"
