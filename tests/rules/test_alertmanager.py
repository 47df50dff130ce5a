"""alerts/alertmanager.yml: who hears of what, what mutes what, and what stands on the phone."""

import json
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from celeryscope_demo.hurry import hurried
from celeryscope_demo.monitoring import with_receivers
from support.processes import REPOSITORY, started
from support.programs import needs
from support.servers import free_port
from support.waiting import wait_until

ALERTS = REPOSITORY / "alerts"
HURRY = 60.0  # a group waits for half a minute in production, and for a second here
SETTLED = 2.0  # seconds in which whatever is to be told of a group is told

Labels = dict[str, str]


class Inbox(ThreadingHTTPServer):
    """Takes whatever is posted, by path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Post)
        self.posts: list[tuple[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def alerts(self, path: str | None = None) -> list[Labels]:
        """The labels of all alerts that webhooks told of."""
        return [alert["labels"] for to, post in list(self.posts) for alert in post["alerts"] if path in (None, to)]


class Post(BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.posts.append((self.path.strip("/"), body))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Alertmanager:
    url: str
    inbox: Inbox

    def post(self, *alerts: Mapping[str, object]) -> None:
        request = urllib.request.Request(
            f"{self.url}/api/v2/alerts", json.dumps(alerts).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=5).close()

    def muted(self) -> list[Labels]:
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=5) as answer:
            return [alert["labels"] for alert in json.load(answer) if alert["status"]["inhibitedBy"]]


@contextmanager
def alertmanager(folder: Path, config: str, inbox: Inbox) -> Iterator[Alertmanager]:
    shutil.copytree(ALERTS / "templates", folder / "templates")
    (folder / "alertmanager.yml").write_text(config)
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus-alertmanager", "--config.file", str(folder / "alertmanager.yml")]
    command += ["--storage.path", str(folder / "data"), "--cluster.listen-address=", "--web.listen-address", address]
    listening = threading.Thread(target=inbox.serve_forever)
    listening.start()
    try:
        with started(command, folder / "alertmanager.log"):
            found = Alertmanager(f"http://{address}", inbox)
            ready = f"{found.url}/-/ready"
            wait_until(lambda: urllib.request.urlopen(ready, timeout=1).status == 200, 20, "Alertmanager is ready")
            yield found
    finally:
        inbox.shutdown()
        listening.join()
        inbox.server_close()


@pytest.mark.system("amtool")
@needs("amtool")
class TestRoutes:
    def test_configuration_is_valid_and_finds_its_templates(self, tmp_path: Path) -> None:
        copy = shutil.copytree(ALERTS, tmp_path / "alerts") / "alertmanager.yml"
        done = subprocess.run(["amtool", "check-config", copy], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 templates" in done.stdout

    @pytest.mark.parametrize(
        ("receiver", "labels"),
        [
            ("pager", ["alertname=CeleryBrokerDown", "component=celery", "severity=critical"]),
            ("tickets", ["alertname=CeleryEventsLost", "component=celery", "severity=warning"]),
            ("nobody", ["alertname=CeleryWorkerLost", "component=celery", "severity=info"]),
            ("watchdog", ["alertname=CeleryWatchdog", "component=celery", "severity=none"]),
            ("nobody", ["alertname=DiskFull", "component=node", "severity=critical"]),
        ],
    )
    def test_receiver(self, receiver: str, labels: list[str]) -> None:
        file = f"--config.file={ALERTS / 'alertmanager.yml'}"
        command = ["amtool", "config", "routes", "test", file, f"--verify.receivers={receiver}", *labels]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def alert(name: str, severity: str = "warning", **labels: str) -> Labels:
    return {"alertname": f"Celery{name}", "severity": severity, **labels}


@dataclass(frozen=True)
class Case:
    """What fires beside `source`: some of it is muted, some of it is told all the same."""

    source: Labels
    muted: tuple[Labels, ...] = ()
    told: tuple[Labels, ...] = ()


FAST, SLOW = {"queue": "fast"}, {"queue": "slow"}
PAY, CALL = {"task": "app.pay"}, {"task": "app.call"}
ONE, TWO = {"worker": "celery@one"}, {"worker": "celery@two"}
STUCK = alert("QueueStuck", "critical", **FAST)
ELSEWHERE = {**STUCK, "job": "elsewhere"}
BURN = alert("SLOBurn", "critical", **PAY, **FAST, slo="success", window="1h")
SLOW_BURN = BURN | {"severity": "warning", "window": "3d"}
WAIT_BURN = BURN | {"slo": "wait"}
FAILS = alert("TaskFailureRatioHigh", **PAY)
FAILS_BADLY = FAILS | {"severity": "critical"}
MEMORY, EVENTS_DISABLED = alert("BrokerMemoryHigh"), alert("TaskEventsDisabled", **ONE)
BACKLOG, BAD_BACKLOG = alert("QueueBacklogHigh", **FAST), alert("QueueBacklogHigh", "critical", **FAST)
OLD, SATURATED = alert("QueueOldestTaskTooOld", **FAST), alert("WorkersSaturated", **FAST)
WITHOUT = alert("QueueWithoutWorkers", "critical", **FAST)
DEAF, DOWN = alert("ExporterDeaf", "critical"), alert("ExporterDown", "critical")
BROKER_DOWN = alert("BrokerDown", "critical")

CASES = {
    "the exporter is down": Case(DOWN, (DEAF, STUCK, MEMORY, FAILS), (BROKER_DOWN, ELSEWHERE)),
    "one of two exporters is down": Case(alert("ExporterDown", instance="b:9808"), (), (DEAF, MEMORY)),
    "one of two exporters is down, and then the other": Case(DOWN, (alert("ExporterDown", instance="b:9808"),)),
    "the broker is down": Case(BROKER_DOWN, (DEAF, STUCK, MEMORY, FAILS), (DOWN, ELSEWHERE)),
    "the exporter is deaf": Case(
        DEAF, (WITHOUT, FAILS, BURN, alert("EventsLost", **ONE), alert("WorkerStuck", **ONE)), (MEMORY, ELSEWHERE)
    ),
    "polls of workers fail": Case(
        alert("PollStale", poller="workers"),
        (WITHOUT, STUCK, EVENTS_DISABLED, alert("WorkerStuck", **ONE)),
        (BAD_BACKLOG | SLOW, OLD | SLOW, BURN, FAILS | CALL, ELSEWHERE),
    ),
    "polls of queues fail": Case(alert("PollStale", poller="queues"), (), (WITHOUT | SLOW, STUCK, EVENTS_DISABLED)),
    "a queue has no workers": Case(
        WITHOUT,
        (STUCK, BACKLOG, BAD_BACKLOG, OLD, WAIT_BURN),
        (STUCK | SLOW, BACKLOG | SLOW, WAIT_BURN | SLOW, BURN, ELSEWHERE, alert("QueueStuck", "critical")),
    ),
    "workers have gone": Case(
        alert("WorkerPoolShrunk"), (SATURATED, BACKLOG), (OLD, BAD_BACKLOG | SLOW, SATURATED | {"job": "elsewhere"})
    ),
    "an objective is missed": Case(BURN, (FAILS, FAILS_BADLY), (FAILS_BADLY | CALL, STUCK)),
    "an objective is missed slowly": Case(SLOW_BURN, (FAILS,), (FAILS | CALL,)),
    "an objective is missed slowly, and failures page": Case(SLOW_BURN, (), (FAILS_BADLY,)),
    "another objective is missed": Case(WAIT_BURN, (), (FAILS, FAILS_BADLY | CALL)),
    "a page, and its ticket": Case(
        BAD_BACKLOG, (BACKLOG,), (BACKLOG | SLOW, OLD, BACKLOG | {"job": "elsewhere"}, alert("QueueBacklogHigh"))
    ),
    "a page, and its ticket, without a queue": Case(
        MEMORY | {"severity": "critical"}, (MEMORY,), (MEMORY | FAST, alert("EventsLost", **ONE))
    ),
    "a page of a worker": Case(
        alert("WorkerStuck", "critical", **ONE), (alert("WorkerStuck", **ONE),), (alert("WorkerStuck", **TWO),)
    ),
    "two objectives of a task": Case(BURN, (SLOW_BURN,), (SLOW_BURN | {"slo": "wait"}, SLOW_BURN | CALL)),
}


def of_case(name: str, labels: Labels) -> Labels:
    """The labels of an alert of a case: it has a job of its own, or two."""
    return {**labels, "component": "celery", "job": f"{name} {labels.get('job', 'here')}"}


@pytest.fixture(scope="module")
def inhibiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Labels], list[Labels]]]:
    """What was told and what was muted, after all cases have happened at once."""
    inbox = Inbox()
    config = hurried(with_receivers((ALERTS / "alertmanager.yml").read_text(), inbox.url), HURRY)
    told = [of_case(name, labels) for name, case in CASES.items() for labels in (case.source, *case.told)]
    muted = [of_case(name, labels) for name, case in CASES.items() for labels in case.muted]

    def all_told() -> bool:
        missing = [labels for labels in told if labels not in inbox.alerts()]
        assert not missing, missing
        return True

    with alertmanager(tmp_path_factory.mktemp("alertmanager"), config, inbox) as server:
        server.post(*({"labels": of_case(name, case.source)} for name, case in CASES.items()))
        server.post(*({"labels": labels} for labels in (*told, *muted)))
        wait_until(all_told, 20, "all that is to be told is told")
        time.sleep(SETTLED)
        yield inbox.alerts(), server.muted()


@pytest.mark.integration
@pytest.mark.system("prometheus-alertmanager")
@needs("prometheus-alertmanager")
@pytest.mark.parametrize("name", CASES)
def test_what_is_muted_and_what_is_told(name: str, inhibiting: tuple[list[Labels], list[Labels]]) -> None:
    arrived, muted = inhibiting
    case = CASES[name]
    for labels in case.muted:
        assert of_case(name, labels) in muted
        assert of_case(name, labels) not in arrived
    for labels in (case.source, *case.told):
        assert of_case(name, labels) not in muted
        assert of_case(name, labels) in arrived


SLACK = """
templates: [templates/*.tmpl]
route: {receiver: slack, group_by: [alertname, job], group_wait: 1s, group_interval: 1s}
receivers:
  - name: slack
    slack_configs:
      - api_url: %sslack
        channel: "#celery"
        send_resolved: true
        title: '{{ template "celeryscope.title" . }}'
        text: '{{ template "celeryscope.text" . }}'
"""


@pytest.mark.integration
@pytest.mark.system("prometheus-alertmanager")
@needs("prometheus-alertmanager")
def test_what_stands_on_the_phone(tmp_path: Path) -> None:
    def of(queue: str, **more: str) -> dict[str, object]:
        labels = {**STUCK, "job": "celery", "component": "celery", "queue": queue}
        annotations = {"summary": "Nothing is taken", "description": f"3 tasks wait in {queue}."}
        links = {"runbook_url": "http://runbooks/Stuck", "dashboard_url": "http://grafana/d/queues"}
        return {"labels": labels, "annotations": annotations | links, **more}

    def told(number: int) -> tuple[str, list[str]]:
        wait_until(lambda: len(inbox.posts) >= number, 20, f"message {number}")
        attachment = inbox.posts[number - 1][1]["attachments"][0]
        *lines, runbook, dashboard = attachment["text"].splitlines()
        assert (runbook, dashboard) == ("Runbook: http://runbooks/Stuck", "Dashboard: http://grafana/d/queues")
        return attachment["title"], sorted(lines)

    inbox = Inbox()
    with alertmanager(tmp_path / "alertmanager", SLACK % inbox.url, inbox) as server:
        server.post(of("fast"), of("slow"))
        assert told(1) == ("Nothing is taken (2)", ["3 tasks wait in fast.", "3 tasks wait in slow."])
        over = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1))
        server.post(of("fast", endsAt=over), of("slow"))
        assert told(2) == ("Nothing is taken (2)", ["3 tasks wait in slow.", "Over: 3 tasks wait in fast."])
        server.post(of("slow", endsAt=over))
        assert told(3) == ("Over: Nothing is taken: slow", ["Over: 3 tasks wait in slow."])
