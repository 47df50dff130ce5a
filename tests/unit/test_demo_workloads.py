"""The demo's workloads: what a batch, a walker, a feeder and a lock do, against a real Valkey."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from kombu import pools
from redis.exceptions import LockNotOwnedError

from celeryscope_demo import environment, locks, simulation
from celeryscope_demo import store as stores
from celeryscope_demo.app import app
from celeryscope_demo.locks import FencedLock, Overtaken
from celeryscope_demo.queues import LOW, QUEUES, TRICKLE
from celeryscope_demo.schedule import SCHEDULE
from celeryscope_demo.workloads import IDS, etl, feeds, mail, media, pages, priorities, sessions, trickle
from celeryscope_demo.workloads import locks as search
from celeryscope_demo.workloads.all import WORKLOADS
from support.servers import Valkey
from support.waiting import wait_until

LEASE = 60.0  # seconds: longer than any test
BROKER, STORE = 5, 0  # databases; the application's own is the first

Call = tuple[str, list[Any], dict[str, Any]]


@pytest.fixture
def store(valkey_server: Valkey, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """The application's store and, in another database, its broker; work takes no time."""
    monkeypatch.setenv(environment.STORE_URL, valkey_server.url.rpartition("/")[0])
    monkeypatch.setenv("CELERY_BROKER_URL", valkey_server.database_url(BROKER))
    monkeypatch.setattr(simulation, "duration", lambda *_: 0.0)
    stores.store.cache_clear()
    app._after_fork()
    yield stores.store()
    stores.store().close()
    stores.store.cache_clear()
    app._after_fork()
    pools.reset()


def take(queue: str) -> Any:
    """The next message of a queue, or None."""
    with app.connection_or_acquire() as connection:
        return connection.default_channel.basic_get(queue, no_ack=True)


def run_next(queue: str) -> Call | None:
    """Take the next message of a queue and run its task here; return what was called."""
    message = take(queue)
    if message is None:
        return None
    args, kwargs, _ = message.decode()
    name = message.headers["task"]
    app.tasks[name](*args, **kwargs)
    return name, args, kwargs


def run_all() -> list[Call]:
    """Run what waits in any queue, and what that sends, until nothing is left; return all calls in order."""
    calls: list[Call] = []
    while found := [call for call in (run_next(queue.name) for queue in QUEUES) if call is not None]:
        calls += found
    return calls


def named(calls: list[Call], name: str) -> list[list[Any]]:
    """The arguments of the calls of one task."""
    return [args for task, args, _ in calls if task == name]


def test_every_task_of_the_schedule_exists() -> None:
    assert {str(entry["task"]) for entry in SCHEDULE.values()} <= set(app.tasks)


def test_no_two_workloads_that_are_always_on_share_a_name() -> None:
    usual = Counter(workload.name for workload in WORKLOADS if workload.incident is None)
    assert set(usual.values()) == {1}


@pytest.mark.parametrize("module", [etl, feeds, mail, media, pages, priorities, search, sessions])
def test_the_same_seed_sends_the_same(store: redis.Redis, module: Any) -> None:
    def sent() -> list[Any]:
        for workload in module.WORKLOADS:
            workload.start(random.Random(7))
        messages = []
        for queue in QUEUES:
            while message := take(queue.name):
                messages.append((queue.name, message.headers["task"], message.decode()[:2]))
        return messages

    assert sent() == sent()


class TestFeeds:
    CELEBRITY, ANYBODY = feeds.CELEBRITIES - 1, feeds.CELEBRITIES

    @pytest.mark.parametrize("followers", [0, 1, feeds.BATCH - 1, feeds.BATCH, feeds.BATCH + 1, feeds.MILLION])
    def test_batches_cover_every_follower_exactly_once(self, followers: int) -> None:
        cursor, covered = 0, []
        while batch := feeds.batch_of(followers, cursor):
            covered += list(batch)
            cursor = batch.stop
        assert covered == list(range(followers))

    def test_a_chain_runs_each_batch_of_a_million_once(self, store: redis.Redis) -> None:
        feeds.fan_out.delay(1, self.CELEBRITY)
        cursors = [[*args, 0][2] for args in named(run_all(), "feeds.fan_out")]
        assert cursors == list(range(0, feeds.MILLION, feeds.BATCH))

    def test_few_followers_are_one_batch(self, store: redis.Redis) -> None:
        feeds.fan_out.delay(1, self.ANYBODY)
        assert len(run_all()) == 1

    def test_the_next_batch_is_sent_before_this_one_is_worked_on(
        self, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(*_: object) -> None:
            raise SystemExit

        monkeypatch.setattr(feeds, "work", die)
        with suppress(SystemExit):
            feeds.fan_out(1, self.CELEBRITY)
        assert trickle.waiting("demo-feeds") == 1

    def test_a_batch_that_is_done_starts_no_second_chain(self, store: redis.Redis) -> None:
        feeds.fan_out(1, self.CELEBRITY)
        assert trickle.waiting("demo-feeds") == 1
        assert feeds.fan_out(1, self.CELEBRITY) == "done before"
        assert trickle.waiting("demo-feeds") == 1


class TestPages:
    @pytest.fixture
    def kept(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The pages that were stored, in order."""
        stored: list[int] = []
        monkeypatch.setattr(pages, "keep", lambda _, page: stored.append(page))
        return stored

    @staticmethod
    def _known(listing_id: int) -> None:
        pages.import_known.delay(listing_id)

    @staticmethod
    def _walked(listing_id: int) -> None:
        pages.start_walkers(listing_id, "run")

    @staticmethod
    def _followed(listing_id: int) -> None:
        pages.follow.delay(listing_id, "run")

    @pytest.mark.parametrize("listing_id", range(5))
    @pytest.mark.parametrize("start", [_known, _walked, _followed])
    def test_each_way_stores_every_page_once(
        self, store: redis.Redis, kept: list[int], start: Callable[[int], None], listing_id: int
    ) -> None:
        start(listing_id)
        run_all()
        assert sorted(kept) == list(range(pages.pages_of(listing_id)))

    def test_every_walker_stops_at_its_first_empty_page(self, store: redis.Redis) -> None:
        self._walked(1)
        walked = [args[2] for args in named(run_all(), "pages.walk")]
        assert sorted(walked) == list(range(pages.pages_of(1) + pages.WALKERS))

    def test_a_walker_that_is_delivered_twice_leaves_no_page_out_and_stops(
        self, store: redis.Redis, kept: list[int]
    ) -> None:
        self._walked(1)
        pages.walk(1, "run", 0)
        run_all()
        assert set(kept) == set(range(pages.pages_of(1)))

    def test_a_walker_that_dies_before_it_sent_the_next_loses_no_page(
        self, store: redis.Redis, kept: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as dying:
            dying.setattr(pages.walk, "delay", lambda *_: 1 / 0)
            with suppress(ZeroDivisionError):
                pages.walk(1, "run", 0)
        self._walked(1)
        run_all()
        assert set(kept) == set(range(pages.pages_of(1)))

    def test_a_second_chain_of_cursors_ends_at_the_first_page_that_is_done(
        self, store: redis.Redis, kept: list[int]
    ) -> None:
        self._followed(1)
        assert run_next("demo-calls")
        assert pages.follow(1, "run") == "done before"
        run_all()
        assert kept == list(range(pages.pages_of(1)))

    def test_a_cursor_makes_one_request_per_page(self, store: redis.Redis) -> None:
        self._followed(1)
        assert [[*args, 0][2] for args in named(run_all(), "pages.follow")] == list(range(pages.pages_of(1)))


class TestMail:
    def test_a_flood_stands_in_the_queue_at_once(self, store: redis.Redis) -> None:
        mail.send_flood("m", mail.FLOOD)
        assert trickle.waiting("demo-mail") == mail.FLOOD

    def test_chunks_keep_the_queue_short(self, store: redis.Redis) -> None:
        mail.send_chunk.delay("m", mail.PACED)
        longest = 0
        while run_next("demo-mail"):
            longest = max(longest, trickle.waiting("demo-mail"))
        assert longest == mail.CHUNK + 1

    @pytest.mark.parametrize("recipients", [1, mail.CHUNK, mail.CHUNK + 1, mail.PACED])
    def test_chunks_reach_every_recipient_once(self, store: redis.Redis, recipients: int) -> None:
        mail.send_chunk.delay("m", recipients)
        assert [args[1] for args in named(run_all(), "mail.deliver")] == list(range(recipients))

    def test_a_chunk_that_was_done_is_not_sent_again(self, store: redis.Redis) -> None:
        mail.send_chunk("m", mailed := mail.PACED)
        waiting = trickle.waiting("demo-mail")
        mail.send_chunk("m", mailed)
        assert trickle.waiting("demo-mail") == waiting == mail.CHUNK + 1

    def test_a_recipient_has_a_mailing_once(self, store: redis.Redis) -> None:
        assert [mail.deliver("m", 1), mail.deliver("m", 1)] == ["delivered", "has it already"]
        assert [mail.deliver("m", 2), mail.deliver("n", 1)] == ["delivered", "delivered"]

    def test_a_delivery_that_fails_may_be_tried_again(
        self, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as broken:
            broken.setattr(mail, "work", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                mail.deliver("m", 1)
        assert mail.deliver("m", 1) == "delivered"


def test_a_video_is_taken_up_where_it_was_left(store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def die_in_the_third(_: float, __: int, rendition: str) -> None:
        begun.append(rendition)
        if len(begun) == 3:
            raise SystemExit

    monkeypatch.setattr(media, "work", die_in_the_third)
    with suppress(SystemExit):
        media.transcode(1)
    media.transcode(1)
    assert begun == [*media.RENDITIONS[:3], *media.RENDITIONS[2:]]


def test_reports_are_delivered_by_urgency(store: redis.Redis) -> None:
    priorities._reports(random.Random(1))
    urgencies = []
    while message := take(LOW):
        urgencies.append(9 - message.properties["priority"])
    assert len(urgencies) == priorities.REPORTS
    assert urgencies == sorted(urgencies, reverse=True)
    assert set(urgencies) == set(priorities.URGENCIES)


class TestTrickle:
    def test_a_feeder_goes_on_where_the_last_one_stopped(self, store: redis.Redis) -> None:
        trickle.feed()
        run_all()
        stores.store.cache_clear()  # another process
        trickle.feed()
        photos = [args[0] for args in named(run_all(), "trickle.migrate")]
        assert photos == list(range(trickle.PORTION, 2 * trickle.PORTION))

    def test_it_feeds_only_while_the_queue_is_nearly_empty(self, store: redis.Redis) -> None:
        trickle.feed()
        assert trickle.waiting(TRICKLE) == trickle.PORTION > trickle.ENOUGH
        assert trickle.feed() == "enough is waiting"
        assert trickle.waiting(TRICKLE) == trickle.PORTION
        run_next(TRICKLE)
        assert trickle.feed() == f"fed up to {2 * trickle.PORTION}"

    def test_a_second_feeder_at_the_same_time_feeds_nothing(self, store: redis.Redis) -> None:
        with locks.held(store, trickle.JOB, LEASE):
            assert trickle.feed() == "another feeds"
        assert trickle.waiting(TRICKLE) == 0

    def test_it_ends_with_the_last_photo(self, store: redis.Redis) -> None:
        store.hset(trickle.JOB, trickle.CURSOR, str(IDS - 1))
        assert trickle.feed() == f"fed up to {IDS}"
        assert named(run_all(), "trickle.migrate") == [[IDS - 1]]
        assert trickle.feed() == "all is fed"


class TestSessions:
    def test_expired_ones_go_in_slices_and_the_others_stay(self, store: redis.Redis) -> None:
        now = time.time()
        count = 2 * sessions.SLICE + 1
        for session in range(count):
            sessions.log_in(session, now - 2 * sessions.LIFETIME)
        sessions.log_in(count, now + sessions.LIFETIME)
        sessions.purge.delay()
        assert len(run_all()) == 3
        assert store.zrange(sessions.SESSIONS, 0, -1) == [str(count)]

    def test_two_purges_at_once_both_end(self, store: redis.Redis) -> None:
        for session in range(2 * sessions.SLICE):
            sessions.log_in(session, 0.0)
        sessions.purge.delay()
        sessions.purge.delay()
        run_all()
        assert store.zcard(sessions.SESSIONS) == 0


class TestLocks:
    def test_two_holders_never_hold_it_at_once(self, store: redis.Redis, valkey_server: Valkey) -> None:
        inside: list[int] = []
        most: list[int] = []
        fences: list[int] = []
        turns = 20
        done = threading.Event()

        def compete(number: int) -> None:
            client = valkey_server.client()
            while not done.is_set():
                with locks.held(client, "l", LEASE) as lock:
                    if lock is None:
                        continue
                    inside.append(number)
                    client.ping()  # gives the others a chance to come in
                    most.append(len(inside))
                    fences.append(lock.fence)
                    inside.remove(number)
                    if len(fences) >= turns:
                        done.set()
            client.close()

        threads = [threading.Thread(target=compete, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(most) == {1}
        assert fences == sorted(set(fences))

    def test_locks_of_many_names_leave_one_key(self, store: redis.Redis) -> None:
        for name in range(5):
            with locks.held(store, str(name), LEASE) as lock:
                assert lock
        assert store.keys("*") == [locks.FENCES]

    def test_it_is_free_after_the_block_even_where_that_fails(self, store: redis.Redis) -> None:
        with suppress(ZeroDivisionError), locks.held(store, "l", LEASE) as lock:
            assert lock
            raise ZeroDivisionError
        with locks.held(store, "l", LEASE) as again:
            assert again

    def test_a_holder_that_dies_blocks_nobody_for_longer_than_its_lease(self, store: redis.Redis) -> None:
        dead = FencedLock(store, "lock l", timeout=0.05)
        assert dead.acquire(blocking=False)

        def taken() -> bool:
            with locks.held(store, "l", LEASE) as lock:
                return lock is not None

        wait_until(taken, 10.0, "another can take it")

    @pytest.fixture
    def expired(self, store: redis.Redis) -> FencedLock:
        """The lock of a holder that was paused beyond its expiry."""
        lock = FencedLock(store, "lock l", timeout=0.02)
        assert lock.acquire(blocking=False)
        wait_until(lambda: not store.exists("lock l"), 10.0, "it has run out")
        return lock

    def test_an_owner_whose_lock_ran_out_cannot_release_or_prolong_anothers(
        self, store: redis.Redis, expired: FencedLock
    ) -> None:
        with locks.held(store, "l", LEASE) as lock:
            assert lock
            with pytest.raises(Overtaken):
                expired.prolong()
            with pytest.raises(LockNotOwnedError):
                expired.release()
            assert lock.owned()
            assert store.pttl("lock l") > 1000 * LEASE / 2

    def test_a_block_that_lasts_beyond_the_expiry_leaves_anothers_lock_alone(self, store: redis.Redis) -> None:
        with locks.held(store, "l", LEASE) as first:
            assert first
            store.delete("lock l")  # as its expiry does
            second = FencedLock(store, "lock l", timeout=LEASE)
            assert second.acquire(blocking=False)
        assert second.owned()

    def test_what_an_overtaken_holder_writes_is_refused(self, store: redis.Redis, expired: FencedLock) -> None:
        locks.write(store, "index", expired, "part", "early")
        with locks.held(store, "l", LEASE) as lock:
            assert lock
            assert lock.fence > expired.fence
            locks.write(store, "index", lock, "part", "new")
            with pytest.raises(Overtaken):
                locks.write(store, "index", expired, "part", "late")
        assert store.hget("index", "part") == "new"

    def test_prolonging_gives_the_whole_lease_again(self, store: redis.Redis) -> None:
        with locks.held(store, "l", LEASE) as lock:
            assert lock
            store.pexpire("lock l", 1000)
            lock.prolong()
            assert store.pttl("lock l") > 1000 * LEASE / 2

    def test_a_second_rebuild_ends_at_once_and_says_so(self, store: redis.Redis) -> None:
        with locks.held(store, search.LOCK, LEASE):
            assert search.rebuild_search() == "another rebuild runs"
        assert search.rebuild_search() == f"rebuilt {search.PARTS} parts"

    def test_a_rebuild_that_was_overtaken_stops(self, store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
        def pause(_: float, __: int, part: int) -> None:
            if part == 3:
                store.delete(f"lock {search.LOCK}")

        monkeypatch.setattr(search, "work", pause)
        assert search.rebuild_search().startswith("left to another")
        assert set(store.hkeys(search.INDEX)) == {locks.FENCE, "part 0", "part 1", "part 2"}
