"""The status page in a real browser: of a cluster at work, of one whose names mean harm, and of none at all."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from playwright.sync_api import Browser

from support.browser import View, browser, view
from support.exporter import Exporter, exporter
from support.processes import python, started
from support.servers import Valkey, valkey
from support.waiting import wait_until

pytestmark = [pytest.mark.full, pytest.mark.integration, pytest.mark.system("chromium"), pytest.mark.timeout(300)]

WAIT = 60.0  # seconds
WINDOWS = [(scheme, width) for scheme in ("light", "dark") for width in (375, 1280)]
EVIL = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
LONG = "shop." + "averylongmodulename" * 9
SHOTS = os.environ.get("CELERYSCOPE_TESTS_SHOTS", "")  # a folder: what was seen is kept there

TASKS = f"""
import os
from celery import Celery

app = Celery("shop", broker=os.environ["OBSERVED_BROKER"])
app.conf.update(task_send_sent_event=True, worker_send_task_events=True)


class PaymentRefusedError(Exception):
    pass


def work(fails=False):
    if fails:
        raise PaymentRefusedError("no")


for name in ("shop.pay", {EVIL!r}, {LONG!r}):
    app.task(name=name, ignore_result=True)(work)
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with valkey(tmp_path_factory.mktemp("valkey"), password="correct-horse") as found:
        yield found


@pytest.fixture(scope="module")
def watched(server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """An exporter of a worker with a harmful name, whose tasks have such names too and fail; a queue has no worker."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(TASKS)
    command = python("-m", "celery", "-A", "shop", "worker", "-P", "threads", "-c", "2", "-n", f"{EVIL}@h")
    with (
        exporter(server.url, log=folder / "exporter.log") as found,
        started(command, folder / "worker.log", {"OBSERVED_BROKER": server.url}),
    ):
        found.wait_until(lambda metrics: metrics.sum("celery_worker_up") == 1, WAIT, "the worker is up")
        app = Celery("sender", broker=server.url, set_as_current=False)
        app.conf.task_send_sent_event = True
        for name in ("shop.pay", EVIL, LONG):
            app.send_task(name, kwargs={"fails": True})
            app.send_task(name)
        app.send_task("shop.pay", queue=EVIL)
        app.close()
        found.wait_until(
            lambda metrics: (
                metrics.sum("celery_task_exceptions_total") == 3
                and metrics.value("celery_queue_length", queue=EVIL) == 1
                and metrics.value("celery_queue_workers", queue=EVIL) == 0
                and metrics.value("celery_worker_concurrency", worker=f"{EVIL}@h") == 2
            ),
            WAIT,
            "everything that the page shows is known",
        )
        yield found


def assert_sound(seen: View, name: str) -> None:
    """Nothing is cut off, faint or complained of."""
    if SHOTS:
        seen.page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)
    assert seen.overflow <= 0
    assert seen.cut_off == []
    assert seen.faint == []
    assert seen.complaints == []


@pytest.mark.parametrize(("scheme", "width"), WINDOWS)
def test_a_cluster_at_work(chromium: Browser, watched: Exporter, scheme: str, width: int) -> None:
    with view(chromium, watched.url, scheme=scheme, width=width) as seen:
        assert_sound(seen, f"cluster-{scheme}-{width}")
        assert seen.page.title() == "Connected \N{MIDDLE DOT} celeryscope"
        for text in ("Connected", "Workers up 1", "Running 0 of 2 slots", "shop.pay", "PaymentRefusedError", LONG):
            assert text in seen.text
        assert f"Tasks wait where no worker takes them: {EVIL}" in seen.text
        assert seen.page.locator("script, img, iframe, form").count() == 0
        assert seen.page.locator("th", has_text=EVIL).count() == 3  # the worker, the queue, the task
        assert "correct-horse" not in seen.page.content()


def test_dark_is_dark(chromium: Browser, watched: Exporter) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        with view(chromium, watched.url, scheme=scheme, width=1280) as seen:
            colours[scheme] = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colours == {"light": "rgb(244, 245, 247)", "dark": "rgb(14, 17, 22)"}


def test_without_scripts_it_loads_again_until_it_is_told_to_hold_still(chromium: Browser, watched: Exporter) -> None:
    with view(chromium, watched.url, scheme="light", width=375, scripts=False) as seen:
        with seen.page.expect_navigation(timeout=WAIT * 1000):
            pass
        seen.page.get_by_text("hold still").click()
        assert seen.page.url.endswith("/?refresh=off")
        assert seen.page.locator("meta[http-equiv=refresh]").count() == 0
        seen.page.get_by_role("link", name="what to do").first.click()
        assert "/runbooks/CeleryQueueWithoutWorkers" in seen.page.url


def test_the_runbooks_look_as_they_should(chromium: Browser, watched: Exporter) -> None:
    for path in ("/runbooks/", "/runbooks/CeleryQueueStuck"):
        with view(chromium, watched.url + path, scheme="dark", width=375) as seen:
            assert_sound(seen, "runbook")
            assert seen.page.evaluate("getComputedStyle(document.body).maxWidth") != "none"


@pytest.mark.parametrize(("scheme", "width"), [("light", 375), ("dark", 1280)])
def test_no_broker_at_all(chromium: Browser, tmp_path: Path, scheme: str, width: int) -> None:
    url = "redis://:correct-horse@127.0.0.1:1/0"
    with exporter(url, log=tmp_path / "exporter.log", wait_connected=False) as found:
        wait_until(lambda: b"refused the connection" in found.get("/").body, WAIT, "the page says why")
        with view(chromium, found.url, scheme=scheme, width=width) as seen:
            assert_sound(seen, f"none-{scheme}-{width}")
            assert "Not connected" in seen.text
            assert "Workers up unknown" in seen.text
            assert "No worker heard yet" in seen.text
            assert "correct-horse" not in seen.page.content()


def test_a_cluster_in_which_nothing_ever_happened(chromium: Browser, server: Valkey, tmp_path: Path) -> None:
    with exporter(server.database_url(7), log=tmp_path / "exporter.log") as found:
        found.wait_until(lambda m: m.value("celery_exporter_canary_round_trip_seconds"), WAIT, "a canary came back")
        with view(chromium, found.url, scheme="light", width=375) as seen:
            assert_sound(seen, "empty-light-375")
            assert "Connected" in seen.text
            assert "Workers up unknown" in seen.text
