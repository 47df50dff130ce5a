"""Publishing on the event channel by hand: any bytes, in the envelope of kombu on Redis and Valkey."""

import base64
import json
import time
from typing import Any

import redis

CHANNEL = "/0.celeryev/task.multi"


def envelope(body: bytes, content_type: str = "application/json", content_encoding: str = "utf-8") -> bytes:
    """The message that carries this body."""
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-type": content_type,
            "content-encoding": content_encoding,
            "headers": {"hostname": "worker1@example"},
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": "celeryev", "routing_key": "task.multi"},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": "6e1b7a4e-3d6b-4e39-8a2c-6b1de6a0f2c1",
            },
        }
    ).encode()


def event(type_: str, **fields: Any) -> dict[str, Any]:
    """An event as a worker sends it now; fields given replace or join the usual ones."""
    return {
        "type": type_,
        "hostname": "worker1@example",
        "utcoffset": 0,
        "pid": 1,
        "clock": 1,
        "timestamp": time.time(),
        **fields,
    }


def publish(client: redis.Redis, content: Any, **options: str) -> None:
    """Publish JSON, or bytes as they are, as the body of one message."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    client.publish(CHANNEL, envelope(body, **options))
