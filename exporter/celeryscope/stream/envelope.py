"""The JSON envelope in which kombu's virtual transports publish a body (`kombu/transport/virtual/base.py`)."""

from typing import TypeAlias

import msgspec

from celeryscope.errors import InvalidEvent
from celeryscope.stream import RawMessage

Tag: TypeAlias = str | int | None

UNTYPED = "application/data"
UNENCODED = "binary"
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Properties(msgspec.Struct, frozen=True, gc=False):
    body_encoding: str | None = None
    delivery_tag: Tag = None


class _Content(
    msgspec.Struct,
    kw_only=True,
    gc=False,
    rename={"content_type": "content-type", "content_encoding": "content-encoding"},
):
    content_type: str | None = None
    content_encoding: str | None = None
    properties: _Properties = _Properties()


class _Base64(_Content, gc=False):
    body: bytes  # which msgspec reads as base64, several times as fast as binascii does


class _Text(_Content, gc=False):
    body: str


_decode_base64 = msgspec.json.Decoder(_Base64).decode
_decode_text = msgspec.json.Decoder(_Text).decode


def unwrap(payload: bytes) -> tuple[RawMessage, Tag]:
    """Return the message in an envelope and its delivery tag; raise InvalidEvent."""
    try:
        content = _decode_base64(payload)
    except _FAULTS:
        return _unwrap_text(payload)
    properties = content.properties
    if properties.body_encoding != "base64":
        return _unwrap_text(payload)
    message = RawMessage(content.body, content.content_type or UNTYPED, content.content_encoding or UNENCODED)
    return message, properties.delivery_tag


def _unwrap_text(payload: bytes) -> tuple[RawMessage, Tag]:
    """Unwrap a body that is text, or say what is wrong with one that is not base64 either."""
    try:
        content = _decode_text(payload)
    except _FAULTS:
        raise InvalidEvent("envelope") from None
    if content.properties.body_encoding == "base64":
        raise InvalidEvent("body_encoding")
    body = content.body.encode()
    message = RawMessage(body, content.content_type or UNTYPED, content.content_encoding or UNENCODED)
    return message, content.properties.delivery_tag
