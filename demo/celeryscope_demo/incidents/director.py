"""Starts and ends incidents in the demo's own process, where its children are."""

import math
import time
from collections.abc import Generator
from dataclasses import dataclass

import redis

from celeryscope.errors import CeleryscopeError
from celeryscope_demo import switches
from celeryscope_demo.cluster import Cluster
from celeryscope_demo.incidents import CannotStart, Incident, requests
from celeryscope_demo.incidents.all import INCIDENTS
from celeryscope_demo.options import DAY


@dataclass
class Running:
    """An incident that is on, until then (seconds since the epoch)."""

    incident: Incident
    until: float
    action: Generator[None] | None


class Director:
    """The incidents that are on. Whatever an incident does to itself, the demo goes on."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._running: dict[str, Running] = {}
        self.had: list[str] = []  # the names of all that ever ran
        self._deaf = False  # the store does not answer, and that was told

    @property
    def on(self) -> list[str]:
        """The names of those that are on."""
        return list(self._running)

    def step(self) -> list[str]:
        """Do what was asked for, go on with what is on, end what is over; return a line for each change."""
        news = []
        try:
            while (request := requests.take(self._cluster.store)) is not None:
                news += self._answer(request)
            self._deaf = False
        except redis.RedisError as error:
            if not self._deaf:
                news.append(f"the store does not answer: {error}")
            self._deaf = True
        for running in list(self._running.values()):
            name = running.incident.name
            if running.until <= time.time():
                news.append(f"incident {name} is over{self._end(running)}")
            elif trouble := self._go_on(running):
                news.append(f"incident {name} is over before its time: {describe(trouble)}{self._end(running)}")
        return news

    def close(self) -> list[str]:
        """End every incident; return a line for each that could not be undone."""
        ends = [(name, self._end(running)) for name, running in list(self._running.items())]
        return [f"incident {name} is over{trouble}" for name, trouble in ends if trouble]

    def _answer(self, request: requests.Request) -> list[str]:
        try:
            told = self._start(request) if request.do == "start" else self._stop(request)
        except CeleryscopeError as error:
            requests.answer(self._cluster.store, request, False, str(error))
            return []
        requests.answer(self._cluster.store, request, True, told)
        return [told.splitlines()[0]]

    def _start(self, request: requests.Request) -> str:
        incident = INCIDENTS.get(request.name or "")
        if incident is None:
            raise CannotStart(f"there is no incident {request.name!r}: celeryscope demo incident list shows all")
        if incident.name in self._running:
            raise CannotStart(f"{incident.name} is on already; celeryscope demo incident stop {incident.name} ends it")
        for other in self._running.values():
            if incident.part is not None and other.incident.part == incident.part:
                raise CannotStart(f"{incident.part} is taken by {other.incident.name}: stop that one first")
        for over in INCIDENTS.values():
            if over.starts is not None and over.part == incident.part and over.starts in self._cluster.children.names:
                raise CannotStart(f"{incident.part} is taken by {over.name}: its {over.starts} has not ended yet")
        seconds = incident.seconds if request.seconds is None else request.seconds
        if not (math.isfinite(seconds) and 0 < seconds <= DAY):
            raise CannotStart(f"{seconds:g} s is no time for an incident: more than 0, and a day at most")
        action = incident.action(self._cluster) if incident.action is not None else None
        running = Running(incident, time.time() + seconds, action)
        if error := self._go_on(running):
            if isinstance(error, CannotStart):
                raise error
            raise CannotStart(f"{incident.name} cannot be caused now: {describe(error)}") from error
        running.until = time.time() + seconds
        self._running[incident.name] = running
        self.had.append(incident.name)
        try:
            switches.turn_on(self._cluster.store, incident.name, running.until)
        except redis.RedisError:
            self._end(running)
            raise
        return f"incident {incident.name} is on for {seconds:.0f} s\n{incident.summary}\n{incident.seen}"

    def _stop(self, request: requests.Request) -> str:
        if request.name is not None and request.name not in self._running:
            raise CannotStart(f"{request.name} is not on" + (f"; on: {', '.join(self.on)}" if self._running else ""))
        names = [request.name] if request.name is not None else self.on
        told = "".join(self._end(self._running[name]) for name in names)
        return "stopped: " + ", ".join(names) + told if names else "no incident is on"

    @staticmethod
    def _go_on(running: Running) -> Exception | None:
        """Have an action go on; return what went wrong with it."""
        try:
            if running.action is not None:
                next(running.action, None)
        except Exception as error:  # noqa: BLE001 - servers, processes, Celery: each fails in ways of its own
            return error
        return None

    def _end(self, running: Running) -> str:
        """End an incident; return what went wrong with that, as the end of a sentence."""
        del self._running[running.incident.name]
        trouble = ""
        try:
            if running.action is not None:
                running.action.close()
        except Exception as error:  # noqa: BLE001 - as above; and the others have to be undone too
            trouble = f", but not undone: {describe(error)}"
        try:
            switches.turn_off(self._cluster.store, running.incident.name)
        except redis.RedisError as error:
            # It ends by its time in any case.
            trouble += f", but its switch is on for its time: {error}"
        return trouble


def describe(error: Exception) -> str:
    """An error in words, also one that has none of its own."""
    return str(error) or type(error).__name__
