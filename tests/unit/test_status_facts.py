"""What the status page is told: read from a store's series, and nothing made up."""

from math import inf

import pytest

from celeryscope import runbooks
from celeryscope.clock import Moment
from celeryscope.metrics import catalog
from celeryscope.metrics.catalog import ALL
from celeryscope.metrics.store import Store
from celeryscope.status import reading
from celeryscope.status.facts import Connection, QueueRow, Status, Total, WorkerRow
from celeryscope.status.history import FAILURE_WINDOW, MAX_FAILURES, History
from celeryscope.status.reading import MOST_ROWS, Surroundings

WALL, START = 1_700_000_000.0, 1_000.0


class Page:
    """A store, a history and a clock that a test moves."""

    def __init__(self) -> None:
        self.store = Store(ALL)
        self.history = History(START)
        self.elapsed = START

    def look(self) -> None:
        series = reading.series(self.store, reading.COUNTED)
        self.history.take(self.elapsed, *reading.totals(series))

    def status(self, *advice: str, connection: Connection | None = None, deaf_after: float = inf) -> Status:
        now = Moment(WALL, self.elapsed)
        around = Surroundings(START, "redis://h/0", connection, deaf_after, advice)
        return reading.status(reading.series(self.store), self.history, now, around)

    def events(self, number: float, type: str = "task-started") -> None:
        self.store.increment(catalog.EXPORTER_EVENTS, (type,), number)

    def fail(self, task: str, number: float = 1, exception: str = "ValueError", outcome: str = "failed") -> None:
        self.store.increment(catalog.TASK_EXCEPTIONS, (task, "q", exception, outcome), number)

    def queue(self, name: str, **values: float) -> None:
        specs = {
            "length": catalog.QUEUE_LENGTH,
            "workers": catalog.QUEUE_WORKERS,
            "objective": catalog.QUEUE_WAIT_OBJECTIVE,
            "oldest": catalog.QUEUE_OLDEST,
        }
        for key, value in values.items():
            self.store.set(specs[key], (name,), value)


@pytest.fixture
def page() -> Page:
    return Page()


class TestWhatIsNotKnown:
    def test_an_empty_store_tells_nothing(self, page: Page) -> None:
        status = page.status()
        assert (status.waiting, status.active, status.slots) == (Total(), Total(), Total())
        assert (status.traffic.rate, status.traffic.lost, status.traffic.round_trip) == (None, None, None)
        assert (status.workers.shown, status.queues.shown, status.failures.shown) == ((), (), ())
        assert status.findings == ()

    def test_a_queue_of_which_only_the_objective_is_known(self, page: Page) -> None:
        page.queue("mail", objective=60)
        assert page.status().queues.shown == (QueueRow("mail", objective=60.0),)

    def test_a_worker_that_answers_and_never_beat(self, page: Page) -> None:
        page.store.set(catalog.WORKER_CONCURRENCY, ("w@h",), 4)
        assert page.status().workers.shown == (WorkerRow("w@h", up=None, concurrency=4),)
        assert page.status().workers_up == 0

    def test_losses_are_unknown_until_a_worker_sends_events(self, page: Page) -> None:
        page.store.cell(catalog.WORKER_EVENTS_LOST, ("w@h",))
        assert page.status().traffic.lost is None
        page.store.set(catalog.WORKER_TASK_EVENTS_ENABLED, ("w@h",), 1)
        assert page.status().traffic.lost == 0


class TestEventRate:
    def test_since_the_start_while_that_is_less_than_a_minute_ago(self, page: Page) -> None:
        page.elapsed += 10
        page.events(50)
        assert (page.status().traffic.rate, page.status().traffic.window) == (5.0, 10.0)

    def test_then_over_the_last_minute(self, page: Page) -> None:
        page.events(100_000)
        for _ in range(30):
            page.elapsed += 10
            page.look()
        page.events(30)
        assert (page.status().traffic.rate, page.status().traffic.window) == (0.5, 60.0)

    def test_within_the_first_second_there_is_none(self, page: Page) -> None:
        page.elapsed += 0.5
        page.events(50)
        assert page.status().traffic.rate is None

    def test_while_nothing_can_be_heard_there_is_none(self, page: Page) -> None:
        page.elapsed += 10
        assert page.status(connection=Connection(open=False, seconds=5.0)).traffic.rate is None

    def test_what_came_before_the_connection_was_lost_and_found_is_left_out(self, page: Page) -> None:
        page.events(1_000)
        for _ in range(3):
            page.elapsed += 10
            page.look()
        page.events(50)
        page.elapsed += 5
        assert page.status(connection=Connection(open=True, seconds=4.0)).traffic.rate is None
        traffic = page.status(connection=Connection(open=True, seconds=15.0)).traffic
        assert (traffic.rate, traffic.window) == (50 / 15, 15.0)

    def test_our_own_canaries_are_not_counted(self, page: Page) -> None:
        page.elapsed += 10
        page.events(50, "celeryscope-canary")
        assert page.status().traffic.rate == 0.0


class TestHearing:
    def test_without_canaries_for_long_nothing_proves_it(self, page: Page) -> None:
        page.elapsed += 100
        connection = Connection(open=True, seconds=99.0)
        assert page.status(connection=connection, deaf_after=120).findings == ()
        status = page.status(connection=connection, deaf_after=37.5)
        assert (status.traffic.unproved, status.traffic.rate) == (True, None)
        assert status.findings[0].text == "Nothing proves that events are heard: no canary ever came back"

    def test_events_that_come_are_counted_all_the_same(self, page: Page) -> None:
        page.elapsed += 100
        page.look()
        page.elapsed += 10
        page.events(50)
        assert page.status(connection=Connection(open=True, seconds=99.0), deaf_after=37.5).traffic.rate == 5.0

    def test_the_first_canary_after_connecting_is_waited_for(self, page: Page) -> None:
        page.store.set(catalog.EXPORTER_CANARY_LAST_SUCCESS, (), WALL - 900)
        for seconds, unproved in ((1.0, False), (9.0, True)):
            found = page.status(connection=Connection(open=True, seconds=seconds), deaf_after=37.5)
            assert found.traffic.unproved is unproved
        assert not page.status(connection=Connection(open=False, seconds=9.0), deaf_after=37.5).traffic.unproved

    def test_where_none_is_sent_none_is_missed(self, page: Page) -> None:
        page.elapsed += 9_000
        assert not page.status(connection=Connection(open=True, seconds=8_999.0)).traffic.unproved


class TestFailures:
    def test_the_most_frequent_of_late_first_over_all_queues(self, page: Page) -> None:
        page.fail("old", 100)
        page.look()
        for _ in range(40):
            page.elapsed += 10
            page.look()
        page.fail("new", 2)
        page.store.increment(catalog.TASK_EXCEPTIONS, ("new", "other queue", "ValueError", "failed"))
        page.look()
        shown = [(row.task, row.recent, row.total) for row in page.status().failures.shown]
        assert shown == [("new", 3, 3), ("old", 0, 100)]
        assert page.status().failure_window == FAILURE_WINDOW

    def test_retries_are_no_failures(self, page: Page) -> None:
        page.fail("a", outcome="retried")
        assert page.status().failures.shown == ()

    def test_what_came_since_the_last_look_counts(self, page: Page) -> None:
        page.elapsed += 10
        page.look()
        page.elapsed += 5
        page.fail("a", 7)
        assert page.status().failures.shown[0].recent == 7
        assert page.status().failure_window == 15.0

    def test_a_series_that_was_forgotten_and_came_back_counts_anew(self, page: Page) -> None:
        page.fail("a", 50)
        page.look()
        page.elapsed += FAILURE_WINDOW
        page.look()
        page.store.purge({"task": "a"})
        page.fail("a", 3)
        assert [(row.recent, row.total) for row in page.status().failures.shown] == [(3, 3)]

    def test_memory_is_bounded(self, page: Page) -> None:
        for number in range(MAX_FAILURES + 500):
            page.fail(f"task {number}", 1 + (number == 7))
        for _ in range(1000):
            page.elapsed += 10
            page.look()
        assert len(page.history._looks) <= FAILURE_WINDOW / 10 + 2
        assert sum(len(look.failures) for look in page.history._looks) <= MAX_FAILURES


class TestRows:
    def test_only_the_worst_are_shown_and_the_others_counted(self, page: Page) -> None:
        for number in range(MOST_ROWS + 5):
            page.queue(f"q{number:02}", length=number)
        queues = page.status().queues
        assert (len(queues.shown), queues.more, queues.shown[0].length) == (MOST_ROWS, 5, MOST_ROWS + 4)
        assert page.status().waiting == Total(sum(range(MOST_ROWS + 5)))

    def test_queues_nobody_takes_from_come_first_then_those_that_are_late(self, page: Page) -> None:
        page.queue("long", length=9_000, workers=2, oldest=WALL - 5, objective=60)
        page.queue("late", length=3, workers=1, oldest=WALL - 90, objective=60)
        page.queue("later", length=3, workers=1, oldest=WALL - 900, objective=60)
        page.queue("deserted", length=1, workers=0, oldest=WALL - 5, objective=60)
        assert [row.name for row in page.status().queues.shown] == ["deserted", "later", "late", "long"]

    def test_workers_that_are_gone_come_first(self, page: Page) -> None:
        for name, up in (("a@h", 1), ("b@h", 0), ("c@h", 1)):
            page.store.set(catalog.WORKER_UP, (name,), up)
        page.store.set(catalog.WORKER_TASKS_ACTIVE, ("c@h",), 3)
        page.store.increment(catalog.WORKER_LOST, ("b@h",), 2)
        status = page.status()
        assert [(row.name, row.up, row.lost) for row in status.workers.shown] == [
            ("b@h", False, 2),
            ("c@h", True, 0),
            ("a@h", True, 0),
        ]
        assert (status.workers_up, status.workers_gone, status.active) == (2, 1, Total(3, 1))

    def test_a_clock_that_runs_ahead_makes_no_negative_age(self, page: Page) -> None:
        page.queue("q", length=1, oldest=WALL + 5)
        page.store.set(catalog.WORKER_UP, ("w@h",), 1)
        page.store.set(catalog.WORKER_LAST_HEARTBEAT, ("w@h",), WALL + 5)
        page.store.set(catalog.EXPORTER_CANARY_LAST_SUCCESS, (), WALL + 5)
        status = page.status()
        ages = status.queues.shown[0].oldest_age, status.workers.shown[0].heartbeat_age, status.traffic.canary_age
        assert ages == (0.0, 0.0, 0.0)


def broken(page: Page) -> None:
    store = page.store
    store.set(catalog.BROKER_ALARM, ("disk",), 1)
    store.set(catalog.BROKER_UP, (), 0)
    store.set(catalog.BROKER_MEMORY_USED, (), 90)
    store.set(catalog.BROKER_MEMORY_MAX, (), 100)
    store.set(catalog.BROKER_EVICTION_POLICY, ("allkeys-lru",), 1)
    store.set(catalog.EXPORTER_POLL_SUCCESS, ("queues",), 0)
    store.set(catalog.EXPORTER_POLL_LAST_SUCCESS, ("queues",), WALL - 70)
    store.set(catalog.EXPORTER_POLL_SUCCESS, ("workers",), 0)
    page.queue("deserted", length=1, workers=0)
    page.queue("late", length=1, workers=1, oldest=WALL - 90, objective=60)
    store.increment(catalog.WORKER_EVENTS_LOST, ("w@h",), 3)
    store.increment(catalog.EXPORTER_SERIES_DROPPED, ("celery_task_sent_total",))
    store.set(catalog.WORKER_CLOCK_SKEW, ("w@h",), -60)
    store.set(catalog.EXPORTER_CANARY_LAST_SUCCESS, (), WALL - 90)
    page.elapsed += 10


class TestFindings:
    def test_each_is_told_with_its_runbook(self, page: Page) -> None:
        broken(page)
        assert [
            (finding.text, finding.runbook) for finding in page.status("start them with -E", deaf_after=37.5).findings
        ] == [
            ("The broker blocks publishers for want of disk", "CeleryBrokerAlarm"),
            ("A connection to the broker is refused or lost: the log says which", "CeleryBrokerDown"),
            ("The broker uses 90% of its memory", "CeleryBrokerMemoryHigh"),
            (
                "The broker may evict queues for want of memory: its policy is allkeys-lru, not noeviction",
                "CeleryBrokerEvictionPolicyUnsafe",
            ),
            ("The last poll of the queues failed: the last that succeeded was 70 s ago", "CeleryPollStale"),
            ("The last poll of the workers failed: none ever succeeded", "CeleryPollStale"),
            ("Tasks wait where no worker takes them: deserted", "CeleryQueueWithoutWorkers"),
            ("Tasks wait for longer than they may: late", "CeleryQueueOldestTaskTooOld"),
            ("Nothing proves that events are heard: the last canary came back 90 s ago", "CeleryExporterDeaf"),
            ("3 task events since the start never arrived here", "CeleryEventsLost"),
            ("Series found no room: their numbers are folded into __overflow__", "CelerySeriesBudgetReached"),
            ("The clocks of workers are wrong: w@h", "CeleryWorkerClockSkew"),
            ("Start them with -E", ""),
        ]

    def test_every_runbook_exists(self, page: Page) -> None:
        broken(page)
        assert {finding.runbook for finding in page.status().findings} <= set(runbooks.names())

    def test_a_healthy_cluster_has_none(self, page: Page) -> None:
        store = page.store
        store.set(catalog.BROKER_ALARM, ("disk",), 0)
        store.set(catalog.BROKER_UP, (), 1)
        store.set(catalog.BROKER_MEMORY_USED, (), 50)
        store.set(catalog.BROKER_MEMORY_MAX, (), 100)
        store.set(catalog.BROKER_EVICTION_POLICY, ("noeviction",), 1)
        store.set(catalog.EXPORTER_POLL_SUCCESS, ("queues",), 1)
        store.set(catalog.EXPORTER_CANARY_LAST_SUCCESS, (), WALL - 20)
        page.elapsed += 10
        page.queue("empty", length=0, workers=0)
        page.queue("busy", length=9, workers=1, oldest=WALL - 30, objective=60)
        store.cell(catalog.WORKER_EVENTS_LOST, ("w@h",))
        store.set(catalog.WORKER_CLOCK_SKEW, ("w@h",), 0.5)
        assert page.status(deaf_after=37.5).findings == ()

    def test_many_names_are_counted(self, page: Page) -> None:
        for number in range(9):
            page.queue(f"q{number}", length=1, workers=0)
        assert page.status().findings[0].text == "Tasks wait where no worker takes them: q0, q1, q2 and 6 more"


def test_a_full_store_is_read_in_bounded_time_and_shows_a_bounded_page(page: Page) -> None:
    for number in range(10_000):
        page.store.set(catalog.WORKER_UP, (f"w{number}@h",), 1)
        page.queue(f"q{number}", length=number)
        page.fail(f"t{number}")
    status = page.status()
    rows = (status.workers, status.queues, status.failures)
    assert [(len(found.shown), found.more) for found in rows] == [(MOST_ROWS, 10_000 - MOST_ROWS)] * 3
