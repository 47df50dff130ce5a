"""What of the series somebody should look at now, in one line each, with the runbook that tells what to do."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from celeryscope.metrics import catalog
from celeryscope.metrics.catalog import Spec
from celeryscope.metrics.store import Labels
from celeryscope.status.facts import Finding, QueueRow, Traffic

MOST_NAMES = 3  # in one line
SAFE_POLICY = "noeviction"
MEMORY_SHARE = 0.85  # of the broker's limit
SKEW = 5.0  # seconds


def findings(
    series: Mapping[Spec, Mapping[Labels, float]],
    queues: Sequence[QueueRow],
    traffic: Traffic,
    wall: float,
    advice: Iterable[str],
) -> tuple[Finding, ...]:
    """Return what holds now: what is broken, then what is at risk, then what could be known."""
    return (
        *_of_broker(series, wall),
        *_of_queues(queues),
        *_of_trust(series, traffic),
        *(Finding(line[:1].upper() + line[1:]) for line in advice),
    )


def _of_broker(series: Mapping[Spec, Mapping[Labels, float]], wall: float) -> Iterator[Finding]:
    for (alarm,), raised in series[catalog.BROKER_ALARM].items():
        if raised:
            yield Finding(f"The broker blocks publishers for want of {alarm}", "CeleryBrokerAlarm")
    if series[catalog.BROKER_UP].get(()) == 0:
        yield Finding("A connection to the broker is refused or lost: the log says which", "CeleryBrokerDown")
    used, limit = series[catalog.BROKER_MEMORY_USED].get(()), series[catalog.BROKER_MEMORY_MAX].get(())
    if used is not None and limit and used > MEMORY_SHARE * limit:
        yield Finding(f"The broker uses {used / limit:.0%} of its memory", "CeleryBrokerMemoryHigh")
    for (policy,) in series[catalog.BROKER_EVICTION_POLICY]:
        if policy != SAFE_POLICY:
            yield Finding(
                f"The broker may evict queues for want of memory: its policy is {policy}, not {SAFE_POLICY}",
                "CeleryBrokerEvictionPolicyUnsafe",
            )
    for poller, succeeded in series[catalog.EXPORTER_POLL_SUCCESS].items():
        if not succeeded:
            last = series[catalog.EXPORTER_POLL_LAST_SUCCESS].get(poller)
            since = "none ever succeeded" if last is None else f"the last that succeeded was {wall - last:.0f} s ago"
            yield Finding(f"The last poll of the {poller[0]} failed: {since}", "CeleryPollStale")


def _of_queues(queues: Sequence[QueueRow]) -> Iterator[Finding]:
    deserted = [queue.name for queue in queues if queue.deserted]
    if deserted:
        yield Finding(f"Tasks wait where no worker takes them: {_names(deserted)}", "CeleryQueueWithoutWorkers")
    late = [queue.name for queue in queues if queue.late]
    if late:
        yield Finding(f"Tasks wait for longer than they may: {_names(late)}", "CeleryQueueOldestTaskTooOld")


def _of_trust(series: Mapping[Spec, Mapping[Labels, float]], traffic: Traffic) -> Iterator[Finding]:
    if traffic.unproved:
        age = traffic.canary_age
        last = "no canary ever came back" if age is None else f"the last canary came back {age:.0f} s ago"
        yield Finding(f"Nothing proves that events are heard: {last}", "CeleryExporterDeaf")
    if traffic.lost:
        yield Finding(f"{traffic.lost} task events since the start never arrived here", "CeleryEventsLost")
    dropped = sum(series[catalog.EXPORTER_SERIES_DROPPED].values())
    if dropped:
        yield Finding("Series found no room: their numbers are folded into __overflow__", "CelerySeriesBudgetReached")
    skewed = [name for (name,), skew in series[catalog.WORKER_CLOCK_SKEW].items() if abs(skew) > SKEW]
    if skewed:
        yield Finding(f"The clocks of workers are wrong: {_names(skewed)}", "CeleryWorkerClockSkew")


def _names(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
