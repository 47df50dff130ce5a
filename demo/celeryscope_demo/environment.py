"""What the parts of a demo tell each other through their environment, since each is a process of its own."""

import os

from celeryscope.errors import CeleryscopeError

STORE_URL = "CELERYSCOPE_DEMO_STORE_URL"  # the application's own Redis, without a database number
SENT_EVENTS = "CELERYSCOPE_DEMO_SENT_EVENTS"  # "no": nobody announces what is sent, as is Celery's default
PROVIDER_URL = "CELERYSCOPE_DEMO_PROVIDER_URL"  # the simulated third party
MANAGEMENT_URL = "CELERYSCOPE_MANAGEMENT_URL"  # the exporter's own: it may have a password, which arguments would show


class Unset(CeleryscopeError):
    """A part of the demo runs without what the others tell it: says which variable."""


def required(name: str) -> str:
    """The value of a variable. Raises Unset."""
    value = os.environ.get(name)
    if not value:
        raise Unset(f"{name} is not set: `celeryscope demo` sets it for everything that it starts")
    return value


def on_rabbitmq() -> bool:
    """Whether the broker speaks AMQP: it declares queues of other kinds, and counts priorities the other way."""
    return os.environ.get("CELERY_BROKER_URL", "").startswith(("amqp", "pyamqp"))
