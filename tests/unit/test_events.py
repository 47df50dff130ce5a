"""What becomes of message bodies: typed events, and a reason for each one that is none."""

import json
from typing import Any

import msgspec
import pytest

from celeryscope.errors import InvalidEvent
from celeryscope.events import (
    CustomEvent,
    Decoded,
    EventDecoder,
    TaskFailed,
    TaskReceived,
    TaskRevoked,
    TaskSent,
    TaskStarted,
    TaskSucceeded,
    WorkerHeartbeat,
    exception_class,
    parse_eta,
    retry_class,
    unregistered_task,
)

STARTED = {"type": "task-started", "uuid": "a", "timestamp": 1_700_000_000.5, "hostname": "celery@one", "pid": 7}


def decode(
    body: bytes | Any, content_type: str = "application/json", accept: tuple[str, ...] = ("json",)
) -> list[Decoded]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return list(EventDecoder(accept).decode(raw, content_type))


def reasons(decoded: list[Decoded]) -> list[str]:
    return [event.reason for event in decoded if isinstance(event, InvalidEvent)]


def test_an_event_becomes_its_type_with_the_timestamp_as_it_was_sent() -> None:
    (event,) = decode({**STARTED, "utcoffset": 7})
    assert event == TaskStarted(timestamp=1_700_000_000.5, hostname="celery@one", uuid="a")


def test_a_batch_keeps_its_order() -> None:
    batch = [{**STARTED, "uuid": str(number)} for number in range(24)]
    assert [event.uuid for event in decode(batch) if isinstance(event, TaskStarted)] == [str(n) for n in range(24)]


def test_what_celery_leaves_null_is_none() -> None:
    common = {"timestamp": 1.0, "hostname": "h", "uuid": "a"}
    received = {"name": "t", "args": "()", "retries": 0, "eta": None, "expires": None, "parent_id": None}
    assert decode({**common, "type": "task-succeeded", "result": "1", "runtime": None}) == [
        TaskSucceeded(timestamp=1.0, hostname="h", uuid="a", runtime=None)
    ]
    assert isinstance(decode({**common, "type": "task-received", **received})[0], TaskReceived)
    assert isinstance(decode({**common, "type": "task-failed", "exception": "X()", "traceback": None})[0], TaskFailed)


@pytest.mark.parametrize("signum", [None, 15, "SIGTERM"])
def test_the_signal_of_a_revoked_task_may_be_anything(signum: object) -> None:
    (event,) = decode({"type": "task-revoked", "timestamp": 1, "hostname": "h", "uuid": "a", "signum": signum})
    assert isinstance(event, TaskRevoked)


def test_the_reply_to_a_remote_heartbeat_has_no_counts() -> None:
    (event,) = decode({"type": "worker-heartbeat", "timestamp": 1, "hostname": "h", "freq": 5, "sw_ver": "5.7.0"})
    assert isinstance(event, WorkerHeartbeat)
    assert event.processed is None


def test_an_unknown_type_is_kept_by_its_name_whatever_else_it_carries() -> None:
    assert decode({"type": "task-progress", "uuid": 5, "timestamp": "soon", "name": {}}) == [
        CustomEvent("task-progress")
    ]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"type": "task-started", "timestamp": 1, "hostname": "h"}, "missing_field"),
        ({"uuid": "a", "timestamp": 1, "hostname": "h"}, "missing_field"),
        ({**STARTED, "uuid": 5}, "wrong_type"),
        ({**STARTED, "uuid": None}, "wrong_type"),
        ({**STARTED, "timestamp": "1700000000"}, "wrong_type"),
        ({**STARTED, "timestamp": True}, "wrong_type"),
        ({**STARTED, "type": 5}, "wrong_type"),
        ({**STARTED, "timestamp": float("nan")}, "wrong_type"),
        ({**STARTED, "timestamp": -1}, "bad_value"),
        ({**STARTED, "timestamp": 10**15}, "bad_value"),
        ({**STARTED, "uuid": "x" * 5_000}, "bad_value"),
        ({**STARTED, "uuid": ""}, "bad_value"),
        ({**STARTED, "type": "task-succeeded", "runtime": -3}, "bad_value"),
        ({**STARTED, "type": "task-received", "name": "t", "retries": -1}, "bad_value"),
        ("task-started", "not_an_event"),
        (7, "not_an_event"),
        (None, "not_an_event"),
        ([[STARTED]], "not_an_event"),
    ],
)
def test_what_is_no_event_is_told_by_reason_and_spares_its_neighbours(event: Any, reason: str) -> None:
    good = decode(STARTED)
    decoded = decode([STARTED, event, STARTED])
    assert reasons(decoded) == [reason]
    assert [decoded[0], decoded[-1]] == good * 2


@pytest.mark.parametrize("body", [b"", b"{", b'{"type":', b"\x80\x04\x95", b"[" * 100_000, b'{"a":1}x', b"[1,"])
def test_what_is_no_json_is_one_invalid_event(body: bytes) -> None:
    assert reasons(decode(body)) == ["syntax"]


def test_nesting_that_no_json_library_follows_is_one_invalid_event() -> None:
    nested = json.dumps({**STARTED, "args": "X"}).encode().replace(b'"X"', b"[" * 100_000 + b"]" * 100_000)
    assert reasons(decode(nested)) == ["syntax"]


def test_a_number_of_thousands_of_digits_is_one_too() -> None:
    assert reasons(decode(b'{"type":"task-started","timestamp":' + b"9" * 10_000 + b"}"))


def test_a_byte_that_is_no_utf8_spoils_its_string_alone() -> None:
    body = (
        b'[{"type":"task-sent","timestamp":1,"hostname":"h","uuid":"a","name":"caf\xe9"},'
        + json.dumps(STARTED).encode()
    )
    sent, started = decode(body + b"]")
    assert isinstance(sent, TaskSent)
    assert sent.name == "caf\N{REPLACEMENT CHARACTER}"
    assert isinstance(started, TaskStarted)


def test_a_lone_surrogate_is_replaced_before_it_reaches_an_exposition() -> None:
    (event,) = decode({"type": "task-sent", "timestamp": 1, "hostname": "h", "uuid": "a", "name": "t\ud800"})
    assert isinstance(event, TaskSent)
    assert event.name == "t\N{REPLACEMENT CHARACTER}"


def test_a_runtime_beyond_all_measure_is_unknown() -> None:
    body = json.dumps({**STARTED, "type": "task-succeeded"}).encode()[:-1] + b', "runtime": 1e400}'
    assert decode(body) == [TaskSucceeded(timestamp=1_700_000_000.5, hostname="celery@one", uuid="a")]


def test_pickle_is_refused_unseen() -> None:
    assert reasons(decode(b"cos\nsystem\n(S'true'\ntR.", "application/x-python-serialize")) == ["content_type"]


def test_msgpack_is_read_where_it_is_accepted() -> None:
    body = msgspec.msgpack.encode([STARTED, {**STARTED, "timestamp": float("nan")}, 5])
    assert reasons(decode(body, "application/x-msgpack")) == ["content_type"]
    decoded = decode(body, "application/x-msgpack", accept=("json", "msgpack"))
    assert isinstance(decoded[0], TaskStarted)
    assert reasons(decoded) == ["wrong_type", "not_an_event"]
    assert reasons(decode(b"\xc1", "application/x-msgpack", accept=("msgpack",))) == ["syntax"]


FRAME = '  File "/app/tasks.py", line 3, in run\n    raise error\n    ^^^^^^^^^^^\n'


@pytest.mark.parametrize(
    ("exception", "traceback", "name"),
    [
        ("ValueError('x')", None, "ValueError"),
        ("KeyboardInterrupt()", None, "KeyboardInterrupt"),
        ("app.errors.PaymentError('no')", None, "PaymentError"),
        ("ValueError('a\\n  b: c')", None, "ValueError"),
        ("ExceptionWithTraceback()", f"{FRAME}billiard.exceptions.WorkerLostError: signal 9\n", "WorkerLostError"),
        ("reject requeue=False: no", f"{FRAME}celery.exceptions.Reject: ('no', False)\n", "Reject"),
        ("1 validation error for Model", f"{FRAME}pydantic_core._core.ValidationError: 1 error\n", "ValidationError"),
        ("<odd>", f"{FRAME}app.Odd: first line\n  indented line\nother: line\n", "Odd"),
        ("<odd>", f"{FRAME}app.Odd: text\na note: of the exception\n", "Odd"),
        ("<odd>", f"{FRAME}app.f.<locals>.Local: text\n", "Local"),
        ("<odd>", f"{FRAME}app.Silent\n", "Silent"),
        (
            "<odd>",
            f"{FRAME}KeyError: 'a'\n\nDuring handling of the above exception, another exception occurred:\n\n"
            f"Traceback (most recent call last):\n{FRAME}app.Second: b\n",
            "Second",
        ),
        ("KeyError('a')", f"{FRAME}celery.utils.UnpickleableExceptionWrapper: x\n", "KeyError"),
        ("<odd>", None, "unknown"),
        ("<odd>", "not a traceback at all", "unknown"),
        ("", "", "unknown"),
        (None, None, "unknown"),
        ("404(not found)", None, "unknown"),
    ],
)
def test_the_class_of_an_exception(exception: str | None, traceback: str | None, name: str) -> None:
    assert exception_class(exception, traceback) == name


@pytest.mark.parametrize(
    ("exception", "name"),
    [
        ("None", "Retry"),
        (None, "Retry"),
        ("OSError(5)", "OSError"),
        ("Retry(Retry(...), PaymentError('try again'), 0)", "PaymentError"),
        ("Retry(Retry(...), None, 0)", "Retry"),
    ],
)
def test_the_class_of_a_retrys_cause(exception: str | None, name: str) -> None:
    assert retry_class(exception, f"{FRAME}celery.exceptions.Retry: Retry in 3s\n") == name


@pytest.mark.parametrize(
    ("exception", "task"),
    [
        ("NotRegistered('app.gone')", "app.gone"),
        ('NotRegistered("it\'s")', "it's"),
        ("KeyError('x')", None),
        (None, None),
    ],
)
def test_the_name_of_a_task_that_is_not_registered(exception: str | None, task: str | None) -> None:
    assert unregistered_task(exception) == task


@pytest.mark.parametrize(
    ("eta", "timestamp"),
    [
        ("1970-01-01T00:01:00+00:00", 60.0),
        ("1970-01-01T07:01:00.5+07:00", 60.5),
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T00:01:00", None),
        ("tomorrow", None),
        ("", None),
        (None, None),
    ],
)
def test_an_eta_is_known_only_with_its_time_zone(eta: str | None, timestamp: float | None) -> None:
    assert parse_eta(eta) == timestamp
