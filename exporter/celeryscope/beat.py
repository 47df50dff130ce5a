"""The beat schedule of an app: how often each of its tasks is to run."""

import logging
from collections.abc import Collection, Mapping
from datetime import date, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any

from celery import Celery
from celery.schedules import crontab, schedule, solar

DAY = 86_400.0  # seconds, nominally: clocks that are put forward or back are not told
CYCLE_YEARS = range(2001, 2029)  # after 28 years, leap years and days of the week repeat
CYCLE_DAYS = 28 * 365 + 7
EVERY_DAY_OF_MONTH = frozenset(range(1, 32))
EVERY_MONTH = frozenset(range(1, 13))

logger = logging.getLogger(__name__)


def intervals(app: Celery) -> dict[str, float]:
    """Return, by name of task, the longest time in seconds between two runs; of several entries, the least.

    An entry that cannot be understood is left out, with a line in the log; so is one that follows the sun, for where
    the sun does not rise for months nothing is overdue.
    """
    try:
        app.finalize()  # the project may add its entries only now
        entries = dict(app.conf.beat_schedule)
    except Exception as error:  # noqa: BLE001  # the project's own code may raise anything
        logger.warning("the beat schedule cannot be read, so intervals of tasks are not known: %s", error)
        return {}
    found: dict[str, float] = {}
    for name, entry in entries.items():
        try:
            task, seconds = _task_and_interval(entry)
        except Exception as error:  # noqa: BLE001  # a schedule may be a class of the project's own
            logger.warning("no interval is known from entry %r of the beat schedule: %s", name, error)
            continue
        if seconds is not None:
            found[task] = min(seconds, found.get(task, seconds))
    return found


def _task_and_interval(entry: Any) -> tuple[str, float | None]:
    if not isinstance(entry, Mapping):  # Celery's own class of entries
        entry = {"task": entry.task, "schedule": entry.schedule}
    task, when = entry.get("task"), entry.get("schedule")
    if not task or when is None:
        raise ValueError("it has no task or no schedule")
    return str(task), interval(when)


def interval(when: object) -> float | None:
    """Return the longest time in seconds between two firings of a schedule, as Celery takes it.

    None for one that does not fire by the clock. Raises `ValueError` for one that never fires.
    """
    if isinstance(when, crontab):
        return _longest_gap(
            frozenset(when.hour),
            frozenset(when.minute),
            frozenset(when.day_of_week),
            frozenset(when.day_of_month),
            frozenset(when.month_of_year),
        )
    if isinstance(when, solar):
        return None
    if isinstance(when, schedule):
        when = when.run_every
    if isinstance(when, timedelta):
        when = when.total_seconds()
    if isinstance(when, bool) or not isinstance(when, int | float):
        raise ValueError(f"{type(when).__name__} is no schedule known here")
    if not when > 0:
        raise ValueError(f"{when:g} s is no interval")
    return float(when)


@lru_cache(maxsize=1_000)
def _longest_gap(
    hours: frozenset[int],
    minutes: frozenset[int],
    days_of_week: frozenset[int],
    days_of_month: frozenset[int],
    months: frozenset[int],
) -> float:
    times = sorted(hour * 3_600 + minute * 60 for hour in hours for minute in minutes)
    days = _longest_gap_in_days(days_of_week, days_of_month, months)
    if not times or days is None:
        raise ValueError("it never fires")
    overnight = days * DAY - (times[-1] - times[0])
    return max(overnight, *(later - earlier for earlier, later in pairwise(times)), 0.0)


def _longest_gap_in_days(
    days_of_week: frozenset[int], days_of_month: frozenset[int], months: frozenset[int]
) -> int | None:
    if days_of_month >= EVERY_DAY_OF_MONTH and months >= EVERY_MONTH:
        return _longest_step(days_of_week, 7)
    fitting = []
    for year in CYCLE_YEARS:
        for month in months:
            for day in days_of_month:
                try:
                    firing = date(year, month, day)
                except ValueError:  # there is no such day in that month
                    continue
                if firing.isoweekday() % 7 in days_of_week:
                    fitting.append(firing.toordinal())
    return _longest_step(fitting, CYCLE_DAYS)


def _longest_step(days: Collection[int], cycle: int) -> int | None:
    """Return the longest way from one of the days to the next, in a cycle that repeats; None without any."""
    if not days:
        return None
    ordered = sorted(days)
    return max(ordered[0] + cycle - ordered[-1], *(later - earlier for earlier, later in pairwise(ordered)), 0)
