"""One connection: small requests in, whole answers out, each with a deadline.

The standard library's handler, and what it lacks against hostile clients: a limit on what is read, strictness about
what a head may hold, and answers that are sent whole.
"""

import io
import re
import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler
from math import inf
from typing import Protocol, cast
from urllib.parse import parse_qs, unquote, urlsplit

from celeryscope import __version__
from celeryscope.clock import Clock
from celeryscope.http import Answer, Request, Turns, line
from celeryscope.web.passwords import TooManyChecks
from celeryscope.web.policy import Policy
from celeryscope.web.tls import HANDSHAKE, has_name

IDLE_TIMEOUT = 75.0  # seconds between two requests of a connection: more than common scrape intervals
LINGER = 1.0  # seconds to swallow what a client still sends, so that it reads its answer and not a reset
MAX_HEAD_BYTES = 16 * 1024  # request line and headers together
MAX_PARAMS = 100
COPIED_BYTES = 64 * 1024  # a larger body is sent as it is, since others may send it at the same time
NOT_TLS = b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
CHALLENGE = ("WWW-Authenticate", 'Basic realm="celeryscope", charset="UTF-8"')


class Host(Protocol):
    """The server, as its connections know it."""

    clock: Clock
    patience: float  # seconds for a request to arrive whole, and for an answer to be taken
    always: frozenset[str]  # paths that are answered without a place and without a password
    stopping: threading.Event
    turns: Turns

    def policy(self) -> Policy:
        """Return what is asked of clients now."""
        ...

    def answered(self, request: Request) -> Answer:
        """Return the answer to a request."""
        ...

    def admit(self, connection: "Connection") -> None:
        """Give a connection a place. Raises ConnectionError where there is none."""
        ...

    def occupy(self, connection: "Connection") -> bool:
        """Give a connection a place among those whose answers are being made; return whether there was one."""
        ...

    def begin_sending(self, connection: "Connection", now: float) -> None:
        """Give a connection a place among those whose answers are on their way."""
        ...

    def forget(self, connection: "Connection") -> None:
        """Close a connection."""
        ...


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


class Connection(BaseHTTPRequestHandler):
    """One client, in a thread of its own. Its socket never times out: the server cuts it at its deadline."""

    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # to HTTP/0.9 the library answers without status and headers
    disable_nagle_algorithm = True
    rbufsize = 0  # the buffer is that of _Heads

    def setup(self) -> None:
        """Begin: the deadline runs, the place and the handshake come later."""
        threading.current_thread().name = "celeryscope-web-connection"
        self.host = cast("Host", self.server)
        self.policy = self.host.policy()
        if self.policy.context is not None:
            self.request = self.policy.context.wrap_socket(
                self.request, server_side=True, do_handshake_on_connect=False
            )
        super().setup()
        self.rfile = self.heads = _Heads(self.rfile)
        self.answering = False  # while it holds one of the places for requests
        self.left = False  # once its client was seen to have reset it
        self.sending_since = inf  # since when its client has been taking an answer
        self.heard_at = self.allow(self.host.patience)  # when it was opened, or began its last request

    def handle(self) -> None:
        """Answer requests until the connection ends."""
        self.host.admit(self)
        if self.policy.context is None or self.shake_hands():
            super().handle()

    def finish(self) -> None:
        """End: whoever asked next may have the place."""
        super().finish()
        self.host.forget(self)

    def shake_hands(self) -> bool:
        """Begin TLS; return whether the client did. Raises OSError where the two find no terms."""
        first = socket.socket.recv(self.request, 1, socket.MSG_PEEK)  # below TLS
        if first and first != HANDSHAKE:
            socket.socket.sendall(self.request, NOT_TLS)
            self.linger()
        if first != HANDSHAKE:
            return False
        self.request.do_handshake()
        allowed = self.policy.allowed_names
        if allowed is not None and not has_name(self.request, allowed):
            raise ConnectionError("the certificate of the client has none of client_allowed_sans")
        return True

    def handle_one_request(self) -> None:
        """Read a request and answer it; `close_connection` says whether it was the last."""
        self.close_connection = True
        if self.host.stopping.is_set() or not self.heads.peek(1):
            return
        self.heard_at = self.allow(self.host.patience)
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
        """Go on without asking for the body: no answer depends on it."""
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what cannot be read, and end."""
        status = HTTPStatus(code)
        self.close_connection = True
        self.send(line(status, f"{status.phrase}: {explain or status.description}"))  # `message` quotes the request
        self.linger()

    def respond(self, request: Request) -> None:
        """Answer a request, where a place for it is free."""
        has_body = request.header("Content-Length") not in ("", "0") or "Transfer-Encoding" in request.headers
        self.close_connection |= has_body or "close" in request.header("Connection").lower()
        limited = request.path not in self.host.always
        refusal = self.refusal(request) if limited else None
        if refusal is not None:
            self.send(refusal)
        elif limited and not self.host.occupy(self):
            self.send(line(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once", ("Retry-After", "1")))
        else:
            try:
                self.allow(inf)
                self.send(self.take_turn(request) if limited else self.host.answered(request))
            finally:
                self.answering, self.sending_since = False, inf
        if has_body:
            self.linger()
        self.allow(IDLE_TIMEOUT)

    def refusal(self, request: Request) -> Answer | None:
        """Return what is answered to who may not come in, None for who may. The request loses its credentials."""
        authorization = request.header("Authorization")
        del request.headers["Authorization"]
        users = self.host.policy().users
        if users is None:
            return None
        self.allow(inf)  # its turn comes: what waits is bounded
        try:
            if users.admit(authorization):
                return None
        except TooManyChecks:
            text = "too many passwords to check at once"
            return line(HTTPStatus.SERVICE_UNAVAILABLE, text, ("Retry-After", "1"))
        return line(HTTPStatus.UNAUTHORIZED, "a user and a password are needed here", CHALLENGE)

    def take_turn(self, request: Request) -> Answer:
        """Return the answer to a request, made while no other is. Raises ConnectionError where the client has left."""

        def check() -> None:
            if self.has_left():
                raise ConnectionError("the client left before its turn")

        return self.host.turns.answer(request, check)

    def has_left(self) -> bool:
        """Whether the client has reset the connection; one that has merely nothing more to say still listens."""
        try:
            socket.socket.recv(self.connection, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)  # below TLS
        except BlockingIOError:
            pass
        except OSError:
            self.left = True  # the system tells it once
        return self.left

    def send(self, answer: Answer) -> None:
        """Send an answer whole, or as its head alone where that was asked for."""
        self.close_connection |= self.host.stopping.is_set()
        self.wfile = whole = io.BytesIO()
        self.send_response_only(answer.status)
        headers = {
            "Server": f"celeryscope/{__version__}",
            "Date": self.date_time_string(self.host.clock.now().wall),
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Connection": "close" if self.close_connection else "keep-alive",
        }
        for name, value in (headers | dict(answer.headers) | dict(self.host.policy().headers)).items():
            self.send_header(name, value)
        self.end_headers()
        body = answer.body if self.command != "HEAD" else b""
        if len(body) <= COPIED_BYTES:
            whole.write(body)
            body = b""
        now = self.allow(self.host.patience)
        if self.answering:
            self.host.begin_sending(self, now)
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
        now = self.host.clock.now().elapsed
        self.deadline = now + seconds
        return now

    def cut(self) -> None:
        """Make every read and write of the connection's thread end now."""
        with suppress(OSError):
            socket.socket.shutdown(self.request, socket.SHUT_RDWR)  # below TLS, whose own would go on in clear
