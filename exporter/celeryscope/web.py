"""HTTP for few readers and hostile ones: small requests in, whole answers out, nobody waits for another.

The standard library's server, and what it lacks against slow clients: a deadline for every request and every answer,
places for so many connections and requests, and a limit on what is read.
"""

import io
import logging
import re
import socket
import sys
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler
from math import inf
from socketserver import ThreadingTCPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from celeryscope import __version__
from celeryscope.clock import Clock, SystemClock
from celeryscope.errors import ConfigError
from celeryscope.http import Answer, Request, Turns, line

TIMEOUT = 10.0  # seconds for a request to arrive whole, and for an answer to be taken
IDLE_TIMEOUT = 75.0  # seconds between two requests of a connection: more than common scrape intervals
LINGER = 1.0  # seconds to swallow what a client still sends, so that it reads its answer and not a reset
POLL_INTERVAL = 0.1  # seconds between two looks at the deadlines, and at whether to stop
STOP_GRACE = 0.3  # seconds for the answers on their way when the server stops
ERROR_LOG_INTERVAL = 60.0  # seconds between two tracebacks
MAX_HEAD_BYTES = 16 * 1024  # request line and headers together
MAX_PARAMS = 100
COPIED_BYTES = 64 * 1024  # a larger body is sent as it is, since others may send it at the same time

logger = logging.getLogger(__name__)


class _Heads(io.BufferedReader):
    """Lines of request heads, at most `left` bytes. Raises HTTPException for more, ValueError for what is no line."""

    left = 0
    # No control characters: parts of a header return in answers. No continued lines: they have two readings.
    _line = re.compile(rb"(?![\t :])[\t -~\x80-\xff]*\r?\n")

    def readline(self, size: int | None = -1, /) -> bytes:
        read = super().readline(self.left + 1)
        self.left -= len(read)
        if self.left < 0:
            raise HTTPException(f"more than {MAX_HEAD_BYTES} bytes before the end of the headers")
        if not read.endswith(b"\n"):
            raise ConnectionError("it ended within a request")
        if not self._line.fullmatch(read):
            raise ValueError("not a line of a request")
        return read


class _Connection(BaseHTTPRequestHandler):
    """One client, in a thread of its own. Its socket never times out: the server cuts it at its deadline."""

    server: "WebServer"
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # to HTTP/0.9 the library answers without status and headers
    disable_nagle_algorithm = True
    rbufsize = 0  # the buffer is that of _Heads

    def setup(self) -> None:
        super().setup()
        threading.current_thread().name = "celeryscope-web-connection"
        self.rfile = self.heads = _Heads(self.rfile)
        self.answering = False  # while it holds one of the places for requests
        self.left = False  # once its client was seen to have reset it
        self.sending_since = inf  # since when its client has been taking an answer
        self.heard_at = self.allow(self.server.patience)  # when it was opened, or began its last request

    def handle(self) -> None:
        self.server.admit(self)
        super().handle()

    def finish(self) -> None:
        super().finish()
        self.server.forget(self)

    def handle_one_request(self) -> None:
        self.close_connection = True
        if self.server.stopping.is_set() or not self.heads.peek(1):
            return
        self.heard_at = self.allow(self.server.patience)
        self.heads.left = MAX_HEAD_BYTES
        self.command, self.request_version = "", self.default_request_version
        try:
            self.raw_requestline = b""
            while not self.raw_requestline.strip():  # an empty line may follow the request before
                self.raw_requestline = self.heads.readline()
            if not self.parse_request():
                return
            if self.headers.get_payload():  # what the library makes of headers after a line that is none
                raise ValueError("not a header")
            url = urlsplit(self.path)
            params = parse_qs(url.query, max_num_fields=MAX_PARAMS)
        except HTTPException as error:
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG, explain=str(error))
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST, explain="the URL or a header cannot be read")
        else:
            self.respond(Request(self.command, unquote(url.path) or "/", params, self.headers))

    def handle_expect_100(self) -> bool:
        return True  # without asking for the body: no answer depends on it

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        status = HTTPStatus(code)
        self.close_connection = True
        self.send(line(status, f"{status.phrase}: {explain or status.description}"))  # `message` quotes the request
        self.linger()

    def respond(self, request: Request) -> None:
        has_body = request.header("Content-Length") not in ("", "0") or "Transfer-Encoding" in request.headers
        self.close_connection |= has_body or "close" in request.header("Connection").lower()
        limited = request.path not in self.server.always
        if limited and not self.server.occupy(self):
            self.send(line(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once", ("Retry-After", "1")))
        else:
            try:
                self.allow(inf)
                self.send(self.take_turn(request) if limited else self.server.answered(request))
            finally:
                self.answering, self.sending_since = False, inf
        if has_body:
            self.linger()
        self.allow(IDLE_TIMEOUT)

    def take_turn(self, request: Request) -> Answer:
        """Return the answer to a request, made while no other is. Raises ConnectionError where the client has left."""

        def check() -> None:
            if self.has_left():
                raise ConnectionError("the client left before its turn")

        return self.server.turns.answer(request, check)

    def has_left(self) -> bool:
        """Whether the client has reset the connection; one that has merely nothing more to say still listens."""
        try:
            self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        except OSError:
            self.left = True  # the system tells it once
        return self.left

    def send(self, answer: Answer) -> None:
        self.close_connection |= self.server.stopping.is_set()
        self.wfile = whole = io.BytesIO()
        self.send_response_only(answer.status)
        for name, value in (
            ("Server", f"celeryscope/{__version__}"),
            ("Date", self.date_time_string(self.server.clock.now().wall)),
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close" if self.close_connection else "keep-alive"),
            *answer.headers,
        ):
            self.send_header(name, value)
        self.end_headers()
        body = answer.body if self.command != "HEAD" else b""
        if len(body) <= COPIED_BYTES:
            whole.write(body)
            body = b""
        now = self.allow(self.server.patience)
        if self.answering:
            self.server.begin_sending(self, now)
        self.connection.sendall(whole.getvalue())
        self.connection.sendall(body)

    def linger(self) -> None:
        """End the answers and swallow what the client still sends: unread, it would reset the last answer."""
        self.allow(LINGER)
        self.connection.shutdown(socket.SHUT_WR)
        while self.connection.recv(65536):
            pass

    def allow(self, seconds: float) -> float:
        """Move the deadline to so many seconds from now; return now."""
        now = self.server.clock.now().elapsed
        self.deadline = now + seconds
        return now

    def cut(self) -> None:
        """Make every read and write of the connection's thread end now."""
        with suppress(OSError):
            self.request.shutdown(socket.SHUT_RDWR)


class WebServer(ThreadingTCPServer):
    """Answers HTTP requests with what `answer(request)` returns, in threads of its own.

    What `answer` raises becomes a 500, and a traceback in the log once a minute at most. `always` are the paths that
    are answered even while `max_requests` others are. `timeout` is in seconds.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024  # beyond it the kernel makes a new client wait for a second

    def __init__(
        self,
        host: str,
        port: int,
        answer: Callable[[Request], Answer],
        *,
        always: Collection[str] = (),
        clock: Clock | None = None,
        timeout: float = TIMEOUT,
        max_requests: int = 16,
        max_connections: int = 64,
    ) -> None:
        # The base class is initialized by start(): it listens at once.
        self.host = host
        self.port = port  # once started, the one that 0 stood for
        self.always = frozenset(always)
        self.clock = clock or SystemClock()
        self.patience = timeout
        self.turns = Turns(self.answered)
        self._max_requests = max_requests
        self.stopping = threading.Event()
        self._answer = answer
        self._max_connections = max_connections
        self._connections: set[_Connection] = set()
        self._changed = threading.Condition()  # guards the set and the next two
        self._log_again = -inf
        self._unlogged = 0
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens, as http://host:port."""
        return f"http://{self._address()}"

    def start(self) -> None:
        """Listen, and answer from now on. Raises ConfigError where it cannot listen there."""
        try:
            self.address_family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            super().__init__((self.host, self.port), _Connection)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that is none
            reason = str(getattr(error, "strerror", None) or error)
            reason = f"{reason[:1].lower()}{reason[1:]}; choose another with --listen-address"
            raise ConfigError(f"cannot listen on {self._address()}: {reason}") from error
        self.port = self.server_address[1]
        name = "celeryscope-web"
        self._thread = threading.Thread(target=self.serve_forever, args=(POLL_INTERVAL,), name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, let answers on their way end for a moment, cut all else."""
        self.stopping.set()
        if self._thread is None:
            return
        self.shutdown()
        self.server_close()
        with self._changed:
            for spared in (True, False):
                for connection in self._connections:
                    if not (connection.answering and spared):
                        connection.cut()
                self._changed.wait_for(lambda: not self._connections, STOP_GRACE)

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection. Out of file descriptors the listener stays readable: then wait before the next try."""
        try:
            return super().get_request()
        except OSError as error:
            if not isinstance(error, ConnectionError):  # that would be a client gone again
                self._report("cannot accept a connection", error)
                self.stopping.wait(POLL_INTERVAL)
            raise

    def admit(self, connection: _Connection) -> None:
        """Give a connection a place: that of the longest idle one if all are taken. Raises ConnectionError if none."""
        with self._changed:
            if len(self._connections) >= self._max_connections:
                idle = [other for other in self._connections if not other.answering]
                if not idle:
                    raise ConnectionError("too many connections")
                longest = min(idle, key=lambda other: other.heard_at)
                longest.cut()
                self._connections.remove(longest)
            self._connections.add(connection)

    def occupy(self, connection: _Connection) -> bool:
        """Give a connection one of the places of those whose answers are being made, where there is one."""
        with self._changed:
            made = [other for other in self._connections if other.answering and other.sending_since == inf]
            for other in made if len(made) >= self._max_requests else ():
                other.answering = not other.has_left()
            connection.answering = sum(other.answering for other in made) < self._max_requests
            return connection.answering

    def begin_sending(self, connection: _Connection, now: float) -> None:
        """Make room for an answer on its way: as many as places for requests; the slowest reader gives way."""
        with self._changed:
            sending = [other for other in self._connections if other.sending_since < inf]
            if len(sending) >= self._max_requests:
                slowest = min(sending, key=lambda other: other.sending_since)
                slowest.cut()
                slowest.sending_since = inf
                slowest.answering = False
            connection.sending_since = now

    def forget(self, connection: _Connection) -> None:
        """Close a connection, under the lock: what is cut is not a descriptor that became another's."""
        with self._changed:
            connection.request.close()
            self._connections.discard(connection)
            self._changed.notify_all()

    def service_actions(self) -> None:
        """Cut the connections whose deadline is over."""
        now = self.clock.now().elapsed
        with self._changed:
            for connection in self._connections:
                if connection.deadline <= now:
                    connection.cut()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what ended a connection: a bug costs this one and no other."""
        error = sys.exception()
        if isinstance(error, OSError):  # cut, or gone
            logger.debug("connection ended: %s", error)
        else:
            self._report("connection ended by an error", error)

    def answered(self, request: Request) -> Answer:
        """Return the answer to a request, a 500 where making it fails."""
        try:
            return self._answer(request)
        except Exception as error:  # noqa: BLE001 - whatever it was, the next request is answered
            self._report(f"cannot answer {request.path}", error)
            return line(HTTPStatus.INTERNAL_SERVER_ERROR, "the answer could not be made: the log says why")

    def _report(self, message: str, error: BaseException | None) -> None:
        """Log an error with its traceback, unless one was logged within the last minute."""
        now = self.clock.now().elapsed
        with self._changed:
            if now < self._log_again:
                self._unlogged += 1
                return
            self._log_again = now + ERROR_LOG_INTERVAL
            unlogged, self._unlogged = self._unlogged, 0
        logger.error("%s (errors not logged since the last one: %d)", message, unlogged, exc_info=error)

    def _address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
