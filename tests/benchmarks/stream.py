"""What a whole exporter costs beside the decoding alone: events per CPU second, on the same bytes, in one run.

The recorded stream is repeated under new task ids and published through a real Valkey to the exporter as users run it;
its CPU time is what the operating system counts for the process. The decode loop takes the same messages through base64
and msgspec to typed events, and nothing more. Machines differ and are noisy: the ratio is what counts.

    PYTHONPATH=exporter:demo:tests python -m benchmarks.stream [--messages N]
"""

import argparse
import base64
import json
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import redis

from celeryscope.events import EventDecoder
from celeryscope.stream.redis import unwrap
from support.exporter import Exporter, exporter
from support.servers import valkey
from support.waiting import wait_until

RECORDING = Path(__file__).resolve().parents[1] / "data" / "events.jsonl"
CHANNEL = "/0.celeryev/task.multi"
CHUNK = 2_000  # messages published before the exporter is waited for: Valkey cuts a subscriber that falls behind


def stream(messages: int) -> Iterator[bytes]:
    """Yield that many messages as kombu publishes them: the recording's, each round under task ids of its own."""
    recorded = [json.loads(line) for line in RECORDING.read_text().splitlines()]
    bodies = [base64.b64decode(message["body"]) for message in recorded]
    ids = sorted({event["uuid"] for body in bodies for event in events_of(body) if "uuid" in event})
    count = 0
    while True:
        fresh = {known.encode(): str(uuid.uuid4()).encode() for known in ids}
        for body in bodies:
            if count == messages:
                return
            for known in {event["uuid"].encode() for event in events_of(body) if "uuid" in event}:
                body = body.replace(known, fresh[known])  # noqa: PLW2901 - the same body, under other ids
            yield envelope(body)
            count += 1


def events_of(body: bytes) -> list[dict[str, Any]]:
    """Return the events of a body."""
    content = json.loads(body)
    return content if isinstance(content, list) else [content]


def envelope(body: bytes) -> bytes:
    """Return what kombu's virtual transports publish for a body."""
    info = {"exchange": "celeryev", "routing_key": "task.multi"}
    properties = {"delivery_mode": 1, "delivery_info": info, "priority": 0, "body_encoding": "base64"}
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"hostname": "worker1@example"},
            "properties": {**properties, "delivery_tag": str(uuid.uuid4())},
        }
    ).encode()


def decode_loop(messages: list[bytes]) -> tuple[int, float]:
    """Return how many events the messages hold, and the CPU seconds that decoding them took."""
    decoder = EventDecoder()
    events = 0
    before = time.process_time()
    for payload in messages:
        message, _ = unwrap(payload)
        events += len(decoder.decode(message.body, message.content_type))
    return events, time.process_time() - before


def handled(running: Exporter) -> float:
    """Return how many events the exporter has handled, heartbeats and canaries left out."""
    own = {"celeryscope-canary"}
    series = running.scrape().series("celery_exporter_events_total").items()
    return sum(value for labels, value in series if dict(labels)["type"] not in own)


def through_the_exporter(messages: list[bytes], events: int) -> float:
    """Return the CPU seconds of an exporter that reads all messages; without its start, and with its scrapes."""
    with tempfile.TemporaryDirectory() as folder, valkey(Path(folder) / "valkey") as server:
        client = redis.Redis.from_url(server.url)
        with exporter(server.url, log=Path(folder) / "exporter.log") as running:
            process = psutil.Process(running.process.pid)
            before = process.cpu_times()
            for start in range(0, len(messages), CHUNK):
                pipeline = client.pipeline(transaction=False)
                for payload in messages[start : start + CHUNK]:
                    pipeline.publish(CHANNEL, payload)
                pipeline.execute()
            wait_until(lambda: handled(running) == events, 120.0, f"{events} events are counted")
            after = process.cpu_times()
    return (after.user + after.system) - (before.user + before.system)


def main() -> None:
    """Run once and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=40_000, help="how many to publish [40000]")
    messages = list(stream(parser.parse_args().messages))
    events, decoding = decode_loop(messages)
    whole = through_the_exporter(messages, events)
    print(f"{events} events in {len(messages)} messages")
    print(f"decode loop     {events / decoding:>10,.0f} events per CPU second")
    print(f"whole exporter  {events / whole:>10,.0f} events per CPU second")
    print(f"ratio           {decoding / whole:>10.2f}")


if __name__ == "__main__":
    main()
