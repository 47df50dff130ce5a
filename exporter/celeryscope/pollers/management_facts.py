"""What RabbitMQ's management API answers, made into readings: pure functions over decoded JSON, 3.8 to 4.x.

Celery's own queues among those of a virtual host are, besides what events, workers and the configuration name: those
bound to an exchange of their own name under their own name as routing key, as Celery declares every queue without an
exchange of its own (`celery/app/amqp.py`, `Queues.new_missing`, and the default queue), also behind native delayed
delivery, where the key begins with `#.`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from celeryscope.pollers.queue_names import delay_level, is_work
from celeryscope.readings import BrokerReading, QueueReading

QUEUE_COLUMNS = ("name", "arguments", "messages_ready", "messages_unacknowledged", "message_bytes", "consumers")
PRIORITY_COLUMNS = ("backing_queue_status.priority_lengths",)  # 350 bytes a queue: it comes with all beside it
BINDING_COLUMNS = ("source", "destination", "destination_type", "routing_key")
NODE_COLUMNS = ("mem_used", "mem_limit", "mem_alarm", "disk_free_alarm")
ALARMS = {"memory": "mem_alarm", "disk": "disk_free_alarm"}


class Listed(NamedTuple):
    """One queue of a virtual host. A number is None where the node has not told it yet: it tells every 5 s."""

    name: str
    ready: int | None
    unacked: int | None
    consumers: int | None
    bytes: int | None
    by_priority: Mapping[int, int]
    has_priorities: bool
    passes_to: tuple[str, ...]  # key and exchange of its expired messages, where the queue itself expires as well

    @property
    def held(self) -> int | None:
        """Messages in it, delivered or not."""
        return None if self.ready is None else self.ready + (self.unacked or 0)

    @property
    def is_lasting_work(self) -> bool:
        """Whether it may be a queue of work that stays, by its name and arguments."""
        return is_work(self.name) and not self.passes_to


def parse_queues(answer: Any) -> list[Listed]:
    """Return the queues of a list, or of one page; what is none is left out."""
    items = answer.get("items") if isinstance(answer, dict) else answer
    return [_queue(item) for item in items or () if _is_named(item)] if isinstance(items, list) else []


def page_count(answer: Any) -> int:
    """Return how many pages there are; 1 where the answer does not tell."""
    return (_count(answer.get("page_count")) if isinstance(answer, dict) else None) or 1


def parse_own_exchange(answer: Any) -> set[str]:
    """Return the queues that are bound to an exchange of their name as Celery binds them, from a list of bindings."""
    return {
        item["destination"]
        for item in (answer if isinstance(answer, list) else ())
        if isinstance(item, dict)
        and item.get("destination_type") == "queue"
        and isinstance(item.get("destination"), str)
        and item.get("source") == item["destination"]
        and item.get("routing_key") in {item["destination"], f"#.{item['destination']}"}
    }


def parse_nodes(answer: Any) -> BrokerReading:
    """Return memory and alarms: of the node that is nearest to its limit, and of any.

    One node above its limit stops publishers on all of them; a sum over nodes would hide it.
    """
    nodes = [node for node in (answer if isinstance(answer, list) else ()) if isinstance(node, dict)]
    memory = [
        (used, limit)
        for node in nodes
        if (used := _count(node.get("mem_used"))) is not None and (limit := _count(node.get("mem_limit")))
    ]
    used, limit = max(memory, key=lambda pair: pair[0] / pair[1], default=(None, None))
    told = {name: [node[key] for node in nodes if isinstance(node.get(key), bool)] for name, key in ALARMS.items()}
    return BrokerReading(
        memory_used=used, memory_max=limit, alarms={name: any(values) for name, values in told.items() if values}
    )


def parse_version(answer: Any) -> str | None:
    """Return the broker's version."""
    version = answer.get("rabbitmq_version") if isinstance(answer, dict) else None
    return version if isinstance(version, str) else None


def sort_out(
    queues: Iterable[Listed], known: Collection[str], keeps: Callable[[str], bool], found: Callable[[str], bool]
) -> tuple[QueueReading, ...]:
    """Return readings of Celery's queues that are kept; `found` says whether a queue that nobody named is Celery's.

    Messages that wait to be due are `delayed`: those in queues of one task each, of the queue that they pass to, where
    there is one of that name; those of native delayed delivery, whose target stands in their routing keys alone, of
    the name `celery_delayed`, which has no length.
    """
    queues = list(queues)
    names = {queue.name for queue in queues}
    readings: dict[str, QueueReading] = {}
    delayed: dict[str, int] = {}
    for queue in queues:
        if delay_level(queue.name) is not None:
            _add(delayed, queue.name.rpartition("_")[0], queue.held)
        elif queue.name in known or (queue.is_lasting_work and found(queue.name)):
            if is_work(queue.name):
                readings[queue.name] = _reading(queue)
        elif target := next((name for name in queue.passes_to if name in names and is_work(name)), None):
            _add(delayed, target, queue.held)
    for name, count in delayed.items():
        readings[name] = replace(readings.get(name, QueueReading(name)), delayed=count)
    return tuple(reading for name, reading in sorted(readings.items()) if keeps(name))


def _add(counts: dict[str, int], name: str, count: int | None) -> None:
    counts[name] = counts.get(name, 0) + (count or 0)


def _reading(queue: Listed) -> QueueReading:
    return QueueReading(
        queue.name,
        length=queue.ready,
        by_priority=queue.by_priority,
        unacked=queue.unacked,
        consumers=queue.consumers,
        bytes=queue.bytes,
    )


def _is_named(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("name"), str)


def _queue(item: Mapping[str, Any]) -> Listed:
    arguments = item.get("arguments")
    arguments = arguments if isinstance(arguments, dict) else {}  # old servers write an empty one as a list
    return Listed(
        item["name"],
        _count(item.get("messages_ready")),
        _count(item.get("messages_unacknowledged")),
        _count(item.get("consumers")),
        _count(item.get("message_bytes")),
        _priorities(item.get("backing_queue_status")),
        "x-max-priority" in arguments,
        _passes_to(arguments),
    )


def _passes_to(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what may name the queue that expired messages go to; nothing for a queue that stays.

    A queue that has a time to live for messages alone is work with a dead letter queue, as often as not.
    """
    if "x-expires" not in arguments:
        return ()
    named = arguments.get("x-dead-letter-routing-key"), arguments.get("x-dead-letter-exchange")
    return tuple(name for name in named if isinstance(name, str) and name)


def _priorities(status: Any) -> dict[int, int]:
    lengths = status.get("priority_lengths") if isinstance(status, dict) else None
    if not isinstance(lengths, dict):
        return {}
    return {
        int(level): count
        for level, value in lengths.items()
        if level.isdecimal() and (count := _count(value)) is not None
    }


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
