"""What only RabbitMQ tells is shown: delays, consumers and sizes of queues in health, an alarm while it is raised."""

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from support.dashboard_proofs import NOT_ON_REDIS, of_rabbitmq
from support.dashboards import Target, targets
from support.demo import Demo
from support.grafana_source import Answer, Source
from support.grafana_variables import Window
from support.programs import needs
from support.prometheus import prometheus
from support.rabbitmq import RabbitMQ, needs_rabbitmq
from support.waiting import NotReached, wait_until

pytestmark = [pytest.mark.full, pytest.mark.timeout(400), needs("prometheus"), needs_rabbitmq]

HURRY = 20.0
SCRAPE = 1.0  # seconds
SHOWN = 120.0  # seconds until a query shows what it is for
MEMORY = "{resource_limit, memory, node()}"

TOLD = [target for target in targets() if of_rabbitmq(target)]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, rabbitmq_server: RabbitMQ) -> Iterator[dict[str, Answer]]:
    """The first answer of each query that is not only 0; those about alarms while there is one."""
    folder = tmp_path_factory.mktemp("dashboards")
    demo = Demo(folder)
    options = ["--broker-url", rabbitmq_server.url_of(rabbitmq_server.add_vhost())]
    options += ["--management-url", rabbitmq_server.management_url(), "--workload", "stories=2"]
    found: dict[str, Answer] = {}
    start = time.time()
    try:
        with (
            demo.running(*options),
            prometheus(folder / "prometheus", [f"127.0.0.1:{demo.port}"], hurry=HURRY) as server,
        ):
            demo.wait_for_tasks()

            def shows(target: Target) -> bool:
                source = Source(server.port, Window(start, time.time(), SCRAPE, points=100))
                answer = found[target.name] = source.ask(target)
                return not answer.trouble and answer.moved

            def wait_for(wanted: list[Target]) -> None:
                # Each is judged by its own test.
                with suppress(NotReached):
                    wait_until(lambda: all(list(map(shows, wanted))), SHOWN, "all show something")

            wait_for([target for target in TOLD if not of_alarms(target)])
            rabbitmq_server.control("eval", f"rabbit_alarm:set_alarm({{{MEMORY}, []}}).")
            try:
                wait_for([target for target in TOLD if of_alarms(target)])
            finally:
                rabbitmq_server.control("eval", f"rabbit_alarm:clear_alarm({MEMORY}).")
            yield found
    finally:
        demo.close()


def of_alarms(target: Target) -> bool:
    return "celery_broker_alarm" in target.expr


def test_there_are_queries_of_every_kind() -> None:
    exprs = " ".join(target.expr for target in TOLD)
    assert all(name in exprs for name in NOT_ON_REDIS)


@pytest.mark.parametrize("target", TOLD, ids=lambda found: found.name)
def test_it_shows_data(answers: dict[str, Answer], target: Target) -> None:
    answer = answers[target.name]
    assert not answer.trouble, f"{answer.trouble}: {answer.expr}"
    assert answer.moved, answer.expr
