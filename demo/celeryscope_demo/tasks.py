"""The tasks of a small social network. Each says what it teaches.

Every task has an explicit name: the name is in messages that wait in queues, so it must survive a module that
moves. The work is simulated by sleeping; how long, and whether it succeeds, follows from the arguments alone,
so a run can be repeated.
"""

import random
import time

from celery import Task

from celeryscope_demo.app import app

BROKEN_PHOTO = 6  # every 6th photo cannot be read
PROVIDER_FAILURE = 0.3  # share of the calls to the preview provider that time out
FOLLOWER_PAGES = 2  # pages of followers of every author
REMINDER_EXPIRES = 60.0  # seconds


class UnsupportedImage(Exception):
    """The upload is not an image that we can read. Trying again would not help."""


class ProviderTimeout(Exception):
    """The preview provider did not answer in time. Trying again may help."""


def work(seconds: float, *key: object) -> None:
    """Sleep for about `seconds`: often less, now and then much more, as real latencies do. `key` seeds it."""
    spread = random.Random(repr(key)).lognormvariate(-0.2, 0.6)
    time.sleep(min(seconds * spread, seconds * 5))


@app.task(name="likes.count")
def count_like(post_id: int, user_id: int) -> None:
    """Small, with primitive arguments: pass ids and read the row in the task, where it is fresh.

    Idempotent: a like is a member of a set, so a message that is delivered twice counts once.
    """
    work(0.005, post_id, user_id)


@app.task(name="posts.publish")
def publish_post(post_id: int) -> None:
    """Start a successor and end. Waiting for it would block a slot of the pool, at worst all of them."""
    work(0.03, post_id)
    update_timelines.delay(post_id, page=1)


@app.task(name="timelines.update")
def update_timelines(post_id: int, page: int) -> None:
    """Work of unknown size goes page by page, and each page starts the next one before it works.

    A thousand short tasks share the workers fairly, can be retried one by one and survive a deployment; one
    task of an hour does none of that.
    """
    if page < FOLLOWER_PAGES:
        update_timelines.delay(post_id, page=page + 1)
    work(0.03, post_id, page)


@app.task(
    name="links.preview",
    bind=True,
    autoretry_for=(ProviderTimeout,),
    retry_backoff=1,  # seconds, doubled with every retry
    retry_backoff_max=30,
    retry_jitter=True,
    max_retries=3,
)
def preview_link(self: Task, link_id: int) -> None:
    """Retry what may pass, and only that: one exception class, a growing delay, a limit, and jitter.

    Without jitter, everything that failed together comes back together.
    """
    call = random.Random(f"{link_id}/{self.request.retries}")
    work(0.06, link_id, self.request.retries)
    if call.random() < PROVIDER_FAILURE:
        raise ProviderTimeout(f"no answer for link {link_id}")


@app.task(name="photos.resize")
def resize_photo(photo_id: int) -> None:
    """Fail loudly what cannot succeed: no retry, and an exception class that says what is wrong."""
    work(0.12, photo_id)
    if photo_id % BROKEN_PHOTO == 0:
        raise UnsupportedImage(f"photo {photo_id} is not an image")


@app.task(name="reminders.send", expires=REMINDER_EXPIRES)
def send_reminder(user_id: int) -> None:
    """Sent with a countdown, it lies in a worker's memory until it is due: fine for seconds, wrong for days.

    Past the visibility timeout Redis would deliver it to a second worker. `expires`: rather none than a late
    one.
    """
    work(0.02, user_id)
