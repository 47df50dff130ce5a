"""The web server: what each path answers, what HTTP demands, and that no client keeps another waiting."""

import errno
import gzip
import http.client
import io
import logging
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from http import HTTPStatus
from math import inf
from pathlib import Path
from socketserver import TCPServer
from typing import Any

import pytest

from celeryscope import __version__
from celeryscope.clock import Moment
from celeryscope.errors import ConfigError
from celeryscope.http import Answer, Request, line
from celeryscope.pages import HEALTH_PATHS, Site, gzip_accepted
from celeryscope.status.facts import Status
from celeryscope.status.page import policy
from celeryscope.status.style import RUNBOOK_STYLE, STYLE
from celeryscope.web import WebServer
from celeryscope.web.connection import MAX_HEAD_BYTES
from support.waiting import wait_until

EXPOSITION = b"# TYPE up gauge\n" + b"up 1.0\n" * 1000
LARGE = bytes(64 * 1024 * 1024)  # far more than the kernel buffers for a client that does not read
POLL_INTERVAL = 0.01  # seconds, in place of the tenth that stopping a server would take each time
PATIENCE = 10.0  # seconds until a test gives up on something that takes milliseconds

Serve = Callable[..., WebServer]


class ManualClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.elapsed = 1000.0

    def now(self) -> Moment:
        return Moment(1700000000.0, self.elapsed)


class Seen:
    """An `expose` that remembers what it was asked for."""

    def __init__(self, body: bytes = EXPOSITION, content_type: str = "text/plain; version=0.0.4") -> None:
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self.answer = (body, content_type)

    def __call__(self, accept: str, names: Sequence[str]) -> tuple[bytes, str]:
        self.calls.append((accept, tuple(names)))
        return self.answer


def site(
    expose: Callable[[str, Sequence[str]], tuple[bytes, str]] | None = None,
    ready: Callable[[], bool] = lambda: True,
    status: Callable[[], Status] = Status,
) -> Site:
    return Site(expose=expose or Seen(), ready=ready, status=status)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts servers on free ports of the loopback interface, and stops them at the end."""
    monkeypatch.setattr("celeryscope.web.server.POLL_INTERVAL", POLL_INTERVAL)
    with ExitStack() as stack:

        def start(answer: Callable[[Request], Answer] | None = None, **options: Any) -> WebServer:
            options.setdefault("always", HEALTH_PATHS)
            server = WebServer("127.0.0.1", 0, answer or site().answer, **options)
            server.start()
            stack.callback(server.stop)
            return server

        yield start


def connect(server: WebServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def exchange(server: WebServer, sent: bytes) -> bytes:
    """Send bytes and return everything that comes back until the server closes the connection."""
    with connect(server) as client:
        client.sendall(sent)
        return received(client)


def received(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def answering(server: WebServer) -> int:
    return sum(connection.answering for connection in tuple(server._connections))


def sending(server: WebServer) -> int:
    return sum(connection.sending_since < inf for connection in tuple(server._connections))


def ask(server: WebServer, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
        connection.request(method, path, headers={name.replace("_", "-"): headers[name] for name in headers})
        response = connection.getresponse()
        return response, response.read()


class TestPaths:
    def test_metrics_are_what_expose_returns(self, serve: Serve) -> None:
        response, body = ask(serve(), "/metrics")
        assert (response.status, body) == (200, EXPOSITION)
        assert response.getheader("Content-Type") == "text/plain; version=0.0.4"

    def test_the_accept_header_and_the_filter_reach_expose(self, serve: Serve) -> None:
        expose = Seen()
        server = serve(site(expose).answer)
        ask(server, "/metrics", Accept="text/plain;version=1.0.0")
        ask(server, "/metrics?name[]=a&name%5B%5D=b%20c&name=d")
        assert expose.calls == [("text/plain;version=1.0.0", ()), ("", ("a", "b c"))]

    def test_healthy_says_ok(self, serve: Serve) -> None:
        response, body = ask(serve(), "/-/healthy")
        assert (response.status, body) == (200, b"ok\n")

    def test_ready_is_503_with_one_line_until_the_start_is_over(self, serve: Serve) -> None:
        started = threading.Event()
        server = serve(site(ready=started.is_set).answer)
        response, body = ask(server, "/-/ready")
        assert (response.status, body) == (503, b"not ready: the start is not over\n")
        started.set()
        response, body = ask(server, "/-/ready")
        assert (response.status, body) == (200, b"ready\n")

    def test_the_status_page_shows_what_is_told_and_is_allowed_its_own_style_alone(self, serve: Serve) -> None:
        told = Status(broker="redis://told/0")
        response, body = ask(serve(site(status=lambda: told).answer), "/")
        assert response.getheader("Content-Type") == "text/html; charset=utf-8"
        assert response.getheader("Content-Security-Policy") == policy(STYLE)
        assert response.getheader("X-Content-Type-Options") == "nosniff"
        assert "redis://told/0" in body.decode()
        assert 'http-equiv="refresh"' in body.decode()

    def test_the_status_page_can_hold_still(self, serve: Serve) -> None:
        _, body = ask(serve(), "/?refresh=off")
        assert 'http-equiv="refresh"' not in body.decode()

    def test_a_lone_surrogate_does_not_break_the_status_page(self, serve: Serve) -> None:
        response, _ = ask(serve(site(status=lambda: Status(broker="\ud800")).answer), "/")
        assert response.status == 200

    def test_runbooks_are_allowed_their_own_style_alone(self, serve: Serve) -> None:
        server = serve(Site(expose=Seen(), ready=lambda: True, runbook=lambda _: "# Hello").answer)
        response, body = ask(server, "/runbooks/Hello")
        assert response.getheader("Content-Security-Policy") == policy(RUNBOOK_STYLE)
        assert RUNBOOK_STYLE in body.decode()

    @pytest.mark.parametrize("path", ["/metric", "/metrics/", "/-/", "/favicon.ico", "/evil.example/metrics"])
    def test_any_other_path_is_404_with_a_line_that_lists_the_paths(self, serve: Serve, path: str) -> None:
        response, body = ask(serve(), path)
        assert (response.status, body) == (404, b"not found: there is /metrics /-/healthy /-/ready / /runbooks/\n")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW", "get"])
    def test_any_other_method_is_405_and_says_which_are_allowed(self, serve: Serve, method: str) -> None:
        response, body = ask(serve(), "/metrics", method)
        assert (response.status, body) == (405, b"allowed here: GET, HEAD\n")
        assert response.getheader("Allow") == "GET, HEAD"

    @pytest.mark.parametrize(
        "target",
        ["//metrics", "/%6Detrics", "/-%2Fhealthy", "/metrics?", "/metrics#top", "http://elsewhere/metrics"],
    )
    def test_other_spellings_of_a_path_are_that_path(self, serve: Serve, target: str) -> None:
        answer = exchange(serve(), f"GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


class TestHeaders:
    def test_the_server_names_itself_and_nothing_else(self, serve: Serve) -> None:
        response, _ = ask(serve(), "/metrics")
        assert response.getheader("Server") == f"celeryscope/{__version__}"

    def test_answers_carry_length_date_and_no_invitation_to_guess_or_store(self, serve: Serve) -> None:
        response, body = ask(serve(clock=ManualClock()), "/metrics")
        assert response.getheader("Content-Length") == str(len(body))
        assert response.getheader("Date") == "Tue, 14 Nov 2023 22:13:20 GMT"
        assert response.getheader("X-Content-Type-Options") == "nosniff"
        assert response.getheader("Cache-Control") == "no-store"

    @pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready", "/", "/nowhere"])
    @pytest.mark.parametrize("coding", ["identity", "gzip"])
    def test_head_has_the_headers_of_get_and_no_body(self, serve: Serve, path: str, coding: str) -> None:
        server = serve(clock=ManualClock())
        get, body = ask(server, path, Accept_Encoding=coding)
        sent = f"HEAD {path} HTTP/1.1\r\nAccept-Encoding: {coding}\r\nConnection: close\r\n\r\n"
        head, _, rest = exchange(server, sent.encode()).partition(b"\r\n\r\n")
        assert rest == b""
        assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
        headers = http.client.parse_headers(io.BytesIO(head.partition(b"\r\n")[2] + b"\r\n\r\n"))
        without_connection = [item for item in get.getheaders() if item[0] != "Connection"]
        assert without_connection == [item for item in headers.items() if item[0] != "Connection"]


class TestCompression:
    def test_an_exposition_is_compressed_where_the_client_takes_gzip(self, serve: Serve) -> None:
        response, body = ask(serve(), "/metrics", Accept_Encoding="deflate, gzip")
        assert response.getheader("Content-Encoding") == "gzip"
        assert response.getheader("Vary") == "Accept, Accept-Encoding"
        assert len(body) < len(EXPOSITION)
        assert gzip.decompress(body) == EXPOSITION

    def test_an_exposition_is_plain_where_the_client_does_not(self, serve: Serve) -> None:
        response, body = ask(serve(), "/metrics", Accept_Encoding="identity")
        assert response.getheader("Content-Encoding") is None
        assert body == EXPOSITION

    @pytest.mark.parametrize(
        ("header", "accepted"),
        [
            ("gzip", True),
            ("GZIP", True),
            ("br, gzip;q=0.5", True),
            ("gzip ; q=1.0", True),
            ("gzip;q=0.001", True),
            ("gzip;q=0", False),
            ("br,gzip; q=0.000", False),
            ("", False),
            ("*", False),
            ("x-gzipped", False),
        ],
    )
    def test_accept_encoding_may_weigh_gzip_and_refuse_it(self, header: str, accepted: bool) -> None:
        assert gzip_accepted(header) is accepted


class TestConnections:
    def test_one_connection_serves_many_requests(self, serve: Serve) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", serve().port, timeout=PATIENCE)) as connection:
            for path, status in [
                ("/metrics", 200),
                ("/nowhere", 404),
                ("/-/healthy", 200),
                ("/metrics", 200),
            ]:
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                assert response.status == status
                assert response.getheader("Connection") == "keep-alive"

    def test_requests_may_follow_each_other_without_waiting(self, serve: Serve) -> None:
        sent = (
            b"GET /-/healthy HTTP/1.1\r\n\r\nHEAD /metrics HTTP/1.1\r\n\r\n"
            b"GET /-/ready HTTP/1.1\r\nConnection: close\r\n\r\n"
        )
        assert exchange(serve(), sent).count(b"HTTP/1.1 200 OK\r\n") == 3

    @pytest.mark.parametrize(
        ("version", "connection", "kept"),
        [
            ("1.1", "", True),
            ("1.1", "Close", False),
            ("1.1", "TE, close", False),
            ("1.0", "", False),
            ("1.0", "Keep-Alive", True),
        ],
    )
    def test_version_and_connection_header_say_whether_it_is_kept(
        self, serve: Serve, version: str, connection: str, kept: bool
    ) -> None:
        first = f"GET /-/healthy HTTP/{version}\r\nConnection: {connection}\r\n\r\n"
        last = "GET /-/healthy HTTP/1.1\r\nConnection: close\r\n\r\n"
        answers = exchange(serve(), f"{first}{last}".encode())
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == 1 + kept
        assert answers.count(b"Connection: keep-alive\r\n") == kept

    def test_an_old_client_that_waits_for_the_end_gets_it(self, serve: Serve) -> None:
        answer = exchange(serve(), b"GET /-/healthy HTTP/1.0\n\n")
        assert b"Connection: close\r\n" in answer
        assert answer.endswith(b"\r\n\r\nok\n")

    @pytest.mark.parametrize("framing", [b"Content-Length: 33", b"Transfer-Encoding: chunked"])
    @pytest.mark.parametrize("method", [b"GET", b"POST"])
    def test_a_body_is_not_taken_for_the_next_request(self, serve: Serve, method: bytes, framing: bytes) -> None:
        answered: list[str] = []

        def answer(request: Request) -> Answer:
            answered.append(request.path)
            return line(HTTPStatus.OK, "ok")

        body = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
        answer_bytes = exchange(serve(answer), method + b" /first HTTP/1.1\r\n" + framing + b"\r\n\r\n" + body)
        assert answer_bytes.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: close\r\n" in answer_bytes
        assert answered == ["/first"]

    def test_a_large_body_is_refused_with_an_answer_and_not_a_reset(self, serve: Serve) -> None:
        response, body = ask(serve(), "/metrics", "POST", Content_Length="0")
        assert response.status == 405
        with closing(http.client.HTTPConnection("127.0.0.1", serve().port, timeout=PATIENCE)) as connection:
            connection.request("POST", "/metrics", body=bytes(4 * 1024 * 1024))
            response = connection.getresponse()
            assert (response.status, response.read()) == (405, body)

    def test_expect_continue_gets_the_final_answer(self, serve: Serve) -> None:
        sent = b"POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        with connect(serve()) as client:
            client.sendall(sent)
            assert client.recv(65536).startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")


class TestRequests:
    def test_a_head_becomes_a_request(self, serve: Serve) -> None:
        requests: list[Request] = []

        def answer(request: Request) -> Answer:
            requests.append(request)
            return line(HTTPStatus.OK, "ok")

        sent = (
            b"GET /a%20b?x=1&x=2&y=%C3%A9 HTTP/1.1\r\nHost: h\r\nACCEPT:  a \r\nAccept:\tb\r\nX-Empty:\r\n"
            b"Connection: close\r\n\r\n"
        )
        exchange(serve(answer), sent)
        (request,) = requests
        assert (request.method, request.path) == ("GET", "/a b")
        assert request.params == {"x": ["1", "2"], "y": ["é"]}
        assert [request.header(name) for name in ("host", "accept", "x-empty", "absent")] == ["h", "a, b", "", ""]

    @pytest.mark.parametrize(
        "head",
        [
            b"GET",
            b"one two three four",
            b"POST /",
            b"\x16\x03\x01\x02\x00\x01\x00\x01",
            b"GET / HTTP/x",
            b"GET / HTTP/1.1.1",
            b"GET /\x00 HTTP/1.1",
            b"GET http://[bad HTTP/1.1",
            b"GET /?" + b"a=1&" * 200 + b" HTTP/1.1",
            b"GET / HTTP/1.1\r\nno colon",
            b"GET / HTTP/1.1\r\nContent-Length : 5",
            b"GET / HTTP/1.1\r\nAccept: a\r\n folded",
            b"GET / HTTP/1.1\r\nAccept: a\rSet-Cookie: b",
            b"GET / HTTP/1.1\r\nAccept: a\r\rContent-Length: 5",
            b"GET / HTTP/1.1\r\nAccept: a\x00",
            b"GET / HTTP/1.1\r\n: nameless",
        ],
    )
    def test_what_is_no_request_is_refused_in_one_line_that_quotes_nothing(self, serve: Serve, head: bytes) -> None:
        answer = exchange(serve(), head + b"\r\n\r\nGET /-/healthy HTTP/1.1\r\n\r\n")
        first, _, body = answer.partition(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"Connection: close" in first
        assert b"\r\nContent-Type: text/plain; charset=utf-8\r\n" in first
        assert re.fullmatch(rb"Bad Request: [\w ]+\n", body)

    def test_what_is_not_http_1_is_refused_by_its_version(self, serve: Serve) -> None:
        answer = exchange(serve(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 505 HTTP Version Not Supported\r\n")
        assert answer.count(b"HTTP/1.1") == 1

    @pytest.mark.parametrize("first", [b"GET /-/healthy", b"GET  /-/healthy HTTP/1.0", b"GET /-/healthy HTTP/1.0 "])
    def test_a_request_line_is_read_generously(self, serve: Serve, first: bytes) -> None:
        answer = exchange(serve(), first + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nok\n")

    def test_a_request_without_its_end_is_not_answered(self, serve: Serve) -> None:
        with connect(serve()) as client:
            client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: h\r\n")
            client.shutdown(socket.SHUT_WR)
            assert received(client) == b""

    def test_a_request_line_without_end_is_refused(self, serve: Serve) -> None:
        answer = exchange(serve(), b"GET /" + b"a" * MAX_HEAD_BYTES)
        assert answer.startswith(b"HTTP/1.1 414 ")

    def test_headers_without_end_are_refused(self, serve: Serve) -> None:
        answer = exchange(serve(), b"GET / HTTP/1.1\r\n" + b"X-Filler: a\r\n" * (MAX_HEAD_BYTES // 13 + 1))
        assert answer.startswith(b"HTTP/1.1 431 ")

    def test_a_head_of_the_largest_size_is_read_in_however_small_pieces(self, serve: Serve) -> None:
        sent = b"\r\nGET /-/healthy HTTP/1.1\r\nConnection: close\r\nX-Filler: "
        sent += b"a" * (MAX_HEAD_BYTES - len(sent) - len(b"\r\n\r\n"))
        with connect(serve()) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(sent), 509):
                client.sendall(sent[start : start + 509])
            client.sendall(b"\r\n\r\n")
            assert received(client).startswith(b"HTTP/1.1 200 OK\r\n")


class TestErrors:
    def test_what_fails_is_500_with_one_line_that_gives_nothing_away(self, serve: Serve) -> None:
        def fail(_accept: str, _names: Sequence[str]) -> tuple[bytes, str]:
            raise RuntimeError("redis://user:secret@host")

        response, body = ask(serve(site(fail).answer), "/metrics")
        assert (response.status, body) == (500, b"the answer could not be made: the log says why\n")

    def test_the_connection_and_the_other_paths_survive_it(self, serve: Serve) -> None:
        def answer(request: Request) -> Answer:
            if request.path == "/bad":
                raise RuntimeError("bad")
            return line(HTTPStatus.OK, "fine")

        with closing(http.client.HTTPConnection("127.0.0.1", serve(answer).port)) as connection:
            for path, status in [("/bad", 500), ("/good", 200), ("/bad", 500)]:
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                assert response.status == status

    def test_a_traceback_is_logged_once_a_minute_with_the_number_of_others(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(_request: Request) -> Answer:
            raise RuntimeError("boom")

        clock = ManualClock()
        server = serve(fail, clock=clock)
        for _ in range(3):
            ask(server, "/metrics")
        clock.elapsed += 61
        ask(server, "/metrics")
        messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
        assert messages == [
            "cannot answer /metrics (errors not logged since the last one: 0)",
            "cannot answer /metrics (errors not logged since the last one: 2)",
        ]
        assert caplog.text.count("RuntimeError: boom") == 2

    def test_requests_and_clients_that_leave_are_not_logged_at_info(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        server = serve()
        ask(server, "/metrics")
        ask(server, "/nowhere")
        exchange(server, b"nonsense\r\n\r\n")
        with connect(server) as client:
            client.sendall(b"GET /metrics HTT")
        ask(server, "/metrics")
        assert caplog.records == []


class TestSlowClients:
    def test_one_that_sends_nothing_is_cut_and_delays_nobody(self, serve: Serve) -> None:
        server = serve(timeout=0.2)
        with connect(server) as silent:
            assert ask(server, "/metrics")[0].status == 200
            assert is_closed(silent)

    def test_one_that_drips_is_cut_at_the_deadline_of_the_whole_request(self, serve: Serve) -> None:
        server = serve(timeout=0.3)
        with connect(server) as dripping:
            dripping.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            dripping.settimeout(0.05)

            def is_cut() -> bool:
                try:
                    dripping.sendall(b"\r\n")
                    return dripping.recv(1) == b""
                except TimeoutError:
                    return False
                except ConnectionError:
                    return True

            wait_until(is_cut, PATIENCE, "the dripping client is cut")

    def test_one_that_does_not_read_a_large_answer_delays_nobody_and_gives_its_place_back(self, serve: Serve) -> None:
        asked = threading.Event()

        def answer(request: Request) -> Answer:
            if request.path != "/large":
                return line(HTTPStatus.OK, "ok")
            asked.set()
            return Answer(HTTPStatus.OK, LARGE)

        server = serve(answer, timeout=0.5, max_requests=2)
        with connect(server) as stuck:
            stuck.sendall(b"GET /large HTTP/1.1\r\n\r\n")
            assert asked.wait(PATIENCE)
            assert ask(server, "/metrics")[0].status == 200
            wait_until(lambda: not server._connections, PATIENCE, "the stuck connection is given up")
            assert len(received(stuck)) < len(LARGE)
        with ExitStack() as stack:
            both = [stack.enter_context(connect(server)) for _ in range(2)]
            for client in both:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert all(received(client).startswith(b"HTTP/1.1 200 OK\r\n") for client in both)

    def test_idle_connections_give_way_to_new_ones_the_longest_idle_first(self, serve: Serve) -> None:
        server = serve(max_connections=2)
        with connect(server) as oldest, connect(server) as newer:
            for client in (newer, oldest, newer):
                client.sendall(b"GET /-/healthy HTTP/1.1\r\n\r\n")
                assert client.recv(65536).endswith(b"ok\n")
            with connect(server) as newest:
                newest.sendall(b"GET /-/healthy HTTP/1.1\r\n\r\n")
                assert newest.recv(65536).endswith(b"ok\n")
                assert is_closed(oldest)
                newer.sendall(b"GET /-/healthy HTTP/1.1\r\n\r\n")
                assert newer.recv(65536).endswith(b"ok\n")

    def test_an_idle_connection_outlives_the_deadline_of_a_request(self, serve: Serve) -> None:
        clock = ManualClock()
        server = serve(clock=clock)
        with connect(server) as client:
            client.sendall(b"GET /-/healthy HTTP/1.1\r\n\r\n")
            assert client.recv(65536).endswith(b"ok\n")
            (connection,) = server._connections
            wait_until(lambda: connection.deadline > clock.elapsed + 60, PATIENCE, "the server is done with the answer")
            clock.elapsed += 60
            server.service_actions()
            client.sendall(b"GET /-/healthy HTTP/1.1\r\n\r\n")
            assert client.recv(65536).endswith(b"ok\n")


class TestTooManyRequests:
    def test_beyond_the_maximum_the_answer_is_503_at_once_but_for_health(self, serve: Serve) -> None:
        release = threading.Event()
        busy = threading.Semaphore(0)

        def expose(_accept: str, _names: Sequence[str]) -> tuple[bytes, str]:
            busy.release()
            assert release.wait(PATIENCE)
            return EXPOSITION, "text/plain"

        server = serve(site(expose).answer, max_requests=2)
        with ExitStack() as stack:
            stack.callback(release.set)
            scrapers = [stack.enter_context(connect(server)) for _ in range(2)]
            for scraper in scrapers:
                scraper.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert busy.acquire(timeout=PATIENCE)
            wait_until(lambda: answering(server) == 2, PATIENCE, "both have a place")
            response, body = ask(server, "/metrics")
            assert (response.status, body) == (503, b"too many requests at once\n")
            assert response.getheader("Retry-After") == "1"
            for path in HEALTH_PATHS:
                assert ask(server, path)[0].status == 200
            release.set()
            for scraper in scrapers:
                assert received(scraper).endswith(EXPOSITION)
        assert ask(server, "/metrics")[0].status == 200

    def test_a_connection_in_the_middle_of_an_answer_never_gives_way(self, serve: Serve) -> None:
        release, busy = threading.Event(), threading.Event()

        def expose(_accept: str, _names: Sequence[str]) -> tuple[bytes, str]:
            busy.set()
            assert release.wait(PATIENCE)
            return EXPOSITION, "text/plain"

        server = serve(site(expose).answer, max_requests=1, max_connections=2)
        with connect(server) as scraper:
            scraper.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert busy.wait(PATIENCE)
            for _ in range(5):
                assert ask(server, "/-/healthy")[0].status == 200
                connect(server).close()
            release.set()
            assert received(scraper).endswith(EXPOSITION)


class TestTurns:
    def test_one_answer_is_made_at_a_time_and_health_does_not_wait(self, serve: Serve) -> None:
        release, busy = threading.Event(), threading.Event()
        at_once, most = 0, 0

        def answer(request: Request) -> Answer:
            nonlocal at_once, most
            if request.path == "/metrics":
                at_once += 1
                most = max(most, at_once)
                busy.set()
                assert release.wait(PATIENCE)
                at_once -= 1
            return line(HTTPStatus.OK, "ok")

        server = serve(answer)
        with ExitStack() as stack:
            stack.callback(release.set)
            scrapers = [stack.enter_context(connect(server)) for _ in range(8)]
            for scraper in scrapers:
                scraper.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert busy.wait(PATIENCE)
            assert ask(server, "/-/healthy")[0].status == 200
            release.set()
            assert all(received(scraper).startswith(b"HTTP/1.1 200 OK\r\n") for scraper in scrapers)
        assert most == 1

    def test_nothing_is_made_for_a_client_that_has_left_before_its_turn(self, serve: Serve) -> None:
        release, busy = threading.Event(), threading.Event()
        made: list[str] = []

        def answer(request: Request) -> Answer:
            made.append(request.path)
            if request.path == "/first":
                busy.set()
                assert release.wait(PATIENCE)
            return line(HTTPStatus.OK, "ok")

        server = serve(answer)
        with ExitStack() as stack:
            stack.callback(release.set)
            first = stack.enter_context(connect(server))
            first.sendall(b"GET /first HTTP/1.0\r\n\r\n")
            assert busy.wait(PATIENCE)
            left = connect(server)
            left.sendall(b"GET /left HTTP/1.0\r\n\r\n")
            half = stack.enter_context(connect(server))
            half.sendall(b"GET /half HTTP/1.0\r\n\r\n")
            half.shutdown(socket.SHUT_WR)
            wait_until(lambda: answering(server) == 3, PATIENCE, "both wait for their turn")
            left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            left.close()  # with a reset
            release.set()
            assert received(first).endswith(b"ok\n")
            assert received(half).endswith(b"ok\n")  # it has said all that it has to say, and listens
        assert ask(server, "/last")[0].status == 200
        assert made == ["/first", "/half", "/last"]

    def test_one_that_has_left_while_it_waited_holds_no_place(self, serve: Serve) -> None:
        release, busy = threading.Event(), threading.Event()

        def answer(_request: Request) -> Answer:
            busy.set()
            assert release.wait(PATIENCE)
            return line(HTTPStatus.OK, "ok")

        server = serve(answer, max_requests=2)
        with ExitStack() as stack:
            stack.callback(release.set)
            first, left, good = (stack.enter_context(connect(server)) for _ in range(3))
            first.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert busy.wait(PATIENCE)
            left.sendall(b"GET / HTTP/1.0\r\n\r\n")
            wait_until(lambda: answering(server) == 2, PATIENCE, "all places are taken")
            left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            left.close()
            good.sendall(b"GET / HTTP/1.0\r\n\r\n")
            wait_until(lambda: any(other.left for other in tuple(server._connections)), PATIENCE, "it is seen")
            release.set()
            assert received(good).endswith(b"ok\n")
        assert ask(server, "/")[0].status == 200

    def test_equal_requests_that_wait_share_one_answer_begun_after_they_came(self, serve: Serve) -> None:
        release, busy = threading.Event(), threading.Event()
        made: list[str] = []

        def answer(request: Request) -> Answer:
            made.append(request.path)
            busy.set()
            assert release.wait(PATIENCE)
            return line(HTTPStatus.OK, f"{len(made)}")

        server = serve(answer)
        with ExitStack() as stack:
            stack.callback(release.set)
            clients = [stack.enter_context(connect(server)) for _ in range(9)]
            clients[0].sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert busy.wait(PATIENCE)
            for client in clients[1:]:
                client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            wait_until(lambda: answering(server) == 9, PATIENCE, "all wait for their turn")
            release.set()
            bodies = [received(client).partition(b"\r\n\r\n")[2] for client in clients]
        assert bodies == [b"1\n"] + [b"2\n"] * 8
        assert ask(server, "/metrics")[1] == b"3\n"
        assert server.turns._made == {}

    def test_what_differs_in_anything_is_not_shared(self, serve: Serve) -> None:
        release, busy = threading.Event(), threading.Event()
        heads = [
            b"GET /metrics HTTP/1.0\r\n\r\n",
            b"HEAD /metrics HTTP/1.0\r\n\r\n",
            b"GET /metrics?name[]=a HTTP/1.0\r\n\r\n",
            b"GET /metrics HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET /other HTTP/1.0\r\n\r\n",
        ]
        made = 0

        def answer(request: Request) -> Answer:
            nonlocal made
            made += 1
            busy.set()
            assert release.wait(PATIENCE)
            return line(HTTPStatus.OK, "ok")

        server = serve(answer)
        with ExitStack() as stack:
            stack.callback(release.set)
            clients = [stack.enter_context(connect(server)) for _ in heads]
            for client, head in zip(clients, heads, strict=True):
                client.sendall(head)
            wait_until(lambda: answering(server) == len(heads), PATIENCE, "all wait for their turn")
            release.set()
            for client in clients:
                received(client)
        assert made == len(heads)

    def test_slow_readers_take_no_place_and_give_way_to_new_ones_the_slowest_first(self, serve: Serve) -> None:
        clock = ManualClock()

        def answer(request: Request) -> Answer:
            return Answer(HTTPStatus.OK, LARGE) if request.path == "/large" else line(HTTPStatus.OK, "ok")

        server = serve(answer, clock=clock, max_requests=2)
        with ExitStack() as stack:
            slow = [stack.enter_context(connect(server)) for _ in range(2)]
            for count, client in enumerate(slow, start=1):
                clock.elapsed += 0.1
                client.sendall(b"GET /large HTTP/1.1\r\n\r\n")
                wait_until(partial(lambda number: sending(server) == number, count), PATIENCE, "it is on its way")
            assert ask(server, "/metrics")[0].status == 200
            assert len(received(slow[0])) < len(LARGE)
            wait_until(lambda: answering(server) == sending(server) == 1, PATIENCE, "the other one keeps its answer")
            assert ask(server, "/metrics")[0].status == 200
            wait_until(lambda: answering(server) == sending(server) == 1, PATIENCE, "it still does")


class TestAccepting:
    def test_out_of_file_descriptors_it_waits_says_so_once_and_goes_on(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = serve()
        accept, failed = TCPServer.get_request, threading.Semaphore(0)

        def fail(_server: TCPServer) -> None:
            failed.release()
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(TCPServer, "get_request", fail)
        with connect(server) as client:
            begun = time.monotonic()
            for _ in range(4):
                assert failed.acquire(timeout=PATIENCE)
            assert time.monotonic() - begun > 2 * POLL_INTERVAL
            monkeypatch.setattr(TCPServer, "get_request", accept)
            client.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
            assert received(client).endswith(b"ok\n")
        said = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
        assert said == ["cannot accept a connection (errors not logged since the last one: 0)"]

    def test_hundreds_of_silent_connections_keep_nobody_out(self, serve: Serve) -> None:
        server = serve()
        with ExitStack() as stack:
            for _ in range(300):
                stack.enter_context(connect(server))
            for _ in range(5):
                for path in ("/metrics", *HEALTH_PATHS):
                    assert ask(server, path)[0].status == 200
            wait_until(lambda: len(server._connections) <= 64, PATIENCE, "the others are cut")

    def test_a_crowd_from_one_address_keeps_out_none_of_another(self, serve: Serve) -> None:
        server = serve()
        with ExitStack() as stack:
            address = ("127.0.0.1", server.port)
            other = socket.create_connection(address, timeout=PATIENCE, source_address=("127.0.0.2", 0))
            stack.enter_context(other)
            for _ in range(100):
                stack.enter_context(connect(server))
            wait_until(lambda: len(server._connections) == 64, PATIENCE, "all places are taken")
            assert ask(server, "/metrics")[0].status == 200
            other.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert received(other).startswith(b"HTTP/1.1 200 OK\r\n")


class TestListening:
    def test_port_0_picks_a_free_one_that_can_be_read(self, serve: Serve) -> None:
        server = serve()
        assert server.port != 0
        assert server.url == f"http://127.0.0.1:{server.port}"

    def test_an_address_in_use_is_said_with_the_option_that_changes_it(self, serve: Serve) -> None:
        port = serve().port
        with pytest.raises(ConfigError) as raised:
            WebServer("127.0.0.1", port, site().answer).start()
        assert str(raised.value) == (
            f"cannot listen on 127.0.0.1:{port}: address already in use; choose another with --listen-address"
        )

    @pytest.mark.parametrize(
        ("host", "port", "said"),
        [
            ("192.0.2.1", 9808, "cannot listen on 192.0.2.1:9808: "),
            ("2001:db8::1", 9808, "cannot listen on [2001:db8::1]:9808: "),
            ("a" * 64, 9808, f"cannot listen on {'a' * 64}:9808: "),
        ],
    )
    def test_an_impossible_address_is_said_too(self, host: str, port: int, said: str) -> None:
        server = WebServer(host, port, site().answer)
        with pytest.raises(ConfigError, match=re.escape(said)):
            server.start()
        server.stop()

    def test_a_name_that_is_not_known_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def bind(_server: WebServer) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(WebServer, "server_bind", bind)
        with pytest.raises(ConfigError) as raised:
            WebServer("nowhere", 9808, site().answer).start()
        assert str(raised.value) == (
            "cannot listen on nowhere:9808: name or service not known; choose another with --listen-address"
        )

    def test_it_listens_on_ipv6(self) -> None:
        server = WebServer("::1", 0, site().answer)
        try:
            server.start()
        except ConfigError:
            pytest.skip("no IPv6 on this machine")
        try:
            assert server.url == f"http://[::1]:{server.port}"
            with closing(http.client.HTTPConnection("::1", server.port, timeout=PATIENCE)) as connection:
                connection.request("GET", "/-/healthy")
                assert connection.getresponse().read() == b"ok\n"
        finally:
            server.stop()

    def test_localhost_is_found_by_ipv4(self) -> None:
        server = WebServer("localhost", 0, site().answer)
        server.start()
        try:
            assert ask(server, "/-/healthy")[0].status == 200
        finally:
            server.stop()

    def test_its_thread_has_a_name(self, serve: Serve) -> None:
        serve()
        assert "celeryscope-web" in {thread.name for thread in threading.enumerate()}


class TestStopping:
    def stop(self, server: WebServer) -> None:
        """Stop, and check that nobody listens any more."""
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            connect(server)

    def test_it_closes_idle_connections_and_waits_for_none(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        # That of answers on their way: longer than a test may last.
        monkeypatch.setattr("celeryscope.web.server.STOP_GRACE", 1000.0)
        server = serve()
        with connect(server) as silent, connect(server) as kept:
            kept.sendall(b"GET /-/healthy HTTP/1.1\r\n\r\n")
            assert kept.recv(65536).endswith(b"ok\n")
            self.stop(server)
            assert is_closed(silent)
            assert is_closed(kept)

    def test_an_answer_on_its_way_may_end(self, serve: Serve) -> None:
        release, busy = threading.Event(), threading.Event()

        def expose(_accept: str, _names: Sequence[str]) -> tuple[bytes, str]:
            busy.set()
            assert release.wait(PATIENCE)
            return EXPOSITION, "text/plain"

        server = serve(site(expose).answer)
        with connect(server) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert busy.wait(PATIENCE)
            stopper = threading.Thread(target=server.stop)
            stopper.start()
            assert server.stopping.wait(PATIENCE)
            release.set()
            answer = received(client)
            stopper.join()
        assert answer.endswith(EXPOSITION)
        assert b"Connection: close\r\n" in answer

    def test_an_answer_that_nobody_takes_is_cut(self, serve: Serve) -> None:
        asked = threading.Event()

        def answer(_request: Request) -> Answer:
            asked.set()
            return Answer(HTTPStatus.OK, LARGE)

        server = serve(answer)
        with connect(server) as stuck:
            stuck.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert asked.wait(PATIENCE)
            self.stop(server)
            assert not server._connections

    def test_it_may_be_stopped_twice_or_without_a_start(self, serve: Serve) -> None:
        server = serve()
        server.stop()
        server.stop()
        WebServer("127.0.0.1", 0, site().answer).stop()

    def test_no_thread_and_no_file_descriptor_is_left(self) -> None:
        def left() -> tuple[int, int]:
            threads = [thread for thread in threading.enumerate() if thread.name.startswith("celeryscope-web")]
            return len(threads), len(list(Path("/proc/self/fd").iterdir()))

        wait_until(lambda: left()[0] == 0, PATIENCE, "the threads of other tests are gone")
        _, files = left()
        server = WebServer("127.0.0.1", 0, site().answer, max_connections=4)
        server.start()
        with ExitStack() as stack:
            clients = [stack.enter_context(connect(server)) for _ in range(20)]
            for client in clients[::3]:
                with suppress(ConnectionError):
                    client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert ask(server, "/-/healthy")[0].status == 200
            server.stop()
        wait_until(lambda: left() == (0, files), PATIENCE, "nothing is left")
