"""What the poller of Redis costs, may be refused, and says of a server that is in trouble."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pytest
import redis
from celery import Celery

from celeryscope.errors import PollError
from celeryscope.pollers.redis_link import Command, Link
from celeryscope.readings import Head
from support.processes import REPOSITORY
from support.redis_polling import (
    WAIT,
    HandClock,
    application,
    by_name,
    command,
    polling,
    send,
    taken,
)
from support.servers import Valkey, free_port
from support.waiting import wait_until

pytestmark = pytest.mark.integration

OF_WORK = {"pay", "mail", "report"}
# The line of docs/operations.md.
DOCUMENTED = next(
    line.strip()
    for line in (REPOSITORY / "docs" / "operations.md").read_text().splitlines()
    if line.startswith("    ACL SETUSER celeryscope ")
)
NEEDED = DOCUMENTED[DOCUMENTED.index("+") :]


def calls(client: redis.Redis) -> dict[str, int]:
    return {name.removeprefix("cmdstat_"): facts["calls"] for name, facts in client.info("commandstats").items()}


@contextmanager
def counted(client: redis.Redis) -> Iterator[dict[str, int]]:
    """How often each command is called in a block, but for our own INFO."""
    before, difference = calls(client), dict[str, int]()
    yield difference
    after = calls(client)
    after["info"] -= 1
    difference.update({name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)})


def test_one_step_of_scan_and_one_pipeline_whatever_the_number_of_queues(
    valkey_server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, clock = application(valkey_server.url), HandClock()
    for number in range(40):
        send(app, f"queue-{number}")
    trips: list[int] = []
    ask = Link.ask

    def noted(link: Link, commands: Sequence[Command]) -> list[Any]:
        trips.append(len(commands))
        return ask(link, commands)

    monkeypatch.setattr(Link, "ask", noted)
    with polling(app, clock=clock) as poller, closing(valkey_server.client()) as client:
        assert len(poller.poll().queues) == 40
        for elapsed, scans in ((15, 0), (15, 1), (15, 0), (15, 1)):
            clock.elapsed += elapsed
            trips.clear()
            with counted(client) as commands:
                assert len(poller.poll().queues) == 40
            # HLEN and MEMORY USAGE go with the step of SCAN; then all else, once.
            assert [bool(size) for size in trips] == [True, True, False]
            assert trips[0] == 2 + scans
            expected = {"info": 3, "hlen": 1, "memory|usage": 1, "zrange": 1, "hscan": 1, "llen": 160, "lindex": 160}
            assert commands == expected | ({"scan": 1, "smembers": 40} if scans else {})


def test_a_large_database_is_searched_over_many_polls(valkey_server: Valkey) -> None:
    app, clock = application(valkey_server.url), HandClock()
    with closing(valkey_server.client()) as client:
        client.mset({f"other:{number}": 1 for number in range(10_000)})
        for name in ("pay", "mail", "report"):
            send(app, name)
        with polling(app, clock=clock) as poller, counted(client) as commands:
            polls = 0
            while set(by_name(poller.poll())) != OF_WORK:
                polls += 1
                assert polls <= 20
        assert 1 <= commands["scan"] <= polls + 1
        with polling(app, clock=clock) as poller, counted(client) as commands:
            for _ in range(30):
                poller.poll()
        # 10,006 keys are eleven steps or so; the next round is not due.
        assert 8 <= commands["scan"] <= 14


def test_a_head_of_megabytes_is_not_read_in_every_poll(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    large, small = app.send_task("shop.work", args=("x" * 3_000_000,), queue="pay").id, send(app, "mail")[0]
    with polling(app) as poller, closing(valkey_server.client()) as client:
        queues = by_name(poller.poll())
        head = queues["pay"].head
        assert head is not None
        assert head.task_id == large
        assert head.bytes > 3_000_000
        before = client.info("stats")["total_net_output_bytes"]
        for _ in range(20):
            send(app, "pay")
            queues = by_name(poller.poll())
            assert queues["pay"].head == head
            assert queues["mail"].head is not None
            assert queues["mail"].head.task_id == small
        assert client.info("stats")["total_net_output_bytes"] - before < 1_000_000
        client.rpop("pay")
        assert by_name(poller.poll())["pay"].head is None

        def seen() -> bool:
            head = by_name(poller.poll())["pay"].head
            return head is not None and head.task_id is not None and head.task_id != large

        wait_until(seen, WAIT, "the debt is paid off, and the next head is read")


def test_a_head_that_is_no_task_and_a_key_that_is_no_list(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    with closing(valkey_server.client()) as client:
        client.lpush("pay", b"\x00 garbage")
        client.set("mail", "a string")
        with polling(app, lambda: ["pay", "mail", "report"]) as poller:
            queues = by_name(poller.poll())
    assert queues["pay"].head == Head(None, 9)
    assert (queues["mail"].length, queues["mail"].by_priority, queues["mail"].head) == (None, {3: 0, 6: 0, 9: 0}, None)
    assert queues["report"].length == 0


def put_unacked(client: redis.Redis, queues: dict[str, int], size: int) -> None:
    """Entries as kombu makes them, of messages of this many bytes."""
    with client.pipeline(transaction=False) as pipeline:
        for queue, count in queues.items():
            for number in range(count):
                tag = f"{queue}-{number}"
                pipeline.hset("unacked", tag, f'[{{"body": "{"x" * size}"}}, "", "{queue}"]')
                pipeline.zadd("unacked_index", {tag: 1_700_000_000.5 + number})
        pipeline.execute()


def test_a_thousand_unacknowledged_are_counted_and_more_are_estimated(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    with closing(valkey_server.client()) as client, polling(app, lambda: ["pay", "mail"]) as poller:
        put_unacked(client, {"pay": 600, "mail": 300}, 50)
        reading = poller.poll()
        assert {queue.queue: queue.unacked for queue in reading.queues} == {"pay": 600, "mail": 300}
        assert reading.oldest_unacked == 1_700_000_000.5
        put_unacked(client, {"pay": 6000, "mail": 3000}, 50)
        unacked = {queue.queue: queue.unacked or 0 for queue in poller.poll().queues}
        assert sum(unacked.values()) == pytest.approx(9000, abs=1)
        # Of a thousand, two thirds give or take 1.5 percent.
        assert unacked["pay"] == pytest.approx(6000, rel=0.2)


def test_large_unacknowledged_messages_are_read_in_part(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    with closing(valkey_server.client()) as client, polling(app, lambda: ["pay"]) as poller:
        poller.poll()
        put_unacked(client, {"pay": 200}, 100_000)
        before = client.info("stats")["total_net_output_bytes"]
        for _ in range(5):
            assert [queue.unacked for queue in poller.poll().queues] == [200]
        assert client.info("stats")["total_net_output_bytes"] - before < 5 * 3 * 2**20


@contextmanager
def restricted(server: Valkey, rules: str, **options: Any) -> Iterator[tuple[Celery, redis.Redis]]:
    with closing(server.client()) as client:
        command(client, "ACL", "SETUSER", "watcher", "reset", "on", ">secret", *rules.split())
        yield application(f"redis://watcher:secret@127.0.0.1:{server.port}/3", **options), client


def test_the_permissions_that_are_documented_are_enough(
    valkey_server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    owner = application(valkey_server.database_url(3))
    send(owner, "pay", 0, 3)
    rules = DOCUMENTED.partition(">PASSWORD ")[2]
    assert "%R~*" in rules
    with restricted(valkey_server, rules) as (app, client), taken(owner, "pay", 1):
        with polling(app) as poller:
            poller.poll()
            (queue,) = poller.poll().queues
        assert (queue.queue, queue.length, queue.unacked) == ("pay", 1, 1)
        assert command(client, "ACL", "LOG") == []
    assert "refuses" not in caplog.text


@pytest.mark.parametrize("denied", NEEDED.replace("+select", "").replace("+ping", "").split())
def test_what_is_refused_is_not_known_and_all_else_is(
    valkey_server: Valkey, caplog: pytest.LogCaptureFixture, denied: str
) -> None:
    caplog.set_level(logging.INFO)
    owner = application(valkey_server.database_url(3))
    send(owner, "pay", 0, 3)
    rules = f"resetchannels ~* {NEEDED.replace(denied, '')}"
    with restricted(valkey_server, rules) as (app, _), taken(owner, "pay", 1), polling(app, lambda: ["pay"]) as poller:
        poller.poll()
        reading = poller.poll()
    (queue,) = reading.queues
    known = {
        "+info": (reading.version, reading.memory_used, reading.memory_max, reading.evicted_keys),
        "+llen": (queue.length,),
        "+lindex": (queue.head,),
        "+hscan": (queue.unacked,),
        "+zrange": (reading.oldest_unacked,),
    }
    for permission, facts in known.items():
        for fact in facts:
            if permission == denied or fact is reading.memory_max:
                assert fact is None
            else:
                assert fact is not None
    told = [record.getMessage() for record in caplog.records if "refuses" in record.getMessage()]
    assert len(told) == (0 if denied == "+client|setinfo" else 1)
    if told:
        assert denied[1:].partition("|")[0].upper() in told[0]


def test_a_user_that_may_not_see_the_keys(valkey_server: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    owner = application(valkey_server.database_url(3))
    send(owner, "pay")
    send(owner, "mail")
    rules = f"resetchannels ~pay* {NEEDED}"
    with restricted(valkey_server, rules) as (app, _), polling(app, lambda: ["pay", "mail"]) as poller:
        queues = by_name(poller.poll())
        poller.poll()
    assert (queues["pay"].length, queues["mail"].length) == (1, None)
    assert queues["mail"].by_priority == {}
    assert {queue.unacked for queue in queues.values()} == {None}
    assert len([record for record in caplog.records if "refuses" in record.getMessage()]) == 1


def test_a_stale_connection_is_no_failure(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    send(app, "pay")
    with polling(app) as poller, closing(valkey_server.client()) as client:
        poller.poll()
        command(client, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert [queue.length for queue in poller.poll().queues] == [1]
        assert len(client.client_list()) == 2


def test_a_server_that_goes_away_and_comes_back(valkey_server: Valkey) -> None:
    app = application(valkey_server.url)
    with polling(app) as poller:
        poller.poll()
        valkey_server.kill()
        for _ in range(2):
            with pytest.raises(PollError, match="refused the connection") as caught:
                poller.poll()
            assert "\n" not in str(caught.value)
        valkey_server.start()
        send(app, "pay")
        assert [queue.length for queue in poller.poll().queues] == [1]


def test_a_frozen_server_is_said(valkey_server: Valkey) -> None:
    app = application(valkey_server.url, socket_timeout=0.3)
    with polling(app) as poller:
        poller.poll()
        valkey_server.pause()
        with pytest.raises(PollError, match="did not answer in time"):
            poller.poll()
        valkey_server.resume()
        assert poller.poll().queues == ()


def test_a_wrong_password_or_another_transport_is_one_clear_line(protected_valkey_server: Valkey) -> None:
    wrong = application(f"redis://:wrong-secret@127.0.0.1:{protected_valkey_server.port}/0")
    with polling(wrong) as poller, pytest.raises(PollError, match="refused the credentials") as caught:
        poller.poll()
    assert "wrong-secret" not in str(caught.value)
    with polling(application("memory://")) as poller, pytest.raises(PollError, match="not from memory"):
        poller.poll()
    nobody = application(f"redis://127.0.0.1:{free_port()}/0")
    with polling(nobody) as poller, pytest.raises(PollError, match="refused the connection"):
        poller.poll()
