"""Calls to a third party: where a photo was taken, a post in other languages, a preview of a link.

What is taught: one class handles whatever may go wrong with a provider, so tasks do not; one task makes one call, so
that what is tried again is small; the call carries a key that follows from the arguments, so a task that runs twice
asks once. Who has limits is asked within them, by a limiter that all workers share (limiters/). A task that has to wait
for its turn does not sleep, which would hold a slot: it is sent again with a countdown.

Celery's own `rate_limit` is something else: it holds for each worker, so a cluster asks as many times more as it has
workers; and what it holds back, it holds in the worker, where it counts against the prefetch limit.
"""

import http.client
import random
import time
from contextlib import suppress
from typing import Any, NoReturn

import redis
from celery import Task

from celeryscope_demo.app import app
from celeryscope_demo.environment import PROVIDER_URL, required
from celeryscope_demo.limiters import Limiter, Permission, Refusal
from celeryscope_demo.limiters.adaptive import Adaptive
from celeryscope_demo.limiters.fixed import FixedWindow
from celeryscope_demo.limiters.rolling import RollingWindow
from celeryscope_demo.limiters.window import Window
from celeryscope_demo.provider import ENDPOINTS, PLACES, PREVIEWS, TRANSLATIONS, client
from celeryscope_demo.retrying import delay
from celeryscope_demo.simulation import work
from celeryscope_demo.store import store
from celeryscope_demo.workloads import Workload, one_id

ACCOUNT = "network"  # whom the provider knows us as
ERRORS = "errors"  # the header that counts errors: waiting for one's turn is none
MAX_ERRORS = 4  # after which one more is a failure
BACKOFF = 1.0  # seconds before the second attempt, at most
LONGEST_BACKOFF = 30.0  # seconds
ATTEMPTS = 3  # permissions that one attempt asks for
USUAL = 0.97  # share of the arrivals that are small
SPARE = 2  # calls of the limit that a large arrival leaves: an album of a journey, a post in all languages
LINKS = 18  # of a large digest: well within what the provider takes, so a refusal is an event
POST_TTL = 3600  # seconds
LATE_COMMITS = 0.04  # share of the posts whose transaction ends after a worker has their task
COMMIT = 0.4  # seconds that such a transaction takes
COMMIT_BACKOFF = 0.5  # seconds before the task looks again, at most


class RateLimited(Exception):
    """It is not this call's turn yet."""


class ProviderTimeout(Exception):
    """The provider did not answer in time. It may have done its work: the key keeps it from doing so twice."""


class ProviderUnreachable(Exception):
    """There was no connection, or it broke."""


class ProviderUnavailable(Exception):
    """The provider has trouble of its own: a status from 500."""


class LimiterUnreachable(Exception):
    """Redis does not answer. Without permission there is no call."""


class CallRefused(Exception):
    """The provider will never answer this call: any other status from 400. Trying again would not help."""


class AccessDenied(CallRefused):
    """Status 401 or 403: the account is wrong."""


class Unprocessable(CallRefused):
    """Status 422: the provider cannot do it for these arguments."""


class PostNotCommitted(Exception):
    """There is no such post, or not yet: its transaction may still be open."""


REFUSALS: dict[int, type[CallRefused]] = {401: AccessDenied, 403: AccessDenied, 422: Unprocessable}


class ProviderTask(Task):
    """A task that calls the provider, and all that may go wrong with it. A subclass or a task names its endpoint."""

    abstract = True
    ignore_result = True
    max_retries = None  # `again` counts errors; how often a task waits for its turn has no limit
    endpoint: str
    limiter: Limiter

    def call(self, *arguments: int) -> dict[str, Any]:
        """Make the one call of this task, when it is its turn: retry what may pass, raise CallRefused for the rest."""
        for _ in range(ATTEMPTS):
            try:
                decision = self.limiter.acquire(ACCOUNT)
            except redis.RedisError as error:
                self.again(LimiterUnreachable(str(error)))
            if isinstance(decision, Refusal):
                self._wait(decision)
            if decision.expired:
                with suppress(redis.RedisError):
                    self.limiter.release(decision)
                continue
            answer = self._post(decision, arguments)
            # Where Redis fails now, the answer is here all the same, and the place comes free later, by itself.
            with suppress(redis.RedisError):
                self.limiter.settle(decision, answer)
            if answer.status < 300:
                return answer.body
            if answer.status >= 500:
                self.again(ProviderUnavailable(f"status {answer.status}"))
            if not answer.refused:
                raise REFUSALS.get(answer.status, CallRefused)(f"status {answer.status}: {answer.body.get('error')}")
            # One too many for the provider: the limiter knows by now, and says when to come back.
        return self._wait(Refusal(BACKOFF, None, None))

    def again(self, error: Exception, backoff: float = BACKOFF) -> NoReturn:
        """Retry after an error that may pass; when there were too many, fail with it."""
        errors = self.request.get(ERRORS) or 0
        if errors >= MAX_ERRORS:
            raise error
        countdown = delay(errors, backoff, LONGEST_BACKOFF, random.Random(repr((self.request.id, errors))))
        headers = {**self.request.as_execution_options()["headers"], ERRORS: errors + 1}
        raise self.retry(exc=error, countdown=countdown, headers=headers, throw=False)

    def _post(self, permission: Permission, arguments: tuple[int, ...]) -> client.Answer:
        key = ":".join(map(str, (self.name, *arguments)))
        try:
            return client.post(required(PROVIDER_URL), self.endpoint, ACCOUNT, key, {"arguments": arguments})
        except TimeoutError as error:
            with suppress(redis.RedisError):
                self.limiter.doubt(permission)
            self.again(ProviderTimeout(str(error)))
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.again(ProviderUnreachable(f"{type(error).__name__}: {error}"))

    def _wait(self, refusal: Refusal) -> NoReturn:
        """Come back when it may be this call's turn, and let whoever watches know that somebody's limit is why."""
        known = {"limit": refusal.limit, "remaining": refusal.remaining}
        told = {name: value for name, value in known.items() if value is not None}
        self.send_event("task-rate-limited", limiter=self.limiter.name, delay=refusal.delay, **told)
        error = RateLimited(f"{self.limiter.name}: again in {refusal.delay:.1f} s")
        raise self.retry(exc=error, countdown=refusal.delay, throw=False)


def _limiter(kind: type[Window], endpoint: str) -> Window:
    found = ENDPOINTS[endpoint]
    return kind(store, endpoint, found.limit, found.window)


@app.task(
    base=ProviderTask,
    bind=True,
    name="partners.locate",
    endpoint=PLACES,
    limiter=_limiter(FixedWindow, PLACES),
)
def locate_photo(self: ProviderTask, photo_id: int) -> None:
    """Say what is asked, and leave to the class what may go wrong."""
    self.call(photo_id)


@app.task(
    base=ProviderTask,
    bind=True,
    name="partners.translate",
    endpoint=TRANSLATIONS,
    limiter=_limiter(RollingWindow, TRANSLATIONS),
)
def translate_post(self: ProviderTask, post_id: int, language: int) -> None:
    """One language, not all: what is refused or fails is tried again alone.

    A message may be faster than the transaction that it was sent in: a row that is not there is looked for again. Who
    can, sends after the commit.
    """
    committed_at = store().get(_row(post_id))
    if committed_at is None or float(str(committed_at)) > time.time():
        self.again(PostNotCommitted(f"post {post_id}"), backoff=COMMIT_BACKOFF)
    self.call(post_id, language)


@app.task(
    base=ProviderTask,
    bind=True,
    name="partners.preview",
    endpoint=PREVIEWS,
    limiter=Adaptive(store, PREVIEWS),
)
def preview_link(self: ProviderTask, link_id: int) -> None:
    """A limit that nobody tells is found by being refused: seldom, since the limiter remembers for all workers."""
    self.call(link_id)


@app.task(name="partners.ping", rate_limit="30/m")
def ping(partner_id: int) -> None:
    """Celery's own limit: a start every two seconds in each worker, however many workers there are.

    A short distance and small clumps: what it holds back takes places of the worker's prefetch from others.
    """
    work(0.02, partner_id)


def _row(post_id: int) -> str:
    return f"post {post_id}"


def _album(draw: random.Random) -> None:
    for _ in range(draw.randint(1, 6) if draw.random() < USUAL else ENDPOINTS[PLACES].limit - SPARE):
        locate_photo.delay(one_id(draw))


def _article(draw: random.Random) -> None:
    post_id = one_id(draw)
    # A transaction that is still open when the worker looks; here, the row says when it is seen by others.
    commits = time.time() + (COMMIT if draw.random() < LATE_COMMITS else 0.0)
    store().set(_row(post_id), str(commits), ex=POST_TTL)
    for language in range(draw.randint(1, 4) if draw.random() < USUAL else ENDPOINTS[TRANSLATIONS].limit - SPARE):
        translate_post.delay(post_id, language)


def _digest(draw: random.Random) -> None:
    for _ in range(draw.randint(1, 2) if draw.random() < USUAL else LINKS):
        preview_link.delay(one_id(draw))


def _pings(draw: random.Random) -> None:
    for _ in range(3):
        ping.delay(one_id(draw))


WORKLOADS = (
    Workload("albums", 0.2, _album),
    Workload("translations", 0.25, _article),
    Workload("previews", 0.35, _digest),
    Workload("pings", 0.04, _pings),
)
