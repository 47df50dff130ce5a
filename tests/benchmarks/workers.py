"""How long a poll of many workers takes on a real Valkey, and what it costs here: one thread answers for all of them.

The thread shares the processor with the poll, which makes it look slower than it is with real workers.

    PYTHONPATH=exporter:demo:tests python -m benchmarks.workers [--workers N] [--polls N]
"""

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

from celery import Celery

from celeryscope.clock import SystemClock
from celeryscope.pollers.mailbox import Mailbox
from celeryscope.pollers.workers import WorkersPoller
from support.crowd import crowd
from support.servers import valkey


def answer(url: str, names: list[str], listens: "multiprocessing.synchronize.Event") -> None:
    """Answer for all names until killed."""
    with crowd(url, names):
        listens.set()
        time.sleep(3600)


def main() -> None:
    """Poll, and print what every poll took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--polls", type=int, default=5)
    options = parser.parse_args()
    names = [f"celery@worker{number}" for number in range(options.workers)]
    with tempfile.TemporaryDirectory() as folder, valkey(Path(folder) / "valkey") as server:
        context = multiprocessing.get_context("spawn")
        listens = context.Event()
        answering = context.Process(target=answer, args=(server.url, names, listens), daemon=True)
        answering.start()
        listens.wait()
        app = Celery("asking", broker=server.url, set_as_current=False)
        poller = WorkersPoller(Mailbox(app, app.connection_for_write), lambda: names, lambda _: "Linux", SystemClock())
        try:
            for number in range(options.polls + 1):
                began, cpu = time.monotonic(), time.process_time()
                readings = poller.poll()
                took, used = time.monotonic() - began, time.process_time() - cpu
                kind = "asking everybody" if number == 0 else "addressed"
                complete = sum(reading.holds_listed for reading in readings)
                print(f"{kind}: {len(readings)} answered, {complete} of them all, in {took:.2f} s, {used:.2f} s of CPU")
        finally:
            poller.close()
            app.close()
            answering.kill()


if __name__ == "__main__":
    main()
