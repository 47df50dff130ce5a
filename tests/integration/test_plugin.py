"""`celery -A proj scope` beside real workers of a plain project and of a Django project."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery

from support.processes import REPOSITORY, Process, python, pythonpath, started
from support.scope import scope
from support.servers import Valkey, valkey

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

WAIT = 40.0  # seconds
PREFIX, EXCHANGE = "shop:", "shopev"

PLAIN = """
from celery import Celery

app = Celery("shop", broker="redis://127.0.0.1:1/0")
app.conf.update(
    broker_transport_options={"global_keyprefix": "shop:"},
    event_exchange="shopev",
    task_default_queue="orders",
    task_send_sent_event=True,
    beat_schedule={"sweep": {"task": "shop.sweep", "schedule": 90.0}},
)


@app.task(name="shop.sweep", ignore_result=True)
def sweep():
    pass
"""

MANAGE = {
    "site_of_shop/__init__.py": "from .celery import app as celery_app\n\n__all__ = ('celery_app',)\n",
    "site_of_shop/celery.py": """
import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_of_shop.settings")
app = Celery("site_of_shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.on_after_configure.connect
def set_up(**_):
    import django

    django.setup()
""",
    "site_of_shop/settings.py": """
SECRET_KEY = "django-secret"
INSTALLED_APPS = ["orders"]
USE_TZ = True
CELERY_BROKER_URL = {url!r}
CELERY_TASK_DEFAULT_QUEUE = "orders"
CELERY_TASK_SEND_SENT_EVENT = True
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_BEAT_SCHEDULE = {{"sweep": {{"task": "orders.tasks.sweep", "schedule": 90.0}}}}
# As many projects have it: what logged before is silenced, and everything goes to one place.
LOGGING = {{
    "version": 1,
    "disable_existing_loggers": True,
    "handlers": {{"console": {{"class": "logging.StreamHandler"}}}},
    "root": {{"handlers": ["console"], "level": "CRITICAL"}},
}}
""",
    "orders/__init__.py": "",
    "orders/tasks.py": """
from celery import shared_task


@shared_task(ignore_result=True)
def sweep():
    pass
""",
}


@contextmanager
def worker(app: str, folder: Path) -> Iterator[Process]:
    """A worker of an app in a folder."""
    command = python("-m", "celery", "-A", app, "worker", "-P", "solo", "-n", "w@h", "-l", "INFO")
    command += ["--without-gossip", "--without-mingle"]
    with started(command, folder / "worker.log", {"PYTHONPATH": pythonpath(REPOSITORY / "exporter")}) as process:
        yield process


def send(app: Celery, task: str) -> None:
    app.send_task(task, queue="orders")
    app.close()


def write(folder: Path, files: Mapping[str, str], url: str) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(url=url) if "{url" in text else text)
    return folder


def test_a_plain_project_with_all_that_its_own_configuration_says_and_another_broker(tmp_path: Path) -> None:
    folder = write(tmp_path / "project", {"proj.py": PLAIN}, "")
    with (
        valkey(tmp_path / "valkey", password="correct-horse") as server,
        scope("proj", folder, "--queues-poll-interval", "1s", celery=("-b", server.url)) as exporter,
    ):
        exporter.wait_for("celery_exporter_connected", 1.0, WAIT)
        sender = Celery("sender", broker=server.url, set_as_current=False)
        sender.conf.update(
            broker_transport_options={"global_keyprefix": PREFIX}, event_exchange=EXCHANGE, task_send_sent_event=True
        )
        send(sender, "shop.sweep")
        found = exporter.wait_for("celery_queue_length", 1.0, WAIT, queue="orders")
        assert found.value("celery_task_sent_total", task="shop.sweep", queue="orders") == 1.0
        assert found.value("celery_task_expected_interval_seconds", task="shop.sweep") == 90.0
        exporter.process.signal(signal.SIGTERM)
        assert exporter.process.wait(10) == 0
        assert "correct-horse" not in exporter.process.log


def test_a_django_project_whose_own_logging_silences_everything(valkey_server: Valkey, tmp_path: Path) -> None:
    folder = write(tmp_path / "project", MANAGE, valkey_server.url)
    with worker("site_of_shop", folder), scope("site_of_shop", folder) as exporter:
        exporter.wait_for("celery_worker_up", 1.0, WAIT, worker="w@h")
        sender = Celery("sender", broker=valkey_server.url, set_as_current=False)
        sender.conf.task_send_sent_event = True
        send(sender, "orders.tasks.sweep")
        found = exporter.wait_for("celery_task_succeeded_total", 1.0, WAIT, task="orders.tasks.sweep", queue="orders")
        assert found.value("celery_task_expected_interval_seconds", task="orders.tasks.sweep") == 90.0
        page = exporter.get("/").body.decode()
        assert "Connected" in page
        assert "w@h" in page
        exporter.process.signal(signal.SIGTERM)
        assert exporter.process.wait(10) == 0
        lines = exporter.process.log.splitlines()
        assert all(line.startswith("ts=") for line in lines), lines
        assert 'msg="stopped"' in lines[-1]
