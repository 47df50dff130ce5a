"""What the pages and the server that carries them tell each other: requests and answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class Request:
    """A request without its body."""

    method: str
    path: str  # decoded
    params: Mapping[str, Sequence[str]]
    headers: Message

    def header(self, name: str) -> str:
        """Return a header's value: joined with commas where it is repeated, empty where it is absent."""
        return ", ".join(value.strip() for value in self.headers.get_all(name, ()))


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: nothing of it is sent before all of it exists."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


def line(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Answer:
    """Return an answer of one line of plain text."""
    return Answer(status, f"{text}\n".encode(), headers=headers)
