"""Mass mail, twice: as a flood, and as a generator that feeds itself.

What is taught: a loop that sends one task per recipient is the first thing that comes to mind. It puts the whole
mailing into the queue at once: the backlog jumps, memory of the broker with it, and whatever else goes through that
queue waits behind all of it. A generator sends a chunk and then itself with the next offset. Standing behind its own
chunk it goes on when that is nearly gone: it is as fast, and others wait behind one chunk.
"""

import random

from celeryscope_demo import marks
from celeryscope_demo.app import app
from celeryscope_demo.simulation import work
from celeryscope_demo.store import store
from celeryscope_demo.workloads import Workload, one_id

FLOOD = 150  # recipients of a mailing that is sent in one loop
PACED = 100  # recipients of a mailing in chunks
CHUNK = 10
KEPT = 24 * 3600  # seconds for which it is known who has a mailing


@app.task(name="mail.deliver")
def deliver(mailing_id: str, recipient_id: int) -> str:
    """Idempotent by a record of who has the mailing. When to write it is a choice.

    Before sending, as here: a worker that dies in between leaves one recipient without a newsletter. After sending:
    it leaves one with two. A receipt or an invoice would choose the second.
    """
    key = f"recipients of {mailing_id}"
    with store().pipeline() as pipe:
        pipe.sadd(key, str(recipient_id))
        pipe.expire(key, KEPT)
        added, _ = pipe.execute()
    if not added:
        return "has it already"
    try:
        work(0.2, mailing_id, recipient_id)
    except BaseException:
        store().srem(key, str(recipient_id))
        raise
    return "delivered"


@app.task(name="mail.flood")
def send_flood(mailing_id: str, recipients: int) -> None:
    """The naive way: a backlog of the whole mailing. Should it be run again, it sends every one of them again."""
    for recipient_id in range(recipients):
        deliver.delay(mailing_id, recipient_id)


@app.task(name="mail.chunk")
def send_chunk(mailing_id: str, recipients: int, offset: int = 0) -> None:
    """Send a chunk, then oneself: in this order, so that a worker that dies in between leaves nobody out.

    Delivered again, it sends its chunk again, which `mail.deliver` bears, and a second successor. That second chain
    ends at the first chunk that is done, so it does not repeat the rest of the mailing.
    """
    mailing = f"chunks of {mailing_id}"
    if marks.done(mailing, offset):
        return
    end = min(offset + CHUNK, recipients)
    for recipient_id in range(offset, end):
        deliver.delay(mailing_id, recipient_id)
    if end < recipients:
        send_chunk.delay(mailing_id, recipients, end)
    marks.mark(mailing, offset)


def _flood(draw: random.Random) -> None:
    send_flood.delay(f"newsletter {one_id(draw)}", FLOOD)


def _paced(draw: random.Random) -> None:
    send_chunk.delay(f"digest {one_id(draw)}", PACED)


WORKLOADS = (Workload("newsletters", 1 / 100, _flood), Workload("digests", 1 / 150, _paced))
