"""The beat schedule: the longest time between two runs of each task."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.schedules import crontab, schedule, solar

from celeryscope import beat

HOUR, DAY = 3_600.0, 86_400.0


def app_with(**entries: Any) -> Celery:
    app = Celery("proj", set_as_current=False)
    app.conf.beat_schedule = {
        name: {"task": f"proj.{name}", "schedule": when} if not isinstance(when, dict) else when
        for name, when in entries.items()
    }
    return app


@pytest.mark.parametrize(
    ("when", "seconds"),
    [
        (30, 30.0),
        (0.5, 0.5),
        (timedelta(minutes=5), 300.0),
        (schedule(timedelta(hours=2)), 2 * HOUR),
        (crontab(), 60.0),
        (crontab(minute=0), HOUR),
        (crontab(minute="*/15"), 900.0),
        (crontab(minute="0,10"), 50 * 60.0),
        (crontab(hour=3, minute=30), DAY),
        (crontab(hour="9-17", minute=0), 16 * HOUR),
        (crontab(hour="9-17", minute=0, day_of_week="mon-fri"), 2 * DAY + 16 * HOUR),
        (crontab(hour=0, minute=0, day_of_week="sunday"), 7 * DAY),
        (crontab(hour=0, minute=0, day_of_week="1,3"), 5 * DAY),
        (crontab(hour=0, minute=0, day_of_month="1"), 31 * DAY),
        (crontab(hour=0, minute=0, day_of_month="31"), 61 * DAY),
        (crontab(hour=0, minute=0, day_of_month="1,15"), 17 * DAY),
        (crontab(hour=0, minute=0, month_of_year="*/3"), 62 * DAY),
        (crontab(hour=0, minute=0, day_of_month="1", month_of_year="1"), 366 * DAY),
        (crontab(hour=0, minute=0, day_of_month="29", month_of_year="2"), 1461 * DAY),
        (crontab(hour=0, minute=0, day_of_month="29", month_of_year="2", day_of_week="mon"), 28 * 365.25 * DAY),
        (crontab(hour=0, minute=0, day_of_month="13", day_of_week="fri"), 427 * DAY),
    ],
)
def test_the_longest_time_between_two_firings(when: object, seconds: float) -> None:
    assert beat.interval(when) == seconds


@pytest.mark.parametrize(
    "when",
    [
        crontab(minute="*/7", hour="2-5"),
        crontab(minute="59", hour="23", day_of_week="sat,sun"),
        crontab(minute="0,30", hour="*/5", day_of_month="28-31"),
        crontab(minute="15", hour="6,18", day_of_month="*/10", day_of_week="tue-thu"),
        crontab(minute="1", hour="1", month_of_year="2,11", day_of_month="5"),
    ],
    ids=str,
)
def test_it_is_what_celery_itself_fires_by(when: crontab) -> None:
    moment = datetime(2001, 1, 1, tzinfo=UTC)
    longest, fired = 0.0, None
    for _ in range(1_200):
        last, delta, _ = when.remaining_delta(moment, tz=UTC)
        following = last + delta
        if following.year > 2020:
            break
        if fired is not None:
            longest = max(longest, (following - fired).total_seconds())
        moment = fired = following
    assert beat.interval(when) == longest


def test_intervals_are_by_task_and_of_several_entries_the_least() -> None:
    app = app_with(
        often={"task": "proj.sync", "schedule": 60.0},
        seldom={"task": "proj.sync", "schedule": crontab(hour=3, minute=0)},
        report=crontab(hour=4, minute=0),
    )
    assert beat.intervals(app) == {"proj.sync": 60.0, "proj.report": DAY}


def test_entries_that_the_project_adds_once_it_is_configured_or_finalized_are_there_too() -> None:
    app = Celery("proj", set_as_current=False)

    @app.task(name="proj.late", shared=False)
    def late() -> None: ...

    app.on_after_configure.connect(lambda sender, **_: sender.add_periodic_task(10.0, late.s()), weak=False)
    app.on_after_finalize.connect(lambda sender, **_: sender.add_periodic_task(20.0, late.s(), name="2"), weak=False)
    app.add_periodic_task(30.0, late.s(), name="3")
    assert beat.intervals(app) == {"proj.late": 10.0}


def test_an_entry_that_is_not_understood_is_left_out_with_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    never = crontab()
    never.day_of_month, never.month_of_year = {30}, {2}  # as text, newer versions of Celery refuse it
    app = app_with(
        fine=10,
        text="every day",
        zero=0,
        never=never,
        empty={"schedule": 5},
    )
    assert beat.intervals(app) == {"proj.fine": 10.0}
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 4
    assert "no interval is known from entry 'never' of the beat schedule: it never fires" in caplog.text
    assert "entry 'empty' of the beat schedule: it has no task or no schedule" in caplog.text


def test_what_follows_the_sun_has_no_interval(caplog: pytest.LogCaptureFixture) -> None:
    assert beat.intervals(app_with(dawn=solar.__new__(solar))) == {}
    assert not caplog.records


def test_a_project_that_raises_costs_the_intervals_alone(caplog: pytest.LogCaptureFixture) -> None:
    app = Celery("proj", set_as_current=False)

    def broken(**_: Any) -> None:
        raise RuntimeError("no such table: users")

    app.on_after_finalize.connect(broken, weak=False)
    app.conf.beat_schedule = {"a": {"task": "proj.a", "schedule": 5}}
    beat.intervals(app)
    assert "no such table" in caplog.text


def test_no_schedule_is_no_interval() -> None:
    assert beat.intervals(Celery("proj", set_as_current=False)) == {}


def test_a_thousand_different_entries_are_read_by_the_day_and_not_by_the_minute() -> None:
    app = app_with(**{f"t{number}": crontab(day_of_month=str(1 + number % 28)) for number in range(1_000)})
    assert len(beat.intervals(app)) == 1_000
    assert beat._longest_gap.cache_info().misses < 200
