"""A cluster's events, told line by line: what a tracker makes of them, without broker, thread or sleep."""

from typing import Any

import msgspec

from celeryscope.clock import Moment
from celeryscope.events import EventDecoder
from celeryscope.metrics.catalog import ALL, BY_NAME
from celeryscope.metrics.store import Store
from celeryscope.readings import BrokerReading, QueueReading, WorkerReading
from celeryscope.tracker import Tracker, TrackerSettings

EPOCH = 1_700_000_000.0  # Unix seconds at which every story begins
WORKER = "celery@one"
PRODUCER = "gen1@producer"


class Story:
    """Builds events as Celery writes them, has them decoded and tracked, and reads the numbers that come of it."""

    def __init__(self, series_limit: int = 50_000, **settings: Any) -> None:
        self.store = Store(ALL, series_limit)
        # Nothing waits for inspection where a story tells of none.
        self.tracker = Tracker(self.store, TrackerSettings(**{"backfill_patience": 0.0} | settings))
        self.seconds = 0.0  # since the story began
        self._decoder = EventDecoder()
        self._canaries = 0
        self.tracker.tick(self.now)

    @property
    def now(self) -> Moment:
        """The present: the monotonic clock began 1,000 s before the story."""
        return Moment(EPOCH + self.seconds, 1_000 + self.seconds)

    def wait(self, seconds: float) -> None:
        """Let time pass, with ticks as the exporter's own."""
        end = self.seconds + seconds
        while self.seconds < end:
            self.seconds = min(end, self.seconds + 0.25)
            self.tracker.tick(self.now)

    def event(self, kind: str, *, hostname: str = WORKER, at: float | None = None, **fields: Any) -> dict[str, Any]:
        """Return an event; `at` is the sender's clock in seconds since the story began, the present by default."""
        timestamp = EPOCH + (self.seconds if at is None else at)
        return {
            "hostname": hostname,
            "utcoffset": 0,
            "pid": 1,
            "clock": 1,
            **fields,
            "timestamp": timestamp,
            "type": kind,
        }

    def deliver(self, *events: dict[str, Any]) -> None:
        """Deliver events in one message."""
        body = msgspec.json.encode(list(events))
        self.tracker.handle(self._decoder.decode(body, "application/json"), self.now)

    def sent(self, uuid: str, name: str = "app.work", queue: str | None = "fast", **fields: Any) -> None:
        """A producer publishes a task."""
        base = {"retries": 0, "eta": None, "exchange": "", "routing_key": queue, "hostname": PRODUCER}
        self.deliver(self.event("task-sent", **{"uuid": uuid, "name": name, "queue": queue, **base, **fields}))

    def received(self, uuid: str, name: str = "app.work", **fields: Any) -> None:
        """A worker takes a task."""
        self.deliver(self.event("task-received", **{"uuid": uuid, "name": name, "retries": 0, "eta": None, **fields}))

    def started(self, uuid: str, **fields: Any) -> None:
        """A worker starts a task."""
        self.deliver(self.event("task-started", uuid=uuid, **fields))

    def succeeded(self, uuid: str, runtime: float | None = 0.5, **fields: Any) -> None:
        """A task returns."""
        self.deliver(self.event("task-succeeded", uuid=uuid, result="None", runtime=runtime, **fields))

    def failed(
        self, uuid: str, exception: str = "ValueError('x')", traceback: str | None = None, **fields: Any
    ) -> None:
        """A task fails."""
        self.deliver(self.event("task-failed", uuid=uuid, exception=exception, traceback=traceback, **fields))

    def retried(self, uuid: str, exception: str = "OSError('x')", **fields: Any) -> None:
        """An attempt ends in a retry."""
        self.deliver(self.event("task-retried", uuid=uuid, exception=exception, traceback=None, **fields))

    def rejected(self, uuid: str, *, requeue: bool, **fields: Any) -> None:
        """A worker rejects a message."""
        self.deliver(self.event("task-rejected", uuid=uuid, requeue=requeue, **fields))

    def revoked(self, uuid: str, *, expired: bool = False, terminated: bool = False, **fields: Any) -> None:
        """A worker drops or stops a task."""
        self.deliver(
            self.event("task-revoked", uuid=uuid, expired=expired, terminated=terminated, signum=None, **fields)
        )

    def run(self, uuid: str, **fields: Any) -> None:
        """A task is received, started, and succeeds."""
        self.received(uuid, **fields)
        self.started(uuid)
        self.succeeded(uuid)

    def heartbeat(
        self, processed: int | None = 0, active: int | None = 0, kind: str = "worker-heartbeat", **fields: Any
    ) -> None:
        """A worker says that it lives."""
        counts = {"freq": 2.0, "active": active, "processed": processed, "loadavg": [0.5, 0.4, 0.3]}
        software = {"sw_ident": "py-celery", "sw_ver": "5.7.0", "sw_sys": "Linux"}
        self.deliver(self.event(kind, **{**counts, **software, **fields}))

    def canary(self, travels: float = 0.0) -> None:
        """A canary is published, and comes back `travels` seconds later."""
        self._canaries += 1
        identity = f"canary-{self._canaries}"
        self.tracker.hearing.canary_sent(identity, self.now.elapsed)
        self.wait(travels)
        self.deliver(self.event("celeryscope-canary", hostname="celeryscope@here", id=identity))

    def listen(self) -> None:
        """The event stream is opened."""
        self.tracker.listening(self.now)

    def inspect(self, worker: str = WORKER, **facts: Any) -> None:
        """A worker answers an inspection."""
        self.tracker.apply([WorkerReading(worker=worker, **facts)], self.now)

    def poll(self, *queues: QueueReading, **facts: Any) -> None:
        """A poll of the broker succeeds."""
        self.tracker.apply_broker(BrokerReading(queues, **facts), self.now)

    def series(self, name: str) -> dict[tuple[str, ...], Any]:
        """Return a metric's series: values, or (count, sum) of histograms, by label values."""
        with self.store.lock:
            self.tracker.refresh(self.now)
        for family in self.store.snapshot():
            if family.spec is BY_NAME[name]:
                values: dict[tuple[str, ...], Any] = {sample.labels: sample.value for sample in family.values}
                return values | {sample.labels: (sum(sample.counts), sample.sum) for sample in family.histograms}
        return {}

    def value(self, name: str, *labels: str) -> Any:
        """Return one series' value; None where it does not exist."""
        return self.series(name).get(labels)

    def moved(self, name: str) -> dict[tuple[str, ...], Any]:
        """Return the series of a metric that are not 0."""
        return {labels: value for labels, value in self.series(name).items() if value}


class StoryClock:
    """The present of a story."""

    def __init__(self, story: Story) -> None:
        self._story = story

    def now(self) -> Moment:
        return self._story.now
