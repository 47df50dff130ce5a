"""For a provider that does not tell its limit: found by being refused, seldom.

Refusals are counted. With the first, all calls pause, then follow each other at a distance; with each further one,
pause and distance double. After some calls in a row that went well, the count falls by one. So the rate stays close
below the limit, and even under a load that would always ask more, few calls are refused: less than one in PATIENCE.
"""

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

import redis
from redis.commands.core import Script

from celeryscope_demo.limiters import LONGEST_DELAY, Permission, Refusal, Told, jitter, new_id

PAUSE = 3.0  # seconds after the first refusal
DISTANCES = 20  # in a pause
TOP = 5  # refusals that are counted: the distance is 2.4 s then
PATIENCE = 8  # calls that go well before the distance is halved
KEEP = 120.0  # seconds without a call after which all is forgotten

_PREAMBLE = """
local function moment(seconds) return string.format('%.6f', seconds) end
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local state = KEYS[1]
"""

# state: `refusals`; `since`, when their count last changed; `successes` since then; `opens`, when the next call may go;
# `comeback`, the last moment that was given to a refused caller.
ACQUIRE = (
    _PREAMBLE
    + """
local jitter, distance, longest, keep = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local known = redis.call('HMGET', state, 'refusals', 'opens', 'comeback')
local refusals = tonumber(known[1]) or 0
if refusals == 0 then return {1, moment(now)} end

local opens = tonumber(known[2]) or 0
distance = distance * 2 ^ (refusals - 1)
redis.call('PEXPIRE', state, math.ceil(keep * 1000))
if opens <= now then
    redis.call('HSET', state, 'opens', moment(now + distance))
    return {1, moment(now)}
end
local comeback = math.max(opens, (tonumber(known[3]) or 0) + distance)
local delay = comeback - now
if delay > longest then
    delay = longest * (1 + jitter) / 2
else
    redis.call('HSET', state, 'comeback', moment(comeback))
end
return {0, moment(delay)}
"""
)

SETTLE = (
    _PREAMBLE
    + """
local jitter, granted, refused = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local pause, longest, top, patience, keep = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]),
    tonumber(ARGV[8])
local known = redis.call('HMGET', state, 'refusals', 'since', 'successes', 'opens')
local refusals = tonumber(known[1]) or 0
-- What was under way when the count changed tells nothing of how it is now.
if granted <= (tonumber(known[2]) or 0) then return end

if refused then
    refusals = math.min(refusals + 1, top)
    local seconds = math.min(pause * 2 ^ (refusals - 1), longest) * (1 + jitter / 4)
    redis.call('HSET', state, 'refusals', refusals, 'since', moment(now), 'successes', 0,
        'opens', moment(math.max(now + seconds, tonumber(known[4]) or 0)))
elseif refusals > 0 then
    if redis.call('HINCRBY', state, 'successes', 1) >= patience then
        redis.call('HSET', state, 'refusals', refusals - 1, 'since', moment(now), 'successes', 0)
    end
else
    return
end
redis.call('PEXPIRE', state, math.ceil(keep * 1000))
"""
)


class Adaptive:
    """A limiter that knows no limit. `pause`: seconds after a first refusal; a distance is a twentieth of it."""

    def __init__(self, client: Callable[[], redis.Redis], name: str, pause: float = PAUSE) -> None:
        self.name = name
        self._client = client
        self._pause = pause

    def acquire(self, account: str) -> Permission | Refusal:
        """Ask for one call."""
        asked = time.monotonic()
        arguments: list[str | float] = [jitter(), self._pause / DISTANCES, LONGEST_DELAY, KEEP]
        answer: Any = self._acquire([self._key(account)], arguments)
        allowed, seconds = answer
        if not allowed:
            return Refusal(float(seconds), None, None)
        return Permission(new_id(), account, None, None, float(seconds), asked)

    def settle(self, permission: Permission, told: Told) -> None:
        """Learn from whether the call was refused."""
        arguments: list[str | float] = [jitter(), f"{permission.granted:.6f}", int(told.refused), self._pause]
        self._settle([self._key(permission.account)], [*arguments, LONGEST_DELAY, TOP, PATIENCE, KEEP])

    def doubt(self, permission: Permission) -> None:
        """No answer tells nothing of the limit."""

    def release(self, permission: Permission) -> None:
        """A permission takes nothing that others could have, beyond its moment."""

    def _key(self, account: str) -> str:
        return f"limiter {self.name} {account}"

    @cached_property
    def _acquire(self) -> Script:
        return self._client().register_script(ACQUIRE)

    @cached_property
    def _settle(self) -> Script:
        return self._client().register_script(SETTLE)
