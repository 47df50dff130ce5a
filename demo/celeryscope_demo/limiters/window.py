"""What fixed and rolling windows share: the places of calls, kept in a sorted set until they are free again.

The score of a place is the latest moment at which its call may arrive, or have arrived. A call is allowed while fewer
than `limit` places have a score not before `since`: a moment before which no window began that a call could still
arrive in.

Why no window ever holds more calls than the limit: of the calls in a window, look at the one that was allowed last. All
others were allowed before it and arrived in this window, so at or after its `since`; so all had their places when it
was allowed, and were fewer than the limit. How long a call takes to arrive does not matter as long as it is answered.

Assumed is of a call that its caller gave up on, or died with, that it arrives within HOLD or DOUBTED or never: nobody
can know, since what was sent may be on its way for long. Assumed is also that Redis's clock is not set back, that it
and the provider's do not drift apart by more than MARGIN in a window, and that nobody else calls from this account.
Where somebody does, the provider refuses, and says until when.
"""

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

import redis
from redis.commands.core import Script

from celeryscope_demo.limiters import DOUBTED, HOLD, LONGEST_DELAY, MARGIN, Permission, Refusal, Told, jitter, new_id

# Lua writes numbers with 14 digits, which cuts moments to tenths of milliseconds: hence `moment`.
_PREAMBLE = """
local function moment(seconds) return string.format('%.6f', seconds) end
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local calls, state = KEYS[1], KEYS[2]
"""

# state: `limit` and `limited_until` as the provider told; `earliest` and `latest`, between which the provider's present
# window ends (or ended); `comeback`, the last moment that was given to a refused caller.
ACQUIRE = (
    _PREAMBLE
    + """
local id, jitter = ARGV[1], tonumber(ARGV[2])
local limit, window, hold, margin, longest, doubted = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]),
    tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local known = redis.call('HMGET', state, 'limit', 'limited_until', 'earliest', 'latest', 'comeback')
limit = tonumber(known[1]) or limit
local limited_until = tonumber(known[2]) or 0
local earliest, latest = tonumber(known[3]), tonumber(known[4])

local since = now - window - margin
if latest then
    since = math.max(since, now > latest and earliest or earliest - window)
end
redis.call('ZREMRANGEBYSCORE', calls, '-inf', '(' .. moment(now - window - margin))
local used = redis.call('ZCOUNT', calls, moment(since), '+inf')

if limited_until <= now and used < limit then
    redis.call('ZADD', calls, moment(now + hold), id)
    redis.call('PEXPIRE', calls, math.ceil((math.max(hold, doubted) + window + margin) * 1000))
    return {1, moment(now), limit, limit - used - 1}
end

local opens = limited_until
if used >= limit then
    -- What is under way is as good as here: its place is free a window from now, if not at the window's end.
    local last = redis.call('ZRANGEBYSCORE', calls, moment(since), '+inf', 'WITHSCORES', 'LIMIT', used - limit, 1)
    local free = math.min(now, tonumber(last[2])) + window + margin
    if latest and now <= latest then free = math.min(free, latest) end
    opens = math.max(opens, free)
end
local comeback = math.max(opens, (tonumber(known[5]) or 0) + window / limit)
local delay = comeback - now
if delay > longest then
    delay = longest * (1 + jitter) / 2
else
    redis.call('HSET', state, 'comeback', moment(comeback))
    if redis.call('PTTL', state) < longest * 1000 then redis.call('PEXPIRE', state, math.ceil(longest * 1000)) end
end
return {0, moment(math.max(delay, 0.001)), limit, limited_until > now and 0 or math.max(0, limit - used)}
"""
)

SETTLE = (
    _PREAMBLE
    + """
local id, granted, window, margin = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local limit, remaining, reset = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local refused, fixed, keep = ARGV[8] == '1', ARGV[9] == '1', tonumber(ARGV[10])
redis.call('ZADD', calls, 'XX', moment(now), id)

if limit then redis.call('HSET', state, 'limit', math.max(1, limit)) end
if refused or remaining == 0 then
    local known = tonumber(redis.call('HGET', state, 'limited_until')) or 0
    redis.call('HSET', state, 'limited_until', moment(math.max(known, now + (reset or window) + margin)))
end
if fixed and reset then
    -- The answer was written between `granted` and now, so the window ends between these:
    local earliest, latest = granted + reset - margin, now + reset + margin
    -- Two windows' ends could be taken for one where they are known less well than this.
    if latest - earliest < window / 2 then
        local known = redis.call('HMGET', state, 'earliest', 'latest')
        local before, after = tonumber(known[1]), tonumber(known[2])
        if before and earliest <= after and before <= latest then
            earliest, latest = math.max(earliest, before), math.min(latest, after)
        end
        if not before or latest >= before then
            redis.call('HSET', state, 'earliest', moment(earliest), 'latest', moment(latest))
        end
    end
end
if redis.call('EXISTS', state) == 1 then
    redis.call('PEXPIRE', state, math.ceil((keep + math.max(window, reset or 0)) * 1000))
end
"""
)


class Window:
    """A limiter of `limit` calls in `window` seconds, unless the provider announces another limit.

    `client` is asked for when it is first needed: a task module is imported where there is no Redis, too.
    """

    fixed = False  # whether the provider's windows follow each other, and `reset` is the end of one

    def __init__(self, client: Callable[[], redis.Redis], name: str, limit: int, window: float) -> None:
        self.name = name
        self._client = client
        self._limit = limit
        self._window = window

    def acquire(self, account: str) -> Permission | Refusal:
        """Ask for one call."""
        name, asked = new_id(), time.monotonic()
        arguments: list[str | float] = [name, jitter(), self._limit, self._window, HOLD, MARGIN, LONGEST_DELAY, DOUBTED]
        answer: Any = self._acquire(self._keys(account), arguments)
        allowed, seconds, limit, remaining = answer
        if not allowed:
            return Refusal(float(seconds), limit, remaining)
        return Permission(name, account, limit, remaining, float(seconds), asked)

    def settle(self, permission: Permission, told: Told) -> None:
        """Have the call's place free a window from now, and learn."""
        announced = ["" if value is None else value for value in (told.limit, told.remaining, told.reset)]
        arguments: list[str | float] = [permission.id, f"{permission.granted:.6f}", self._window, MARGIN, *announced]
        arguments += [int(told.refused), int(self.fixed), LONGEST_DELAY]
        self._settle(self._keys(permission.account), arguments)

    def doubt(self, permission: Permission) -> None:
        """Have the call's place kept for as long as the call may still arrive."""
        calls, _ = self._keys(permission.account)
        self._client().zadd(calls, {permission.id: permission.granted + DOUBTED}, xx=True)

    def release(self, permission: Permission) -> None:
        """Give the place back."""
        self._client().zrem(self._keys(permission.account)[0], permission.id)

    def _keys(self, account: str) -> list[str]:
        return [f"limiter {self.name} {account} calls", f"limiter {self.name} {account} state"]

    @cached_property
    def _acquire(self) -> Script:
        return self._client().register_script(ACQUIRE)

    @cached_property
    def _settle(self) -> Script:
        return self._client().register_script(SETTLE)
