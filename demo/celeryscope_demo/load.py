"""The load: sends what users, partners and incidents cause. Run as a process of its own.

A seed fixes when what arrives; each workload draws by itself, so that the rate of one changes no other.
"""

import heapq
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping

import click
import redis
from kombu.exceptions import OperationalError

from celeryscope_demo import switches
from celeryscope_demo.options import FASTEST, MOST, SLOWEST, Finite
from celeryscope_demo.profiles import PROFILES, Profile, arrivals
from celeryscope_demo.stopping import StopSignal
from celeryscope_demo.workloads import Workload
from celeryscope_demo.workloads.all import WORKLOADS

SEED = 1
BEHIND = 1.0  # seconds: what is further behind is put off, since catching up would be a burst
PAUSE = 1.0  # seconds between attempts while the broker refuses
LOOK = 0.5  # seconds between looks at the incidents
INCIDENT = Profile(level=1.0, swing=0.0)  # an incident knows no time of day


class Source:
    """One workload's arrivals: `due` is the next, in seconds of the load's own time."""

    def __init__(self, workload: Workload, rate: float, profile: Profile, seed: object, since: float = 0.0) -> None:
        self.workload = workload
        self._moments = (since + moment for moment in arrivals(rate, profile, (seed, workload.name)))
        self._chance = random.Random(repr((seed, workload.name, "arguments")))
        self.due = next(self._moments)

    def __lt__(self, other: "Source") -> bool:
        return self.due < other.due

    def send(self) -> None:
        """Send what is due, and look for the next."""
        self.due = next(self._moments)
        self.workload.start(self._chance)


class Load:
    """All that arrives: the workloads always, those of an incident while it is on."""

    def __init__(self, rates: Mapping[str, float], factor: float, profile: Profile, seed: int) -> None:
        self._seed = seed
        usual = [workload for workload in WORKLOADS if workload.incident is None]
        wanted = [(workload, rates.get(workload.name, workload.rate) * factor) for workload in usual]
        self._sources = [Source(workload, rate, profile, seed) for workload, rate in wanted if rate > 0]
        heapq.heapify(self._sources)
        self._of_incidents = {workload for workload in WORKLOADS if workload.incident is not None}
        self._on: set[Workload] = set()
        self._starts: Counter[Workload] = Counter()

    def look(self, elapsed: float) -> None:
        """Take up the workloads of incidents that began, drop those of incidents that ended."""
        for workload in self._of_incidents:
            assert workload.incident is not None
            on = switches.on(workload.incident)
            if on and workload not in self._on:
                self._on.add(workload)
                self._starts[workload] += 1
                # Each time something else: what was done before would be known to be done.
                seed = (self._seed, self._starts[workload])
                heapq.heappush(self._sources, Source(workload, workload.rate, INCIDENT, seed, elapsed))
            elif not on and workload in self._on:
                self._on.remove(workload)
                self._sources = [source for source in self._sources if source.workload is not workload]
                heapq.heapify(self._sources)

    def due(self, until: float) -> Iterator[Source]:
        """What is due up to then, in order; `send` each before asking for the next."""
        while self._sources and self._sources[0].due <= until:
            source = self._sources[0]
            yield source
            heapq.heapreplace(self._sources, source)

    @property
    def next_due(self) -> float:
        """When something is due next."""
        return self._sources[0].due if self._sources else float("inf")


def run(load: Load, stop: StopSignal) -> None:
    """Send everything when it is due, until a stop is asked for. A broker or store that is away is tried again."""
    start = time.monotonic()
    looked = -LOOK
    while not stop.count:
        now = time.monotonic() - start
        if now - load.next_due > BEHIND:
            start += now - load.next_due
            continue
        if now - looked >= LOOK:
            try:
                load.look(now)
            except redis.RedisError as error:
                click.echo(f"incidents are not known: {error}")
            looked = now
        for source in load.due(now):
            try:
                source.send()
            except (OperationalError, redis.RedisError) as error:
                click.echo(f"not sent: {error}")
                stop.wait(PAUSE)
            if stop.count:
                return
        stop.wait(min(load.next_due, looked + LOOK) - (time.monotonic() - start))


def read_rates(wanted: tuple[str, ...]) -> dict[str, float]:
    """Read NAME=RATE pairs. Raises click.BadParameter."""
    known = [workload.name for workload in WORKLOADS if workload.incident is None]
    rates = {}
    for pair in wanted:
        name, _, rate = pair.partition("=")
        if name not in known:
            raise click.BadParameter(f"{name!r} is no workload; there are {', '.join(known)}")
        try:
            rates[name] = float(rate)
        except ValueError:
            rates[name] = -1.0
        if not 0 <= rates[name] <= MOST:
            raise click.BadParameter(f"{pair!r}: expected NAME=RATE, arrivals per second up to {MOST:.0f}, 0 for none")
    return rates


@click.command()
@click.option("--profile", type=click.Choice(list(PROFILES)), default="steady")
@click.option("--rate", type=Finite(min=SLOWEST, max=FASTEST), default=1.0, help="Multiplies every rate.")
@click.option("--workload", "workloads", multiple=True, metavar="NAME=RATE", help="Arrivals per second of one.")
@click.option("--seed", type=int, default=SEED, help="The same seed sends the same tasks.")
def main(profile: str, rate: float, workloads: tuple[str, ...], seed: int) -> None:
    """Send tasks to the broker of CELERY_BROKER_URL until SIGTERM."""
    with StopSignal() as stop:
        run(Load(read_rates(workloads), rate, PROFILES[profile], seed), stop)


if __name__ == "__main__":
    main()
