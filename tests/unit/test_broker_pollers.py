"""What brokers that are not Redis answer, made into readings; the brokers themselves are in integration tests."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, pools

from celeryscope import broker
from celeryscope.config import Config
from celeryscope.errors import ConfigError, PollError
from celeryscope.pollers import BrokerPoller, management_api
from celeryscope.pollers.amqp import AmqpPoller, Declared, askable, read_queues
from celeryscope.pollers.generic import GenericPoller
from celeryscope.pollers.management import MAX_PAGES, ManagementPoller
from celeryscope.pollers.management_api import ManagementApi, Refused
from celeryscope.pollers.management_facts import (
    parse_nodes,
    parse_own_exchange,
    parse_queues,
    parse_version,
    sort_out,
)
from celeryscope.pollers.roster import LONGEST_PAUSE, Roster
from celeryscope.pollers.sqs import SqsPoller, named_queues, parse_queue
from celeryscope.pollers.sqs import read_queues as read_sqs
from celeryscope.readings import BrokerReading, QueueReading

COUNTDOWN = {"x-expires": 60_000, "x-message-ttl": 50_000, "x-dead-letter-exchange": ""}
ODD: tuple[Any, ...] = (None, 7, "text", [], {}, [None, 7, "x", []], [{"name": 7}], {"items": 7})


def yes(_: str) -> bool:
    return True


def no(_: str) -> bool:
    return False


def sorted_out(*items: dict[str, Any], known: tuple[str, ...] = (), found: Callable[[str], bool] = no) -> Any:
    return {reading.queue: reading for reading in sort_out(parse_queues(list(items)), known, yes, found)}


def test_a_missing_queue_is_asked_for_less_and_less_and_at_once_when_it_was_there() -> None:
    names = ["there", "missing"]
    roster = Roster(lambda: names, yes)
    asked = []
    for poll in range(40):
        due = roster.due()
        assert "there" in due
        roster.found("there")
        if "missing" in due:
            asked.append(poll)
            roster.missing("missing")
    assert asked == [0, 2, 5, 10, 19, 28, 37]
    assert asked[-1] - asked[-2] == LONGEST_PAUSE + 1
    roster.found("missing")
    assert roster.due() == ["missing", "there"]
    roster.missing("missing")
    names.remove("missing")
    assert roster.due() == ["there"]
    names.append("missing")
    assert roster.due() == ["missing", "there"]  # it was forgotten


def test_queues_of_celerys_own_and_those_kept_out_are_not_asked_for() -> None:
    known = ["shop", "hidden", "celeryev.1", "x@h.celery.pidbox", "celery_delayed_3", "", "shop"]
    assert Roster(lambda: known, lambda name: name != "hidden").names() == ["shop"]


@pytest.mark.parametrize(
    ("name", "asked"), [("shop", True), ("größe", True), ("", False), ("é" * 128, False), ("\ud800", False)]
)
def test_names_that_amqp_can_carry(name: str, asked: bool) -> None:
    assert askable(name) is asked


def test_passive_declares_tell_length_and_consumers() -> None:
    assert read_queues({"shop": Declared(3, 1)}) == (QueueReading("shop", length=3, consumers=1),)


def test_queues_of_the_management_api() -> None:
    item = {
        "name": "shop",
        "arguments": {"x-max-priority": 3},
        "messages_ready": 3,
        "messages_unacknowledged": 2,
        "message_bytes": 500,
        "consumers": 1,
        "backing_queue_status": {"priority_lengths": {"0": 1, "3": 2, "x": 1, "2": None}},
    }
    expected = QueueReading("shop", length=3, by_priority={0: 1, 3: 2}, unacked=2, consumers=1, bytes=500)
    assert sorted_out(item, known=("shop",)) == {"shop": expected}
    assert parse_queues({"items": [item]}) == parse_queues([item])


def test_numbers_that_the_broker_has_not_counted_yet_are_absent() -> None:
    assert sorted_out({"name": "new", "arguments": []}, known=("new",)) == {"new": QueueReading("new")}
    odd = {"name": "new", "messages_ready": True, "consumers": -1, "message_bytes": "7", "messages_unacknowledged": 1.5}
    assert sorted_out(odd, known=("new",)) == {"new": QueueReading("new")}


@pytest.mark.parametrize("answer", ODD)
def test_an_answer_that_is_none_tells_nothing(answer: Any) -> None:
    assert parse_queues(answer) == []
    assert parse_own_exchange(answer) == set()
    assert parse_nodes(answer) == BrokerReading()
    assert parse_version(answer) is None


def test_queues_that_are_known_or_found_are_celerys_and_no_others() -> None:
    items = [{"name": name} for name in ("known", "found", "other", "celeryev.1", "h.celery.pidbox", "bcast.x")]
    assert set(sorted_out(*items, known=("known", "celeryev.1"), found=lambda name: name != "other")) == {
        "known",
        "found",
        "bcast.x",
    }


def test_celery_binds_a_queue_to_an_exchange_of_its_own_name() -> None:
    def bound(source: str, destination: str, key: str, kind: str = "queue") -> dict[str, str]:
        return {"source": source, "destination": destination, "routing_key": key, "destination_type": kind}

    bindings = [
        bound("", "plain", "plain"),
        bound("shop", "shop", "shop"),
        bound("late", "late", "#.late"),
        bound("orders", "orders", "order.#"),
        bound("x", "x", "x", "exchange"),
    ]
    assert parse_own_exchange(bindings) == {"shop", "late"}


def test_native_delayed_delivery_is_summed_by_its_prefix() -> None:
    items = [
        {"name": f"{prefix}celery_delayed_{level}", "messages_ready": level, "messages_unacknowledged": 1}
        for prefix in ("", "eu_")
        for level in (0, 5, 27)
    ]
    assert sorted_out(*items) == {
        "celery_delayed": QueueReading("celery_delayed", delayed=35),
        "eu_celery_delayed": QueueReading("eu_celery_delayed", delayed=35),
    }


def test_countdown_queues_are_the_delay_of_their_target_and_never_a_name_of_their_own() -> None:
    by_key = {"name": "a1", "messages_ready": 2, "arguments": COUNTDOWN | {"x-dead-letter-routing-key": "shop"}}
    by_exchange = {"name": "a2", "messages_ready": 3, "arguments": COUNTDOWN | {"x-dead-letter-exchange": "shop"}}
    to_nobody = {"name": "a3", "messages_ready": 4, "arguments": COUNTDOWN | {"x-dead-letter-routing-key": "gone"}}
    queues = sorted_out({"name": "shop", "messages_ready": 1}, by_key, by_exchange, to_nobody, found=yes)
    assert queues == {"shop": QueueReading("shop", length=1, delayed=5)}


def test_work_with_a_dead_letter_queue_is_work() -> None:
    lasting = {"x-message-ttl": 50_000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    items = [{"name": "shop", "messages_ready": 1, "arguments": lasting}, {"name": "dead", "messages_ready": 2}]
    assert sorted_out(*items, found=yes) == {
        "shop": QueueReading("shop", length=1),
        "dead": QueueReading("dead", length=2),
    }
    named = {"name": "shop", "messages_ready": 1, "arguments": COUNTDOWN | {"x-dead-letter-routing-key": "dead"}}
    assert set(sorted_out(named, items[1], known=("shop",), found=no)) == {"shop"}


def test_memory_is_of_the_node_nearest_to_its_limit_and_alarms_of_any() -> None:
    node = {"mem_used": 50, "mem_limit": 100, "mem_alarm": False, "disk_free_alarm": True}
    fuller = {"mem_used": 45, "mem_limit": 50, "mem_alarm": False, "disk_free_alarm": False}
    stopped = {"name": "n3", "running": False}
    expected = BrokerReading(memory_used=45, memory_max=50, alarms={"memory": False, "disk": True})
    assert parse_nodes([node, fuller, stopped]) == expected
    assert parse_nodes([{"mem_used": 50, "mem_limit": "memory_monitoring_disabled"}]) == BrokerReading()


Answers = dict[str, tuple[int, Any]]


@contextmanager
def answering(answers: Callable[[str], tuple[int, Any]]) -> Iterator[tuple[str, list[str]]]:
    """A management API of the test's; its URL, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, content = answers(self.path)
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/api/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://guest:api-secret@127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (401, {}, "refused the credentials"),
        (404, {}, "virtual host"),
        (500, {}, "answered 500"),
        (302, {}, "answered 302"),
        (200, b"<html>", "no JSON"),
        (200, b"[" * 100_000, "no JSON"),
        (200, b" " * 101, "more than"),
    ],
)
def test_answers_that_are_no_use_are_one_line_without_the_secret(
    monkeypatch: pytest.MonkeyPatch, status: int, content: Any, said: str
) -> None:
    if said == "more than":
        monkeypatch.setattr(management_api, "MAX_ANSWER_BYTES", 100)
    with answering(lambda _: (status, content)) as (url, asked), pytest.raises(PollError, match=said) as caught:
        ManagementApi(url).get("queues")
    assert asked == ["/api/queues"]
    assert "api-secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, Refused) is (status != 200)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "rabbit:15672",
        "ftp://h",
        "file:///etc/passwd",
        "http://",
        "http://h:x",
        "http://h /",
        "http://u:12#x@h:15672",
        "http://u:1/x@h",
    ],
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        ManagementApi(url)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://u:p@h:15672", "http://h:15672/api/"),
        ("https://h/rabbit/", "https://h/rabbit/api/"),
        ("http://[::1]:1/api", "http://[::1]:1/api/"),
    ],
)
def test_where_the_api_is(url: str, base: str) -> None:
    assert ManagementApi(url)._base == base


def pages_of(*pages: list[str]) -> Callable[[str], tuple[int, Any]]:
    def answer(path: str) -> tuple[int, Any]:
        if "/queues/" in path:
            page = int(path.rpartition("page=")[2])
            if page > len(pages):
                return 400, {}
            return 200, {"page_count": len(pages), "items": [{"name": name} for name in pages[page - 1]]}
        if "/bindings/" in path:
            return 200, [
                {"source": "own", "destination": "own", "routing_key": "own", "destination_type": "queue"},
            ]
        return (401, {}) if "/nodes" in path else (200, {"rabbitmq_version": "4.1.0"})

    return answer


def test_every_page_is_read_and_bindings_only_where_there_are_new_names() -> None:
    with answering(pages_of(["known", "own"], ["other"])) as (url, asked):
        poller = ManagementPoller(url, "shop/eu", lambda: ["known"], yes)
        reading = poller.poll()
        assert [queue.queue for queue in reading.queues] == ["known", "own"]
        assert all(poller.poll() == reading for _ in range(4))
        assert (reading.version, reading.memory_used, dict(reading.alarms)) == ("4.1.0", None, {})
    assert sum("/bindings/shop%2Feu" in path for path in asked) == 1
    assert sum("/queues/shop%2Feu" in path for path in asked) == 10


def test_pages_that_have_gone_meanwhile_are_no_error_and_too_many_are() -> None:
    def fewer(path: str) -> tuple[int, Any]:
        return (200, {"page_count": 3, "items": []}) if path.endswith("page=1") else pages_of()(path)

    with answering(fewer) as (url, _):
        assert ManagementPoller(url, "/", list, yes).poll().queues == ()
    with (
        answering(lambda _: (200, {"page_count": MAX_PAGES + 1, "items": []})) as (url, _),
        pytest.raises(PollError, match="too many"),
    ):
        ManagementPoller(url, "/", list, yes).poll()


class Fallback:
    """Answers, or not."""

    def __init__(self, *answers: BrokerReading) -> None:
        self.answers = list(answers)
        self.closed = False

    def poll(self) -> BrokerReading:
        if not self.answers:
            raise PollError("nobody there")
        return self.answers.pop(0)

    def close(self) -> None:
        self.closed = True


def test_the_fallback_is_asked_where_the_api_fails_and_its_error_is_the_one_that_is_told() -> None:
    fallback = Fallback(BrokerReading(version="fallback"))
    with answering(lambda _: (500, {})) as (url, _):
        poller = ManagementPoller(url, "/", list, yes, fallback=fallback)
        assert poller.poll().version == "fallback"
        with pytest.raises(PollError, match="nobody there"):
            poller.poll()
    poller.close()
    assert fallback.closed


def test_attributes_of_sqs() -> None:
    told = parse_queue(
        "shop",
        {
            "ApproximateNumberOfMessages": "3",
            "ApproximateNumberOfMessagesNotVisible": "2",
            "ApproximateNumberOfMessagesDelayed": "1",
            "VisibilityTimeout": "1800",
        },
    )
    nothing = parse_queue("odd", {"ApproximateNumberOfMessages": "many"})
    reading = read_sqs([told, nothing, parse_queue("x", {"VisibilityTimeout": "30"})])
    assert reading.queues == (
        QueueReading("shop", length=3, unacked=2, delayed=1),
        QueueReading("odd"),
        QueueReading("x"),
    )
    assert reading.visibility_timeout == 30
    assert named_queues(["https://sqs.eu/1/shop"]) == {"shop": "https://sqs.eu/1/shop"}


def generic(url: str, *known: str, **options: Any) -> GenericPoller:
    app = broker.celery_app(Config(broker_url=url, broker_transport_options=options))
    return GenericPoller(partial(broker.connect, app), lambda: known, yes, describe=broker.describe)


def publish(url: str, queue: str, count: int, **options: Any) -> None:
    app = Celery("producer", broker=url, set_as_current=False)
    app.conf.broker_transport_options = options
    for _ in range(count):
        app.send_task("shop.pay", queue=queue)
    pools.reset()


def test_lengths_in_memory() -> None:
    from kombu.transport.memory import Channel

    publish("memory://", "generic-jobs", 3)
    queues = set(Channel.queues)
    poller = generic("memory://", "generic-jobs", "generic-missing")
    for _ in range(5):
        assert poller.poll().queues == (QueueReading("generic-jobs", length=3),)
    poller.close()
    assert poller.poll().queues == (QueueReading("generic-jobs", length=3),)
    poller.close()
    assert set(Channel.queues) == queues


def test_lengths_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    folder.mkdir()
    options = {"data_folder_in": str(folder), "data_folder_out": str(folder), "control_folder": str(tmp_path / "c")}
    publish("filesystem://", "jobs", 3, **options)
    before = sorted(tmp_path.rglob("*"))
    poller = generic("filesystem://", "jobs", "empty", **options)
    for _ in range(5):
        assert poller.poll().queues == (QueueReading("empty", length=0), QueueReading("jobs", length=3))
    poller.close()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["sql", "etcd", "consul", "kafka", "azurestoragequeues", "N/A"])
def test_a_transport_that_would_create_what_it_counts_tells_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kombu.transport.memory.Transport.driver_type", kind)
    publish("memory://", "generic-jobs", 1)
    assert generic("memory://", "generic-jobs").poll() == BrokerReading()


def test_a_transport_that_is_not_there_is_told_in_one_line() -> None:
    for poller in (generic("nonsense://host", "jobs"), generic("filesystem://", "jobs", data_folder_in="/not/there")):
        with pytest.raises(PollError) as caught:
            poller.poll()
        assert "\n" not in str(caught.value)
        poller.close()


def test_all_of_them_are_broker_pollers() -> None:
    def nowhere() -> Connection:
        raise AssertionError

    pollers: list[BrokerPoller] = [kind(nowhere, list, yes) for kind in (AmqpPoller, SqsPoller, GenericPoller)]
    pollers.append(ManagementPoller("http://h", "/", list, yes, fallback=pollers[0]))
    for poller in pollers:
        poller.close()  # before anything was opened
