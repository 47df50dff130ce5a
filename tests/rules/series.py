"""Series as an exporter tells them: absent, appear, move, are reset, go away. Minutes since the story began."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf

STEP = 15  # seconds between two scrapes

Sample = float | None  # None: absent
Part = Callable[[list[Sample], int, int], None]  # appends to the samples, up to how many, seconds between them
Line = Sequence[Part]
SeriesOf = Mapping[str, Line]  # by name and labels as PromQL writes them


def _append(minutes: float, value: Callable[[list[Sample], int], Sample]) -> Part:
    """Append `value(samples, time)` for so many minutes."""

    def append(samples: list[Sample], most: int, step: int) -> None:
        count = most - len(samples) if minutes == inf else min(most - len(samples), round(minutes * 60 / step))
        for _ in range(count):
            samples.append(value(samples, len(samples) * step))

    return append


def absent(minutes: float = inf) -> Part:
    """Not there."""
    return _append(minutes, lambda _samples, _time: None)


def at(value: float, minutes: float = inf) -> Part:
    """Does not move."""
    return _append(minutes, lambda _samples, _time: value)


def now(minutes: float = inf, behind: float = 0) -> Part:
    """A timestamp of `behind` seconds ago."""
    return _append(minutes, lambda _samples, time: time - behind)


def rises(per_minute: float, minutes: float = inf) -> Part:
    """Moves on from the value before it; from 0 where it was absent."""

    def append(samples: list[Sample], most: int, step: int) -> None:
        def value(samples: list[Sample], _time: int) -> Sample:
            return (samples[-1] if samples and samples[-1] is not None else 0.0) + per_minute * step / 60

        _append(minutes, value)(samples, most, step)

    return append


def samples(line: Line, minutes: float, step: int = STEP) -> list[Sample]:
    """The samples of a line; absent from where its parts end."""
    most = round(minutes * 60 / step) + 1
    found: list[Sample] = []
    for part in line:
        part(found, most, step)
    return found + [None] * (most - len(found))


def notation(found: Sequence[Sample]) -> str:
    """Samples as promtool reads them. Prometheus marks a series that went away as stale."""
    words = []
    before: Sample = None
    for sample in found:
        words.append(f"{sample:.15g}" if sample is not None else "_" if before is None else "stale")
        before = sample
    return " ".join(words)


def _joined(lines: Sequence[Sequence[Sample]], join: Callable[[Iterable[float]], float]) -> list[Sample]:
    return [
        join(values) if (values := [sample for sample in column if sample is not None]) else None
        for column in zip(*lines, strict=True)
    ]


def added(lines: Sequence[Sequence[Sample]]) -> list[Sample]:
    """What several counters are as one, where nothing tells them apart."""
    return _joined(lines, sum)


def largest(lines: Sequence[Sequence[Sample]]) -> list[Sample]:
    """What several timestamps are as one."""
    return _joined(lines, max)


# What stands in an exporter's exposition.


def task(name: str, queue: str, born: float = 0, **moving: Line) -> SeriesOf:
    """All lifecycle counters of a task in a queue: they appear together, at 0 but for the one that moved.

    `moving` are lines from its birth on, by counter: `started=[rises(4)]`.
    """
    counters = ("sent", "received", "started", "succeeded", "failed", "retried")
    assert set(moving) <= set(counters)
    return {
        f'celery_task_{counter}_total{{task="{name}", queue="{queue}"}}': [
            absent(born),
            *moving.get(counter, [at(0)]),
        ]
        for counter in counters
    }


NOTHING: Line = [at(0)]
THERE: Line = [at(1)]


def consumer(name: str, *queues: str, active: Line = NOTHING, up: Line = THERE, **more: Line) -> SeriesOf:
    """A worker that beats and consumes queues. `more` are other series of it, by name without `celery_worker_`."""
    lines: dict[str, Line] = {
        f'celery_worker_up{{worker="{name}"}}': up,
        f'celery_worker_tasks_active{{worker="{name}"}}': active,
        f'celery_worker_last_heartbeat_timestamp_seconds{{worker="{name}"}}': [now()],
        f'celery_worker_info{{worker="{name}", pool="prefork"}}': [at(1)],
    }
    lines |= {f'celery_queue_worker_info{{queue="{queue}", worker="{name}"}}': [at(1)] for queue in queues}
    return lines | {f'celery_worker_{metric}{{worker="{name}"}}': line for metric, line in more.items()}


def queue(name: str, **lines: Line) -> SeriesOf:
    """Gauges of a queue, by name without `celery_queue_`. Its objective is 15 minutes."""
    shown: dict[str, Line] = {"wait_objective_seconds": [at(900)], **lines}
    return {f'celery_queue_{metric}{{queue="{name}"}}': line for metric, line in shown.items()}
