"""What a whole exporter costs on RabbitMQ beside the decoding alone: events per CPU second, on the same bytes.

As `benchmarks.stream` does it for Valkey, whose workload and messages these are; the decode loop takes bodies to typed
events, and nothing more, since AMQP has no envelope.

    PYTHONPATH=exporter:demo:tests python -m benchmarks.rabbitmq [--messages N]
"""

import argparse
import base64
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
from amqp import Message
from kombu import Connection

from benchmarks.stream import QUICK_TASKS, handled, stream
from celeryscope.events import EventDecoder
from support.exporter import exporter
from support.rabbitmq import rabbitmq
from support.record import heard_of_workload
from support.waiting import wait_until

EXCHANGE = "celeryev"
CHUNK = 10_000  # messages published before the exporter is waited for: its queue is bounded


def decode_loop(bodies: list[bytes]) -> tuple[int, float]:
    """Return how many events the bodies hold, and the CPU seconds that decoding them took."""
    decode = EventDecoder().decode
    before = time.process_time()
    events = sum(len(decode(body, "application/json")) for body in bodies)
    return events, time.process_time() - before


def through_the_exporter(bodies: list[bytes]) -> tuple[float, float]:
    """Return the CPU seconds and the seconds of an exporter that reads all bodies; without its start."""
    decode = EventDecoder().decode
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(rabbitmq(folder / "rabbitmq"))
        running = stack.enter_context(exporter(server.url, log=folder / "exporter.log"))
        with Connection(server.url) as connection:
            process = psutil.Process(running.process.pid)
            channel = connection.channel()
            before, started = process.cpu_times(), time.monotonic()
            published = 0
            for start in range(0, len(bodies), CHUNK):
                for body in bodies[start : start + CHUNK]:
                    message = Message(body, content_type="application/json", content_encoding="utf-8", delivery_mode=1)
                    channel.basic_publish(message, EXCHANGE, "task.multi")
                    published += len(decode(body, "application/json"))
                wait_until(lambda: handled(running) == published, 120.0, f"{published} events are counted")  # noqa: B023
            after, ended = process.cpu_times(), time.monotonic()
    return (after.user + after.system) - (before.user + before.system), ended - started


def main() -> None:
    """Run once and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=50_000, help="how many to publish [50000]")
    recorded, _ = heard_of_workload(filling=QUICK_TASKS, concurrency=2)
    envelopes = stream(recorded, parser.parse_args().messages)
    bodies = [base64.b64decode(json.loads(payload)["body"]) for payload in envelopes]
    events, decoding = decode_loop(bodies)
    whole, seconds = through_the_exporter(bodies)
    print(f"{events:,} events in {len(bodies):,} messages, published and read in {seconds:.1f} s")
    print(f"decode loop     {events / decoding:>10,.0f} events per CPU second")
    print(f"whole exporter  {events / whole:>10,.0f} events per CPU second")
    print(f"ratio           {decoding / whole:>10.2f}")


if __name__ == "__main__":
    main()
