"""A stream recorded from real workers goes through decode, tracker, store and exposition to a golden text.

No broker, thread, clock or sleep: the moments are those of the recording. After a change on purpose, write the golden
text anew and read its difference:

    PYTHONPATH=exporter:tests python -m golden.test_replay
"""

import base64
import json
from pathlib import Path

from prometheus_client import CollectorRegistry

from celeryscope.clock import Moment
from celeryscope.events import EventDecoder
from celeryscope.metrics.catalog import ALL
from celeryscope.metrics.collector import StoreCollector, expose
from celeryscope.metrics.store import Store
from celeryscope.tracker import Tracker

DATA = Path(__file__).resolve().parents[1] / "data"
RECORDING = DATA / "events.jsonl"
GOLDEN = DATA / "replay.prom"
SETTLING = 5.0  # seconds after the last message


def replay() -> str:
    """Return the exposition, in the text format, at the end of the recording."""
    store = Store(ALL)
    tracker = Tracker(store)
    decoder = EventDecoder()
    now = Moment(0.0, 0.0)
    for line in RECORDING.read_text().splitlines():
        message = json.loads(line)
        now = Moment(message["time"], message["time"])
        tracker.tick(now)
        tracker.handle(decoder.decode(base64.b64decode(message["body"]), message["content_type"]), now)
    end = Moment(now.wall + SETTLING, now.elapsed + SETTLING)
    tracker.tick(end)
    store.before_snapshot.append(lambda: tracker.refresh(end))
    registry = CollectorRegistry()
    registry.register(StoreCollector(store))
    return expose(registry, "text/plain")[0].decode()


def test_the_recording_replays_to_the_golden_exposition() -> None:
    assert replay() == GOLDEN.read_text()


def test_it_replays_to_the_same_text_every_time() -> None:
    assert replay() == replay()


if __name__ == "__main__":
    GOLDEN.write_text(replay())
