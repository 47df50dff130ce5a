"""How long a poll of many queues takes on a real Valkey, and what it makes the server do.

python tests/benchmarks/queues.py [--queues 5000] [--size 600]
"""

import argparse
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from celeryscope.pollers.redis import RedisPoller
from support.redis_polling import application
from support.servers import valkey

POLLS = 10


def fill(client: Any, queues: int, size: int) -> None:
    """Queues as Celery makes them, each of its own exchange, with two messages of about `size` bytes."""
    message = '{"body": "%s", "headers": {"task": "shop.work", "id": "%%s"}, "properties": {}}' % ("x" * size)
    with client.pipeline(transaction=False) as pipeline:
        for number in range(queues):
            name = f"queue-{number}"
            pipeline.sadd(f"_kombu.binding.{name}", f"{name}\x06\x16\x06\x16{name}")
            pipeline.lpush(name, message % number, message % number)
        pipeline.execute()


def main() -> None:
    """Fill a server, poll it, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queues", type=int, default=5000, help="how many [5000]")
    parser.add_argument("--size", type=int, default=600, help="bytes of a message's body [600]")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        valkey(Path(directory)) as server,
        closing(server.client()) as client,
    ):
        fill(client, options.queues, options.size)
        names = [f"queue-{number}" for number in range(options.queues)]
        app = application(server.url)
        poller = RedisPoller(app.connection_for_read, lambda: names, lambda _: True)
        seconds, shares = [], []
        for _ in range(POLLS):
            before, busy = client.info("stats"), client.info("cpu")
            started, worked = time.perf_counter(), time.process_time()
            reading = poller.poll()
            worked, took = time.process_time() - worked, time.perf_counter() - started
            after, done = client.info("stats"), client.info("cpu")
            cpu = sum(done[name] - busy[name] for name in ("used_cpu_user", "used_cpu_sys"))
            sent = after["total_net_output_bytes"] - before["total_net_output_bytes"]
            seconds.append(took)
            shares.append(f"{took:6.3f} s, own CPU {worked:6.3f} s, server's CPU {cpu:6.3f} s, {sent / 1e6:6.2f} MB")
            assert sum(queue.length or 0 for queue in reading.queues) == 2 * options.queues
        poller.close()
    print(
        f"{options.queues} queues, {POLLS} polls: median {statistics.median(seconds):.3f} s, worst {max(seconds):.3f} s"
    )
    print("\n".join(shares))


if __name__ == "__main__":
    main()
