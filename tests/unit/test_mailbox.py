"""Replies of workers, sorted; how they are asked is tested on real brokers."""

from types import SimpleNamespace
from typing import Any

from celeryscope.pollers.mailbox import GROUP, Collector, in_groups

COMMANDS = ("stats", "active_queues")


def message(ticket: Any) -> Any:
    return SimpleNamespace(headers={"ticket": ticket}, body="{}")


def test_replies_are_complete_when_everybody_answered_everything() -> None:
    collector = Collector(COMMANDS, ["a@h", "b@h"])
    assert list(collector.tickets.values()) == list(COMMANDS)
    for worker in ("a@h", "b@h"):
        for ticket, command in collector.tickets.items():
            assert not collector.complete
            collector.take({worker: f"{command} of {worker}"}, message(ticket))
    assert collector.complete
    assert collector.replies["b@h"]["stats"] == "stats of b@h"
    assert collector.sizes == {"a@h": 4, "b@h": 4}


def test_replies_of_everybody_are_never_complete() -> None:
    collector = Collector(COMMANDS, None)
    for ticket in collector.tickets:
        collector.take({"a@h": {}}, message(ticket))
    assert not collector.complete
    assert set(collector.replies) == {"a@h"}


def test_replies_that_nobody_asked_for_are_dropped() -> None:
    collector = Collector(COMMANDS, ["a@h"])
    ticket = next(iter(collector.tickets))
    collector.take({"b@h": {}}, message(ticket))
    collector.take({"a@h": {}}, message("of an earlier poll"))
    for odd in (None, 7, ["x"], {"x": 1}):
        collector.take({"a@h": {}}, message(odd))
    collector.take({"a@h": {}}, SimpleNamespace(headers=None))
    bodies: list[Any] = [None, [], "a@h", ["a@h"], {7: {}}, {"": {}}, {"x" * 513: {}}]
    for body in bodies:
        collector.take(body, message(ticket))
    assert collector.replies == {}
    assert not collector.complete


def test_many_workers_are_named_in_groups() -> None:
    names = [str(number) for number in range(2 * GROUP + 1)]
    groups = list(in_groups(names))
    assert [len(group or ()) for group in groups] == [GROUP, GROUP, 1]
    assert [name for group in groups for name in group or ()] == names
    assert list(in_groups(None)) == [None]
    assert list(in_groups([])) == []
