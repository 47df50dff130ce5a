import logging
import threading
from collections.abc import Callable

import pytest

from celeryscope.clock import Moment
from celeryscope.errors import StreamError
from celeryscope.supervisor import Backoff, Periodic, RepeatedLines, Supervisor


class ManualClock:
    def __init__(self) -> None:
        self.elapsed = 1000.0

    def now(self) -> Moment:
        return Moment(1_700_000_000.0 + self.elapsed, self.elapsed)


class Scripted:
    """A component that does one step of a script per run."""

    def __init__(self, *steps: Callable[[], None]) -> None:
        self.steps = list(steps)
        self.runs = 0

    def run(self, stop: threading.Event) -> None:
        self.runs += 1
        self.steps.pop(0)()


class Waits:
    """Waiting that takes no time, and stops the supervisor after `limit` waits."""

    def __init__(self, clock: ManualClock, limit: int) -> None:
        self.clock, self.limit, self.seconds = clock, limit, list[float]()

    def __call__(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        self.clock.elapsed += seconds
        return len(self.seconds) >= self.limit


def longest(_: float, ceiling: float) -> float:
    return ceiling


def fail(error: Exception) -> Callable[[], None]:
    def step() -> None:
        raise error

    return step


def supervised(*steps: Callable[[], None], clock: ManualClock | None = None) -> tuple[Scripted, Waits]:
    clock = clock or ManualClock()
    waits, component = Waits(clock, len(steps)), Scripted(*steps)
    supervisor = Supervisor(clock=clock, wait=waits, backoff=lambda: Backoff(uniform=longest))
    supervisor.supervise("celeryscope-stream", component)
    return component, waits


def test_backoff_doubles_up_to_its_limit() -> None:
    lost = [fail(StreamError("lost"))] * 9
    component, waits = supervised(*lost)
    assert component.runs == 9
    assert waits.seconds == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_backoff_has_full_jitter() -> None:
    asked: list[tuple[float, float]] = []

    def middle(low: float, high: float) -> float:
        asked.append((low, high))
        return (low + high) / 2

    backoff = Backoff(1.0, 3.0, uniform=middle)
    assert [backoff.next() for _ in range(3)] == [0.5, 1.0, 1.5]
    assert asked == [(0.0, 1.0), (0.0, 2.0), (0.0, 3.0)]


def test_a_run_that_lasted_starts_the_backoff_anew() -> None:
    clock = ManualClock()

    def works_for_a_minute() -> None:
        clock.elapsed += 60.0
        raise StreamError("lost")

    lost = fail(StreamError("lost"))
    _, waits = supervised(lost, lost, works_for_a_minute, lost, clock=clock)
    assert waits.seconds == [0.1, 0.2, 0.1, 0.2]


def test_a_foreseen_error_is_one_line_and_its_repetitions_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        supervised(*[fail(StreamError("connection refused"))] * 30)
    records = caplog.records
    assert [record.levelname for record in records] == ["WARNING"] * len(records)
    assert all(record.exc_info is None for record in records)
    messages = [record.getMessage() for record in records]
    assert messages[0] == "connection refused"
    # 30 attempts take 126 s.
    assert len(messages) == 2 + 1
    assert messages[1].endswith("connection refused (16 more times since last reported)")


def test_what_costs_every_component_its_connection_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor(wait=lambda _: True)
    with caplog.at_level(logging.WARNING):
        for name in ("celeryscope-stream", "celeryscope-canary"):
            supervisor.supervise(name, Scripted(fail(StreamError("connection refused"))))
    assert [record.getMessage() for record in caplog.records] == ["connection refused"]


def test_a_bug_is_logged_with_its_traceback_once(caplog: pytest.LogCaptureFixture) -> None:
    component, _ = supervised(*[fail(ZeroDivisionError("division by zero"))] * 5)
    assert component.runs == 5
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage() == "celeryscope-stream: ZeroDivisionError: division by zero"
    assert record.exc_info


def test_a_component_that_ends_early_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    component, _ = supervised(lambda: None, lambda: None)
    assert component.runs == 2
    assert [record.getMessage() for record in caplog.records] == ["celeryscope-stream: ended before it was stopped"]


def test_different_lines_are_let_through_and_remembered_in_bounds() -> None:
    lines = RepeatedLines(interval=60.0)
    assert [lines.admit(f"line {number}", 0.0) for number in range(100)] == [0] * 100
    assert lines.admit("line 99", 59.0) is None
    assert lines.admit("line 99", 60.0) == 1
    assert lines.admit("line 99", 120.0) == 0


def test_threads_are_named_daemons_and_all_are_joined() -> None:
    class Waiting:
        def __init__(self) -> None:
            self.thread: threading.Thread | None = None
            self.running = threading.Event()

        def run(self, stop: threading.Event) -> None:
            self.thread = threading.current_thread()
            self.running.set()
            stop.wait()

    supervisor, components = Supervisor(), [Waiting(), Waiting()]
    for number, component in enumerate(components):
        supervisor.start(f"celeryscope-{number}", component)
    for number, component in enumerate(components):
        assert component.running.wait(5)
        assert component.thread is not None
        assert component.thread.daemon
        assert component.thread.name == f"celeryscope-{number}"
    assert supervisor.stop(5.0) == []


def test_stop_interrupts_what_blocks_and_names_what_does_not_end() -> None:
    class Blocking:
        def __init__(self) -> None:
            self.release, self.running = threading.Event(), threading.Event()

        def run(self, stop: threading.Event) -> None:
            self.running.set()
            self.release.wait()

    def cannot() -> None:
        raise OSError("no")

    supervisor = Supervisor()
    interrupted, stuck = Blocking(), Blocking()
    supervisor.start("stuck", stuck, interrupt=cannot)
    supervisor.start("interrupted", interrupted, interrupt=interrupted.release.set)
    assert stuck.running.wait(5)
    assert interrupted.running.wait(5)
    assert supervisor.stop(0.5) == ["stuck"]
    stuck.release.set()


def test_stop_ends_the_wait_between_attempts() -> None:
    supervisor = Supervisor(backoff=lambda: Backoff(60.0, 60.0, uniform=longest))
    failed = threading.Event()

    def step() -> None:
        failed.set()
        raise StreamError("lost")

    supervisor.start("failing", Scripted(step))
    assert failed.wait(5)
    assert supervisor.stop(5.0) == []


def test_periodic_acts_at_once_and_waits_with_jitter() -> None:
    class Stop(threading.Event):
        waits: list[float | None]

        def __init__(self) -> None:
            super().__init__()
            self.waits = []

        def wait(self, timeout: float | None = None) -> bool:
            self.waits.append(timeout)
            if len(self.waits) == 3:
                self.set()
            return self.is_set()

    stop, actions = Stop(), list[int]()
    picks = [0.9, 1.0, 1.1]

    def pick(low: float, high: float) -> float:
        assert (low, high) == (0.9, 1.1)
        return picks.pop(0)

    Periodic(30.0, 0.1, lambda: actions.append(len(stop.waits)), uniform=pick).run(stop)
    assert actions == [0, 1, 2]
    assert stop.waits == pytest.approx([27.0, 30.0, 33.0])
