"""The proof on Valkey: 10,000 tasks, to the last one."""

from pathlib import Path

import pytest

from support.record import listening
from support.servers import Valkey
from support.truth_run import assert_every_counter_is_true


@pytest.mark.truth
@pytest.mark.timeout(400)
def test_every_counter_equals_what_10000_tasks_and_their_producer_counted(
    valkey_server: Valkey, tmp_path: Path
) -> None:
    assert_every_counter_is_true(valkey_server.url, listening(valkey_server), tmp_path, rounds=4, least=10_000)
