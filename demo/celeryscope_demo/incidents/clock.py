"""Workers whose machine's clock is wrong."""

import platform
import shutil
import subprocess
from collections.abc import Generator
from dataclasses import replace

from celeryscope_demo.cluster import Cluster
from celeryscope_demo.incidents import HEAVY, CannotStart, Incident, lasting

BEHIND = 300  # seconds
TIMEOUT = 2.0  # seconds for faketime to say how it does it


def faketime(ahead: int) -> dict[str, str]:
    """The variables under which a program's clock is this many seconds ahead. Raises CannotStart."""
    program = shutil.which("faketime")
    if program is None:
        how = "brew install libfaketime" if platform.system() == "Darwin" else "apt-get install faketime, say"
        raise CannotStart(f"this incident needs the program faketime, which is not on the PATH: {how}")
    command = [program, "-f", f"{ahead:+d}s", "env"]
    try:
        output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotStart(f"faketime does not work here: {error}") from error
    variables = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    names = ("LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "DYLD_FORCE_FLAT_NAMESPACE", "FAKETIME")
    # It shifts the monotonic clock too, with which a thread that waits for another at most so long waits for ever: the
    # solo worker has no such thread. With that clock left alone, it would fail every sleep.
    return {name: variables[name] for name in names if name in variables}


def _clock_skew(cluster: Cluster) -> Generator[None]:
    variables = faketime(-BEHIND)
    child = cluster.workers["heavy"].child
    usual = child.program
    cluster.children.renew(child, replace(usual, environ={**usual.environ, **variables}))
    try:
        yield from lasting()
    finally:
        cluster.children.renew(child, usual)


INCIDENTS = (
    Incident(
        "clock-skew",
        "The clock of a worker's machine is five minutes behind: no time synchronisation, or a resumed machine.",
        "celery_worker_clock_skew_seconds of demo-heavy is about 300; no wait or runtime of its tasks is wrong for it. "
        "The worker is started again for it, and at the end. A worker that is behind runs tasks with an ETA so much "
        "too late, and runs what has expired; one that is ahead would run the first too early, and drop what has not "
        'expired yet as celery_task_revoked_total{reason="expired"}.',
        action=_clock_skew,
        part=HEAVY,
    ),
)
