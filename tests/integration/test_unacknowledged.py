"""What workers hold on Redis is theirs: the exporter, a consumer of replies itself, delivers none of it again."""

import json
import time
from pathlib import Path

import pytest

from support.exporter import Metrics, exporter
from support.redis_polling import application, send
from support.servers import Valkey

pytestmark = pytest.mark.integration

WAIT = 30.0  # seconds
HELD_SINCE = 7200.0  # seconds ago: longer than the visibility timeout of who does not know the workers'


def test_a_message_that_is_held_for_long_stays_where_it_is(valkey_server: Valkey, tmp_path: Path) -> None:
    with valkey_server.client() as client:
        send(application(valkey_server.url), "beta")
        message = client.rpop("beta")
        client.hset("unacked", "tag", json.dumps([json.loads(message), "", "beta"]))
        client.zadd("unacked_index", {"tag": time.time() - HELD_SINCE})
        durations: set[float | None] = set()

        def polls_went_on(metrics: Metrics) -> bool:
            # Answered or not, each poll takes a time of its own.
            durations.add(metrics.value("celery_exporter_poll_duration_seconds", poller="workers"))
            return len(durations) > 3

        with exporter(valkey_server.url, "--workers-poll-interval", "1s", log=tmp_path / "exporter.log") as running:
            running.wait_until(polls_went_on, WAIT, "workers were asked again and again")
        assert client.hlen("unacked") == 1
        assert client.llen("beta") == 0
