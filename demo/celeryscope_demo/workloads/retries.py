"""Webhooks: calls that fail for a moment, and calls that fail for good.

What is taught: retry what may pass, and nothing else (retrying.py); let the delay grow and be drawn; give up after
`max_retries`, and let the task fail then. A retry is a new message: it waits in a worker like any countdown, goes
behind all that waits already, and runs from the start.
"""

import random
from typing import Any

from celeryscope_demo import switches
from celeryscope_demo.app import app
from celeryscope_demo.retrying import retrying
from celeryscope_demo.simulation import chance, work
from celeryscope_demo.workloads import Workload, one_id

RESETS = 0.06  # share of attempts whose connection is reset
GONE = 0.005  # share of endpoints that are gone


class EndpointGone(Exception):
    """Nobody answers at this address any more, says the server. Trying again would not help."""


@app.task(name="webhooks.deliver", bind=True, max_retries=5)
@retrying(base=1.0, longest=8.0)
def deliver_webhook(self: Any, endpoint_id: int, event_id: int) -> None:
    """Be idempotent for whoever is called, too: the event's id goes along, so a second delivery can be told from it."""
    attempt = self.request.retries
    work(0.08, endpoint_id, event_id, attempt)
    if switches.on("retry-storm") or chance(RESETS, "reset", endpoint_id, event_id, attempt):
        raise ConnectionResetError(f"endpoint {endpoint_id} closed the connection")
    if chance(GONE, "gone", endpoint_id):
        raise EndpointGone(f"endpoint {endpoint_id} answers 410")


def _event(draw: random.Random) -> None:
    deliver_webhook.delay(one_id(draw), one_id(draw))


WORKLOADS = (Workload("webhooks", 0.6, _event), Workload("webhooks of a storm", 2.0, _event, incident="retry-storm"))
