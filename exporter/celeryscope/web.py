"""HTTP for few readers and hostile ones: small requests in, whole answers out, nobody waits for another.

A connection has a thread, a deadline for every request and one for every answer, and is cut when a new one
needs its place while it asks for nothing. Only so many requests are answered at once; to others it says 503.
"""

import logging
import re
import selectors
import socket
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qs, unquote, urlsplit

from celeryscope import __version__
from celeryscope.clock import Clock, SystemClock
from celeryscope.errors import ConfigError

TIMEOUT = 10.0  # seconds for a request to arrive whole, and for an answer to be taken
IDLE_TIMEOUT = 75.0  # seconds between two requests of a connection: more than common scrape intervals
LINGER = 1.0  # seconds to swallow what a client still sends, so that it reads its answer and not a reset
STOP_GRACE = 0.3  # seconds for the answers on their way when the server stops
ERROR_LOG_INTERVAL = 60.0  # seconds between two tracebacks
MAX_CONNECTIONS = 64
MAX_REQUESTS = 16  # answered at once
MAX_HEAD_BYTES = 16 * 1024  # request line and headers together
MAX_PARAMS = 100
PLAIN = "text/plain; charset=utf-8"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A request without its body. Header names are in lower case, repeated headers joined with commas."""

    method: str
    path: str  # decoded
    params: Mapping[str, Sequence[str]]
    version: str  # "1.0" or "1.1"
    headers: Mapping[str, str]

    def header(self, name: str) -> str:
        """Return a header's value, empty where it is absent."""
        return self.headers.get(name, "")

    def has_body(self) -> bool:
        """Whether something other than the next request follows."""
        return self.header("content-length") not in ("", "0") or "transfer-encoding" in self.headers

    def keeps_connection(self) -> bool:
        """Whether the client may send another request on this connection."""
        options = [option.strip().lower() for option in self.header("connection").split(",")]
        return "close" not in options and (self.version == "1.1" or "keep-alive" in options)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: nothing of it is sent before all of it exists."""

    status: HTTPStatus
    body: bytes
    content_type: str = PLAIN
    headers: tuple[tuple[str, str], ...] = ()


class Refusal(Exception):
    """What arrived is no request, and nothing after it can be trusted to be one."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.answer = line(status, reason)


def line(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Answer:
    """Return an answer of one line of plain text."""
    return Answer(status, f"{text}\n".encode(), headers=headers)


_END_OF_LINE = re.compile(rb"\r?\n")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE = re.compile(rb"([!-~]+) ([!-~]+) HTTP/1\.([0-9])")
# No control characters in a value: parts of it return in answers. No continued lines: they have two readings.
_HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_SLASHES = re.compile("^/{2,}")


def parse_request(head: bytes) -> Request:
    """Return the request of a request line and header lines, without the empty one. Raises Refusal."""
    first, *others = _END_OF_LINE.split(head)
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "this is no request line of HTTP/1.0 or HTTP/1.1")
    method, target, minor = (part.decode("ascii") for part in match.groups())
    try:
        # Slashes first: what follows "//" would be read as a host.
        parts = urlsplit(_SLASHES.sub("/", target))
        params = parse_qs(parts.query, max_num_fields=MAX_PARAMS)
    except ValueError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "this URL cannot be read") from None
    headers: dict[str, str] = {}
    for other in others:
        match = _HEADER_LINE.fullmatch(other)
        if match is None:
            raise Refusal(HTTPStatus.BAD_REQUEST, "a header is malformed")
        name, value = (part.decode("latin-1") for part in match.groups())
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Request(method, unquote(parts.path) or "/", params, "1.0" if minor == "0" else "1.1", headers)


class _Connection:
    """One client. Everything but `cut` is for the connection's own thread."""

    def __init__(self, sock: socket.socket, clock: Clock, timeout: float) -> None:
        self.heard_at = clock.now().elapsed  # when it was opened, or its last request was read
        self.answering = False
        self._sock = sock
        self._clock = clock
        self._timeout = timeout
        self._arrived = b""

    def open(self) -> None:
        """Send the last, short part of an answer without waiting for the client to acknowledge the others."""
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self, idle_timeout: float) -> bytes | None:
        """Return the next request's head. None: the client left. Raises Refusal, and TimeoutError if late."""
        begun = bool(self._arrived)
        deadline = self._clock.now().elapsed + (self._timeout if begun else idle_timeout)
        while True:
            self._arrived = self._arrived.lstrip(b"\r\n")
            end = _END_OF_HEAD.search(self._arrived)
            if (end.start() if end else len(self._arrived)) > MAX_HEAD_BYTES:
                if _END_OF_LINE.search(self._arrived, 0, MAX_HEAD_BYTES):
                    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                else:
                    status = HTTPStatus.REQUEST_URI_TOO_LONG
                raise Refusal(status, f"more than {MAX_HEAD_BYTES} bytes before the end of the headers")
            if end:
                head, self._arrived = self._arrived[: end.start()], self._arrived[end.end() :]
                return head
            received = self._receive(deadline)
            if not received:
                return None
            if not begun:
                begun = True
                deadline = self._clock.now().elapsed + self._timeout
            self._arrived += received

    def send(self, answer: Answer, *, body: bool, keep: str) -> None:
        """Send an answer; `keep` is its Connection header. Raises TimeoutError if not taken in time."""
        fields = [
            ("Server", f"celeryscope/{__version__}"),
            ("Date", formatdate(self._clock.now().wall, usegmt=True)),
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", keep),
            *answer.headers,
        ]
        head = f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields) + "\r\n"
        self._sock.settimeout(self._timeout)  # of the whole call, not of each part
        self._sock.sendall(head.encode("latin-1") + (answer.body if body else b""))

    def linger(self) -> None:
        """End the answers and swallow what the client still sends: unread, it would reset the last answer."""
        self._sock.shutdown(socket.SHUT_WR)
        deadline = self._clock.now().elapsed + LINGER
        while self._receive(deadline):
            pass

    def cut(self) -> None:
        """Make every read and write of the connection's thread end now."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back."""
        self._sock.close()

    def _receive(self, deadline: float) -> bytes:
        remaining = deadline - self._clock.now().elapsed
        if remaining <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(remaining)
        return self._sock.recv(65536)


class WebServer:
    """Answers HTTP requests with what `answer(request)` returns, in threads of its own.

    What `answer` raises becomes a 500, and a traceback in the log once a minute at most. `always` are the
    paths that are answered even while `max_requests` others are. `timeout` is in seconds.
    """

    def __init__(
        self,
        host: str,
        port: int,
        answer: Callable[[Request], Answer],
        *,
        always: Collection[str] = (),
        clock: Clock | None = None,
        timeout: float = TIMEOUT,
        max_requests: int = MAX_REQUESTS,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.host = host
        self.port = port  # once started, the one that 0 stood for
        self._answer = answer
        self._always = frozenset(always)
        self._clock = clock or SystemClock()
        self._timeout = timeout
        self._max_connections = max_connections
        self._places = threading.BoundedSemaphore(max_requests)
        self._connections: set[_Connection] = set()
        self._changed = threading.Condition()  # guards the set and the next two
        self._log_again = float("-inf")
        self._unlogged = 0
        self._stopping = threading.Event()
        self._wake: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens, as http://host:port."""
        return f"http://{_joined(self.host, self.port)}"

    def start(self) -> None:
        """Listen, and answer from now on. Raises ConfigError where it cannot listen there."""
        listener = _listen(self.host, self.port)
        self.port = listener.getsockname()[1]
        self._wake, woken = socket.socketpair()
        self._thread = threading.Thread(
            target=self._accept, args=(listener, woken), name="celeryscope-web", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, let answers on their way end for a moment, cut all else."""
        self._stopping.set()
        if self._wake is None or self._thread is None:
            return
        self._wake.close()
        self._thread.join(STOP_GRACE)
        with self._changed:
            _cut(connection for connection in self._connections if not connection.answering)
            self._changed.wait_for(lambda: not self._connections, STOP_GRACE)
            _cut(self._connections)
            self._changed.wait_for(lambda: not self._connections, STOP_GRACE)

    def _accept(self, listener: socket.socket, woken: socket.socket) -> None:
        with listener, woken, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while not self._stopping.is_set():
                selector.select()
                try:
                    sock, _ = listener.accept()
                except (BlockingIOError, ConnectionError):  # woken, or gone again
                    continue
                except OSError as error:  # out of file descriptors: the listener stays readable, so wait
                    self._log("cannot accept a connection", error)
                    self._stopping.wait(0.1)
                    continue
                self._admit(_Connection(sock, self._clock, self._timeout))

    def _admit(self, connection: _Connection) -> None:
        with self._changed:
            if len(self._connections) >= self._max_connections:
                waiting = [other for other in self._connections if not other.answering]
                if waiting:
                    longest = min(waiting, key=lambda other: other.heard_at)
                    self._connections.remove(longest)
                    longest.cut()
            if len(self._connections) >= self._max_connections:
                connection.close()
                return
            self._connections.add(connection)
        thread = threading.Thread(
            target=self._serve, args=(connection,), name="celeryscope-web-connection", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # no more threads
            self._log("cannot serve a connection", error)
            self._forget(connection)

    def _forget(self, connection: _Connection) -> None:
        connection.close()
        with self._changed:
            self._connections.discard(connection)
            self._changed.notify_all()

    def _serve(self, connection: _Connection) -> None:
        try:
            self._converse(connection)
        except OSError as error:  # too slow, or gone
            logger.debug("connection ended: %s", error)
        except Exception as error:  # noqa: BLE001 - a bug costs this connection and no other
            self._log("connection ended by an error", error)
        finally:
            self._forget(connection)

    def _converse(self, connection: _Connection) -> None:
        connection.open()
        idle_timeout = self._timeout
        while not self._stopping.is_set():
            try:
                head = connection.read(idle_timeout)
                if head is None:
                    return
                request = parse_request(head)
            except Refusal as refusal:
                logger.debug("refused: %s", refusal)
                connection.send(refusal.answer, body=True, keep="close")
                connection.linger()
                return
            if not self._respond(connection, request):
                if request.has_body():
                    connection.linger()
                return
            idle_timeout = IDLE_TIMEOUT

    def _respond(self, connection: _Connection, request: Request) -> bool:
        """Answer a request; return whether the connection goes on."""
        connection.heard_at = self._clock.now().elapsed
        limited = request.path not in self._always
        if limited and not self._places.acquire(blocking=False):
            answer = line(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once", ("Retry-After", "1"))
            return self._send(connection, request, answer)
        try:
            connection.answering = limited
            return self._send(connection, request, self._answered(request))
        finally:
            connection.answering = False
            if limited:
                self._places.release()

    def _send(self, connection: _Connection, request: Request, answer: Answer) -> bool:
        keep = request.keeps_connection() and not request.has_body() and not self._stopping.is_set()
        connection.send(answer, body=request.method != "HEAD", keep="keep-alive" if keep else "close")
        return keep

    def _answered(self, request: Request) -> Answer:
        try:
            return self._answer(request)
        except Exception as error:  # noqa: BLE001 - whatever it was, the next request is answered
            self._log(f"cannot answer {request.path}", error)
            return line(HTTPStatus.INTERNAL_SERVER_ERROR, "the answer could not be made: the log says why")

    def _log(self, message: str, error: Exception) -> None:
        """Log an error with its traceback, unless one was logged within the last minute."""
        now = self._clock.now().elapsed
        with self._changed:
            if now < self._log_again:
                self._unlogged += 1
                return
            self._log_again = now + ERROR_LOG_INTERVAL
            unlogged, self._unlogged = self._unlogged, 0
        logger.error("%s (errors not logged since the last one: %d)", message, unlogged, exc_info=error)


def _cut(connections: Iterable[_Connection]) -> None:
    for connection in connections:
        connection.cut()


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # Like most servers, IPv4 first where a name has both: "localhost" is 127.0.0.1.
        family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # "::" is IPv4 too
            listener.setblocking(False)
            listener.bind(address)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that is none
        reason = str(getattr(error, "strerror", None) or error)
        raise ConfigError(
            f"cannot listen on {_joined(host, port)}: {reason[:1].lower()}{reason[1:]};"
            " choose another with --listen-address"
        ) from error
    return listener
