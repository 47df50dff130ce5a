"""A lock in Redis, for what may run once at a time.

Taking it, giving it back and prolonging it are redis-py's `Lock`: SET NX PX with a token of the owner, and scripts
that compare the token before they delete or extend, so that nobody gives back what has become another's. That is
easy to get nearly right, and that one is well kept.

What no such lock can do is stop a holder that was paused beyond the expiry (a swapping machine, a stopped
container): it wakes, believes that it holds the lock, and writes. So a number is drawn with the lock, larger for
each holder, and what is protected refuses numbers smaller than one that it has seen: a fencing token. Use `write`.

It guards against wasted or interleaved work. Tasks stay idempotent: Redis may lose the lock in a failover.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import redis
from redis.exceptions import LockNotOwnedError
from redis.lock import Lock

# One counter for all locks: it may never expire, and one for each name would stay for each name that ever was.
FENCES = "fences"
FENCE = "fence"  # the field of a protected hash that has the largest number seen

# KEYS: the protected hash. ARGV: the writer's number, field, value.
_WRITE = """
if tonumber(redis.call('hget', KEYS[1], 'fence') or '0') > tonumber(ARGV[1]) then
    return 0
end
redis.call('hset', KEYS[1], 'fence', ARGV[1], ARGV[2], ARGV[3])
return 1
"""


class Overtaken(Exception):
    """The lock ran out and another holder has come since: whoever gets this must stop, and has written nothing."""


class FencedLock(Lock):
    """redis-py's lock with a number for each acquisition in `fence`."""

    fence = 0

    def do_acquire(self, token: str) -> bool:
        """Take the lock and draw a number, in one transaction: numbers rise in the order of the holders."""
        assert self.timeout is not None
        with self.redis.pipeline(transaction=True) as transaction:
            transaction.set(self.name, token, nx=True, px=int(self.timeout * 1000))
            transaction.incr(FENCES)
            taken, number = transaction.execute()
        if taken:
            self.fence = number
        return bool(taken)

    def prolong(self) -> None:
        """Have it expire a whole timeout from now. Raises Overtaken."""
        try:
            self.reacquire()
        except LockNotOwnedError as error:
            raise Overtaken(f"{self.name} ran out before it was prolonged") from error


@contextmanager
def held(client: redis.Redis, name: str, seconds: float) -> Iterator[FencedLock | None]:
    """Hold a lock for the length of a block; None, at once, where another holds it.

    It expires after `seconds`, so that a holder that dies does not block the others for ever: choose several times
    what lies between two `prolong`.
    """
    # Not bound to the thread: the lock belongs to the block, wherever that goes on.
    lock = FencedLock(client, f"lock {name}", timeout=seconds, thread_local=False)
    if not lock.acquire(blocking=False):
        yield None
        return
    try:
        yield lock
    finally:
        # It may have run out, and be another's by now: then there is nothing to give back.
        with suppress(LockNotOwnedError):
            lock.release()


def write(client: redis.Redis, key: str, lock: FencedLock, field: str, value: str | int) -> None:
    """Set a field of a hash that the lock protects. Raises Overtaken where a later holder has written to it."""
    if not client.eval(_WRITE, 1, key, str(lock.fence), field, str(value)):
        raise Overtaken(f"{key} was written by a holder after number {lock.fence}")
