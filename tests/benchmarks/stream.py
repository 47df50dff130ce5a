"""What a whole exporter costs beside the decoding alone: events per CPU second, on the same bytes, in one run.

A workload runs on real workers, and the stream that was heard of it is repeated under new task ids, through a real
Valkey, to the exporter as users run it. Its CPU time is what the operating system counts for the process.

The decode loop is a yardstick that does not follow the exporter's own ways: envelope by msgspec, base64 by the standard
library, body to typed events by msgspec, and nothing more. The exporter's own decoding, which is faster, is shown
beside it. Machines differ and are noisy: the ratios are what counts.

    PYTHONPATH=exporter:demo:tests python -m benchmarks.stream [--messages N]
"""

import argparse
import binascii
import json
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil
import redis

from celeryscope.events import EventDecoder
from celeryscope.stream.envelope import unwrap
from support.channel import envelope
from support.exporter import Exporter, exporter
from support.flood import flood
from support.record import Heard, heard_of_workload
from support.servers import valkey
from support.waiting import wait_until

SETTLING = 6.0  # seconds: at first, events of unknown tasks wait until inspection has named those
QUICK_TASKS = 4_000  # of the workload, beside those of every kind


class Envelope(msgspec.Struct, gc=False):
    """What the decode loop reads of an envelope."""

    body: str


def stream(recorded: Sequence[Heard], messages: int) -> Iterator[bytes]:
    """Yield that many messages as kombu publishes them: the recording's task events, each round under new task ids."""
    bodies = [message.body for message in recorded if message.events[0]["type"].startswith("task-")]
    ids_of = [{event["uuid"] for event in events_of(body) if "uuid" in event} for body in bodies]
    count = 0
    while True:
        fresh = {known: str(uuid.uuid4()).encode() for ids in ids_of for known in ids}
        for body, ids in zip(bodies, ids_of, strict=True):
            if count == messages:
                return
            for known in ids:
                body = body.replace(known.encode(), fresh[known])  # noqa: PLW2901 - the same body, under other ids
            yield envelope(body)
            count += 1


def events_of(body: bytes) -> list[dict[str, Any]]:
    """Return the events of a body."""
    content = json.loads(body)
    return content if isinstance(content, list) else [content]


def decode_loop(messages: list[bytes]) -> tuple[int, float]:
    """Return how many events the messages hold, and the CPU seconds that decoding them plainly took."""
    envelope_of = msgspec.json.Decoder(Envelope).decode
    return timed(messages, lambda payload: binascii.a2b_base64(envelope_of(payload).body))


def own_decode_loop(messages: list[bytes]) -> tuple[int, float]:
    """Return the same of the way that the exporter decodes."""
    return timed(messages, lambda payload: unwrap(payload)[0].body)


def timed(messages: list[bytes], body_of: Callable[[bytes], bytes]) -> tuple[int, float]:
    """Return how many events the messages hold, and the CPU seconds from payloads to events."""
    decode = EventDecoder().decode
    events = 0
    before = time.process_time()
    for payload in messages:
        events += len(decode(body_of(payload), "application/json"))
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
            time.sleep(SETTLING)
            before = process.cpu_times()
            flood(client, messages)
            wait_until(lambda: handled(running) == events, 120.0, f"{events} events are counted")
            after = process.cpu_times()
    return (after.user + after.system) - (before.user + before.system)


def main() -> None:
    """Run once and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000, help="how many to publish [100000]")
    recorded, _ = heard_of_workload(filling=QUICK_TASKS, concurrency=2)
    messages = list(stream(recorded, parser.parse_args().messages))
    events, decoding = decode_loop(messages)
    _, own = own_decode_loop(messages)
    whole = through_the_exporter(messages, events)
    kinds = Counter(event["type"] for message in recorded for event in message.events)
    print(f"{events:,} events in {len(messages):,} messages, of a workload of {dict(kinds)}")
    print(f"decode loop        {events / decoding:>10,.0f} events per CPU second")
    print(f"exporter's decode  {events / own:>10,.0f} events per CPU second")
    print(f"whole exporter     {events / whole:>10,.0f} events per CPU second")
    print(
        f"ratio              {decoding / whole:>10.2f} of the decode loop, {own / whole:.2f} of the exporter's decode"
    )


if __name__ == "__main__":
    main()
