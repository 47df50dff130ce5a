"""Whether anybody can see what the cluster does, by what was heard."""

from collections.abc import Iterator, Sequence

from celeryscope.check.facts import Beat, Facts, Heard
from celeryscope.check.model import Check, Found, Severity, counted, duration, named, some, subject_of

SETTLED = 0.5  # seconds after a heartbeat in which the events of the tasks that it counts have come
LONG_ENOUGH = 4.0  # seconds of listening in which two heartbeats come, at Celery's one every 2 s
SKEW_SEEN = 1.0  # seconds
SKEW_BAD = 5.0  # seconds, as the alert has it


def task_events_off(facts: Facts) -> Iterator[Found]:
    """Workers that started tasks while we listened, and told nothing of them."""
    mute = sorted(name for name in _heard(facts) if sends_task_events(facts, name) is False)
    if mute:
        heard = facts.heard
        assert heard is not None
        ran = sum(_worked(heard.beats[name], heard) for name in mute)
        yield Found(
            subject_of("worker", mute),
            named(
                f"{counted(ran, 'task')} started in {duration(heard.seconds)} of listening, and not one event of them",
                mute,
            ),
        )


def task_sent_off(facts: Facts) -> Iterator[Found]:
    """Workers that publish without `task-sent`, where nobody else was heard to send it either."""
    off = [worker.name for worker in facts.answered if worker.settings and worker.settings.sends_task_sent is False]
    if off and facts.heard is not None and facts.heard.proven and not facts.heard.sent_events:
        yield Found(
            subject_of("worker", off),
            f"task_send_sent_event is False in {some(off)}, and no task-sent came from anybody in "
            f"{duration(facts.heard.seconds)}",
        )


def heartbeat_off(facts: Facts) -> Iterator[Found]:
    """Workers that answer and do not beat, while we hear."""
    heard = facts.heard
    if heard is None or heard.seconds < LONG_ENOUGH or not (heard.proven or heard.beats):
        return
    # A solo worker that has just begun a task has a reason.
    still = [
        worker.name
        for worker in facts.answered
        if worker.name not in heard.beats and not _solo_at_work(facts, worker.name)
    ]
    if still:
        yield Found(
            subject_of("worker", still),
            named(f"no heartbeat in {duration(heard.seconds)} (usual is one every 2 s)", still),
        )


def clock_skew(facts: Facts) -> Iterator[Found]:
    """Workers whose clock differs from ours: the smallest delay of their heartbeats is no delay."""
    for name, beats in sorted(_heard(facts).items()):
        skew = min(beat.at - beat.timestamp for beat in beats)
        if len(beats) >= 2 and abs(skew) > SKEW_SEEN:
            direction = "behind" if skew > 0 else "ahead of"
            yield Found(
                f"worker {name}",
                f"its clock is {duration(abs(skew))} {direction} this machine's, by {len(beats)} heartbeats",
                Severity.WARNING if abs(skew) > SKEW_BAD else Severity.INFO,
            )


def sends_task_events(facts: Facts, worker: str) -> bool | None:
    """Whether a worker's task events come; None where it hardly worked while we listened."""
    heard = facts.heard
    if heard is None:
        return None
    if heard.task_events.get(worker):
        return True
    told = (facts.workers or {}).get(worker)
    if told is not None and told.settings is not None and told.settings.sends_task_events:
        return None  # it means to send them
    if told is None or told.tasks is None or not all(task.send_events for task in told.tasks.values()):
        return None  # what it ran may be of those that are silent by themselves
    return False if _worked(heard.beats.get(worker, ()), heard) else None


def _worked(beats: Sequence[Beat], heard: Heard) -> int:
    """Return how many tasks were started between the first heartbeat and the last one whose events had time to come."""
    counts = [beat.processed for beat in beats if beat.processed is not None and heard.until - beat.at >= SETTLED]
    return max(0, counts[-1] - counts[0]) if len({beat.pid for beat in beats}) == 1 and counts else 0


def _solo_at_work(facts: Facts, worker: str) -> bool:
    told = (facts.workers or {}).get(worker)
    return told is not None and told.reading.solo


def _heard(facts: Facts) -> dict[str, tuple[Beat, ...]]:
    return {} if facts.heard is None else dict(facts.heard.beats)


CHECKS = (
    Check(
        "task-events-off",
        "workers send no task events",
        (Severity.WARNING,),
        "nobody sees what their tasks do: no runtimes, failures, retries, lost or slow tasks, in no monitor",
        "worker_send_task_events = True, or celery -A PROJ worker -E",
        task_events_off,
    ),
    Check(
        "task-sent-off",
        "nobody tells when tasks are sent",
        (Severity.WARNING,),
        "how long tasks wait cannot be known, nor, where a worker consumes several queues, which queue they came from",
        "task_send_sent_event = True, in workers and in whatever publishes tasks",
        task_sent_off,
    ),
    Check(
        "heartbeat-off",
        "a worker does not beat",
        (Severity.WARNING,),
        "its death shows only when its work is missed; lost events cannot be counted",
        "start it without --without-heartbeat, and with --heartbeat-interval 2",
        heartbeat_off,
    ),
    Check(
        "clock-skew",
        "a worker's clock is wrong, or this machine's",
        (Severity.WARNING, Severity.INFO),
        "countdowns and ETAs come early or late by as much, tasks expire too soon or too late, waits are wrong",
        "let the clocks of all machines be set by NTP (timedatectl set-ntp true, or chronyd)",
        clock_skew,
    ),
)
