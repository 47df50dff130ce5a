"""Comments, an ordinary task that bad days befall; and tasks that come on bad days alone.

What is taught: each trouble has a look of its own in the metrics; the docstrings say what would have prevented it.
"""

import os
import random
import signal
import time

from celeryscope_demo import switches
from celeryscope_demo.app import app
from celeryscope_demo.queues import DEFAULT
from celeryscope_demo.simulation import chance, work
from celeryscope_demo.workloads import Workload, one_id

MALFORMED = 0.01  # share of comments that cannot be read
MALFORMED_IN_A_SPIKE = 0.6
OUTDATED = 0.4
SLOW = 12.0  # times as long

NOTIFYING = 2.0  # seconds
PACKING = 3.0  # seconds
LOOK = 0.2  # seconds between looks whether an incident is over
BIG = 300_000  # characters
KILLED = 0.5  # share of transcodings that take all memory


class MalformedComment(Exception):
    """The text is not in any encoding that we know. Trying again would not help."""


class ModelOutdated(Exception):
    """The model was replaced under the code that reads it: an error that nobody has seen before."""


@app.task(name="comments.screen")
def screen_comment(comment_id: int) -> None:
    """Say by the class of an exception what went wrong: it is what errors are counted by.

    A known class that rises is bad input or a third party; a class that was never seen is most often the last release.
    """
    work(0.15 * (SLOW if switches.on("slow-down") else 1.0), comment_id)
    if switches.on("new-exception") and chance(OUTDATED, "outdated", comment_id):
        raise ModelOutdated("the model has 12 layers, the code knows 11")
    malformed = MALFORMED_IN_A_SPIKE if switches.on("error-spike") else MALFORMED
    if chance(malformed, "malformed", comment_id):
        raise MalformedComment(f"comment {comment_id} is no text")


@app.task(name="campaigns.notify")
def notify(user_id: int) -> None:
    """Send what comes in masses to a queue of its own: in the urgent one it stands before what somebody waits for."""
    del user_id
    _wait_during("backlog", NOTIFYING)


@app.task(name="videos.transcode", reject_on_worker_lost=False)
def transcode_video(video_id: int) -> None:
    """What kills its process must not be delivered again, or it kills one process after the other, for ever.

    So it fails with WorkerLostError, and the message is gone: the price is that a process which was killed for
    another reason loses its video too.
    """
    work(0.3, video_id)
    if switches.on("process-killed") and chance(KILLED, "killed", video_id):
        # As the kernel does when memory is out. The queue is that of a prefork pool: elsewhere it would be the worker.
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="archives.pack")
def pack_archive(content: str) -> None:
    """Store what is large, and send its name: what is sent lies in the broker's memory until somebody takes it."""
    del content
    _wait_during("big-messages", PACKING)


@app.task(name="archives.rebuild")
def rebuild_archive() -> None:
    """Cut long work into pieces: a solo worker sends no heartbeat and hears no command before a task is over."""
    _wait_during("solo-busy", float("inf"))


def _wait_during(incident: str, seconds: float) -> None:
    """Take so long, or until an incident is over: what it left in queues is then done at once."""
    end = time.monotonic() + seconds
    while switches.on(incident) and time.monotonic() < end:
        time.sleep(LOOK)


def _comment(draw: random.Random) -> None:
    screen_comment.delay(one_id(draw))


def _new_signature(draw: random.Random) -> None:
    # By name, as a producer of the next release does: the task that is known here would refuse it.
    app.send_task("comments.screen", (one_id(draw),), {"language": "eo"}, queue=DEFAULT)


def _new_name(draw: random.Random) -> None:
    app.send_task("comments.translate", (one_id(draw),), queue=DEFAULT)


def _notify(draw: random.Random) -> None:
    notify.delay(one_id(draw))


def _video(draw: random.Random) -> None:
    transcode_video.delay(one_id(draw))


def _archive(draw: random.Random) -> None:
    pack_archive.delay(chr(draw.randrange(ord("a"), ord("z"))) * BIG)


def _rebuild(_: random.Random) -> None:
    rebuild_archive.delay()


WORKLOADS = (
    Workload("comments", 0.5, _comment),
    # Bad input comes in masses.
    Workload("comments of error-spike", 4.0, _comment, incident="error-spike"),
    *(
        Workload(f"comments of {incident}", 0.5, _comment, incident=incident)
        for incident in ("new-exception", "slow-down")
    ),
    Workload("comments of the next release", 4.0, _new_signature, incident="deploy-skew"),
    Workload("tasks of the next release", 0.5, _new_name, incident="poison-task"),
    Workload("campaign", 10.0, _notify, incident="backlog"),
    Workload("videos", 0.5, _video, incident="process-killed"),
    Workload("archives", 0.8, _archive, incident="big-messages"),
    Workload("rebuilding", 0.5, _rebuild, incident="solo-busy"),
)
