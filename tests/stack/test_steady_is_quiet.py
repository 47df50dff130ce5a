"""Where nothing is wrong nothing fires, in ten minutes of a steady demo: with task-sent events and without."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support.demo import Demo, steady_demo
from support.programs import needs
from support.waiting import wait_until

pytestmark = [pytest.mark.full, pytest.mark.timeout(900), needs("prometheus"), needs("prometheus-alertmanager")]

RUN = 600.0  # seconds
START = 60.0  # seconds until Prometheus evaluates
ALWAYS = {"CeleryWatchdog"}
# Without task-sent events it is rightly said that queues are not known.
WITHOUT_SENT = {"CeleryQueueAttributionMissing"}


@pytest.fixture(scope="module")
def fired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """The names of all that ever fired, by demo; both run side by side."""
    with ExitStack() as stack:
        demos: dict[str, Demo] = {}
        for name, options in (("with", ()), ("without", ("--no-sent-events",))):
            folder = tmp_path_factory.mktemp(name)
            demos[name] = stack.enter_context(steady_demo(folder, "--monitoring", *options))
        for demo in demos.values():
            wait_until(demo.firing, START, "the watchdog fires")
        found: dict[str, set[str]] = {name: set() for name in demos}
        deadline = time.monotonic() + RUN

        def over() -> bool:
            for name, demo in demos.items():
                found[name] |= {alert["alertname"] for alert in demo.firing()}
            return time.monotonic() > deadline

        wait_until(over, RUN + START, "the run is over")
        yield found


def test_with_task_sent_events(fired: dict[str, set[str]]) -> None:
    assert fired["with"] == ALWAYS


def test_without(fired: dict[str, set[str]]) -> None:
    assert fired["without"] - WITHOUT_SENT == ALWAYS
