"""Which errors the demo's tasks retry, and when; and that incidents promise only metrics that there are."""

import random
import re
from typing import Any

import pytest
import redis
from celery import Celery, Task
from celery.exceptions import Retry
from kombu.exceptions import OperationalError

from celeryscope.metrics.catalog import BY_NAME
from celeryscope_demo.incidents import Incident
from celeryscope_demo.incidents.all import INCIDENTS
from celeryscope_demo.retrying import delay, retrying, worth_a_retry


class DatabaseError(Exception):
    def __init__(self, **codes: str | None) -> None:
        super().__init__("the database says no")
        self.__dict__.update(codes)


class TestWhatIsWorthARetry:
    @pytest.mark.parametrize(
        "error",
        [
            TimeoutError("timed out"),
            ConnectionResetError("reset"),
            ConnectionRefusedError("refused"),
            BrokenPipeError("broken pipe"),
            redis.ConnectionError("gone"),
            redis.TimeoutError("slow"),
            OperationalError("the broker is away"),
            DatabaseError(sqlstate="40P01"),
            DatabaseError(pgcode="40001"),
        ],
    )
    def test_what_has_to_do_with_the_moment(self, error: Exception) -> None:
        assert worth_a_retry(error)

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("bad input"),
            KeyError("a bug"),
            TypeError("another"),
            PermissionError("an OSError, but the same tomorrow"),
            redis.ResponseError("wrong type"),
            DatabaseError(sqlstate="23505"),
            DatabaseError(sqlstate=None),
        ],
    )
    def test_nothing_else(self, error: Exception) -> None:
        assert not worth_a_retry(error)


class TestDelay:
    @pytest.mark.parametrize(
        ("retries", "least", "most"),
        [(0, 0.5, 1.0), (1, 1.0, 2.0), (3, 4.0, 8.0), (10, 15.0, 30.0), (10_000, 15.0, 30.0)],
    )
    def test_doubles_up_to_the_longest_and_is_half_drawn(self, retries: int, least: float, most: float) -> None:
        chance = random.Random(1)
        drawn = [delay(retries, 1.0, 30.0, chance) for _ in range(1000)]
        assert least <= min(drawn) < least * 1.1
        assert most * 0.9 < max(drawn) <= most


def task_that_raises(error: Exception) -> Task:
    app = Celery("test", broker="memory://", set_as_current=False)

    @app.task(bind=True, max_retries=2, shared=False)
    @retrying(base=1.0, longest=60.0)
    def call(self: Any, fails: bool) -> str:
        if fails:
            raise error
        return "done"

    return call


def attempt(task: Task, *, fails: bool = True, retries: int = 0, task_id: str = "one") -> str:
    """Run one attempt as a worker does."""
    task.push_request(id=task_id, args=(fails,), kwargs={}, retries=retries, called_directly=False, delivery_info={})
    try:
        return str(task.run(fails))
    finally:
        task.pop_request()


def pause(task: Task, retries: int, task_id: str) -> float:
    """Run an attempt that ends in a retry; return its delay in seconds."""
    with pytest.raises(Retry) as caught:
        attempt(task, retries=retries, task_id=task_id)
    return float(caught.value.when)


class TestRetrying:
    def test_what_succeeds_is_left_alone(self) -> None:
        assert attempt(task_that_raises(TimeoutError()), fails=False) == "done"

    def test_a_bug_fails_at_once(self) -> None:
        with pytest.raises(KeyError, match="a bug"):
            attempt(task_that_raises(KeyError("a bug")))

    def test_what_may_pass_is_retried_later_and_later(self) -> None:
        task = task_that_raises(TimeoutError("slow"))
        assert 0.5 <= pause(task, 0, "one") <= 1.0 <= pause(task, 1, "one") <= 2.0

    def test_tasks_that_failed_together_do_not_come_back_together(self) -> None:
        task = task_that_raises(TimeoutError("slow"))
        assert len({pause(task, 0, str(number)) for number in range(20)}) == 20

    def test_after_the_last_retry_its_own_error_fails_it(self) -> None:
        with pytest.raises(TimeoutError, match="slow"):
            attempt(task_that_raises(TimeoutError("slow")), retries=2)


@pytest.mark.parametrize("incident", INCIDENTS.values(), ids=lambda incident: incident.name)
def test_an_incident_promises_metrics_that_there_are(incident: Incident) -> None:
    promised = set(re.findall(r"celery_\w+", incident.seen))
    assert promised
    assert promised <= set(BY_NAME)
