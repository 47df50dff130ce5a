"""All checks, and the report of one look."""

from celeryscope.check import broker, delivery, events, project, queues, tasks, workers
from celeryscope.check.facts import Facts, Gap
from celeryscope.check.model import Check, Report, findings, some, subject_of

CHECKS: tuple[Check, ...] = (
    *workers.CHECKS,
    *queues.CHECKS,
    *broker.CHECKS,
    *delivery.CHECKS,
    *project.CHECKS,
    *tasks.CHECKS,
    *events.CHECKS,
)


def report(facts: Facts, seconds: float) -> Report:
    """Return what is wrong, and what could not be looked at."""
    names = set(facts.workers or ()) | facts.mute | facts.silent
    if facts.workers is None and facts.heard is not None:
        names |= set(facts.heard.beats)
    return Report(
        broker=facts.address,
        findings=findings(CHECKS, facts),
        gaps=(*facts.gaps, *_further(facts)),
        workers=len(names),
        queues=len(facts.queues),
        seconds=seconds,
    )


def _further(facts: Facts) -> list[Gap]:
    """Return what the facts leave open."""
    gaps = []
    if facts.silent:
        names = sorted(facts.silent)
        why = "no usable answer, and no heartbeat after the question, as of a solo worker that runs a task"
        gaps.append(Gap(f"{subject_of('worker', names)} ({some(names)})", why))
    unknown = sorted(
        worker.name
        for worker in facts.answered
        if facts.heard is not None
        and not (worker.settings and worker.settings.sends_task_events)
        and events.sends_task_events(facts, worker.name) is None
    )
    if unknown:
        why = "it ran no task meanwhile, and whether it was started with -E shows only then"
        gaps.append(Gap(f"task events of {subject_of('worker', unknown)} ({some(unknown)})", why))
    lacking = [worker for worker in facts.answered if worker.settings is None or worker.tasks is None]
    if lacking:
        untold = [worker.name for worker in lacking]
        gaps.append(
            Gap(
                f"settings of {subject_of('worker', untold)} ({some(untold)})",
                "no answer to inspect conf or registered in time",
                # A solo worker answers nothing more once it has begun a task.
                unexpected=not all(worker.reading.solo for worker in lacking),
            )
        )
    crowded = sorted(worker.name for worker in facts.answered if not worker.reading.holds_listed)
    if crowded:
        why = "they are too many to ask for, or did not come in time"
        gaps.append(Gap(f"tasks held by {subject_of('worker', crowded)} ({some(crowded)})", why))
    return gaps
