"""Which names of a broker are queues of work, and which are Celery's own: events, remote control, replies, delays.

Pure functions over the names of queues and exchanges, for every kind of broker. Celery 5.7 and kombu 5.7 make these:

- events: `celeryev`, `celeryev.<node id>` (`celery/events/receiver.py`, `event_queue_prefix`), and our own stream's.
- control: exchange `<namespace>.pidbox`, queue `<node>.<namespace>.pidbox` (`kombu/pidbox.py`, `get_queue`).
- reply: exchange `reply.<namespace>.pidbox`, queue `<uuid>.reply.<namespace>.pidbox` (`kombu/pidbox.py`,
  `get_reply_queue`); a bare UUID, one per client of the rpc result backend (`celery/backends/rpc.py`), or its 32
  digits, one per task of the amqp result backend of old.
- delayed: `celery_delayed_<0 to 27>`, with a prefix and `_` before it or none, where RabbitMQ holds tasks with a
  countdown or ETA until they are due; exchange `..._delayed_delivery` (`kombu/transport/native_delayed_delivery.py`).
- private, to one process: `bcast.<uuid>` and `<name>.<uuid>` (`kombu/common.py`, `Broadcast`; event receivers under
  another `event_queue_prefix`); all that begins with `amq.`, the broker's own or kombu's for a queue without a name.

Everything else is work, the queues of single workers (`worker_direct`, `<node>.dq2`) included.
"""

import re
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["work", "events", "control", "reply", "delayed", "private"]

EVENT_PREFIX = "celeryev"
DELAY_LEVELS = 28  # bits of the longest countdown: MAX_NUMBER_OF_BITS_TO_USE

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_REPLY = re.compile(rf"(.+\.)?reply\..+\.pidbox|{_UUID}|[0-9a-f]{{32}}", re.DOTALL)
_DELAYED = re.compile(r"(?:(?P<prefix>.+)_)?celery_delayed_(?:(?P<level>1?[0-9]|2[0-7])|delivery)", re.DOTALL)
_PRIVATE = re.compile(rf"amq\..*|.*\.{_UUID}", re.DOTALL)


def kind_of(name: str) -> Kind:
    """Return what a queue or an exchange of this name is for."""
    if name == EVENT_PREFIX or name.startswith(f"{EVENT_PREFIX}."):
        return "events"
    if _REPLY.fullmatch(name):
        return "reply"
    if name.endswith(".pidbox"):
        return "control"
    if _DELAYED.fullmatch(name):
        return "delayed"
    return "private" if _PRIVATE.fullmatch(name) else "work"


def is_work(name: str) -> bool:
    """Whether tasks wait in a queue of this name for a worker. A queue without a name is none."""
    return bool(name) and kind_of(name) == "work"


def delay_level(name: str) -> int | None:
    """Return the level of a delayed-delivery queue: it holds messages for 2**level seconds; None for another name."""
    found = _DELAYED.fullmatch(name)
    level = found["level"] if found else None
    return None if level is None else int(level)


def delayed_queues(prefix: str = "") -> tuple[str, ...]:
    """Return the names of all delayed-delivery queues, from the shortest delay to the longest."""
    stem = f"{prefix}_celery_delayed" if prefix else "celery_delayed"
    return tuple(f"{stem}_{level}" for level in range(DELAY_LEVELS))
