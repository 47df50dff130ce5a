"""The provider's server: it answers slowly, keeps its limits by its own clock, and has outages.

While incident "rate-limit" is on, its limits are a tenth; while "provider-outage" is on, it answers with 503 or not
at all. A call with an idempotency key that it has seen gets the first answer again, and counts as a call.
"""

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import click
import redis

from celeryscope_demo import provider, switches
from celeryscope_demo.provider import ENDPOINTS, Endpoint
from celeryscope_demo.provider.accounting import Accounts, Verdict
from celeryscope_demo.simulation import chance, duration
from celeryscope_demo.stopping import StopSignal

RATE_LIMIT, OUTAGE = "rate-limit", "provider-outage"  # incidents
LOWERED = 10  # what limits are divided by during RATE_LIMIT
HANGING = 0.25  # share of the calls that are never answered during OUTAGE
HANG = 10.0  # seconds: longer than any client waits
UNPROCESSABLE = 0.004  # share of the requests that are refused for what they ask
KEYS = 20_000  # idempotency keys that are remembered
MAX_BODY = 65_536  # bytes
TALLIES = "tallies"  # GET it: what arrived, by account and endpoint

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A status and a body; `verdict` where the limit is announced."""

    status: int
    body: Json
    verdict: Verdict | None = None


class Provider:
    """The provider, for many threads."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self.endpoints = endpoints
        self._lock = threading.Lock()
        self._accounts = Accounts(time.monotonic)
        self._results: OrderedDict[str, Json] = OrderedDict()  # by idempotency key
        self._calls = 0

    def take(self, endpoint: Endpoint, account: str, key: str, request: Json) -> Answer:
        """Judge a call that arrives now, and answer it."""
        limit = max(1, endpoint.limit // LOWERED) if is_on(RATE_LIMIT) else endpoint.limit
        with self._lock:
            verdict = self._accounts.call(account, endpoint, limit)
            told = verdict if endpoint.announced else None
            if not verdict.accepted:
                return Answer(429, {"error": "too many calls"}, told)
            if chance(UNPROCESSABLE, endpoint.name, request):
                return Answer(422, {"error": "we cannot process this"}, told)
            return Answer(200, self._result(key), told)

    def tallies(self) -> Json:
        """What arrived, by account and endpoint."""
        with self._lock:
            return dict(self._accounts.tallies())

    def _result(self, key: str) -> Json:
        result = self._results.get(key) if key else None
        if result is None:
            self._calls += 1
            result = {"number": self._calls}
            if key:
                self._results[key] = result
                if len(self._results) > KEYS:
                    self._results.popitem(last=False)
        return result


def is_on(incident: str) -> bool:
    """Whether an incident is on; a provider works on without the store."""
    try:
        return switches.on(incident)
    except redis.RedisError:
        return False


class Handler(BaseHTTPRequestHandler):
    """One client's connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer goes out as a whole, not line by line
    disable_nagle_algorithm = True
    provider: Provider

    def do_GET(self) -> None:
        """Tell what arrived."""
        if self.path == f"/{TALLIES}":
            self._send(Answer(200, self.provider.tallies()))
        else:
            self._send(Answer(404, {"error": "no such page"}))

    def do_POST(self) -> None:
        """Take a call."""
        try:
            length = int(self.headers.get("Content-Length", ""))
            request = json.loads(self.rfile.read(length)) if 0 <= length <= MAX_BODY else None
        except ValueError:
            request = None
        if not isinstance(request, dict):
            self.close_connection = True
            self._send(Answer(400, {"error": "expected a JSON object"}))
            return
        endpoint = self.provider.endpoints.get(self.path.removeprefix("/"))
        account = self.headers.get(provider.ACCOUNT_HEADER)
        if endpoint is None:
            self._send(Answer(404, {"error": "no such endpoint"}))
        elif account is None:
            self._send(Answer(401, {"error": "who asks?"}))
        elif is_on(OUTAGE):
            self._fail(request)
        else:
            answer = self.provider.take(endpoint, account, self.headers.get(provider.KEY_HEADER, ""), request)
            if answer.status != 429:
                time.sleep(duration(endpoint.latency, endpoint.name, request))
            self._send(answer)

    def _fail(self, request: Json) -> None:
        # Drawn anew every half second: whoever tries again is not bound to meet the same.
        if chance(HANGING, request, time.monotonic() // 0.5):
            time.sleep(HANG)
            self.close_connection = True
        else:
            self._send(Answer(503, {"error": "out of order"}))

    def _send(self, answer: Answer) -> None:
        body = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        if answer.verdict is not None:
            self.send_header(provider.LIMIT_HEADER, str(answer.verdict.limit))
            self.send_header(provider.REMAINING_HEADER, str(answer.verdict.remaining))
            self.send_header(provider.RESET_HEADER, f"{answer.verdict.reset:.6f}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """The provider's server; connections end with the process."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is none of our troubles."""


def serve(port: int, endpoints: Mapping[str, Endpoint], host: str = "127.0.0.1") -> Server:
    """Listen on a port, and answer in threads."""
    handler = type("Handler", (Handler,), {"provider": Provider(endpoints)})
    server = Server((host, port), handler)
    threading.Thread(target=server.serve_forever, name="provider", daemon=True).start()
    return server


def read_limits(wanted: tuple[str, ...], latency: float) -> dict[str, Endpoint]:
    """Read ENDPOINT=LIMIT/SECONDS. Raises click.BadParameter."""
    endpoints = {name: replace(found, latency=found.latency * latency) for name, found in ENDPOINTS.items()}
    for text in wanted:
        name, _, limit = text.partition("=")
        calls, _, seconds = limit.partition("/")
        try:
            endpoints[name] = replace(endpoints[name], limit=int(calls), window=float(seconds))
        except (KeyError, ValueError) as error:
            raise click.BadParameter(f"{text!r}: expected ENDPOINT=LIMIT/SECONDS") from error
    return endpoints


@click.command()
@click.option("--listen", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=int, required=True)
@click.option("--limit", "limits", multiple=True, metavar="ENDPOINT=LIMIT/SECONDS", help="Another limit.")
@click.option("--latency", type=click.FloatRange(min=0), default=1.0, help="Multiplies how long answers take.")
def main(listen: str, port: int, limits: tuple[str, ...], latency: float) -> None:
    """Be a third party until SIGTERM."""
    with StopSignal() as stop:
        serve(port, read_limits(limits, latency), listen)
        while not stop.count:
            stop.wait(60.0)


if __name__ == "__main__":
    main()
