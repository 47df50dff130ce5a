"""How long each query of a dashboard takes in a large cluster: 500 tasks over 20 queues in 600 pairs, 50 workers.

The cluster's past comes from the real tracker, store and exposition, and is recorded by the committed rules; a real
Prometheus remembers it. Each query is asked as Grafana asks it, over the whole time, a few times over; the best is
shown, with what it read for one moment. What counts is that none of Overview takes a second.

    PYTHONPATH=exporter:demo:tests python -m benchmarks.dashboards [--minutes N] [--dashboard NAME]
"""

import argparse
import tempfile
import time
from pathlib import Path

from support.dashboards import NAMES, dashboard
from support.grafana_source import Source
from support.grafana_variables import Window
from support.history import remembered
from support.large import LargeCluster

SCRAPE = 30.0  # seconds
REPEATS = 3
LIMIT = 1.0  # seconds


def main() -> None:
    """Run once and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="that are remembered [60]")
    parser.add_argument("--dashboard", choices=NAMES, default="overview")
    arguments = parser.parse_args()
    length = arguments.minutes * 60.0
    now = time.time() // SCRAPE * SCRAPE
    cluster = LargeCluster(now - length)
    cluster.live(now, SCRAPE)
    with tempfile.TemporaryDirectory() as folder:
        spans = [(now - length, now)]
        with remembered(Path(folder) / "prometheus", cluster.past, spans) as server:
            show(Source(server.port, Window(now - length, now, SCRAPE)), arguments.dashboard)


def show(source: Source, name: str) -> None:
    """Ask each query, and print what it took."""
    answers = {
        target.name: min((source.ask(target) for _ in range(REPEATS)), key=lambda found: found.seconds)
        for target in dashboard(name).targets
    }
    print(f"{'seconds':>8} {'samples':>9} {'series':>7}  query")
    for target, answer in sorted(answers.items(), key=lambda found: -found[1].seconds):
        mark = " TOO SLOW" if answer.seconds >= LIMIT else ""
        print(f"{answer.seconds:8.3f} {answer.samples:9,.0f} {len(answer.series):7}  {target}{mark}")


if __name__ == "__main__":
    main()
