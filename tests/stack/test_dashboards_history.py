"""What looks back for a day or a week, or takes an hour to come about, is shown: proven on a past that is written down.

A task takes 0.4 s a week ago, 2 s a day ago and 4 s today, which is more than its objective. A worker left with a task
more than an hour ago. The past is made of real expositions, and recorded by the committed rules.
"""

import time
from collections.abc import Iterator
from itertools import count

import pytest

from celeryscope.objectives import ByName, Objectives, TaskObjectives
from support.dashboard_proofs import DAY, of_the_past, reach
from support.dashboards import Target, targets
from support.grafana_source import Source
from support.grafana_variables import Window
from support.history import Past, remembered
from support.programs import needs

pytestmark = [pytest.mark.full, pytest.mark.timeout(300), needs("prometheus")]

SCRAPE = 30.0  # seconds
LENGTH = 3_600.0  # seconds of each part of the past
RUNTIMES = {7 * DAY: 0.4, DAY: 2.0, 0.0: 4.0}  # seconds, by how long ago
BUCKETS = {7 * DAY: (0.25, 0.5), DAY: (1.0, 2.5)}  # that these fall into
TASKS = ("app.work", "app.other")
OBJECTIVES = Objectives(ByName({"app.work": TaskObjectives(runtime=3.0)}))
GIVEN_UP = 3_600.0  # seconds after its worker left, a task without an end is
RECENT = 1_200.0  # seconds


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    """A datasource with three hours of a week, looked at over the last of them."""
    now = time.time() // SCRAPE * SCRAPE
    past = Past(now - max(RUNTIMES) - LENGTH, objectives=OBJECTIVES)
    past.listen()
    numbers = count()
    spans = []
    for ago, runtime in RUNTIMES.items():
        spans.append((now - ago - LENGTH, now - ago))
        if not ago:
            past.skip_to(now - RECENT - GIVEN_UP)
            leave_with_a_task(past)
        past.skip_to(now - ago - LENGTH)
        while past.now.wall < now - ago:
            for task in TASKS:
                uuid = str(next(numbers))
                past.sent(uuid, name=task)
                past.received(uuid, name=task)
                past.started(uuid)
                past.succeeded(uuid, runtime=runtime)
            past.heartbeat(processed=next(numbers))
            past.wait(SCRAPE)
            past.scrape()
    folder = tmp_path_factory.mktemp("history") / "prometheus"
    with remembered(folder, past, spans) as server:
        yield Source(server.port, Window(now - LENGTH / 2, now, SCRAPE))


def leave_with_a_task(past: Past) -> None:
    past.heartbeat(hostname="celery@gone")
    past.sent("unfinished", name=TASKS[0])
    past.received("unfinished", name=TASKS[0], hostname="celery@gone")
    past.started("unfinished", hostname="celery@gone")
    past.heartbeat(kind="worker-offline", hostname="celery@gone")


BACK = [target for target in targets() if of_the_past(target)]


def test_there_are_such_queries() -> None:
    assert {reach(target) for target in BACK} >= {DAY, 7 * DAY}


@pytest.mark.parametrize("target", BACK, ids=lambda found: found.name)
def test_it_shows_the_past(source: Source, target: Target) -> None:
    answer = source.ask(target)
    assert not answer.trouble, f"{answer.trouble}: {answer.expr}"
    assert answer.moved, answer.expr


@pytest.mark.parametrize(
    "target",
    [found for found in BACK if reach(found) and found.panel.dashboard.name == "task"],
    ids=lambda found: found.name,
)
def test_the_runtime_is_the_one_of_then(source: Source, target: Target) -> None:
    low, high = BUCKETS[reach(target)]
    values = [value for series in source.ask(target).series for value in series.values]
    assert values
    assert all(low < value <= high for value in values)
