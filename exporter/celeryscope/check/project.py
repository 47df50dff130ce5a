"""What the project's own app says of what it sends, and whether the cluster can take it."""

from collections.abc import Iterator
from shlex import quote

from celery import Celery
from celery.exceptions import QueueNotFound

from celeryscope.check.facts import Facts, Project
from celeryscope.check.model import Check, Found, Severity, counted, some

MOST_TASKS = 5_000


def read_project(app: Celery) -> Project:
    """Return the app's schedule and routes. The project's own code runs, and may raise anything."""
    app.loader.import_default_modules()
    scheduled = {
        str(name): str(entry["task"])
        for name, entry in dict(app.conf.beat_schedule or {}).items()
        if isinstance(entry, dict) and entry.get("task")
    }
    routes = {}
    for name in sorted(set(app.tasks) | set(scheduled.values()))[:MOST_TASKS]:
        if name.startswith("celery."):
            continue
        task = app.tasks.get(name)
        own = {"queue": task.queue} if getattr(task, "queue", None) else {}
        try:
            queue = app.amqp.router.route(own, name, task_type=task).get("queue")
        except QueueNotFound:
            continue  # Celery says so itself, to whoever sends it
        if queue is not None:
            routes[name] = str(getattr(queue, "name", queue))
    return Project(scheduled, routes)


def schedule_unregistered(facts: Facts) -> Iterator[Found]:
    """Entries of the schedule whose task no worker knows."""
    if facts.project is None or not facts.workers or not facts.everybody_answered:
        return
    if any(worker.tasks is None for worker in facts.answered):
        return
    known = {name for worker in facts.answered for name in worker.tasks or ()}
    for entry, task in sorted(facts.project.scheduled.items()):
        if task not in known and not task.startswith("celery."):
            yield Found(f"schedule entry {entry}", f"it sends {task}, which none of {_workers(facts)} has registered")


def route_without_workers(facts: Facts) -> Iterator[Found]:
    """Queues that the app sends tasks to and that no worker consumes."""
    if facts.project is None or not facts.workers or not facts.everybody_answered:
        return
    if any(worker.reading.queues is None for worker in facts.answered):
        return
    tasks: dict[str, list[str]] = {}
    for task, queue in facts.project.routes.items():
        tasks.setdefault(queue, []).append(task)
    clockwork = set(facts.project.scheduled.values())
    for queue, names in sorted(tasks.items()):
        if not facts.consumers(queue):
            told = (
                f"{counted(len(names), 'task')} routed to it ({some(names)}), and none of {_workers(facts)} consumes it"
            )
            timed = clockwork.intersection(names)
            yield Found(
                f"queue {queue}",
                told + (f"; the schedule sends {some(timed)}" if timed else ""),
                Severity.ERROR if timed else Severity.WARNING,
                f"celery -A PROJ worker -Q {quote(queue)}, or another route in task_routes",
            )


def _workers(facts: Facts) -> str:
    return counted(len(facts.answered), "worker")


CHECKS = (
    Check(
        "schedule-unregistered",
        "the schedule sends a task that no worker knows",
        (Severity.ERROR,),
        "every run of it is thrown away with NotRegistered in a worker's log",
        "the task's module in imports (or autodiscover_tasks) and in the workers' code, or its name in beat_schedule",
        schedule_unregistered,
    ),
    Check(
        "route-without-workers",
        "tasks are routed to a queue that no worker consumes",
        (Severity.WARNING, Severity.ERROR),
        "what is sent there waits for ever",
        "celery -A PROJ worker -Q QUEUE, or another route in task_routes",
        route_without_workers,
    ),
)
