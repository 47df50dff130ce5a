"""Incidents as the demo runs them: asked for through the store, on for their time, undone whatever happens."""

import contextlib
import os
import signal
import sys
from collections.abc import Generator, Iterator
from threading import Thread
from typing import Any, cast

import psutil
import pytest

from celeryscope_demo import store, switches
from celeryscope_demo.cluster import Cluster
from celeryscope_demo.incidents import (
    CannotStart,
    Incident,
    broker,
    calls,
    clock,
    director,
    requests,
    tasks,
    workers,
)
from celeryscope_demo.incidents.all import INCIDENTS
from celeryscope_demo.incidents.director import Director
from celeryscope_demo.processes import Child, ChildFailed, Children, Program, Stage
from celeryscope_demo.stopping import StopSignal
from support.servers import Valkey
from support.waiting import wait_until

pytestmark = pytest.mark.integration

TIMEOUT = 10.0  # seconds


class Harm:
    """An action that says what was done, and fails where it is told to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.fails: set[str] = set()

    def __call__(self, _: Cluster) -> Generator[None]:
        self._do("start")
        try:
            while True:
                yield
                self._do("go on")
        finally:
            self._do("undo")

    def _do(self, what: str) -> None:
        if what in self.fails:
            raise RuntimeError(f"cannot {what}")
        if self.done[-1:] != [what]:
            self.done.append(what)


@pytest.fixture
def cluster(valkey_server: Valkey) -> Iterator[Cluster]:
    """A cluster that has a store and nothing else."""
    nothing = cast(Any, None)
    found = Cluster(nothing, "redis://", None, valkey_server.url.rpartition("/")[0], {}, nothing, nothing)
    yield found
    found.store.close()


@pytest.fixture
def harm() -> Harm:
    return Harm()


@pytest.fixture
def demo(cluster: Cluster, harm: Harm, monkeypatch: pytest.MonkeyPatch) -> Director:
    def finite(_: Cluster) -> Generator[None]:
        yield

    def refuse(_: Cluster) -> Generator[None]:
        raise CannotStart("not here")
        yield

    catalog = [
        Incident("harm", "It harms.", "celery_harm rises.", action=harm, part="thing"),
        Incident("other", "It harms the same.", "celery_harm rises.", part="thing"),
        Incident("switch", "It is a switch.", "celery_switch rises.", seconds=60.0),
        Incident("finite", "It has done its harm early.", "celery_finite rises.", action=finite),
        Incident("refused", "It cannot be.", "Nothing.", action=refuse),
    ]
    monkeypatch.setattr(director, "INCIDENTS", {incident.name: incident for incident in catalog})
    return Director(cluster)


def ask(cluster: Cluster, demo: Director, do: str, name: str | None = None, seconds: float | None = None) -> Any:
    """Ask as another terminal does, while the demo takes its steps."""
    answers: list[requests.Answer | None] = []
    with store.connect(cluster.store_url) as client:
        asking = Thread(target=lambda: answers.append(requests.ask(client, do, name, seconds, TIMEOUT)))
        asking.start()
        wait_until(lambda: demo.step() or not asking.is_alive(), TIMEOUT, "the demo took the request")
        asking.join()
    assert answers[0] is not None
    return answers[0]


def on(cluster: Cluster) -> set[str]:
    return set(switches.read(cluster.store))


class TestDirector:
    def test_an_incident_is_on_until_it_is_stopped(self, cluster: Cluster, demo: Director, harm: Harm) -> None:
        answer = ask(cluster, demo, "start", "harm")
        assert answer.ok
        assert answer.text.splitlines() == ["incident harm is on for 180 s", "It harms.", "celery_harm rises."]
        assert on(cluster) == {"harm"}
        assert demo.on == ["harm"]
        demo.step()
        assert ask(cluster, demo, "stop", "harm").text == "stopped: harm"
        assert harm.done == ["start", "go on", "undo"]
        assert on(cluster) == set()
        assert demo.on == []
        assert demo.had == ["harm"]

    def test_it_ends_by_its_time(self, cluster: Cluster, demo: Director, harm: Harm) -> None:
        ask(cluster, demo, "start", "harm", 0.2)
        assert wait_until(demo.step, TIMEOUT, "it is over") == ["incident harm is over"]
        assert harm.done[-1] == "undo"
        assert on(cluster) == set()

    def test_each_has_a_time_of_its_own_unless_one_is_asked_for(self, cluster: Cluster, demo: Director) -> None:
        assert "on for 60 s" in ask(cluster, demo, "start", "switch").text
        ask(cluster, demo, "stop")
        assert "on for 7 s" in ask(cluster, demo, "start", "switch", 7.0).text

    @pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 0.0, -1.0, 1e9])
    def test_a_time_that_is_none_is_refused(self, cluster: Cluster, demo: Director, seconds: float) -> None:
        answer = ask(cluster, demo, "start", "harm", seconds)
        assert not answer.ok
        assert "no time for an incident" in answer.text
        assert demo.on == []

    def test_a_part_is_taken_until_the_program_that_was_started_has_ended(
        self, cluster: Cluster, demo: Director, children: Children, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def action(_: Cluster) -> Generator[None]:
            child = started(children)
            try:
                yield
            finally:
                children.dismiss(child)

        catalog = [
            Incident("starts", "", "", action=action, part="thing", starts="child"),
            Incident("other", "", "", part="thing"),
        ]
        monkeypatch.setattr(director, "INCIDENTS", {incident.name: incident for incident in catalog})
        cluster.children = children
        ask(cluster, demo, "start", "starts")
        ask(cluster, demo, "stop", "starts")
        assert ask(cluster, demo, "start", "other").text == "thing is taken by starts: its child has not ended yet"
        news(children)
        assert ask(cluster, demo, "start", "other").ok

    def test_without_a_name_all_are_stopped(self, cluster: Cluster, demo: Director) -> None:
        ask(cluster, demo, "start", "harm")
        ask(cluster, demo, "start", "switch")
        assert ask(cluster, demo, "stop").text == "stopped: harm, switch"
        assert ask(cluster, demo, "stop").text == "no incident is on"

    @pytest.mark.parametrize(
        ("do", "name", "told"),
        [
            ("start", "nothing", "there is no incident 'nothing'"),
            ("start", "harm", "harm is on already"),
            ("start", "other", "thing is taken by harm"),
            ("start", "refused", "not here"),
            ("stop", "switch", "switch is not on; on: harm"),
        ],
    )
    def test_what_cannot_be_done_is_answered_with_why(
        self, cluster: Cluster, demo: Director, do: str, name: str, told: str
    ) -> None:
        ask(cluster, demo, "start", "harm")
        answer = ask(cluster, demo, do, name)
        assert not answer.ok
        assert told in answer.text
        assert on(cluster) == {"harm"}
        assert demo.on == demo.had == ["harm"]

    def test_an_action_that_fails_at_its_start_leaves_nothing_on(
        self, cluster: Cluster, demo: Director, harm: Harm
    ) -> None:
        harm.fails = {"start"}
        answer = ask(cluster, demo, "start", "harm")
        assert not answer.ok
        assert answer.text == "harm cannot be caused now: cannot start"
        assert on(cluster) == set()
        assert demo.on == demo.had == []
        harm.fails = set()
        assert ask(cluster, demo, "start", "harm").ok

    def test_an_action_that_fails_while_it_is_on_is_ended_and_told(
        self, cluster: Cluster, demo: Director, harm: Harm
    ) -> None:
        ask(cluster, demo, "start", "harm")
        harm.fails = {"go on"}
        assert demo.step() == ["incident harm is over before its time: cannot go on"]
        assert harm.done[-1] == "undo"
        assert on(cluster) == set()
        assert demo.on == []

    def test_what_cannot_be_undone_is_told_and_keeps_nothing_else_from_it(
        self, cluster: Cluster, demo: Director, harm: Harm
    ) -> None:
        ask(cluster, demo, "start", "harm")
        ask(cluster, demo, "start", "switch")
        harm.fails = {"undo"}
        assert demo.close() == ["incident harm is over, but not undone: cannot undo"]
        assert on(cluster) == set()
        assert demo.on == []

    def test_an_action_may_be_done_before_its_incident_is_over(self, cluster: Cluster, demo: Director) -> None:
        ask(cluster, demo, "start", "finite")
        assert demo.step() == demo.step() == []
        assert demo.on == ["finite"]

    def test_a_store_that_is_away_for_a_moment_is_told_and_survived(
        self, cluster: Cluster, demo: Director, harm: Harm, valkey_server: Valkey
    ) -> None:
        ask(cluster, demo, "start", "harm", 0.2)
        valkey_server.stop()
        told: list[str] = []

        def over() -> bool:
            told.extend(demo.step())
            return not demo.on

        wait_until(over, TIMEOUT, "it is over")
        assert harm.done[-1] == "undo"
        assert any(line.startswith("the store does not answer") for line in told)
        valkey_server.start()
        assert ask(cluster, demo, "start", "harm").ok


class TestCatalog:
    def test_no_two_share_a_name(self) -> None:
        groups = (tasks, workers, clock, broker, calls)
        names = [incident.name for group in groups for incident in group.INCIDENTS]
        assert sorted(names) == sorted(set(names)) == sorted(INCIDENTS)

    @pytest.mark.parametrize(
        "names",
        [
            {"rate-limit", "provider-outage", "retry-storm", "duplicate-delivery"},
            {"clock-skew", "no-workers", "solo-busy", "big-messages"},
            {"worker-killed", "worker-frozen", "consumer-lost"},
            {"broker-restart", "eviction-policy", "lost-events"},
        ],
    )
    def test_those_that_take_the_same_thing_share_a_part_and_nobody_else_does(self, names: set[str]) -> None:
        parts = {INCIDENTS[name].part for name in names}
        assert len(parts) == 1
        assert None not in parts
        assert {name for name, incident in INCIDENTS.items() if incident.part in parts} == names

    @pytest.mark.parametrize("incident", broker.INCIDENTS, ids=lambda incident: incident.name)
    def test_the_broker_of_somebody_else_is_not_disturbed(self, cluster: Cluster, incident: Incident) -> None:
        assert incident.action is not None
        with pytest.raises(CannotStart, match="--broker-url"):
            next(incident.action(cluster))

    def test_without_faketime_it_is_said_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        with pytest.raises(CannotStart, match="faketime"):
            clock.faketime(300)


HEARS = "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(0))\nprint('up', flush=True)\ntime.sleep(600)"
DEAF = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(600)"


@pytest.fixture
def children() -> Iterator[Children]:
    with StopSignal() as stop:
        found = Children(os.environ, stop)
        yield found
        found.end()


def started(children: Children, code: str = HEARS, restarts: int = 0) -> Child:
    program = Program("child", [sys.executable, "-c", code], Stage.WORKERS, [(signal.SIGTERM, 0.5)], restarts)
    child = children.start(program)
    wait_until(lambda: "up" in child.log_path.read_text(), TIMEOUT, "the child is up")
    return child


def wait_until_up(child: Child, count: int) -> None:
    """Wait until it has come up so often."""
    wait_until(lambda: child.log_path.read_text().count("up") == count, TIMEOUT, "it is up")


def news(children: Children) -> str:
    """The next line about them."""
    (line,) = wait_until(children.check, TIMEOUT, "something is told")
    return line


def runs(process: psutil.Process) -> bool:
    """Whether a process runs: one that ended, and that nobody has waited for yet, does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


class TestChildren:
    def test_one_that_is_held_stays_down_until_it_is_renewed(self, children: Children) -> None:
        child = started(children)
        children.hold(child, signal.SIGTERM)
        assert news(children) == "the child ended with exit code 0, and stays down"
        assert children.check() == []
        children.renew(child)
        assert news(children) == f"the child is started again, pid {child.pid}"
        assert child.status is None
        assert children.check() == []

    def test_one_that_is_killed_takes_its_own_children_with_it(self, children: Children) -> None:
        code = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {DEAF!r}]).wait()"
        child = started(children, code)
        pool = psutil.Process(child.pid).children()
        assert pool
        children.hold(child, signal.SIGKILL)
        assert news(children) == "the child was killed by SIGKILL, and stays down"
        wait_until(lambda: not any(map(runs, pool)), TIMEOUT, "its children are gone")

    def test_one_that_runs_is_renewed_as_another_program_once_it_has_ended(self, children: Children) -> None:
        child = started(children)
        before = child.pid
        changed = Program("child", [*child.program.command, "again"], Stage.WORKERS, child.program.endings)
        children.renew(child, changed)
        assert news(children) == f"the child is started again, pid {child.pid}"
        assert child.pid != before
        wait_until(lambda: psutil.Process(child.pid).cmdline()[-1] == "again", TIMEOUT, "it is the other program")

    def test_one_that_is_frozen_hears_that_it_is_to_end(self, children: Children) -> None:
        child = started(children)
        child.signal_group(signal.SIGSTOP)
        children.renew(child)
        assert "is started again" in news(children)

    def test_one_that_does_not_end_in_time_is_killed(self, children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("celeryscope_demo.processes.PATIENCE", 0.2)
        child = started(children, DEAF)
        children.renew(child)
        assert "is started again" in news(children)

    def test_what_is_meant_is_no_crash(self, children: Children) -> None:
        child = started(children)
        for count in range(2, 7):
            children.renew(child)
            assert "is started again" in news(children)
            wait_until_up(child, count)
        child.send_signal(signal.SIGKILL)
        with pytest.raises(ChildFailed, match="SIGKILL"):
            wait_until_failed(children)

    def test_what_is_excused_is_no_crash(self, children: Children) -> None:
        child = started(children, restarts=1)
        children.excuse(TIMEOUT)
        for count in range(2, 6):
            child.send_signal(signal.SIGKILL)
            assert "started again" in news(children)
            wait_until_up(child, count)
        children.excuse(0.0)
        child.send_signal(signal.SIGKILL)
        assert "started again" in news(children)
        child.send_signal(signal.SIGKILL)
        with pytest.raises(ChildFailed, match="2 times within"):
            wait_until_failed(children)

    def test_one_that_is_dismissed_is_forgotten(self, children: Children) -> None:
        child = started(children)
        children.dismiss(child)
        assert news(children) == "the child ended with exit code 0, as it should"
        assert children.names == []

    def test_all_end_whatever_was_wanted_of_them(self, children: Children) -> None:
        held, frozen = started(children), started(children)
        children.hold(held, signal.SIGTERM)
        frozen.signal_group(signal.SIGSTOP)
        children.end_stage(Stage.WORKERS)
        assert held.status is not None
        assert frozen.status is not None


def wait_until_failed(children: Children) -> None:
    """Check until it raises."""
    found: list[BaseException] = []

    def failed() -> bool:
        try:
            children.check()
        except ChildFailed as error:
            found.append(error)
        return bool(found)

    wait_until(failed, TIMEOUT, "the end is told")
    raise found[0]
