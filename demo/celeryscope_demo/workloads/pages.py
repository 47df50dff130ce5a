"""A listing of many pages is imported from another service, in three ways.

What is taught: what is known of the pages decides how they are fetched.

- The number of pages is known: all at once, as a group. Fastest; the burst is as large as the listing, so the
  other side must bear it.
- It is unknown: a few walkers take page after page, in turn, and stop at the first that is empty. As many requests at
  once as there are walkers, and one request too many for each.
- Each page tells where the next one is (a cursor): one after the other, there is no other way. Each starts the
  next as soon as it knows the cursor, before it works on what it got, so that only the requests are serial.

Storing a page is an upsert: a page that is fetched twice is stored once.
"""

import random

from celery import group

from celeryscope_demo import marks
from celeryscope_demo.app import app
from celeryscope_demo.simulation import duration, work
from celeryscope_demo.workloads import Workload, one_id

USUAL = 6.0  # pages of a listing, about
REQUEST = 0.05  # seconds, about
STORING = 0.05  # seconds for a page, about
WALKERS = 3


def pages_of(listing_id: int) -> int:
    """How many pages the other side has of a listing."""
    return max(1, round(duration(USUAL, "pages", listing_id)))


def request(listing_id: int, page: int) -> bool:
    """Ask for a page, from 0; return whether there is anything on it."""
    work(REQUEST, "request", listing_id, page)
    return page < pages_of(listing_id)


def keep(listing_id: int, page: int) -> None:
    """Store what is on a page."""
    work(STORING, "page", listing_id, page)


@app.task(name="pages.import_known")
def import_known(listing_id: int) -> str:
    """Known size: the first answer tells it, and all pages are sent as one group.

    Right for tens of pages; for thousands, send the group in chunks or use walkers.
    """
    work(REQUEST, "size", listing_id)
    pages = pages_of(listing_id)
    group(fetch_page.si(listing_id, page) for page in range(pages)).apply_async()
    return f"{pages} pages"


@app.task(name="pages.fetch")
def fetch_page(listing_id: int, page: int) -> None:
    """One page, told by its number: it depends on no other, so the order does not matter."""
    if request(listing_id, page):
        keep(listing_id, page)


def start_walkers(listing_id: int, run: str) -> None:
    """Unknown size: send the walkers of an import, each with its first page."""
    for page in range(WALKERS):
        walk.delay(listing_id, run, page)


@app.task(name="pages.walk")
def walk(listing_id: int, run: str, page: int) -> str:
    """A walker takes every third page where there are three: the next follows from this one, and no state is needed.

    A counter that all share would keep walkers together, and lose a page with a worker that dies between counting and
    sending. Delivered again, a walker takes its page again, and the second of it ends at the first page that is done.
    """
    if marks.done(_pages(run), page):
        return "done before"
    if not request(listing_id, page):
        return f"page {page} is empty: this walker stops"
    keep(listing_id, page)
    walk.delay(listing_id, run, page + WALKERS)
    marks.mark(_pages(run), page)
    return f"page {page}"


@app.task(name="pages.follow")
def follow(listing_id: int, run: str, cursor: int = 0) -> str:
    """A cursor: the page must be asked for to learn where the next is, but need not be stored for it."""
    if marks.done(_pages(run), cursor):
        return "done before"
    if not request(listing_id, cursor):
        return "empty: the listing has shrunk"
    following = cursor + 1  # as told by the answer
    last = following >= pages_of(listing_id)
    if not last:
        follow.delay(listing_id, run, following)
    keep(listing_id, cursor)
    marks.mark(_pages(run), cursor)
    return "the last page" if last else f"page at {cursor}"


def _pages(run: str) -> str:
    return f"pages of {run}"


def _run(draw: random.Random) -> str:
    """A name for an import, by which its repetition is known from another one of the same listing."""
    return f"{draw.getrandbits(64):x}"


def _known(draw: random.Random) -> None:
    import_known.delay(one_id(draw))


def _unknown(draw: random.Random) -> None:
    start_walkers(one_id(draw), _run(draw))


def _cursor(draw: random.Random) -> None:
    follow.delay(one_id(draw), _run(draw))


WORKLOADS = (
    Workload("listings-sized", 0.03, _known),
    Workload("listings-walked", 0.03, _unknown),
    Workload("listings-followed", 0.03, _cursor),
)
