"""Start and end of the process."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.exporter import exporter
from support.servers import Valkey, free_port

STOP_TIMEOUT = 2.0  # seconds
# The goal is 1.5 s on a machine that does nothing else; here other tests may run at the same time.
START_LIMIT = 6.0  # seconds

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("broker", ["up", "down"])
def test_metrics_are_served_soon_after_the_start(
    valkey_server: Valkey, tmp_path: Path, broker: str, record_property: Callable[[str, object], None]
) -> None:
    url = valkey_server.url if broker == "up" else f"redis://127.0.0.1:{free_port()}/0"
    begin = time.monotonic()
    with exporter(url, log=tmp_path / "exporter.log", wait_connected=False) as running:
        seconds = time.monotonic() - begin
        print(f"first /metrics with the broker {broker}: {seconds:.2f} s")
        record_property("start_seconds", seconds)
        assert seconds < START_LIMIT
        running.wait_for("celery_broker_up", 1 if broker == "up" else 0, 5.0)


@pytest.mark.parametrize("broker", ["up", "down", "frozen"])
def test_sigterm_ends_it_with_0_and_no_thread_is_left_waiting(
    valkey_server: Valkey, tmp_path: Path, broker: str
) -> None:
    url = valkey_server.url if broker != "down" else f"redis://127.0.0.1:{free_port()}/0"
    with exporter(url, log=tmp_path / "exporter.log", wait_connected=broker != "down") as running:
        if broker == "frozen":
            valkey_server.pause()
        begin = time.monotonic()
        running.process.terminate()
        # A thread that is not a daemon would keep the process; one that is left behind is told in the log.
        assert running.process.wait(STOP_TIMEOUT * 3) == 0
        seconds = time.monotonic() - begin
        print(f"SIGTERM to exit with the broker {broker}: {seconds:.2f} s")
        assert seconds < STOP_TIMEOUT * 2
        assert "Traceback" not in running.process.log
        assert "still running" not in running.process.log
        valkey_server.resume()
