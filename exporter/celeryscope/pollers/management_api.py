"""RabbitMQ's management API over HTTP: JSON by path, in bounded time and size; the password never in an error."""

import base64
import http.client
import re
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from celeryscope.diagnosis import reason_of
from celeryscope.errors import ConfigError, PollError
from celeryscope.redaction import redact, register

TIMEOUT = 5.0  # seconds, for one answer as a whole
MAX_ANSWER_BYTES = 32 * 2**20
CHUNK_BYTES = 64 * 2**10

URL_FORM = "write http://USER:PASSWORD@HOST:15672, @ / : ? # % in user and password percent-encoded"
_WHO = (
    "refused the credentials: check user and password of its URL, and give the user the tag management "
    "and permissions in the virtual host"
)
_REFUSED = {
    401: _WHO,
    403: _WHO,
    404: "does not have what was asked for: check the virtual host, and the path of its URL",
}


class Refused(PollError):
    """The management API answered with an HTTP status that is no success."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nobody: urllib would take the credentials along to wherever it is sent."""

    def redirect_request(self, *_: Any) -> None:
        """Make an error of it."""


class ManagementApi:
    """Asks one management API. Every failure is a PollError of one line."""

    def __init__(self, url: str, *, timeout: float = TIMEOUT) -> None:
        """`url` is http(s)://user:password@host:port, with a path where the API has a prefix; `timeout` in seconds.

        Raises ConfigError where it is none.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urlsplit("")
        if "@" in f"{parts.path}{parts.query}{parts.fragment}":
            host = None  # a password that is not encoded has been taken apart: part of it looks like a port
        if parts.scheme not in {"http", "https"} or not host or re.search(r"[\x00-\x20\x7f]", url):
            raise ConfigError(f"the management API's URL cannot be read: {URL_FORM}")
        register(parts.password or "")
        self.address = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
        self._base = f"{self.address}{parts.path.rstrip('/').removesuffix('/api')}/api/"
        self._headers = {"Accept": "application/json"}
        if parts.username is not None:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(credentials).decode()}"
        self._timeout = timeout
        # Neither the environment's proxies, which AMQP does not go through either, nor other kinds of URLs.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)

    def get(self, path: str) -> Any:
        """Return what the API answers, decoded; `path` comes after /api/. Raises PollError, `Refused` for a status."""
        deadline = time.monotonic() + self._timeout
        request = urllib.request.Request(self._base + path, headers=self._headers)  # noqa: S310  # checked above
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                return msgspec.json.decode(self._read(response, deadline))
        except urllib.error.HTTPError as error:
            with error:
                what = _REFUSED.get(error.code, f"answered {error.code} {error.reason}")
            raise Refused(self._line(what), error.code) from None
        except TimeoutError:
            reason = "did not answer in time"
        except urllib.error.URLError as error:
            reason = _unreachable(error.reason)
        except (OSError, http.client.HTTPException) as error:
            reason = _unreachable(error)
        except (ValueError, RecursionError):
            reason = "answered what is no JSON: check host and port of its URL"
        raise PollError(self._line(reason))

    def _read(self, response: Any, deadline: float) -> bytes:
        # Piece by piece: a socket's timeout begins anew with every byte.
        chunks, size = [], 0
        while chunk := response.read1(CHUNK_BYTES):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise PollError(self._line(f"answered more than {MAX_ANSWER_BYTES // 2**20} MiB"))
            if time.monotonic() > deadline:
                raise TimeoutError
        return b"".join(chunks)

    def _line(self, what: str) -> str:
        return redact(f"the management API at {self.address} {what}")


def _unreachable(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "did not answer in time"
    text = reason_of(reason) if isinstance(reason, BaseException) else str(reason)
    return f"cannot be reached ({text}): check host and port of its URL"
