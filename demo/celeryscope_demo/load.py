"""The load: which tasks arrive, how often, and with what arguments. Run as a process of its own.

Arrivals are independent of each other (Poisson), as those of many users are, and seeded: the same seed sends
the same tasks at the same distances.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click
from kombu.exceptions import OperationalError

from celeryscope_demo import tasks
from celeryscope_demo.stopping import StopSignal

RATE = 8.0  # tasks sent per second; retries and successors make it about 10
SEED = 1
BEHIND = 1.0  # seconds: what is further behind is skipped, since catching up would be a burst
PAUSE = 1.0  # seconds between attempts while the broker refuses
IDS = 1_000_000  # users, posts, links and photos of the network


@dataclass(frozen=True)
class Share:
    """A task's part of the load: `weight` against the other shares, `arguments` drawn for each."""

    task: Any
    weight: float
    arguments: Callable[[random.Random], tuple[int, ...]]
    options: Callable[[random.Random], dict[str, float]] = lambda _: {}


@dataclass(frozen=True)
class Arrival:
    """One task to send, `gap` seconds after the one before it."""

    gap: float
    task: Any
    arguments: tuple[int, ...]
    options: dict[str, float]


def one_id(chance: random.Random) -> tuple[int, ...]:
    """The id of a post, a link, a photo or a user."""
    return (chance.randrange(IDS),)


SHARES = (
    Share(tasks.count_like, 4.0, lambda chance: (*one_id(chance), *one_id(chance))),
    Share(tasks.publish_post, 1.0, one_id),
    Share(tasks.preview_link, 1.2, one_id),
    Share(tasks.resize_photo, 1.0, one_id),
    Share(tasks.send_reminder, 0.8, one_id, lambda chance: {"countdown": chance.uniform(4.0, 15.0)}),
)


def arrivals(rate: float, seed: int) -> Iterator[Arrival]:
    """Every task of a load of `rate` tasks per second, for ever."""
    chance = random.Random(seed)
    weights = [share.weight for share in SHARES]
    while True:
        share = chance.choices(SHARES, weights)[0]
        yield Arrival(chance.expovariate(rate), share.task, share.arguments(chance), share.options(chance))


def send(load: Iterator[Arrival], stop: StopSignal) -> None:
    """Send each arrival when it is due, until a stop is asked for. A broker that refuses is tried again."""
    due = time.monotonic()
    for arrival in load:
        due = max(due + arrival.gap, time.monotonic() - BEHIND)
        if stop.wait(due - time.monotonic()):
            return
        try:
            arrival.task.apply_async(arrival.arguments, **arrival.options)
        except OperationalError as error:
            click.echo(f"not sent: {error}")
            stop.wait(PAUSE)


@click.command()
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), default=RATE, help="Tasks per second.")
@click.option("--seed", type=int, default=SEED, help="The same seed sends the same tasks.")
def main(rate: float, seed: int) -> None:
    """Send tasks to the broker of CELERY_BROKER_URL until SIGTERM."""
    with StopSignal() as stop:
        send(arrivals(rate, seed), stop)


if __name__ == "__main__":
    main()
