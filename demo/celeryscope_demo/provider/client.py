"""The provider as its callers see it: one connection for each thread, kept between calls."""

import http.client
import json
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from celeryscope_demo import provider

TIMEOUT = 1.5  # seconds for each of connecting, sending and being answered

_connections = threading.local()


@dataclass(frozen=True)
class Answer:
    """What came back. `limit`, `remaining` and `reset` (seconds) are None where they are not announced."""

    status: int
    body: dict[str, Any]
    limit: int | None
    remaining: int | None
    reset: float | None

    @property
    def refused(self) -> bool:
        """Whether the call was one too many."""
        return self.status == 429


def post(url: str, endpoint: str, account: str, key: str, request: dict[str, Any]) -> Answer:
    """Make a call. Raises TimeoutError, other OSErrors, http.client.HTTPException, ValueError."""
    connection = _connection(url)
    headers = {
        "Content-Type": "application/json",
        provider.ACCOUNT_HEADER: account,
        provider.KEY_HEADER: key,
    }
    try:
        connection.request("POST", f"/{endpoint}", json.dumps(request), headers)
        response = connection.getresponse()
        body = json.loads(response.read())
        limit, remaining, reset = (
            response.headers.get(name)
            for name in (provider.LIMIT_HEADER, provider.REMAINING_HEADER, provider.RESET_HEADER)
        )
        return Answer(
            response.status,
            body,
            None if limit is None else int(limit),
            None if remaining is None else int(remaining),
            None if reset is None else float(reset),
        )
    except BaseException:
        # An answer that comes after all would be taken for the next one.
        connection.close()
        raise


def _connection(url: str) -> http.client.HTTPConnection:
    kept: dict[str, http.client.HTTPConnection] = _connections.__dict__
    if url not in kept:
        address = urlsplit(url)
        assert address.hostname is not None
        kept[url] = http.client.HTTPConnection(address.hostname, address.port, timeout=TIMEOUT)
    return kept[url]
