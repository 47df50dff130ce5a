"""The simulated third party: a server of its own, and what a client needs to know of it.

It limits what an account may ask of an endpoint, as providers do, in three ways: by windows that follow each other,
by a window that moves with the clock, and by a limit that it does not tell.
"""

from dataclasses import dataclass

PLACES = "places"  # where a photo was taken
TRANSLATIONS = "translations"  # a post in another language
PREVIEWS = "previews"  # what a link leads to

ACCOUNT_HEADER = "Account"
KEY_HEADER = "Idempotency-Key"
# Of answers of endpoints that announce their limits. Reset: seconds until there is more, with decimals.
LIMIT_HEADER, REMAINING_HEADER, RESET_HEADER = "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"

FIXED, ROLLING = "fixed", "rolling"  # kinds of windows


@dataclass(frozen=True)
class Endpoint:
    """What the provider's contract says: `limit` calls of an account in `window` seconds, answered in `latency`."""

    name: str
    kind: str
    limit: int
    window: float
    announced: bool
    latency: float  # seconds, the usual


ENDPOINTS = {
    endpoint.name: endpoint
    for endpoint in (
        Endpoint(PLACES, FIXED, limit=30, window=10.0, announced=True, latency=0.08),
        Endpoint(TRANSLATIONS, ROLLING, limit=30, window=10.0, announced=True, latency=0.12),
        Endpoint(PREVIEWS, ROLLING, limit=50, window=10.0, announced=False, latency=0.2),
    )
}
