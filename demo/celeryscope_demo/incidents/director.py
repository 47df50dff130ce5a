"""Starts and ends incidents in the demo's own process, where its children are."""

import time
from collections.abc import Generator
from dataclasses import dataclass

from celeryscope.errors import CeleryscopeError
from celeryscope_demo import switches
from celeryscope_demo.cluster import Cluster
from celeryscope_demo.incidents import CannotStart, Incident, requests
from celeryscope_demo.incidents.all import INCIDENTS


@dataclass
class Running:
    """An incident that is on, until then (seconds since the epoch)."""

    incident: Incident
    until: float
    action: Generator[None] | None


class Director:
    """The incidents that are on."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._running: dict[str, Running] = {}
        self.had: list[str] = []  # the names of all that ever ran

    @property
    def on(self) -> list[str]:
        """The names of those that are on."""
        return list(self._running)

    def step(self) -> list[str]:
        """Do what was asked for, go on with what is on, end what is over; return a line for each change."""
        news = []
        while (request := requests.take(self._cluster.store)) is not None:
            try:
                told = self._start(request) if request.do == "start" else self._stop(request)
                requests.answer(self._cluster.store, request, True, told)
                news.append(told.splitlines()[0])
            except CeleryscopeError as error:
                requests.answer(self._cluster.store, request, False, str(error))
        for running in list(self._running.values()):
            over = running.until <= time.time()
            if not over and running.action is not None:
                next(running.action, None)
            if over:
                self._end(running)
                news.append(f"incident {running.incident.name} is over")
        return news

    def close(self) -> None:
        """End every incident."""
        for running in list(self._running.values()):
            self._end(running)

    def _start(self, request: requests.Request) -> str:
        incident = INCIDENTS.get(request.name or "")
        if incident is None:
            raise CannotStart(f"there is no incident {request.name!r}: celeryscope demo incident list shows all")
        if incident.name in self._running:
            raise CannotStart(f"{incident.name} is on already; celeryscope demo incident stop {incident.name} ends it")
        for other in self._running.values():
            if incident.part is not None and other.incident.part == incident.part:
                raise CannotStart(f"{incident.part} is taken by {other.incident.name}: stop that one first")
        seconds = request.seconds or incident.seconds
        action = incident.action(self._cluster) if incident.action is not None else None
        if action is not None:
            next(action, None)
        until = time.time() + seconds
        self._running[incident.name] = Running(incident, until, action)
        self.had.append(incident.name)
        switches.turn_on(self._cluster.store, incident.name, until)
        return f"incident {incident.name} is on for {seconds:.0f} s\n{incident.summary}\n{incident.seen}"

    def _stop(self, request: requests.Request) -> str:
        if request.name is not None and request.name not in self._running:
            raise CannotStart(f"{request.name} is not on" + (f"; on: {', '.join(self.on)}" if self._running else ""))
        names = [request.name] if request.name is not None else self.on
        for name in names:
            self._end(self._running[name])
        return "stopped: " + ", ".join(names) if names else "no incident is on"

    def _end(self, running: Running) -> None:
        del self._running[running.incident.name]
        switches.turn_off(self._cluster.store, running.incident.name)
        if running.action is not None:
            running.action.close()
