"""Fan-out on write: a post goes into the feed of every follower of its author.

What is taught: one message per follower would be a million messages, one task for all of them would run for
minutes and start from the beginning when it fails. So a task takes a batch, and the batches form a chain: each
starts the next before it works, so they run side by side, as many as there are slots, while the queue holds one or
two of a post. The cursor stands in the arguments: no state is lost with a worker.

A batch that is delivered twice is harmless: a feed is a set. One whose worker dies is delivered again, since it is
acknowledged late; the chain behind it has gone on meanwhile.
"""

import random

from celeryscope_demo import marks
from celeryscope_demo.app import app
from celeryscope_demo.simulation import duration, work
from celeryscope_demo.workloads import IDS, Workload, one_id

BATCH = 10_000  # followers
MILLION = 1_000_000
CELEBRITIES = 100  # the authors with the smallest ids
USUAL = 300.0  # followers of anybody else, about


def followers_of(author_id: int) -> int:
    """How many followers an author has."""
    return MILLION if author_id < CELEBRITIES else int(duration(USUAL, "followers", author_id))


def batch_of(followers: int, cursor: int) -> range:
    """The followers of a batch. A real one takes those with an id above the cursor: positions shift, ids do not."""
    return range(cursor, min(cursor + BATCH, followers))


@app.task(name="feeds.fan_out")
def fan_out(post_id: int, author_id: int, cursor: int = 0) -> str:
    """Start the next batch, then work on this one: work first, and a million followers are served one by one.

    Delivered again, it starts the next again too. That second chain ends at the first batch that is done: a batch
    is marked at its very end, so its successor has been sent.
    """
    fan = f"fan-out of {post_id}"
    if marks.done(fan, cursor):
        return "done before"
    followers = followers_of(author_id)
    batch = batch_of(followers, cursor)
    if batch.stop < followers:
        fan_out.delay(post_id, author_id, batch.stop)
    work(0.01 + 0.2 * len(batch) / BATCH, post_id, cursor)
    marks.mark(fan, cursor)
    return f"into {len(batch)} feeds"


def _post(draw: random.Random) -> None:
    fan_out.delay(one_id(draw), draw.randrange(CELEBRITIES, IDS))


def _post_of_celebrity(draw: random.Random) -> None:
    fan_out.delay(one_id(draw), draw.randrange(CELEBRITIES))


WORKLOADS = (Workload("posts", 0.3, _post), Workload("celebrities", 1 / 180, _post_of_celebrity))
