"""Which parts of a piece of work are done: what a task that is delivered again asks first."""

from celeryscope_demo.store import store

KEPT = 3600  # seconds


def done(work: str, part: int) -> bool:
    """Whether a part was marked."""
    return bool(store().sismember(work, str(part)))


def mark(work: str, part: int) -> None:
    """Note that a part is done. Last of all: what was left out of a marked part is never made up for."""
    with store().pipeline() as pipe:
        pipe.sadd(work, str(part))
        pipe.expire(work, KEPT)
        pipe.execute()
