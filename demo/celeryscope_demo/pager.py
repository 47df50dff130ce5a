"""Who would have been paged: a receiver of Alertmanager's webhooks that writes down what arrives.

POST /<receiver> takes a notification; GET /pages?since=N returns what came after the first N, as JSON.
"""

import json
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import click

from celeryscope_demo.stopping import StopSignal

MOST = 10_000  # pages that are kept
LARGEST = 1 << 20  # bytes of a notification
NAMED = ("task", "queue", "worker")  # labels that say with what something is wrong


def title(notification: Mapping[str, Any]) -> str:
    """The first line on a phone, as alerts/templates/celeryscope.tmpl writes it."""
    labels = notification.get("commonLabels", {})
    text = notification.get("commonAnnotations", {}).get("summary") or labels.get("alertname", "?")
    named = "".join(f": {labels[name]}" for name in NAMED if name in labels)
    count = len(notification.get("alerts", ()))
    over = "Over: " if notification.get("status") == "resolved" else ""
    return f"{over}{text}{named}" + (f" ({count})" if count > 1 else "")


class Pages:
    """What arrived, in order."""

    def __init__(self) -> None:
        self._pages: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def add(self, receiver: str, notification: Mapping[str, Any]) -> None:
        """Write a notification down; beyond MOST they are lost."""
        page = {
            "at": time.time(),
            "receiver": receiver,
            "status": notification.get("status"),
            "title": title(notification),
            "alerts": [
                {"status": alert.get("status"), **alert.get("labels", {})} for alert in notification.get("alerts", ())
            ],
        }
        with self._lock:
            if len(self._pages) < MOST:
                self._pages.append(page)

    def since(self, number: int) -> list[dict[str, Any]]:
        """All but the first `number`."""
        with self._lock:
            return self._pages[number:]


class Server(ThreadingHTTPServer):
    """The receiver."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, Handler)
        self.pages = Pages()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 30.0  # seconds

    def do_POST(self) -> None:
        """Take a notification."""
        try:
            length = int(self.headers.get("Content-Length", ""))
            if length > LARGEST:
                raise ValueError("too large")
            notification = json.loads(self.rfile.read(length))
            if not isinstance(notification, dict):
                raise TypeError("not an object")
        except (ValueError, TypeError) as error:
            self.close_connection = True
            self._answer(HTTPStatus.BAD_REQUEST, {"error": f"not a notification: {error}"})
            return
        self.server.pages.add(self.path.strip("/"), notification)
        self._answer(HTTPStatus.OK, {})

    def do_GET(self) -> None:
        """Tell what arrived."""
        url = urlsplit(self.path)
        if url.path != "/pages":
            self._answer(HTTPStatus.NOT_FOUND, {"error": "there is /pages?since=N"})
            return
        since = parse_qs(url.query).get("since", ["0"])[0]
        self._answer(HTTPStatus.OK, self.server.pages.since(int(since) if since.isdecimal() else 0))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of requests: what arrives is what matters."""

    def _answer(self, status: HTTPStatus, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@click.command()
@click.option("--listen", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=int, required=True)
def main(listen: str, port: int) -> None:
    """Take Alertmanager's notifications until SIGTERM."""
    with Server((listen, port)) as server, StopSignal() as stop:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        while not stop.wait(60.0):
            pass
        server.shutdown()


if __name__ == "__main__":
    main()
