"""How `celeryscope demo incident` asks a running demo for an incident: a list in the store, and an answer."""

import json
import uuid
from dataclasses import asdict, dataclass

import redis

KEY = "incident requests"
ANSWER_TTL = 60  # seconds for which an answer waits to be read


@dataclass(frozen=True)
class Request:
    """`do` is "start" or "stop"; a stop without a name means all that are on. `seconds`: None is as usual."""

    do: str
    name: str | None
    seconds: float | None
    answer: str  # the key of the list that the answer goes to


@dataclass(frozen=True)
class Answer:
    """Lines for a reader; `ok`: it was done."""

    ok: bool
    text: str


def ask(client: redis.Redis, do: str, name: str | None, seconds: float | None, timeout: float) -> Answer | None:
    """Ask, and wait for the answer; None where nobody answered in time."""
    request = Request(do, name, seconds, f"incident answer {uuid.uuid4()}")
    client.rpush(KEY, json.dumps(asdict(request)))
    found = client.blpop([request.answer], timeout=timeout)
    if found is None:
        client.lrem(KEY, 0, json.dumps(asdict(request)))
        return None
    return Answer(**json.loads(found[1]))


def take(client: redis.Redis) -> Request | None:
    """The next request, if there is one."""
    found = client.lpop(KEY)
    return Request(**json.loads(str(found))) if found is not None else None


def answer(client: redis.Redis, request: Request, ok: bool, text: str) -> None:
    """Answer a request."""
    client.rpush(request.answer, json.dumps(asdict(Answer(ok, text))))
    client.expire(request.answer, ANSWER_TTL)
