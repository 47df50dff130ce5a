"""The exporter's own facts, from the words of connections and polls into series."""

import platform
from collections.abc import Mapping

from celeryscope import __version__
from celeryscope.clock import Clock
from celeryscope.metrics import catalog
from celeryscope.metrics.store import Store


class ExporterHealth:
    """Says whether the exporter's connections and polls work. Takes the store's lock itself."""

    def __init__(self, store: Store, clock: Clock, versions: Mapping[str, str]) -> None:
        """`versions` names what the exporter is built on; `celery` is exported."""
        self._store = store
        self._clock = clock
        self._connections: dict[str, bool] = {}
        self._transport = ""
        self._opened_before = False
        labels = (__version__, platform.python_version(), versions.get("celery", ""))
        with store.lock:
            store.set(catalog.EXPORTER_BUILD_INFO, labels, 1)

    def stream_expected(self) -> None:
        """There is an event stream to open."""
        with self._store.lock:
            self._store.set(catalog.EXPORTER_CONNECTED, (), 0)
            self._store.cell(catalog.EXPORTER_RECONNECTS)

    def stream_opened(self) -> None:
        """The event stream was opened."""
        with self._store.lock:
            self._store.set(catalog.EXPORTER_CONNECTED, (), 1)
            if self._opened_before:
                self._store.increment(catalog.EXPORTER_RECONNECTS, ())
            self._opened_before = True

    def stream_lost(self) -> None:
        """The event stream was lost, or could not be opened."""
        with self._store.lock:
            self._store.set(catalog.EXPORTER_CONNECTED, (), 0)

    def broker(self, connection: str, works: bool) -> None:
        """A connection of ours to the broker works, or was refused or lost. The broker is up where all of them work."""
        with self._store.lock:
            self._connections[connection] = works
            self._store.set(catalog.BROKER_UP, (), float(all(self._connections.values())))

    def transport(self, name: str) -> None:
        """The transport by which the broker is reached."""
        self._transport = name
        self.version("")

    def version(self, version: str) -> None:
        """The version that the broker's server tells."""
        with self._store.lock:
            self._store.clear(catalog.BROKER_INFO)
            self._store.set(catalog.BROKER_INFO, (self._transport, version), 1)

    def polled(self, poller: str, succeeded: bool, duration: float) -> None:
        """A poll is over, after `duration` seconds."""
        now = self._clock.now().wall
        with self._store.lock:
            self._store.set(catalog.EXPORTER_POLL_SUCCESS, (poller,), float(succeeded))
            self._store.set(catalog.EXPORTER_POLL_DURATION, (poller,), duration)
            if succeeded:
                self._store.set(catalog.EXPORTER_POLL_LAST_SUCCESS, (poller,), now)
