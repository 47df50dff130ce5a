"""What the poller of Redis remembers between polls: rounds of SCAN, debts of heads, samples."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import redis

from celeryscope.broker import celery_app
from celeryscope.config import Config
from celeryscope.errors import PollError
from celeryscope.pollers.redis import RedisPoller
from celeryscope.pollers.redis_bindings import Bindings
from celeryscope.pollers.redis_layout import Layout
from celeryscope.pollers.redis_queue import LONGEST_DEBT, RedisQueue, allowance
from celeryscope.pollers.redis_replies import Binding
from celeryscope.pollers.redis_unacked import MOST_BYTES, MOST_ENTRIES, Unacked

LAYOUT = Layout(
    prefix="",
    lists=((0, ""), (3, ":3")),
    separator=":",
    bindings="_kombu.binding.",
    unacked="unacked",
    unacked_index="unacked_index",
    visibility_timeout=3600.0,
)


class Channel:
    """The attributes of kombu's channel that a layout is made of."""

    sep = "\x06\x16"
    keyprefix_queue = "_kombu.binding.%s"
    unacked_key, unacked_index_key = "unacked", "unacked_index"
    visibility_timeout = 60
    ack_emulation = True

    def __init__(self, prefix: str, steps: Sequence[int]) -> None:
        self.global_keyprefix = prefix
        self.priority_steps = steps

    def priority(self, priority: int) -> int:
        return max((step for step in self.priority_steps if step <= priority), default=self.priority_steps[-1])

    def _q_for_pri(self, queue: str, priority: int) -> str:
        return f"{queue}{self.sep}{self.priority(priority)}" if self.priority(priority) else queue


def test_a_layout() -> None:
    layout = Layout.of(Channel("s[1]*:", [0, 3]))
    assert layout.keys("pay") == ["s[1]*:pay", "s[1]*:pay\x06\x163"]
    assert layout.bindings_pattern == r"s\[1\]\*:_kombu.binding.*"
    assert layout.exchange(b"s[1]*:_kombu.binding.topics") == "topics"
    assert layout.exchange(b"_kombu.binding.topics") is None
    assert layout.exchange(b"s[1]*:_kombu.binding.\xff") is None
    assert (layout.unacked, layout.unacked_index) == ("s[1]*:unacked", "s[1]*:unacked_index")
    # Of lists that several steps share, each is there once.
    assert Layout.of(Channel("", [0, 3, 3])).lists == ((0, ""), (3, "\x06\x163"))


def test_a_layout_without_acknowledgements() -> None:
    channel = Channel("", [0])
    channel.ack_emulation = False
    layout = Layout.of(channel)
    assert (layout.unacked, layout.unacked_index, layout.visibility_timeout) == (None, None, None)


def one(queue: str) -> frozenset[Binding]:
    return frozenset({Binding(queue, False, queue)})


def test_rounds_begin_every_thirty_seconds_and_forget_what_a_whole_one_has_not_seen() -> None:
    bindings = Bindings()
    assert bindings.next_cursor(0.0) == 0
    bindings.take("a", one("a"))
    bindings.advance(7)
    assert not bindings.complete
    assert bindings.next_cursor(15.0) == 7
    bindings.take("b", one("b"))
    bindings.advance(0)
    assert bindings.complete
    assert set(bindings.queues()) == {"a", "b"}
    assert bindings.next_cursor(29.9) is None
    assert bindings.next_cursor(30.0) == 0
    bindings.take("a", one("c"))
    bindings.advance(9)
    assert set(bindings.queues()) == {"c", "b"}
    assert bindings.next_cursor(100.0) == 9
    bindings.advance(0)
    assert set(bindings.queues()) == {"c"}


def test_a_new_server_is_searched_from_the_beginning_and_meanwhile_nothing_is_forgotten() -> None:
    bindings = Bindings()
    bindings.next_cursor(0.0)
    bindings.take("a", one("a"))
    bindings.advance(0)
    bindings.next_cursor(30.0)
    bindings.advance(7)
    bindings.restart()
    assert set(bindings.queues()) == {"a"}
    assert bindings.next_cursor(31.0) == 0
    bindings.advance(0)
    assert set(bindings.queues()) == set()


def test_bindings_of_celerys_own_queues_are_no_queues_but_routes() -> None:
    bindings = Bindings()
    bindings.take("celeryev", frozenset({Binding("#", False, "celeryev.7b8f")}))
    bindings.take("nothing", frozenset())
    assert list(bindings.queues()) == []
    assert bindings.route("celeryev", "#") == "celeryev.7b8f"


def ask(queue: RedisQueue, allowed: float, *lists: Sequence[bytes]) -> int:
    """Poll a queue whose lists hold these messages, the last of each first; return how many were transferred."""
    commands = queue.commands(allowed)
    replies = [len(items) if name == "LLEN" else (items or [None])[-1] for name, items in _with(commands, lists)]
    queue.take(replies)
    return sum(isinstance(reply, bytes) for reply in replies)


def _with(commands: Iterable[Any], lists: Sequence[Sequence[bytes]]) -> Iterable[tuple[str, Any]]:
    keys = LAYOUT.keys("pay")
    return [(command[0], lists[keys.index(command[1])]) for command in commands]


def head(queue: RedisQueue) -> int | None:
    found = queue.reading(None).head
    return None if found is None else found.bytes


def test_small_heads_are_read_in_every_poll() -> None:
    queue = RedisQueue("pay", LAYOUT)
    for size in (10, 20, 30):
        assert ask(queue, 1000.0, [b"x" * size], []) == 1
        assert head(queue) == size
    assert ask(queue, 1000.0, [], [b"lower"]) == 1
    assert head(queue) == 5
    assert ask(queue, 1000.0, [], []) == 0
    assert head(queue) is None


def test_a_large_head_is_read_again_once_it_is_paid_off() -> None:
    queue = RedisQueue("pay", LAYOUT)
    large = b"x" * 5000
    transferred = [ask(queue, 1000.0, [b"new"] * poll + [large], []) for poll in range(11)]
    assert transferred == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    assert head(queue) == 5000


def test_a_large_head_is_not_known_once_the_queue_shrinks_or_another_list_comes_first() -> None:
    queue = RedisQueue("pay", LAYOUT)
    ask(queue, 10.0, [], [b"x", b"x" * 500])
    ask(queue, 10.0, [], [b"x", b"x" * 500])
    assert head(queue) == 500
    ask(queue, 10.0, [b"urgent"], [b"x", b"x" * 500])
    assert head(queue) is None
    queue = RedisQueue("pay", LAYOUT)
    ask(queue, 10.0, [b"x", b"x" * 500], [])
    ask(queue, 10.0, [b"x"], [])
    assert head(queue) is None


def test_even_the_largest_head_is_read_again() -> None:
    queue = RedisQueue("pay", LAYOUT)
    ask(queue, 10.0, [b"x" * 1_000_000], [])
    reads = [ask(queue, 10.0, [b"x"], []) for _ in range(LONGEST_DEBT + 1)]
    assert sum(reads) >= 1
    assert reads[: LONGEST_DEBT - 2] == [0] * (LONGEST_DEBT - 2)


def test_what_is_not_told_of_a_queue_is_not_known() -> None:
    queue = RedisQueue("pay", LAYOUT)
    queue.commands(10.0)
    queue.take([3, redis.ResponseError("WRONGTYPE"), b"x", redis.ResponseError("WRONGTYPE")])
    reading = queue.reading(4)
    assert (reading.length, reading.by_priority, reading.unacked) == (None, {0: 3}, 4)


def test_the_allowance_is_shared() -> None:
    assert allowance(0) == allowance(1) == allowance(64) == 64 * 1024
    assert allowance(4096) == 1024


def sampled(unacked: Unacked, total: Any, size: Any, entries: Sequence[bytes], *, complete: bool) -> int | None:
    """Poll once; return the entries that were asked for, None where none were."""
    commands = unacked.commands(LAYOUT, [total, size])
    items = [item for number, value in enumerate(entries) for item in (str(number).encode(), value)]
    replies: list[Any] = [[b"tag", b"1700000000"], [b"0" if complete else b"5", items]]
    unacked.take(replies[: len(commands)])
    return int(commands[1][4]) if len(commands) > 1 else None


def entry(queue: str, size: int = 0, exchange: str = "") -> bytes:
    return f'[{{"body": "{"x" * size}"}}, "{exchange}", "{queue}"]'.encode()


def test_as_many_entries_are_read_as_a_poll_may() -> None:
    unacked = Unacked()
    assert sampled(unacked, 0, None, [], complete=True) == 64
    assert sampled(unacked, 10, 10 * 100, [entry("pay")], complete=True) == MOST_ENTRIES
    assert sampled(unacked, 10, 10 * 2**18, [entry("pay")], complete=True) == 4
    assert sampled(unacked, 10, 10 * 2**30, [entry("pay", 3 * MOST_BYTES)], complete=False) == 1
    # Beyond its bytes, a poll is in debt, and the last sample stands.
    assert sampled(unacked, 20, 10 * 2**30, [], complete=False) is None
    assert unacked.by_queue(Bindings()) == {"pay": 20}
    assert sampled(unacked, 20, 20 * 100, [], complete=True) is None
    # What was seen outweighs what the server guesses.
    assert sampled(unacked, 20, 20 * 100, [], complete=True) == 1


def test_a_part_stands_for_all() -> None:
    unacked, bindings = Unacked(), Bindings()
    sampled(unacked, 400, 400 * 100, [entry("pay"), entry("pay"), entry("pay"), entry("mail")], complete=False)
    assert unacked.by_queue(bindings) == {"pay": 300, "mail": 100}
    assert unacked.oldest == 1_700_000_000.0
    sampled(unacked, 3, 300, [entry("pay"), entry("pay")], complete=True)
    assert unacked.by_queue(bindings) == {"pay": 2}
    sampled(unacked, 0, None, [], complete=True)
    assert unacked.by_queue(bindings) == {}


def test_while_bindings_are_searched_nobody_is_said_to_have_none() -> None:
    unacked, bindings = Unacked(), Bindings()
    sampled(unacked, 2, 200, [entry("key", exchange="shop"), entry("mail")], complete=True)
    assert unacked.by_queue(bindings) is None
    bindings.next_cursor(0.0)
    bindings.take("shop", frozenset({Binding("key", False, "pay")}))
    bindings.advance(0)
    assert unacked.by_queue(bindings) == {"pay": 1, "mail": 1}


def test_unacknowledged_that_are_refused_are_not_known() -> None:
    unacked = Unacked()
    refused = redis.exceptions.NoPermissionError("no")
    unacked.commands(LAYOUT, [refused, refused])
    unacked.take([refused, refused])
    assert (unacked.by_queue(Bindings()), unacked.oldest) == (None, None)


class FakeLink:
    """Answers as an empty server does, but to what a test has set; fails as it says."""

    layout = LAYOUT

    def __init__(self, error: Exception | None = None) -> None:
        self.refused: set[str] = set()
        self.error = error
        self.closed = False

    def ask(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        if self.error is not None:
            raise self.error
        answers = {"LLEN": 0, "LINDEX": None, "SCAN": [b"0", []], "HLEN": 0, "HSCAN": [b"0", []], "ZRANGE": []}
        return [answers.get(str(command[0])) for command in commands]

    def close(self) -> None:
        self.closed = True


def linked(monkeypatch: pytest.MonkeyPatch, links: Sequence[FakeLink], known: Sequence[str] = ()) -> RedisPoller:
    """A poller that opens these links, one after the other."""
    waiting = iter(links)
    monkeypatch.setattr("celeryscope.pollers.redis.Link.open", lambda _: next(waiting))
    return RedisPoller(lambda: None, lambda: known, lambda _: True)


def test_a_timeout_is_not_waited_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    links = [FakeLink(), FakeLink()]
    poller = linked(monkeypatch, links)
    poller.poll()
    links[0].error = redis.TimeoutError("slow")
    with pytest.raises(PollError, match="slow"):
        poller.poll()
    assert links[0].closed
    links[1].error = redis.ConnectionError("gone")
    with pytest.raises(PollError, match="gone"):
        poller.poll()


def test_a_lost_connection_is_opened_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    links = [FakeLink(), FakeLink()]
    poller = linked(monkeypatch, links, ["pay"])
    poller.poll()
    links[0].error = redis.ConnectionError("gone")
    assert [queue.length for queue in poller.poll().queues] == [0]
    assert (links[0].closed, links[1].closed) == (True, False)
    poller.close()
    assert links[1].closed


def test_a_fault_of_our_own_does_not_leave_replies_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    links = [FakeLink()]
    poller = linked(monkeypatch, links)
    links[0].error = AssertionError("a fault")
    with pytest.raises(AssertionError):
        poller.poll()
    assert links[0].closed


def test_queues_beyond_the_most_are_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("celeryscope.pollers.redis.MAX_QUEUES", 2)
    poller = linked(monkeypatch, [FakeLink()], ["a", "b", "c", "x" * 2000])
    for _ in range(3):
        assert len(poller.poll().queues) == 2
    assert len(caplog.records) == 1


def test_redis_py_does_not_ask_a_sentinel_again_and_again() -> None:
    url = "sentinel://127.0.0.1:1/0;sentinel://127.0.0.1:2/0"
    app = celery_app(Config(broker_url=url, broker_transport_options={"sentinel_kwargs": {"password": "secret"}}))
    sentinels = app.conf.broker_transport_options["sentinel_kwargs"]
    assert sentinels["retry"]._retries == 0
    assert (sentinels["password"], sentinels["socket_connect_timeout"]) == ("secret", 5.0)
    plain = celery_app(Config(broker_url="redis://127.0.0.1:1/0"))
    assert "sentinel_kwargs" not in plain.conf.broker_transport_options
