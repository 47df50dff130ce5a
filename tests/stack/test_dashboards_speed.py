"""With 500 tasks over 20 queues, no query of Overview reads more than a bounded number of samples.

How long a query takes is the machine's affair, and shown by benchmarks/dashboards.py; how much it reads is not.
"""

import time
from collections.abc import Iterator

import pytest

from support.dashboard_proofs import of_the_past
from support.dashboards import Target, targets
from support.grafana_source import Source
from support.grafana_variables import Window
from support.history import remembered
from support.large import PAIRS, TASKS, WORKERS, LargeCluster
from support.programs import needs

pytestmark = [pytest.mark.full, pytest.mark.timeout(300), needs("prometheus")]

SCRAPE = 30.0  # seconds
LENGTH = 480.0  # seconds: enough for every recorded series to have a value
FEW = 5_000  # samples for one moment: some for each task and queue, none for each bucket of each pair


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    """A datasource that remembers a large cluster's last minutes."""
    now = time.time() // SCRAPE * SCRAPE
    cluster = LargeCluster(now - LENGTH)
    cluster.live(now, SCRAPE)
    folder = tmp_path_factory.mktemp("large") / "prometheus"
    with remembered(folder, cluster.past, [(now - 240.0, now)]) as server:
        yield Source(server.port, Window(now - 60.0, now, SCRAPE))


OVERVIEW = [target for target in targets() if target.panel.dashboard.name == "overview"]


def test_the_cluster_is_as_large_as_it_says(source: Source) -> None:
    assert [found.values for found in source.at_end("count(celery_task_started_total)").series] == [[PAIRS]]
    assert [found.values for found in source.at_end("count(job_task:celery_task_started:rate5m)").series] == [[TASKS]]
    assert [found.values for found in source.at_end("job:celery_worker_up:sum").series] == [[WORKERS]]


@pytest.mark.parametrize("target", OVERVIEW, ids=lambda found: found.name)
def test_it_reads_little(source: Source, target: Target) -> None:
    answer = source.ask(target)
    assert answer.samples <= FEW
    # What reads nothing reads little: all but alerts and what looks back for a day has something to read here.
    assert not answer.trouble or "ALERTS" in target.expr or of_the_past(target)
