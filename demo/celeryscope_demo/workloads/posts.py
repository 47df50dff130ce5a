"""Small tasks: likes, posts and photos of the network.

What is taught: pass ids, not objects; do one thing; be idempotent; start a successor instead of waiting for
it; fail loudly what cannot succeed.
"""

import random

from celeryscope_demo.app import app
from celeryscope_demo.simulation import chance, work
from celeryscope_demo.workloads import Workload, one_id

BROKEN_PHOTOS = 0.01  # share of the uploads that cannot be read


class UnsupportedImage(Exception):
    """The upload is not an image that we can read. Trying again would not help."""


@app.task(name="likes.count")
def count_like(post_id: int, user_id: int) -> None:
    """Small, with primitive arguments: pass ids and read the row in the task, where it is fresh.

    Idempotent: a like is a member of a set, so a message that is delivered twice counts once.
    """
    work(0.005, post_id, user_id)


@app.task(name="photos.resize")
def resize_photo(photo_id: int) -> None:
    """Fail loudly what cannot succeed: no retry, and an exception class that says what is wrong."""
    work(0.1, photo_id)
    if chance(BROKEN_PHOTOS, photo_id):
        raise UnsupportedImage(f"photo {photo_id} is not an image")


def _like(draw: random.Random) -> None:
    count_like.delay(one_id(draw), one_id(draw))


def _upload(draw: random.Random) -> None:
    resize_photo.delay(one_id(draw))


WORKLOADS = (Workload("likes", 3.0, _like), Workload("photos", 0.7, _upload))
