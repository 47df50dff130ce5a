"""The status page as HTML: what it says, what it never says, and that nothing in it can run."""

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from celeryscope import __version__
from celeryscope.status import words
from celeryscope.status.facts import (
    Connection,
    FailureRow,
    Finding,
    QueueRow,
    Rows,
    Status,
    Total,
    Traffic,
    WorkerRow,
)
from celeryscope.status.page import page, policy
from celeryscope.status.style import STYLE

EVIL = "<script>alert(1)</script>\"'&\ud800</td>{version}"
FULL = Status(
    at=1_700_000_000.0,
    uptime=100_000.0,
    broker="redis://h/0",
    server="redis 9.1.0",
    connection=Connection(open=True, seconds=11_520.0),
    traffic=Traffic(rate=1234.5, window=60.0, lost=0, round_trip=0.0012, canary_age=3.2, deaf=0.0),
    workers_up=1,
    workers_gone=1,
    active=Total(3),
    slots=Total(8),
    waiting=Total(12_345),
    findings=(Finding("Tasks wait", "CeleryQueueWithoutWorkers"), Finding("Start them with -E")),
    workers=Rows(
        (WorkerRow("a@h", up=False, lost=2), WorkerRow("b@h", True, 0, "prefork", 8, 3, 5, 1.4)),
    ),
    queues=Rows((QueueRow("mail", 7, 75.0, 60.0, 2, 8), QueueRow("empty", 0, None, 60.0, 2, 8)), more=3),
    failures=Rows((FailureRow("shop.pay", "ValueError", 4, 9),)),
    failure_window=300.0,
)
DOWN = replace(FULL, connection=Connection(open=False, seconds=130.0, reason="the broker refused the connection"))


class Text(HTMLParser):
    """What of a page is text, and which elements it has."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._parts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if not self.tags or self.tags[-1] != "style":
            self._parts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._parts).split()).replace("\N{NARROW NO-BREAK SPACE}", " ")


def text(status: Status) -> str:
    return Text(page(status)).text


class TestWhatItSays:
    def test_connected_and_since_when(self) -> None:
        assert "Connected for 3 h 12 min · redis 9.1.0" in text(FULL)
        assert "<title>Connected · celeryscope</title>" in page(FULL)

    def test_not_connected_since_when_and_why(self) -> None:
        shown = text(DOWN)
        assert "Not connected for 2 min 10 s · redis 9.1.0 The broker refused the connection" in shown
        assert "Workers and tasks are shown as they were last heard of." in shown

    def test_before_the_first_attempt_is_over(self) -> None:
        status = Status(connection=Connection(open=False, seconds=0.2))
        assert "The first attempt is not over" in text(status)

    def test_time_in_which_nothing_was_heard(self) -> None:
        assert "deaf" not in text(FULL)
        deaf = replace(FULL, traffic=replace(FULL.traffic, deaf=75.0))
        assert "deaf for 1 min 15 s in all since the start" in text(deaf)

    def test_a_connection_that_nothing_proves_to_hear_is_no_good_one(self) -> None:
        html = page(replace(FULL, traffic=replace(FULL.traffic, unproved=True)))
        assert "<h1>Connected, perhaps deaf</h1>" in html
        assert "<title>Connected, perhaps deaf" in html
        assert 'class="card state bad"' in html

    def test_a_broker_without_events_shows_its_queues(self) -> None:
        shown = text(replace(FULL, connection=None))
        assert "carries no events: only its queues are shown" in shown
        assert "mail" in shown
        for absent in ("Canary", "Workers", "Failing tasks"):
            assert absent not in shown

    def test_the_numbers(self) -> None:
        shown = text(FULL)
        for part in (
            "Events 1 234/s over the last 1 min",
            "Lost events 0 since the start",
            "Canary 1.2 ms came back 3 s ago",
            "Workers up 1 1 gone",
            "Running 3 of 8 slots",
            "Waiting in queues 12 345",
            f"celeryscope {__version__}, up for 1 d 3 h",
            "as of 22:13:20 UTC",
            "watches redis://h/0",
        ):
            assert part in shown

    def test_the_tables(self) -> None:
        shown = text(FULL)
        assert "a@h gone (lost 2 times)" in shown
        assert "b@h up prefork 1 s ago 3 of 8 5" in shown
        assert "mail 7 1 min 15 s 1 min 2 8" in shown
        assert "empty 0 \N{EN DASH} 1 min 2 8" in shown
        assert "and 3 more" in shown
        assert "last 5 min in all shop.pay ValueError 4 9" in shown

    def test_what_to_look_at_with_a_link_to_what_to_do(self) -> None:
        assert '<li><bdi>Tasks wait</bdi> · <a href="/runbooks/CeleryQueueWithoutWorkers">what to do</a></li>' in page(
            FULL
        )
        assert "<li><bdi>Start them with -E</bdi></li>" in page(FULL)

    def test_links(self) -> None:
        links = set(re.findall('href="(/[^"]*)"', page(FULL)))
        assert {"/metrics", "/-/healthy", "/-/ready", "/runbooks/"} <= links

    def test_it_loads_again_unless_it_is_to_hold_still(self) -> None:
        assert '<meta http-equiv="refresh" content="15">' in page(FULL)
        assert 'href="/?refresh=off"' in page(FULL)
        held = page(FULL, refresh=False)
        assert "http-equiv" not in held
        assert '<a href="/">load again by itself</a>' in held


class TestWhatItDoesNotKnow:
    def test_is_unknown_and_never_0(self) -> None:
        status = Status(
            connection=Connection(open=True, seconds=5.0),
            workers=Rows((WorkerRow("w@h", up=True),)),
            queues=Rows((QueueRow("q"),)),
        )
        parsed = Text(page(status))
        numbers = re.sub(r"\b\d\d:\d\d:\d\d\b|" + re.escape(__version__), "", parsed.text.partition("Failing")[0])
        assert re.findall(r"(\w+) unknown (?=Lost|Canary|Workers|Running|Waiting|Nothing)", parsed.text) == [
            *("Events", "events", "Canary", "up", "Running", "queues")
        ]
        assert "w@h up unknown \N{EN DASH} unknown unknown" in numbers
        assert "q unknown unknown unknown unknown unknown" in numbers
        assert not re.search(r"(?<![\d.:])0(?![\d.:]| s)", numbers)

    def test_of_a_sum_the_missing_parts_are_told(self) -> None:
        shown = text(replace(FULL, active=Total(3, 1), slots=Total(8, 2), waiting=Total(7, 4)))
        assert "Running 3 of 8 slots, 2 workers unknown" in shown
        assert "Waiting in queues 7 4 queues unknown" in shown

    def test_without_a_connection_nothing_is_called_right(self) -> None:
        shown = text(Status(connection=Connection(open=False, seconds=0.2)))
        assert "Nothing can be told while not connected." in shown
        assert "Nothing wrong" not in shown

    def test_an_empty_page_says_what_to_do(self) -> None:
        shown = text(Status(connection=Connection(open=True, seconds=5.0)))
        assert "No worker heard yet. Check that workers run" in shown
        assert "No queue known yet." in shown
        assert "No failure was heard of since the start." in shown
        assert "Nothing wrong is seen from here." in shown


class TestSafety:
    def test_names_are_text_whatever_they_are(self) -> None:
        evil = replace(
            FULL,
            broker=EVIL,
            server=EVIL,
            connection=Connection(open=False, seconds=1.0, reason=EVIL),
            findings=(Finding(EVIL),),
            workers=Rows((WorkerRow(EVIL, up=True, pool=EVIL),)),
            queues=Rows((QueueRow(EVIL),)),
            failures=Rows((FailureRow(EVIL, EVIL, 1, 1),)),
        )
        html = page(evil)
        parsed = Text(html)
        harmless = Text(page(replace(FULL, connection=DOWN.connection))).tags
        assert "script" not in parsed.tags
        assert html.count(EVIL) == 0
        assert parsed.text.count("<script>alert(1)</script>") == 9
        assert set(parsed.tags) <= set(harmless)

    def test_nothing_in_it_runs_or_comes_from_elsewhere(self) -> None:
        parsed = Text(page(FULL))
        assert not {"script", "iframe", "object", "embed", "form", "img"} & set(parsed.tags)
        for name, value in parsed.attributes:
            assert not name.startswith("on"), name
            assert name != "style"
            if name in {"href", "src"}:
                assert (value or "").startswith(("/", "data:image/svg+xml,")), value

    def test_the_policy_allows_its_style_sheet_and_its_icon_alone(self) -> None:
        (sheet,) = re.findall("<style>(.*?)</style>", page(FULL), re.DOTALL)
        digest = b64encode(sha256(sheet.encode()).digest()).decode()
        assert policy(STYLE) == (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )


class TestWords:
    @pytest.mark.parametrize(
        ("seconds", "said"),
        [
            (0.00042, "0.4 ms"),
            (0.0123, "12.3 ms"),
            (1.26, "1.3 s"),
            (59.9, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (3600, "1 h"),
            (3725, "1 h 2 min"),
            (90_061, "1 d 1 h"),
            (10_000_000, "115 d 17 h"),
        ],
    )
    def test_a_duration(self, seconds: float, said: str) -> None:
        assert words.duration(seconds).replace("\N{NO-BREAK SPACE}", " ") == said

    def test_an_age_is_in_whole_seconds(self) -> None:
        assert [words.age(age).replace("\N{NO-BREAK SPACE}", " ") for age in (0.2, 9.9, 75)] == [
            "0 s",
            "9 s",
            "1 min 15 s",
        ]

    @pytest.mark.parametrize(
        ("rate", "said"), [(0, "0"), (0.0123, "0.0123"), (12.34, "12.3"), (99.96, "100"), (1e4, "10 000")]
    )
    def test_a_rate(self, rate: float, said: str) -> None:
        assert words.rate(rate).replace("\N{NARROW NO-BREAK SPACE}", " ") == said
