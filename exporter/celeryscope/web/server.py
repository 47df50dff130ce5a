"""The server: who is let in, who gives way where places are taken, and how all of it ends."""

import logging
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection
from http import HTTPStatus
from math import inf
from socketserver import ThreadingTCPServer
from typing import Any

from celeryscope.clock import Clock, SystemClock
from celeryscope.errors import ConfigError
from celeryscope.http import Answer, Request, Turns, line
from celeryscope.web.connection import Connection
from celeryscope.web.policy import OPEN, Policy

TIMEOUT = 10.0  # seconds for a request to arrive whole, and for an answer to be taken
POLL_INTERVAL = 0.1  # seconds between two looks at the deadlines, and at whether to stop
STOP_GRACE = 0.3  # seconds for the answers on their way when the server stops
ERROR_LOG_INTERVAL = 60.0  # seconds between two tracebacks

logger = logging.getLogger(__name__)


class WebServer(ThreadingTCPServer):
    """Answers HTTP requests with what `answer(request)` returns, in threads of its own.

    What `answer` raises becomes a 500, and a traceback in the log once a minute at most. `always` are the paths that
    are answered without a password, and even while `max_requests` others are. `policy` returns what is asked of
    clients now; whether that is TLS never changes. `timeout` is in seconds.
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
        policy: Callable[[], Policy] = lambda: OPEN,
        clock: Clock | None = None,
        timeout: float = TIMEOUT,
        max_requests: int = 16,
        max_connections: int = 64,
    ) -> None:
        # The base class is initialized by start(): it listens at once.
        self.host = host
        self.port = port  # once started, the one that 0 stood for
        self.always = frozenset(always)
        self.policy = policy
        self.clock = clock or SystemClock()
        self.patience = timeout
        self.turns = Turns(self.answered)
        self._max_requests = max_requests
        self.stopping = threading.Event()
        self._answer = answer
        self._max_connections = max_connections
        self._connections: set[Connection] = set()
        self._changed = threading.Condition()  # guards the set and the next two
        self._log_again = -inf
        self._unlogged = 0
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens, as http://host:port, or https."""
        return f"{'http' if self.policy().context is None else 'https'}://{self._address()}"

    def start(self) -> None:
        """Listen, and answer from now on. Raises ConfigError where it cannot listen there."""
        try:
            self.address_family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            super().__init__((self.host, self.port), Connection)
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

    def admit(self, connection: Connection) -> None:
        """Give a connection a place. Raises ConnectionError if none.

        If all are taken, one that is idle gives way: of the address that has most, the one that is so for longest.
        """
        with self._changed:
            if len(self._connections) >= self._max_connections:
                idle = [other for other in self._connections if not other.answering]
                if not idle:
                    raise ConnectionError("too many connections")
                crowd = Counter(other.client_address[0] for other in self._connections)
                longest = min(idle, key=lambda other: (-crowd[other.client_address[0]], other.heard_at))
                longest.cut()
                self._connections.remove(longest)
            self._connections.add(connection)

    def occupy(self, connection: Connection) -> bool:
        """Give a connection one of the places of those whose answers are being made, where there is one."""
        with self._changed:
            made = [other for other in self._connections if other.answering and other.sending_since == inf]
            for other in made if len(made) >= self._max_requests else ():
                other.answering = not other.has_left()
            connection.answering = sum(other.answering for other in made) < self._max_requests
            return connection.answering

    def begin_sending(self, connection: Connection, now: float) -> None:
        """Make room for an answer on its way: as many as places for requests; the slowest reader gives way."""
        with self._changed:
            sending = [other for other in self._connections if other.sending_since < inf]
            if len(sending) >= self._max_requests:
                slowest = min(sending, key=lambda other: other.sending_since)
                slowest.cut()
                slowest.sending_since = inf
                slowest.answering = False
            connection.sending_since = now

    def forget(self, connection: Connection) -> None:
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
