"""Which workers are asked to send task events, and when."""

import logging
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from celeryscope.clock import SystemClock
from celeryscope.errors import PollError
from celeryscope.loops.core import Core
from celeryscope.loops.switching import MOST_NAMES, MOST_SAID, EventSwitching
from celeryscope.metrics.health import ExporterHealth
from celeryscope.pollers.mailbox import Commands, Replies
from celeryscope.pollers.task_events import (
    COMMAND,
    GIVEN_UP,
    LONGEST_PAUSE,
    SWITCHED_ON,
    Outcome,
    TaskEventsSwitch,
    is_success,
)
from celeryscope.readings import EventSender
from support.story import WORKER, Story

A, B = "celery@a", "celery@b"
ON: Any = {"ok": SWITCHED_ON}
ALREADY: Any = {"ok": "task events already enabled"}


class FakeMailbox:
    """Notes what was asked of whom, and answers what a test says."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.answers: dict[str, Any] = {A: ON, B: ON}
        self.error: PollError | None = None
        self.is_open = False

    def ask(self, commands: Commands, destination: Sequence[str] | None) -> Replies:
        assert dict(commands) == {COMMAND: {}}
        assert destination, "never everybody, who could be anybody"
        self.asked.append(list(destination))
        self.is_open = True
        if self.error is not None:
            raise self.error
        return {name: {COMMAND: self.answers[name]} for name in destination if name in self.answers}

    def close(self) -> None:
        self.is_open = False


class Rounds:
    """A switch, its mailbox, and the time."""

    def __init__(self) -> None:
        self.mailbox = FakeMailbox()
        self.now = 1000.0
        self._switch = TaskEventsSwitch(self.mailbox)

    def look(self, *senders: EventSender, after: float = 0.0) -> Outcome:
        self.now += after
        return self._switch.switch_on(senders, self.now)

    def sender(self, worker: str = A, **known: Any) -> EventSender:
        """A worker that is up, beats, and has not been heard to send task events."""
        facts = {"life": 0, "sends": None, "processed": 0, "beat_at": None, "can_answer": True} | known
        if facts["beat_at"] is None:
            facts["beat_at"] = float("inf")
        return EventSender(worker, **facts)

    def for_an_hour(self, **known: Any) -> int:
        """Look every second for an hour; return how often the worker was asked."""
        before = len(self.mailbox.asked)
        for _ in range(3600):
            self.look(self.sender(**known), after=1)
        return len(self.mailbox.asked) - before


@pytest.fixture
def rounds() -> Rounds:
    return Rounds()


def test_workers_that_appear_are_asked_together_and_once(rounds: Rounds) -> None:
    outcome = rounds.look(rounds.sender(A), rounds.sender(B))
    assert rounds.mailbox.asked == [[A, B]]
    assert outcome.switched_on == (A, B)
    assert rounds.for_an_hour() == 0


def test_no_connection_is_kept_between_requests(rounds: Rounds) -> None:
    rounds.look(rounds.sender())
    assert not rounds.mailbox.is_open


def test_nobody_to_ask_is_nothing_to_send(rounds: Rounds) -> None:
    assert rounds.look() == Outcome()
    assert rounds.mailbox.asked == []


def test_one_that_sends_is_not_asked(rounds: Rounds) -> None:
    assert rounds.for_an_hour(sends=True) == 0


def test_one_that_sends_already_but_has_not_worked_is_asked_once_and_not_reported(rounds: Rounds) -> None:
    rounds.mailbox.answers[A] = ALREADY
    assert rounds.look(rounds.sender()).switched_on == ()
    assert rounds.for_an_hour() == 0


def test_a_restarted_worker_is_asked_again_at_once(rounds: Rounds) -> None:
    rounds.look(rounds.sender())
    assert rounds.look(rounds.sender(life=1), after=0.5).switched_on == (A,)


def test_one_that_was_away_is_asked_again(rounds: Rounds) -> None:
    rounds.look(rounds.sender())
    rounds.look(after=1)
    rounds.look(rounds.sender(), after=1)
    assert len(rounds.mailbox.asked) == 2


def test_one_that_does_not_answer_is_asked_again_soon_and_then_ever_more_seldom(rounds: Rounds) -> None:
    rounds.mailbox.answers.clear()
    times: list[float] = []
    for _ in range(300):
        before = len(rounds.mailbox.asked)
        rounds.look(rounds.sender(), after=1)
        if len(rounds.mailbox.asked) > before:
            times.append(rounds.now)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[:6] == [2, 4, 8, 16, 32, LONGEST_PAUSE]
    assert set(pauses[6:]) == {LONGEST_PAUSE}


def test_one_that_never_answers_is_reported_once(rounds: Rounds) -> None:
    rounds.mailbox.answers[A] = {"error": "event dispatcher unavailable"}
    reported = [rounds.look(rounds.sender(), after=60).unmoved for _ in range(3 * GIVEN_UP)]
    assert [names for names in reported if names] == [(A,)]


def test_one_that_is_silent_since_it_was_asked_is_never_asked_twice(rounds: Rounds) -> None:
    rounds.mailbox.answers.clear()
    rounds.look(rounds.sender(beat_at=rounds.now - 1))
    assert rounds.for_an_hour(beat_at=rounds.now + 0.5) == 0
    assert rounds.for_an_hour(beat_at=rounds.now) > 0


def test_one_that_is_known_to_be_busy_is_not_asked(rounds: Rounds) -> None:
    assert rounds.for_an_hour(can_answer=False) == 0
    rounds.look(rounds.sender())
    assert len(rounds.mailbox.asked) == 1


def test_one_that_is_proven_mute_is_asked_again_but_once_a_minute(rounds: Rounds) -> None:
    rounds.look(rounds.sender())
    rounds.mailbox.answers[A] = ALREADY
    for second in range(1, 601):
        rounds.look(rounds.sender(sends=False, processed=second), after=1)
    assert len(rounds.mailbox.asked) == 1 + 600 / LONGEST_PAUSE


def test_one_that_was_proven_mute_and_has_done_nothing_since_is_left_alone(rounds: Rounds) -> None:
    rounds.look(rounds.sender(sends=False, processed=7))
    assert rounds.for_an_hour(sends=False, processed=7) == 0


def test_a_broker_that_fails_is_an_error_and_closes_the_connection(rounds: Rounds) -> None:
    rounds.mailbox.error = PollError("refused")
    with pytest.raises(PollError):
        rounds.look(rounds.sender(beat_at=rounds.now))
    assert not rounds.mailbox.is_open
    # It may have arrived all the same: a worker that has been silent since is not asked a second time.
    rounds.mailbox.error = None
    rounds.look(rounds.sender(beat_at=rounds.now), after=10)
    assert len(rounds.mailbox.asked) == 1
    assert rounds.look(rounds.sender(beat_at=rounds.now), after=10).switched_on == (A,)


@pytest.mark.parametrize(
    "answer", [None, [], "ok", 7, {}, {"ok": None}, {"error": "x"}, {"ok": ["task events enabled"]}]
)
def test_an_odd_answer_is_none(rounds: Rounds, answer: Any) -> None:
    rounds.mailbox.answers[A] = answer
    assert rounds.look(rounds.sender()) == Outcome()
    assert not is_success(answer)


class TestTracker:
    def test_who_is_up_and_how_it_sends(self) -> None:
        story = Story()
        story.listen()
        story.heartbeat(processed=3)
        (sender,) = story.tracker.event_senders(story.now)
        assert sender == EventSender(WORKER, 0, None, 3, story.now.elapsed, can_answer=True)
        story.run("u1")
        story.wait(1)
        story.heartbeat(processed=4)
        assert story.tracker.event_senders(story.now)[0].sends is True
        story.heartbeat(pid=2, kind="worker-online")
        (sender,) = story.tracker.event_senders(story.now)
        assert (sender.life, sender.sends, sender.processed) == (1, None, 0)
        story.heartbeat(pid=2, kind="worker-offline")
        assert story.tracker.event_senders(story.now) == []

    def test_a_solo_worker_that_is_busy_cannot_answer(self) -> None:
        story = Story()
        story.heartbeat()
        story.inspect(pool="solo")
        story.wait(5)
        assert not story.tracker.event_senders(story.now)[0].can_answer

    def test_what_was_not_sent_before_is_not_lost(self) -> None:
        story = Story()
        story.listen()
        for processed in (0, 10):
            story.heartbeat(processed=processed)
            story.wait(2)
        story.tracker.switched_on([WORKER])
        for number in range(11, 20):
            story.heartbeat(processed=number - 1)
            story.wait(1)
            story.run(f"u{number}")
            story.wait(1)
        assert story.value("celery_worker_task_events_enabled", WORKER) == 1
        assert story.value("celery_worker_events_lost_total", WORKER) == 0


class TestLog:
    def switching(self, mailbox: FakeMailbox) -> tuple[Story, EventSwitching]:
        story, clock = Story(), SystemClock()
        core = Core(story.store, story.tracker, ExporterHealth(story.store, clock, {}), clock)
        return story, EventSwitching(core, TaskEventsSwitch(mailbox))

    def test_every_worker_is_named_once(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        mailbox = FakeMailbox()
        story, switching = self.switching(mailbox)
        story.heartbeat(hostname=A)
        switching.look()
        story.heartbeat(hostname=B)
        switching.look()
        story.heartbeat(hostname=A, pid=2, kind="worker-online")
        switching.look()
        assert mailbox.asked == [[A], [B], [A]]
        lines = [record.getMessage() for record in caplog.records]
        assert lines == [f"switched on the task events of {name}" for name in (A, B)]

    def test_however_many_there_are(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        mailbox = FakeMailbox()
        story, switching = self.switching(mailbox)
        for number in range(2 * MOST_SAID):
            mailbox.answers[f"w@{number}"] = ON
            story.heartbeat(hostname=f"w@{number}")
        switching.look()
        (record,) = caplog.records
        assert record.getMessage().endswith(f" w@{MOST_NAMES - 1} and {MOST_SAID - MOST_NAMES} more")
        story.heartbeat(hostname=A)
        switching.look()
        assert len(caplog.records) == 1
