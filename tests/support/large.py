"""A large cluster's past: 500 tasks over 20 queues in 600 pairs, and 50 workers, some of which it goes badly for."""

import random
from itertools import count
from types import MappingProxyType

from celeryscope.objectives import ByName, Objectives, TaskObjectives
from celeryscope.readings import Head, QueueReading
from support.history import Past

TASKS = 500
QUEUES = 20
PAIRS = 600
WORKERS = 50
CONCURRENCY = 8
WITH_OBJECTIVES = 50  # tasks
ALL_PAIRS = [(number % TASKS, (number + number // TASKS) % QUEUES) for number in range(PAIRS)]


class LargeCluster:
    """Runs each task once between two scrapes, in each queue that it has."""

    def __init__(self, began: float, seed: int = 1) -> None:
        objectives = {
            f"app.task_{number}": TaskObjectives(success_ratio=0.99, wait=10.0, runtime=5.0)
            for number in range(WITH_OBJECTIVES)
        }
        # Heartbeats come once between two scrapes.
        self.past = Past(began, objectives=Objectives(ByName(MappingProxyType(objectives))), worker_timeout=300.0)
        self._chance = random.Random(seed)
        self._uuids = map(str, count())
        self._processed = 0
        self.past.listen()

    def live(self, until: float, scrape: float) -> None:
        """Go on until a Unix time, scraped every so many seconds."""
        while self.past.now.wall < until:
            self._poll()
            for task, queue in ALL_PAIRS:
                self._run(f"app.task_{task}", f"queue_{queue}")
            for number in range(WORKERS):
                self._processed += PAIRS // WORKERS
                self.past.heartbeat(processed=self._processed, hostname=f"celery@host_{number}")
            self.past.canary()
            self.past.wait(scrape)
            self.past.scrape()

    def _run(self, task: str, queue: str) -> None:
        uuid = next(self._uuids)
        worker = f"celery@host_{self._chance.randrange(WORKERS)}"
        sent = self.past.seconds - self._chance.lognormvariate(0.0, 2.0)
        self.past.sent(uuid, name=task, queue=queue, at=sent)
        self.past.received(uuid, name=task, hostname=worker)
        self.past.started(uuid, hostname=worker)
        match self._chance.random():
            case fate if fate < 0.02:
                self.past.failed(uuid, hostname=worker)
            case fate if fate < 0.05:
                self.past.retried(uuid, hostname=worker)
            case _:
                self.past.succeeded(uuid, runtime=self._chance.lognormvariate(-1.0, 1.5), hostname=worker)

    def _poll(self) -> None:
        now = self.past.now.wall
        names = [f"queue_{number}" for number in range(QUEUES)]
        self.past.poll(
            *(
                QueueReading(
                    name, length=self._chance.randrange(1, 500), head=Head(f"head of {name}", 900, eta=now - 30.0)
                )
                for name in names
            ),
            memory_used=100_000_000,
            memory_max=1_000_000_000,
        )
        for number in range(WORKERS):
            self.past.inspect(
                worker=f"celery@host_{number}",
                pool="prefork",
                concurrency=CONCURRENCY,
                uptime=self.past.seconds,
                queues=tuple(names[number % QUEUES :: WORKERS // 10]),
            )
