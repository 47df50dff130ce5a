"""The demo's rate limiters, on a real Redis server: what they allow, when they say no, and what they leave behind."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import redis

from celeryscope_demo import limiters
from celeryscope_demo.limiters import DOUBTED, HOLD, LONGEST_DELAY, MARGIN, Limiter, Permission, Refusal
from celeryscope_demo.limiters.adaptive import PATIENCE, TOP, Adaptive
from celeryscope_demo.limiters.fixed import FixedWindow
from celeryscope_demo.limiters.rolling import RollingWindow
from celeryscope_demo.limiters.window import Window
from support.servers import Valkey
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

WINDOW = 2.0  # seconds
LIMIT = 5
WAIT = 20.0  # seconds
WINDOWS = [FixedWindow, RollingWindow]


@dataclass(frozen=True)
class Told:
    """What a provider says."""

    refused: bool = False
    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None


@pytest.fixture
def store(valkey_server: Valkey) -> redis.Redis:
    return redis.Redis.from_url(valkey_server.url, decode_responses=True)


def window(kind: type[Window], store: redis.Redis, limit: int = LIMIT, name: str = "calls") -> Window:
    return kind(lambda: store, name, limit, WINDOW)


def allowed(limiter: Limiter, account: str = "one") -> Permission:
    decision = limiter.acquire(account)
    assert isinstance(decision, Permission), decision
    return decision


def refused(limiter: Limiter, account: str = "one") -> Refusal:
    decision = limiter.acquire(account)
    assert isinstance(decision, Refusal), decision
    return decision


def permissions(limiter: Limiter, number: int) -> list[Permission]:
    return [allowed(limiter) for _ in range(number)]


def turn(limiter: Limiter, message: str) -> Permission:
    """Wait for a permission."""
    found: list[Permission] = []

    def granted() -> bool:
        decision = limiter.acquire("one")
        if isinstance(decision, Permission):
            found.append(decision)
        return bool(found)

    wait_until(granted, WAIT, message)
    return found[0]


def now(store: redis.Redis) -> float:
    seconds, microseconds = store.time()
    return float(seconds) + float(microseconds) / 1e6


@pytest.mark.parametrize("kind", WINDOWS)
def test_as_many_are_allowed_as_the_limit_says(store: redis.Redis, kind: type[Window]) -> None:
    limiter = window(kind, store)
    found = permissions(limiter, LIMIT)
    assert [permission.remaining for permission in found] == [4, 3, 2, 1, 0]
    assert {permission.limit for permission in found} == {LIMIT}
    refusal = refused(limiter)
    assert (refusal.limit, refusal.remaining) == (LIMIT, 0)
    assert 0 < refusal.delay <= WINDOW + MARGIN


@pytest.mark.parametrize("kind", WINDOWS)
def test_accounts_and_endpoints_are_kept_apart(store: redis.Redis, kind: type[Window]) -> None:
    limiter = window(kind, store)
    permissions(limiter, LIMIT)
    refused(limiter)
    allowed(limiter, account="two")
    allowed(window(kind, store, name="other"))


@pytest.mark.parametrize("kind", WINDOWS)
def test_all_processes_share_one_limit(store: redis.Redis, valkey_server: Valkey, kind: type[Window]) -> None:
    permissions(window(kind, store), LIMIT)
    refused(window(kind, redis.Redis.from_url(valkey_server.url)))


@pytest.mark.parametrize("kind", WINDOWS)
def test_a_place_is_free_a_window_after_the_answer_not_after_the_permission(
    store: redis.Redis, kind: type[Window]
) -> None:
    limiter = window(kind, store, limit=1)
    permission = allowed(limiter)
    wait_until(lambda: now(store) > permission.granted + WINDOW / 2, WAIT, "half a window has passed")
    answered = now(store)
    limiter.settle(permission, Told())
    later = turn(limiter, "the place is free")
    assert later.granted >= answered + WINDOW


@pytest.mark.parametrize("kind", WINDOWS)
def test_a_call_that_is_not_answered_holds_its_place_into_the_next_window(
    store: redis.Redis, kind: type[Window]
) -> None:
    limiter = window(kind, store, limit=1)
    permission = allowed(limiter)
    # What a provider would say of another call, whose window ends at once:
    limiter.settle(permission, Told(limit=1, remaining=1, reset=0.2))
    held = turn(limiter, "it is this call's turn")
    wait_until(lambda: now(store) > held.granted + WINDOW + 2 * MARGIN, WAIT, "more than a window has passed")
    refused(limiter)


def test_a_permission_is_good_for_a_moment_only(store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = window(RollingWindow, store, limit=1)
    permission = allowed(limiter)
    assert not permission.expired
    monkeypatch.setattr(limiters, "LIFETIME", 0.0)
    assert permission.expired
    limiter.release(permission)
    allowed(limiter)


@pytest.mark.parametrize("kind", WINDOWS)
def test_a_caller_that_died_holds_its_place_for_a_while_only(store: redis.Redis, kind: type[Window]) -> None:
    limiter = window(kind, store, limit=1)
    permission = allowed(limiter)
    scores = store.zrange("limiter calls one calls", 0, -1, withscores=True)
    assert scores == [(permission.id, pytest.approx(permission.granted + HOLD, abs=0.001))]
    remaining = float(str(store.pttl("limiter calls one calls"))) / 1000
    assert remaining == pytest.approx(DOUBTED + WINDOW + MARGIN, abs=1.0)


@pytest.mark.parametrize("kind", WINDOWS)
def test_a_call_that_its_caller_gave_up_holds_its_place_for_longer(store: redis.Redis, kind: type[Window]) -> None:
    limiter = window(kind, store, limit=1)
    permission = allowed(limiter)
    limiter.doubt(permission)
    scores = store.zrange("limiter calls one calls", 0, -1, withscores=True)
    assert scores == [(permission.id, pytest.approx(permission.granted + DOUBTED, abs=0.001))]
    refused(limiter)


def test_the_end_of_the_providers_window_frees_all_places_at_once(store: redis.Redis) -> None:
    limiter = window(FixedWindow, store)
    for permission in permissions(limiter, LIMIT):
        limiter.settle(permission, Told(limit=LIMIT, remaining=1, reset=0.5))
    started = now(store)
    assert refused(limiter).delay < 0.5 + 4 * MARGIN
    first = turn(limiter, "the window is over")
    assert started + 0.4 < first.granted
    assert first.remaining == LIMIT - 1


def test_a_rolling_window_does_not_care_when_the_provider_counts_anew(store: redis.Redis) -> None:
    limiter = window(RollingWindow, store)
    answered = now(store)
    for permission in permissions(limiter, LIMIT):
        limiter.settle(permission, Told(limit=LIMIT, remaining=1, reset=0.2))
    first = turn(limiter, "the first place is free")
    assert first.granted >= answered + WINDOW


def test_a_late_answer_does_not_move_the_window_back(store: redis.Redis) -> None:
    limiter = window(FixedWindow, store)
    early, late = permissions(limiter, 2)
    limiter.settle(early, Told(limit=LIMIT, remaining=3, reset=1.9))
    before = store.hmget("limiter calls one state", "earliest", "latest")
    limiter.settle(late, Told(limit=LIMIT, remaining=3, reset=0.1))
    assert store.hmget("limiter calls one state", "earliest", "latest") == before


@pytest.mark.parametrize("kind", WINDOWS)
def test_it_learns_the_limit_and_until_when_it_is_limited(store: redis.Redis, kind: type[Window]) -> None:
    limiter = window(kind, store)
    limiter.settle(allowed(limiter), Told(refused=True, limit=2, remaining=0, reset=0.5))
    refusal = refused(limiter)
    assert (refusal.limit, refusal.remaining) == (2, 0)
    assert refusal.delay <= 0.5 + MARGIN
    turn(limiter, "the provider takes calls again")
    limiter.settle(turn(limiter, "another"), Told(limit=9, remaining=8, reset=1.0))
    assert allowed(limiter).limit == 9


@pytest.mark.parametrize("kind", WINDOWS)
def test_who_is_refused_is_sent_to_different_moments(store: redis.Redis, kind: type[Window]) -> None:
    limiter = window(kind, store)
    permissions(limiter, LIMIT)
    delays = [refused(limiter).delay for _ in range(200)]
    near = [delay for delay in delays if delay < LONGEST_DELAY / 2]
    assert all(later - earlier >= WINDOW / LIMIT - 0.1 for earlier, later in pairwise(near))
    far = delays[-100:]
    assert min(far) >= LONGEST_DELAY / 2
    assert max(far) <= LONGEST_DELAY
    assert max(sum(second <= delay < second + 1 for delay in far) for second in range(30)) < 30


@pytest.mark.parametrize("kind", [*WINDOWS, Adaptive])
def test_no_key_is_left_without_expiry(store: redis.Redis, kind: type[Window] | type[Adaptive]) -> None:
    limiter = window(kind, store, limit=1) if issubclass(kind, Window) else kind(lambda: store, "calls")
    limiter.settle(allowed(limiter), Told(refused=True, limit=1, remaining=0, reset=1.0))
    for _ in range(5):
        refused(limiter)
    keys = store.keys("*")
    assert isinstance(keys, list)
    assert keys
    assert all(float(str(store.pttl(key))) > 0 for key in keys)


def test_nothing_is_kept_where_the_limit_is_not_known_and_nothing_was_refused(store: redis.Redis) -> None:
    limiter = Adaptive(lambda: store, "calls")
    for permission in permissions(limiter, 10):
        assert permission.limit is None
        limiter.settle(permission, Told())
    assert store.keys("*") == []


def test_refusals_make_longer_pauses_and_success_shortens_them(store: redis.Redis) -> None:
    limiter = Adaptive(lambda: store, "calls", pause=0.02)
    delays = []
    for _ in range(TOP):
        permission = turn(limiter, "the pause is over")
        limiter.settle(permission, Told(refused=True))
        delays.append(refused(limiter).delay)
    assert all(later > 1.5 * earlier for earlier, later in pairwise(delays))
    for expected in range(TOP - 1, -1, -1):
        for _ in range(PATIENCE):
            limiter.settle(turn(limiter, "its turn"), Told())
        assert store.hget("limiter calls one", "refusals") == str(expected)
    permissions(limiter, 10)


def test_refusals_of_calls_that_were_under_way_together_count_once(store: redis.Redis) -> None:
    limiter = Adaptive(lambda: store, "calls")
    for permission in permissions(limiter, 8):
        limiter.settle(permission, Told(refused=True))
    assert store.hget("limiter calls one", "refusals") == "1"
