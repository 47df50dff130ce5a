"""What every path answers: the exposition, the health of the process, the status page, runbooks."""

import gzip
import re
from collections.abc import Callable, Sequence
from html import escape
from http import HTTPStatus

from celeryscope import __version__
from celeryscope.http import Answer, Request, line
from celeryscope.markdown import html
from celeryscope.status.facts import Status
from celeryscope.status.page import page, policy
from celeryscope.status.style import RUNBOOK_STYLE, STYLE

METHODS = ("GET", "HEAD")
HEALTH_PATHS = ("/-/healthy", "/-/ready")
RUNBOOKS = "/runbooks/"
PATHS = ("/metrics", *HEALTH_PATHS, "/", RUNBOOKS)
HTML = "text/html; charset=utf-8"
GZIP_LEVEL = 3  # an exposition repeats itself: the highest level takes 8 times as long for a sixth less

_NO_WEIGHT = re.compile(r"q=0(\.0*)?")

_RUNBOOK = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
{body}
<hr>
<p><a href="/runbooks/">all runbooks</a> · <a href="/">celeryscope {version}</a></p>
</body>
</html>
"""


class Site:
    """All paths. What a callable raises is for the server to answer and to log.

    `expose(accept, names)` returns an exposition and its content type, for an Accept header and the names of
    the samples wanted (none: all); `ready()` says whether the start is over; `status()` returns what
    `/` shows; `runbook(name)` returns a runbook as Markdown, None where there is none, and the list
    of all for an empty name.
    """

    def __init__(
        self,
        *,
        expose: Callable[[str, Sequence[str]], tuple[bytes, str]],
        ready: Callable[[], bool],
        status: Callable[[], Status] = Status,
        runbook: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._expose = expose
        self._ready = ready
        self._status = status
        self._runbook = runbook

    def answer(self, request: Request) -> Answer:
        """Return the answer to a request. HEAD is answered like GET: the server leaves out the body."""
        if request.method not in METHODS:
            allowed = ", ".join(METHODS)
            return line(HTTPStatus.METHOD_NOT_ALLOWED, f"allowed here: {allowed}", ("Allow", allowed))
        match request.path:
            case "/metrics":
                return self._metrics(request)
            case "/-/healthy":
                return line(HTTPStatus.OK, "ok")
            case "/-/ready":
                if self._ready():
                    return line(HTTPStatus.OK, "ready")
                return line(HTTPStatus.SERVICE_UNAVAILABLE, "not ready: the start is not over")
            case "/":
                refresh = "off" not in request.params.get("refresh", ())
                return _document(page(self._status(), refresh=refresh), STYLE)
            case path if path.startswith(RUNBOOKS):
                return self._runbooks(path.removeprefix(RUNBOOKS))
            case _:
                return line(HTTPStatus.NOT_FOUND, f"not found: there is {' '.join(PATHS)}")

    def _runbooks(self, name: str) -> Answer:
        text = self._runbook(name)
        if text is None:
            return line(HTTPStatus.NOT_FOUND, f"there is no runbook of that name: {RUNBOOKS} lists all")
        filled = _RUNBOOK.format(
            title=escape(name or "Runbooks"), style=RUNBOOK_STYLE, body=html(text), version=escape(__version__)
        )
        return _document(filled, RUNBOOK_STYLE)

    def _metrics(self, request: Request) -> Answer:
        body, content_type = self._expose(request.header("accept"), request.params.get("name[]", ()))
        headers = [("Vary", "Accept, Accept-Encoding")]
        if gzip_accepted(request.header("accept-encoding")):
            body = gzip.compress(body, GZIP_LEVEL, mtime=0)
            headers.append(("Content-Encoding", "gzip"))
        return Answer(HTTPStatus.OK, body, content_type, tuple(headers))


def _document(text: str, style: str) -> Answer:
    """Return a page that loads nothing, runs nothing and is shown in no frame."""
    headers = (
        ("Content-Security-Policy", policy(style)),
        ("Referrer-Policy", "no-referrer"),
    )
    return Answer(HTTPStatus.OK, text.encode(errors="replace"), HTML, headers)


def gzip_accepted(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header names gzip, and not with a weight of 0."""
    for offer in accept_encoding.lower().split(","):
        coding, *parameters = (part.strip() for part in offer.split(";"))
        if coding == "gzip":
            return not any(_NO_WEIGHT.fullmatch(parameter) for parameter in parameters)
    return False
