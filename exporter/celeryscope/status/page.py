"""The status page as HTML. Every name in it comes from the cluster, may be anything, and is escaped."""

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from html import escape
from typing import NamedTuple

from celeryscope import __version__
from celeryscope.status import words
from celeryscope.status.facts import FailureRow, QueueRow, Row, Rows, Status, Total, WorkerRow
from celeryscope.status.style import STYLE

REFRESH = 15  # seconds between two loads of the page by itself

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{refresh}<title>{title} · celeryscope</title>
<link rel="icon" href="data:image/svg+xml,{icon}">
<style>{style}</style>
</head>
<body>
<header>
<p><strong>celeryscope</strong> {broker}</p>
<p>{as_of}</p>
</header>
<main>
{body}
</main>
<footer>
<a href="/metrics">Metrics</a>
<a href="/runbooks/">Runbooks</a>
<a href="/-/healthy">Health</a>
<a href="/-/ready">Readiness</a>
<span>celeryscope {version}, up for {uptime}</span>
</footer>
</body>
</html>
"""

_ICON = (
    "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Ccircle cx='8' cy='8' r='7' fill='{}'/%3E%3C/svg%3E"
)
_ICON_COLOURS = {"good": "%2318703a", "bad": "%23b42318", "": "%23768390"}

_UNKNOWN = '<span class="soft">unknown</span>'
_NONE = '<span class="soft">\N{EN DASH}</span>'

_WORKER_STATES = {True: ("good", "up"), False: ("bad", "gone"), None: ("warn", "answers, no heartbeat")}


class Cell(NamedTuple):
    """One cell of a table."""

    html: str
    kind: str = ""  # classes


def policy(style: str) -> str:
    """Return the Content-Security-Policy of a page that has this style sheet and nothing else."""
    digest = b64encode(sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def page(status: Status, *, refresh: bool = True) -> str:
    """Return the HTML of the page. With `refresh` a browser loads it again by itself."""
    state, kind = _state(status)
    switch = (
        f'loads again every {REFRESH} s, <a href="/?refresh=off">hold still</a>'
        if refresh
        else '<a href="/">load again by itself</a>'
    )
    return _PAGE.format(
        refresh=f'<meta http-equiv="refresh" content="{REFRESH}">\n' if refresh else "",
        title=state,
        icon=_ICON.format(_ICON_COLOURS[kind]),
        style=STYLE,
        broker=f"watches <bdi>{escape(status.broker)}</bdi>" if status.broker else "",
        as_of=f"as of {words.clock(status.at)} · {switch}",
        body="\n".join((_head(status, state, kind), _findings(status), *_tables(status))),
        version=escape(__version__),
        uptime=words.duration(status.uptime),
    )


def _state(status: Status) -> tuple[str, str]:
    if status.connection is None:
        return "Queues only", ""
    if not status.connection.open:
        return "Not connected", "bad"
    return ("Connected, perhaps deaf", "bad") if status.traffic.unproved else ("Connected", "good")


def _head(status: Status, state: str, kind: str) -> str:
    return f'<section class="card state {kind}">\n<h1>{state}</h1>\n{_story(status)}</section>\n{_tiles(status)}'


def _story(status: Status) -> str:
    connection, deaf = status.connection, status.traffic.deaf
    server = f" · {escape(status.server)}" if status.server else ""
    if connection is None:
        return f'<p class="soft">This broker carries no events: only its queues are shown{server}</p>\n'
    lines = [f'<p class="soft">for {words.duration(connection.seconds)}{server}</p>\n']
    if not connection.open:
        reason = connection.reason or "the first attempt is not over"
        lines.append(f"<p><bdi>{escape(reason[:1].upper() + reason[1:])}</bdi></p>\n")
        if status.workers.shown:
            lines.append('<p class="soft">Workers and tasks are shown as they were last heard of.</p>\n')
    if deaf is not None and deaf >= 1:
        lines.append(
            f'<p class="soft">deaf for {words.duration(deaf)} in all since the start: what happened then is not counted'
            "</p>\n"
        )
    return "".join(lines)


def _tiles(status: Status) -> str:
    traffic = status.traffic
    over = f"over the last {words.age(traffic.window)}"
    heard = f"came back {words.age(traffic.canary_age)} ago" if traffic.canary_age is not None else ""
    tiles = [
        _tile("Events", None if traffic.rate is None else f"{words.rate(traffic.rate)}/s", over),
        _tile("Lost events", _count(traffic.lost), "since the start", "bad" if traffic.lost else ""),
        _tile("Canary", None if traffic.round_trip is None else words.duration(traffic.round_trip), heard),
        _tile(
            "Workers up",
            words.count(status.workers_up) if status.workers_up or status.workers_gone else None,
            f"{words.count(status.workers_gone)} gone" if status.workers_gone else "none gone",
        ),
        _tile("Running", _count(status.active.known), _slots(status)),
        _tile("Waiting in queues", _count(status.waiting.known), _of_others(status.waiting, "queue") or "tasks in all"),
    ]
    if status.connection is None:
        tiles = tiles[-1:]
    return '<dl class="tiles">\n' + "".join(tiles) + "</dl>"


def _slots(status: Status) -> str:
    if status.slots.known is None:
        return "of an unknown number of slots"
    missing = max(status.active, status.slots, key=lambda total: total.unknown)
    others = _of_others(missing, "worker")
    return f"of {words.plural(status.slots.known, 'slot')}" + (f", {others}" if others else "")


def _of_others(total: Total, name: str) -> str:
    """What of a sum is missing."""
    return f"{words.plural(total.unknown, name)} unknown" if total.unknown else ""


def _tile(name: str, value: str | None, beside: str, kind: str = "") -> str:
    if value is None:
        return f'<div class="card"><dt>{name}</dt><dd class="unknown">unknown</dd></div>\n'
    return f'<div class="card"><dt>{name}</dt><dd class="{kind}">{value}</dd><dd>{beside}</dd></div>\n'


def _findings(status: Status) -> str:
    if not status.findings and status.connection is not None and not status.connection.open:
        return _section("What to look at", '<p class="card empty">Nothing can be told while not connected.</p>')
    if not status.findings:
        return _section(
            "Nothing to look at",
            '<p class="card empty">Nothing wrong is seen from here. <code>celeryscope check</code> looks closer.</p>',
        )
    items = "".join(
        f"<li><bdi>{escape(finding.text)}</bdi>"
        + (f" · {_runbook(finding.runbook)}" if finding.runbook else "")
        + "</li>\n"
        for finding in status.findings
    )
    return _section("What to look at", f'<ul class="card findings">\n{items}</ul>')


def _runbook(name: str) -> str:
    return f'<a href="/runbooks/{escape(name)}">what to do</a>'


def _tables(status: Status) -> Iterator[str]:
    if status.connection is not None:
        yield _section(
            "Workers",
            _table(
                ("worker", "state", "pool", "heartbeat", "running", "reserved"),
                status.workers,
                _worker,
                "No worker heard yet. Check that workers run, and that broker URL, database number, key prefix and "
                "event exchange are theirs.",
                text=("state", "pool"),
            ),
        )
    yield _section(
        "Queues",
        _table(
            ("queue", "waiting", "oldest waits", "may wait", "workers", "slots"),
            status.queues,
            _queue,
            "No queue known yet. Queues show with the first task or worker; name others with <code>--queue</code>.",
        ),
    )
    if status.connection is not None:
        window = words.age(status.failure_window)
        yield _section(
            "Failing tasks",
            _table(
                ("task", "exception", f"last {window}", "in all"),
                status.failures,
                _failure,
                "No failure was heard of since the start. Failures are seen where workers send task events.",
                text=("exception",),
            ),
            note="Failed for good, by what they raised. In all: since the start, or since a task was forgotten of "
            "which nothing had been heard for long (<code>--pair-retention</code>)."
            if status.failures.shown
            else "",
        )


def _worker(row: WorkerRow) -> Sequence[Cell]:
    lost = f" (lost {words.plural(row.lost, 'time')})" if row.lost else ""
    kind, word = _WORKER_STATES[row.up]
    state = Cell(f'<span class="{kind}">{word}</span>{lost}', "text")
    running = _known(row.active)
    if row.active is not None or row.concurrency is not None:
        running += f' <span class="soft">of {_known(row.concurrency)}</span>'
    return (
        _name(row.name),
        state,
        Cell(f"<bdi>{escape(row.pool)}</bdi>" if row.pool else _UNKNOWN, "text"),
        Cell(_NONE if row.heartbeat_age is None else f"{words.age(row.heartbeat_age)} ago"),
        Cell(_NONE if row.up is False else running),
        Cell(_NONE if row.up is False else _known(row.reserved)),
    )


def _queue(row: QueueRow) -> Sequence[Cell]:
    unseen = _NONE if row.length == 0 else _UNKNOWN
    oldest = unseen if row.oldest_age is None else words.age(row.oldest_age)
    return (
        _name(row.name),
        Cell(_known(row.length), "bad" if row.deserted else ""),
        Cell(oldest, "bad" if row.late else ""),
        Cell(_UNKNOWN if row.objective is None else words.duration(row.objective), "soft"),
        Cell(_known(row.workers), "bad" if row.deserted else ""),
        Cell(_known(row.concurrency)),
    )


def _failure(row: FailureRow) -> Sequence[Cell]:
    return (
        _name(row.task),
        Cell(f'<bdi class="name">{escape(row.exception)}</bdi>', "text wide"),
        Cell(words.count(row.recent), "bad" if row.recent else "soft"),
        Cell(words.count(row.total)),
    )


def _name(name: str) -> Cell:
    return Cell(f'<bdi class="name">{escape(name)}</bdi>')


def _known(number: int | None) -> str:
    return _UNKNOWN if number is None else words.count(number)


def _count(number: int | None) -> str | None:
    return None if number is None else words.count(number)


def _section(title: str, html: str, note: str = "") -> str:
    return f"<section>\n<h2>{title}</h2>\n{html}" + (f'\n<p class="note">{note}</p>' if note else "") + "\n</section>"


def _table(
    names: Sequence[str],
    rows: Rows[Row],
    cells: Callable[[Row], Sequence[Cell]],
    empty: str,
    text: Iterable[str] = (),
) -> str:
    """Return a table whose first column names its rows; `empty` in its place where there is none."""
    if not rows.shown:
        return f'<p class="card empty">{empty}</p>'
    head = "".join(f'<th scope="col"{_class("text" if name in text else "")}>{name}</th>' for name in names)
    body = "".join(f"<tr>{_cells(names, cells(row))}</tr>\n" for row in rows.shown)
    more = (
        f'<p class="more">and {words.count(rows.more)} more, less noteworthy: see the metrics</p>\n'
        if rows.more
        else ""
    )
    return (
        f'<div class="card">\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n{more}</div>'
    )


def _cells(names: Sequence[str], cells: Sequence[Cell]) -> str:
    first, *others = cells
    html = f'<th scope="row"{_class(first.kind)}>{first.html}</th>'
    for name, cell in zip(names[1:], others, strict=True):
        html += f'<td data-label="{name}"{_class(cell.kind)}>{cell.html}</td>'
    return html


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
