"""Heavy work: videos are transcoded, seconds of computation each.

What is taught: heavy tasks have a queue and a worker of their own, or they fill the slots of all others. That
worker takes one task at a time and reserves no other (prefetch 1): what it had reserved would wait behind seconds
of work while a second worker stands idle. A solo pool has no process beside the worker's: while it works it answers
nobody and time limits do not work, so the pieces are short.
"""

import random

from celeryscope_demo.app import app
from celeryscope_demo.simulation import work
from celeryscope_demo.store import store
from celeryscope_demo.workloads import Workload, one_id

RENDITIONS = ("1080p", "720p", "480p", "360p")
KEPT = 3600  # seconds for which renditions are remembered


@app.task(name="media.transcode")
def transcode(video_id: int) -> str:
    """Keeps what it has done, piece by piece: started again on another worker it goes on from there."""
    key = f"renditions of {video_id}"
    for rendition in RENDITIONS:
        if store().sismember(key, rendition):
            continue
        work(0.45, video_id, rendition)
        with store().pipeline() as pipe:
            pipe.sadd(key, rendition)
            pipe.expire(key, KEPT)
            pipe.execute()
    return ", ".join(RENDITIONS)


def _upload(draw: random.Random) -> None:
    transcode.delay(one_id(draw))


WORKLOADS = (Workload("clips", 0.15, _upload),)
