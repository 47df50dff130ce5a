"""Parsers of what Redis answers: what is expected, and whatever else may come."""

import base64
import json
from collections import Counter
from typing import Any

import pytest
import redis
from kombu.transport.virtual.exchange import TopicExchange

from celeryscope.pollers.redis_replies import (
    Binding,
    ServerFacts,
    parse_bindings,
    parse_count,
    parse_head,
    parse_info,
    parse_oldest,
    parse_scan,
    parse_unacked,
    route,
)
from celeryscope.readings import Head

REFUSED = redis.exceptions.NoPermissionError("no")
NONSENSE: tuple[Any, ...] = (REFUSED, None, b"x", 1, [], [1], [[1]], {}, [b"\xff", b"x"], True, -1.5)


def test_info_of_redis_and_of_valkey() -> None:
    server = b"# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\n"
    memory = b"# Memory\r\nused_memory:1000\r\nmaxmemory:2000\r\nmaxmemory_policy:allkeys-lru\r\n"
    stats = b"# Stats\r\nevicted_keys:7\r\n"
    assert parse_info(server, memory, stats) == ServerFacts("9.1.2", 1000, 2000, "allkeys-lru", 7)
    assert parse_info(b"redis_version:7.0.15\r\nmaxmemory:0\r\n", REFUSED, REFUSED) == ServerFacts("7.0.15")
    nonsense = b"used_memory:lots\r\nmaxmemory:-1\r\nevicted_keys:\r\n\xff:\xfe\r\nredis_version:"
    assert parse_info(nonsense) == ServerFacts()


def test_steps_of_scan() -> None:
    assert parse_scan([b"17", [b"a", b"b"]]) == (17, [b"a", b"b"])
    assert parse_scan([b"0", []]) == (0, [])


def test_bindings() -> None:
    members = {b"pay\x06\x16\x06\x16pay", b"a.*\x06\x16^a$\x06\x16topic", b"two\x06\x16fields"}
    members |= {b"\xff\x06\x16\x06\x16q", b"no queue\x06\x16\x06\x16", b"x" * 10_000}
    members |= {b"x\x06\x16\x06\x16" + b"q" * 2000}
    expected = frozenset({Binding("pay", False, "pay"), Binding("a.*", True, "topic")})
    assert parse_bindings(members, "\x06\x16") == expected
    assert parse_bindings(list(members), "\x06\x16") == expected
    assert parse_bindings([b"k::::q"], "::") == frozenset({Binding("k", False, "q")})
    assert parse_bindings(set(), "::") == frozenset()


@pytest.mark.parametrize("reply", NONSENSE)
def test_nonsense_is_not_known(reply: Any) -> None:
    assert parse_scan(reply) is None
    assert parse_oldest(reply) is None
    assert parse_unacked(reply) is None
    assert parse_count(reply) is (1 if reply == 1 and reply is not True else None)
    assert not parse_bindings(reply, "::")
    assert parse_info(reply) == ServerFacts()


def test_the_oldest_delivery_in_both_protocols() -> None:
    assert parse_oldest([b"tag", b"1700000000.25"]) == parse_oldest([[b"tag", 1700000000.25]]) == 1700000000.25
    assert parse_oldest([b"tag", b"nan"]) is None
    assert parse_oldest([b"tag", b"-inf"]) is None


def message(body: Any, encoding: str | None = "base64", **headers: Any) -> bytes:
    raw = base64.b64encode(json.dumps(body).encode()).decode() if encoding == "base64" else body
    return json.dumps({"body": raw, "headers": headers, "properties": {"body_encoding": encoding}}).encode()


HEADS: dict[str, tuple[bytes, str | None]] = {
    "protocol 2": (message([[], {}, {}], id="1", task="shop.pay"), "1"),
    "protocol 1": (message({"id": "1", "task": "shop.pay", "args": []}), "1"),
    "no task": (message({"id": "1"}), None),
    "no object": (message([1, 2]), None),
    "an id of another type": (message([], id=5, task="shop.pay"), None),
    "an endless id": (message([], id="x" * 1000, task="shop.pay"), None),
    "no base64": (message("%%%", encoding=None), None),
    "wrong base64": (b'{"body": "%%%", "properties": {"body_encoding": "base64"}}', None),
    "headers of another type": (b'{"headers": 5}', None),
    "no JSON": (b"\x00\xff", None),
    "nothing": (b"", None),
    "nested": (b"[" * 100_000, None),
}


@pytest.mark.parametrize(("content", "task_id"), HEADS.values(), ids=HEADS)
def test_heads(content: bytes, task_id: str | None) -> None:
    assert parse_head(content) == Head(task_id, len(content))


def test_a_heads_eta() -> None:
    content = message([[], {}, {}], id="1", task="shop.pay", eta="2023-11-14T22:14:20+00:00")
    assert parse_head(content) == Head("1", len(content), 1700000060.0)
    for eta in (None, "soon", "2023-11-14T22:14:20", 5):
        content = message([[], {}, {}], id="1", task="shop.pay", eta=eta)
        assert parse_head(content) == Head("1", len(content), None)


def test_unacknowledged_messages() -> None:
    values = [b'[{"body": "x"}, "", "pay"]', b'[{}, "topics", "a.b"]', b"garbage", b'[{}, "", 5]', b'[{}, "", "pay"]']
    items = [item for number, value in enumerate(values) for item in (str(number).encode(), value)]
    sample = parse_unacked([b"0", [*items, b"0", values[0]]])
    assert sample is not None
    assert sample.routes == Counter({("", "pay"): 2, ("topics", "a.b"): 1})
    assert (sample.entries, sample.bytes, sample.complete) == (5, sum(map(len, values)), True)
    partial = parse_unacked([b"9", []])
    assert partial is not None
    assert (partial.entries, partial.complete) == (0, False)


def test_routes_of_exchanges() -> None:
    bindings = {
        "straight": frozenset({Binding("a", False, "one"), Binding("b", False, "two"), Binding("b", False, "three")}),
        "topics": frozenset({Binding("a.*", True, "star"), Binding("b.#", True, "hash")}),
    }
    assert route(bindings, "", "pay") == "pay"
    assert route(bindings, "", "") is None
    assert route(bindings, "straight", "a") == "one"
    assert route(bindings, "straight", "b") is None
    assert route(bindings, "straight", "c") is None
    assert route(bindings, "nowhere", "a") is None
    assert route(bindings, "topics", "a.x") == "star"
    assert route(bindings, "topics", "b.x.y.z") == "hash"


PATTERNS = ("a", "a.b", "a.*", "*.b", "*", "#", "a.#", "#.b", "a.#.c", "*.#", "a.*.c", "#.#", "")
KEYS = ("a", "b", "a.b", "a.c", "a.b.c", "a..c", "a.", ".b", "a.b.b.c", "", ".", "x.y.b", "a.b.c.d")


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.skipif(TopicExchange.wildcards["*"] != r"[^\.]+", reason="in older kombu, * is several words too")
def test_topics_match_as_kombus_do(pattern: str) -> None:
    kombus: Any = TopicExchange(None)
    binding = Binding(pattern, True, "q")
    for key in KEYS:
        matches = kombus._match(kombus.key_to_pattern(pattern), key) is not None
        assert (route({"topics": frozenset({binding})}, "topics", key) == "q") == matches, key


def test_a_pattern_of_many_wildcards_is_matched_in_no_time() -> None:
    bindings = {"topics": frozenset({Binding(".".join(["#"] * 300), True, "q")})}
    assert route(bindings, "topics", ".".join(["a"] * 299) + "\n") is None
