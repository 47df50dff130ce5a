"""Rate limiters in Redis: what many workers together may ask of a third party.

Celery's own `rate_limit` holds per worker: with every worker that is added, the third party is asked more. These are
shared. Each decision is one Lua script, so it is atomic; it reads Redis's clock, so the workers' clocks do not matter.

Between a permission and the arrival of its call lies time that nobody controls: a thread waits for its turn, a
connection is opened, a network is slow. What was allowed at the end of one window arrives in the next, and the limit is
passed though every permission was right. So a permission holds its place until its call has provably arrived: until
`settle`; for HOLD seconds where the caller never tells; for DOUBTED seconds where it gave up waiting. And it is good
for LIFETIME only: a caller that was held up for longer lets go of it and asks again.

Whoever is refused is told when to come back. All are told different moments: a crowd that comes back at once would be
refused at once.
"""

import random
import time
import uuid
from dataclasses import dataclass
from typing import Protocol

LIFETIME = 1.0  # seconds for which a permission may be used
# Seconds after which a call that was not settled has arrived, or never will: the permission's lifetime, the timeouts
# of connecting and sending, and some.
HOLD = 6.0
# The same for a call whose caller waited for an answer and gave up: what was sent may still be on its way. Longer would
# be surer, and would let an outage of the provider fill the limiter with places that nobody answers for.
DOUBTED = 30.0
LONGEST_DELAY = 30.0  # seconds: a limit may rise again before a far moment comes, and a countdown cannot be shortened
MARGIN = 0.05  # seconds by which the provider's clock and Redis's may drift apart within a window


@dataclass(frozen=True)
class Permission:
    """One call is allowed. `remaining`: how many more; both are None where nobody knows the limit."""

    id: str
    account: str
    limit: int | None
    remaining: int | None
    granted: float  # on Redis's clock
    asked: float  # on this process's monotonic clock, before the question: its time runs from then

    @property
    def expired(self) -> bool:
        """Whether it may no longer be used. Ask right before sending."""
        return time.monotonic() - self.asked > LIFETIME


@dataclass(frozen=True)
class Refusal:
    """No call now. `delay`: seconds after which to ask again."""

    delay: float
    limit: int | None
    remaining: int | None


class Told(Protocol):
    """What a limiter reads of the provider's answer; None: the provider does not tell."""

    @property
    def refused(self) -> bool:
        """Whether the call was one too many."""

    @property
    def limit(self) -> int | None:
        """Calls in a window."""

    @property
    def remaining(self) -> int | None:
        """Calls left in the window."""

    @property
    def reset(self) -> float | None:
        """Seconds until there is more."""


class Limiter(Protocol):
    """Decides who may call. `account` is who asks; what for is the limiter's own: each endpoint has one."""

    name: str

    def acquire(self, account: str) -> Permission | Refusal:
        """Ask for one call. Raises redis.RedisError."""

    def settle(self, permission: Permission, told: Told) -> None:
        """Tell that the call was answered, and what the answer says of the limit. Raises redis.RedisError."""

    def doubt(self, permission: Permission) -> None:
        """Tell that the call was sent, and given up before an answer. Raises redis.RedisError."""

    def release(self, permission: Permission) -> None:
        """Give a permission back that was not used. Raises redis.RedisError."""


def new_id() -> str:
    """An id for a permission."""
    return uuid.uuid4().hex


def jitter() -> str:
    """A number from 0 to 1 for a script to spread callers with."""
    return f"{random.random():.6f}"
