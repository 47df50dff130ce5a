"""What a person should change so that more can be known, in one line each."""

from typing import NamedTuple

LONG_ENOUGH = 60.0  # seconds of listening after which silence means something
ENOUGH_STARTS = 20  # started tasks after which missing task-sent events are no accident
MOST_NAMES = 3  # of workers in one line


class Facts(NamedTuple):
    """What the advice rests on."""

    listening_seconds: float  # since the event stream was opened; 0 while it is not
    workers_up: tuple[str, ...]
    workers_without_events: tuple[str, ...]  # up, processing tasks, and sending no task events
    tasks_sent: float  # task-sent events
    tasks_started: float


def advice(facts: Facts, *, events_switched: bool = False) -> list[str]:
    """Return what to say, one line per finding. `events_switched`: workers are asked for task events already."""
    found: list[str] = []
    up, mute = len(facts.workers_up), facts.workers_without_events
    if not up and facts.listening_seconds > LONG_ENOUGH:
        found.append(
            "no worker heard: check that the broker URL, its database number and any key prefix are the workers' own"
        )
    if mute and not events_switched:
        names = ", ".join(mute[:MOST_NAMES]) + (", ..." if len(mute) > MOST_NAMES else "")
        some = f"{len(mute)} of {up} workers ({names}) send no"
        who = f"{up} workers up, none sends" if len(mute) == up > 1 else some
        found.append(f"{who} task events: start them with -E or use --enable-events")
    if facts.tasks_started >= ENOUGH_STARTS and not facts.tasks_sent:
        found.append(
            "no task-sent events: waits are unknown, and queues of workers that consume several; "
            "set task_send_sent_event = True where tasks are published"
        )
    return found
