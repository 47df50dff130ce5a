"""What the demo writes: lines that stay, and a few live lines that a terminal refreshes in place."""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from celeryscope_demo.scrape import Figures

LIVE_INTERVAL = 1.0  # seconds between refreshes on a terminal
PLAIN_INTERVAL = 5.0  # seconds between lines in a pipe or a file
EMPTY = "waiting for the first events ..."


class Screen:
    """One output stream. Once its reader has gone, it is `closed` and swallows everything."""

    def __init__(self, out: TextIO, term: str) -> None:
        """`term` is the terminal's type, as in $TERM: a "dumb" one cannot move its cursor."""
        self._out = out
        self.live_capable = out.isatty() and term not in ("", "dumb")
        self.closed = False
        self._height = 0  # live lines now on the screen

    @property
    def interval(self) -> float:
        """Seconds between two calls of `live` or `line` that a reader can follow."""
        return LIVE_INTERVAL if self.live_capable else PLAIN_INTERVAL

    def line(self, text: str) -> None:
        """Write a line that stays, above the live ones."""
        self._write(self._erase() + text + "\n")

    def live(self, lines: Sequence[str]) -> None:
        """Replace the live lines. What does not fit into the terminal is cut: then it could not be erased."""
        width, height = shutil.get_terminal_size()
        lines = lines[-max(1, height - 1) :]
        text = self._erase() + "".join(line[: width - 1] + "\n" for line in lines)
        self._height = len(lines)
        self._write(text)

    def settle(self) -> None:
        """Leave the live lines where they are: what follows is written below, and below a "^C" after them."""
        if self._height:
            self._height = 0
            self._write("\n")

    def _erase(self) -> str:
        erase = f"\x1b[{self._height}A\x1b[J" if self._height else ""
        self._height = 0
        return erase

    def _write(self, text: str) -> None:
        if self.closed:
            return
        try:
            self._out.write(text)
            self._out.flush()
        except OSError:
            self.closed = True
            # What is left in the buffer would fail again at exit, and turn the exit code into 120.
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), self._out.fileno())


def step(name: str, text: str) -> str:
    """The line of one thing that was started."""
    return f"  {name:<12} {text}"


def dated(text: str) -> str:
    """A line with the time of day before it."""
    return f"{time.strftime('%H:%M:%S')}  {text}"


def duration(seconds: float | None) -> str:
    """Seconds for a reader: "26 ms", "1.4 s", "3.2 min"; a dash where unknown."""
    if seconds is None:
        return "-"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def rate(per_second: float | None) -> str:
    """A rate for a reader: "9.8/s"; small ones with two digits, so that a rare failure shows."""
    if per_second is None:
        return "-"
    return f"{per_second:.1f}/s" if per_second >= 1 or per_second == 0 else f"{per_second:.2f}/s"


def block(
    figures: Figures | None, trouble: str | None, links: Sequence[str], incidents: Sequence[str], now: float
) -> list[str]:
    """The live lines of a terminal. `trouble`: why there are no new figures; `now`: seconds since the epoch."""
    lines = [""]
    if figures is None:
        lines.append(f"  {trouble or EMPTY}")
    else:
        rates = "   ".join(f"{name} {rate(value):<7}" for name, value in figures.rates.items())
        waiting, running = f"{figures.waiting:<4.0f}", f"{figures.running:<4.0f}"
        slots = "" if figures.concurrency is None else f", {figures.concurrency:.0f} tasks at once"
        lines += [
            *queue_table(figures, now),
            "",
            step("tasks", f"{rates} last {figures.seconds:.0f} s"),
            step("backlog", f"waiting {waiting}   running {running}   scheduled {figures.scheduled:.0f}"),
            step("wait", f"p50 {duration(figures.wait_p50):<8}   p95 {duration(figures.wait_p95)}"),
            step("workers", f"{figures.workers:.0f} up{slots}"),
        ]
        if trouble:
            lines.append(f"  {trouble}")
    lines.append(step("incidents", ", ".join(incidents) or "none; try: celeryscope demo incident list"))
    return [*lines, "", *(f"  {link}" for link in links), "  Ctrl-C stops everything"]


def queue_table(figures: Figures, now: float) -> list[str]:
    """A line for every queue."""
    width = max((len(queue.name) for queue in figures.queues), default=0)
    lines = [f"  {'queue':<{width}}  {'waiting':>7}  {'oldest':>8}  {'started':>7}  {'wait p95':>8}  {'workers':>7}"]
    for queue in figures.queues:
        oldest = None if queue.oldest is None else max(0.0, now - queue.oldest)
        cells = (number(queue.length), duration(oldest), rate(queue.started_rate), duration(queue.wait_p95))
        lines.append(
            f"  {queue.name:<{width}}  {cells[0]:>7}  {cells[1]:>8}  {cells[2]:>7}  {cells[3]:>8}"
            f"  {number(queue.workers):>7}"
        )
    return lines


def number(value: float | None) -> str:
    """A whole number; a dash where unknown."""
    return "-" if value is None else f"{value:.0f}"


def plain(figures: Figures | None, trouble: str | None, incidents: Sequence[str] = ()) -> str:
    """The same in one line, for a pipe or a file."""
    if trouble or figures is None:
        return dated(trouble or EMPTY)
    rates = "  ".join(f"{name} {rate(value)}" for name, value in figures.rates.items())
    waits = f"wait p50 {duration(figures.wait_p50)} p95 {duration(figures.wait_p95)}"
    backlog = f"backlog {figures.waiting:.0f}  scheduled {figures.scheduled:.0f}"
    on = f"  incidents: {', '.join(incidents)}" if incidents else ""
    return dated(f"{rates}  {backlog}  {waits}  workers {figures.workers:.0f}{on}")
