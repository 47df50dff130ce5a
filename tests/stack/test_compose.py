"""docker-compose.yml and the Dockerfile, really run: by a container engine, on base images made on this machine."""

import os
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from benchmarks.stream import events_of, stream
from support.engine import PacketFilter, engine, mounts_below
from support.exporter import Metrics
from support.flood import flood
from support.programs import needs
from support.record import heard_of_workload
from support.stack import COMPOSE, HEALTHY_TIMEOUT, PYTHON, Stack, image, services, stack
from support.waiting import NotReached, wait_until

HURRY = 20.0  # alerts come so many times sooner
MOST_ADDED = 60 * 10**6  # bytes of layers over the base image
MESSAGES = 60_000
HARDENED = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", "100"]

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(1200),
    needs("dockerd"),
    needs("debootstrap"),
    needs("prometheus"),
    needs("prometheus-alertmanager"),
    needs("redis-cli"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a container engine of its own needs root"),
    pytest.mark.skipif(not COMPOSE.exists(), reason="needs docker-compose 2: script/stack installs it"),
]


@pytest.fixture(scope="module")
def built() -> Iterator[Stack]:
    with engine() as running, stack(running, HURRY) as made:
        yield made


@pytest.fixture(scope="module")
def up(built: Stack) -> Stack:
    built.compose("up", "--detach", *services())
    return built


def test_the_image_adds_little_to_its_base(built: Stack) -> None:
    base, ours = (built.engine.inspect(name) for name in (PYTHON, "celeryscope"))
    added = ours["Size"] - base["Size"]
    print(f"{added / 1e6:.1f} MB over the base image")
    assert added <= MOST_ADDED


def test_the_image_runs_as_nobody_and_keeps_no_secret_of_its_build(built: Stack) -> None:
    ours = built.engine.inspect("celeryscope")["Config"]
    assert ours["User"] == "65532:65532"
    assert ours["Entrypoint"] == ["celeryscope"]
    history = built.engine.docker("history", "--no-trunc", "celeryscope-demo") + " ".join(ours["Env"])
    assert "PIP_" not in history
    listed = "import os; print(os.listdir('/run/secrets') if os.path.isdir('/run/secrets') else [])"
    assert (
        built.engine.docker("run", "--rm", "--network", "none", "--entrypoint", "python", "celeryscope", "-c", listed)
        == "[]\n"
    )


def test_whatever_has_a_health_check_is_healthy(up: Stack) -> None:
    def states() -> dict[str, str]:
        return {name: found["Health"] or found["State"] for name, found in up.containers().items()}

    unchecked = {"worker-heavy", "beat", "load"}
    wanted = {name: "running" if name in unchecked else "healthy" for name in services()}
    try:
        wait_until(lambda: states() == wanted, HEALTHY_TIMEOUT, "every container is healthy")
    except NotReached as error:
        ill = [name for name, state in states().items() if state != wanted[name]]
        logs = up.compose("logs", "--tail", "15", *ill)
        raise AssertionError(f"{error}\n{', '.join(ill)}\n{logs}") from error


def test_every_container_is_hardened(up: Stack) -> None:
    for name, found in up.containers().items():
        settings = up.engine.inspect(found["ID"])["HostConfig"]
        assert settings["ReadonlyRootfs"], name
        assert settings["CapDrop"] == ["ALL"], name
        assert "no-new-privileges:true" in settings["SecurityOpt"], name
        assert settings["Memory"] > 0, name
        published = [
            binding["HostIp"] for bindings in (settings["PortBindings"] or {}).values() for binding in bindings
        ]
        assert set(published) <= {"127.0.0.1"}, name


def test_prometheus_scrapes_all_that_there_is(up: Stack) -> None:
    def scraped() -> dict[str, float]:
        return {series["metric"]["job"]: float(series["value"][1]) for series in up.query("sum by (job) (up)")}

    wanted = {"celeryscope": 1.0, "alertmanager": 1.0, "prometheus": 1.0}
    wait_until(lambda: scraped() == wanted, 60.0, f"as many targets are up as {wanted}")


def test_a_minute_later_there_is_something_to_see(up: Stack) -> None:
    wait_until(lambda: up.value("sum(celery_worker_up)") == 3, 60.0, "three workers are up")
    wait_until(lambda: (up.value("sum(celery_task_succeeded_total)") or 0) > 100, 60.0, "tasks succeed")
    wait_until(lambda: (up.value("sum(celery_task_wait_seconds_count)") or 0) > 100, 60.0, "waits are known")
    assert up.value("sum(celery_exporter_deaf_seconds_total)") == 0


def test_a_second_exporter_joins_the_first(up: Stack) -> None:
    up.compose("--profile", "ha", "up", "--detach", "--wait", "--no-deps", "exporter-b")
    wait_until(lambda: up.value('sum(up{job="celeryscope"})') == 2, 90.0, "both are scraped as one job")
    up.compose("--profile", "ha", "rm", "--stop", "--force", "exporter-b")


def test_an_alert_reaches_who_would_have_been_paged(up: Stack) -> None:
    wait_until(lambda: [page for page in up.pages() if page["receiver"] == "watchdog"], 60.0, "the watchdog barks")
    up.compose("stop", "worker-heavy")

    def told() -> set[tuple[str, str]]:
        alerts = [alert for page in up.pages() if page["receiver"] in {"pager", "tickets"} for alert in page["alerts"]]
        return {(alert["alertname"], alert.get("queue", "")) for alert in alerts}

    wait_until(
        lambda: ("CeleryQueueWithoutWorkers", "demo-heavy") in told(), 180.0, "the queue without workers is told"
    )
    up.compose("start", "worker-heavy")


def test_half_a_core_and_192_mb_without_rights_lose_nothing(built: Stack) -> None:
    recorded, _ = heard_of_workload(filling=1_000, concurrency=2)
    bodies = [message.body for message in recorded if message.events[0]["type"].startswith("task-")]
    expected = sum(len(events_of(bodies[number % len(bodies)])) for number in range(MESSAGES))
    docker = built.engine.docker
    docker("network", "create", "--internal", "hardened")
    attached = ["run", "--detach", "--network", "hardened"]
    broker = ["valkey-server", "--save", "", "--protected-mode", "no"]
    docker(*attached, "--name", "valkey", image("broker"), *broker)
    limits = ["--memory", "192m", "--memory-swap", "192m", "--cpus", "0.5"]
    url = ["--env", "CELERYSCOPE_BROKER_URL=redis://valkey/0"]
    docker(*attached, "--name", "watcher", *HARDENED, *limits, *url, "celeryscope")

    def address(name: str) -> str:
        return str(built.engine.inspect(name)["NetworkSettings"]["Networks"]["hardened"]["IPAddress"])

    def scraped() -> Metrics:
        with urllib.request.urlopen(f"http://{address('watcher')}:9808/metrics", timeout=30.0) as answer:
            return Metrics(answer.read().decode())

    def heard() -> float:
        series = scraped().series("celery_exporter_events_total").items()
        return sum(value for labels, value in series if dict(labels)["type"] != "celeryscope-canary")

    def state() -> dict[str, Any]:
        found: dict[str, Any] = built.engine.inspect("watcher")["State"]
        return found

    wait_until(lambda: state()["Health"]["Status"] == "healthy", 60.0, "the container is healthy")
    wait_until(lambda: scraped().value("celery_exporter_connected") == 1, 30.0, "it listens")
    flood(redis.Redis(host=address("valkey")), stream(recorded, MESSAGES))
    wait_until(lambda: heard() == expected, 180.0, f"{expected} events are counted")
    print(f"{expected} events; {docker('stats', '--no-stream', '--format', '{{.MemUsage}}', 'watcher')}")
    seen = scraped()
    assert seen.sum("celery_exporter_invalid_events_total") == 0
    assert seen.sum("celery_exporter_deaf_seconds_total") == 0
    assert seen.sum("celery_exporter_reconnects_total") == 0
    assert state()["Running"]
    assert not state()["OOMKilled"]
    wait_until(lambda: state()["Health"]["Status"] == "healthy", 60.0, "it is still healthy")
    docker("rm", "--force", "--volumes", "watcher", "valkey")
    docker("network", "rm", "hardened")


def test_down_leaves_nothing(up: Stack) -> None:
    up.compose("--profile", "*", "down", "--volumes", "--timeout", "20")
    of_project = ("--quiet", "--filter", "label=com.docker.compose.project=celeryscope")
    assert up.engine.docker("container", "ls", "--all", *of_project) == ""
    assert up.engine.docker("volume", "ls", *of_project) == ""
    assert up.engine.docker("network", "ls", *of_project) == ""


def test_an_engine_leaves_nothing() -> None:
    before = PacketFilter.now()
    with engine() as running:
        running.docker("network", "create", "one")
        assert PacketFilter.now() != before
    assert running.process.returncode is not None
    assert not running.folder.exists()
    assert mounts_below(running.folder) == []
    assert PacketFilter.now() == before
