"""A long job, a few at a time: a million photos are moved to another format while the rest goes on.

What is taught: a job of days is not a million messages. A feeder, started by the clock, looks whether the queue is
nearly empty and adds the next few. Stop beat and the job pauses; slow workers slow the feeder; and how far it is
stands in the store, so that it survives any restart. The queue stays short enough to be read.
"""

from celeryscope_demo import locks
from celeryscope_demo.app import app
from celeryscope_demo.locks import Overtaken
from celeryscope_demo.queues import TRICKLE
from celeryscope_demo.simulation import work
from celeryscope_demo.store import store
from celeryscope_demo.workloads import IDS, Workload

PORTION = 3  # photos added at a time
ENOUGH = 2  # messages: where more wait, none are added
LEASE = 10.0  # seconds: feeding takes milliseconds
JOB = "photo migration"  # a hash in the store
CURSOR = "cursor"  # its field: the next photo


@app.task(name="trickle.feed")
def feed() -> str:
    """Add the next few. Two beats, or a message delivered twice, would feed at once: the lock lets one.

    The cursor moves after the sending: a feeder that dies in between repeats a portion and leaves none out.
    """
    with locks.held(store(), JOB, LEASE) as lock:
        if lock is None:
            return "another feeds"
        if waiting(TRICKLE) > ENOUGH:
            return "enough is waiting"
        portion = next_portion()
        if not portion:
            return "all is fed"
        for photo_id in portion:
            migrate.delay(photo_id)
        try:
            locks.write(store(), JOB, lock, CURSOR, portion.stop)
        except Overtaken as error:
            return f"fed, and the cursor left to another: {error}"
        return f"fed up to {portion.stop}"


@app.task(name="trickle.migrate")
def migrate(photo_id: int) -> None:
    """One photo. Idempotent, since a portion may be fed twice: it writes the same file again."""
    work(0.2, photo_id)


def next_portion() -> range:
    """The photos to be fed next; empty at the end."""
    cursor = int(str(store().hget(JOB, CURSOR) or 0))
    return range(cursor, min(cursor + PORTION, IDS))


def waiting(queue: str) -> int:
    """How many messages wait in a queue, on any broker: what workers hold is not among them."""
    with app.connection_or_acquire() as connection, connection.channel() as channel:
        try:
            found: int = channel.queue_declare(queue=queue, passive=True).message_count
        except connection.channel_errors:  # on Redis an empty queue does not exist
            return 0
        return found


WORKLOADS: tuple[Workload, ...] = ()  # beat alone starts it
