"""What the pages and the server that carries them tell each other: requests and answers."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from itertools import count

MAX_SHARED = 4  # answers that are kept for others who wait for the same


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


class Turns:
    """Answers made one at a time, and shared by equal requests that were there before their making began.

    Making one takes the interpreter that all threads share: several at once come no sooner, and starve who accepts.
    """

    def __init__(self, make: Callable[[Request], Answer]) -> None:
        self._make = make
        self._turn = threading.Lock()
        self._count = count().__next__  # the order of arrivals and beginnings
        self._waiting: set[int] = set()  # their arrivals
        self._made: dict[object, tuple[int, Answer]] = {}  # by what was asked: when it was begun, and what came of it

    def answer(self, request: Request, check: Callable[[], None]) -> Answer:
        """Return the answer to a request. `check` is called when it has its turn; what it raises spares the making."""
        arrived = self._count()
        self._waiting.add(arrived)
        with self._turn:
            self._waiting.remove(arrived)
            try:
                check()
                return self._fresh(request, arrived)
            finally:
                while len(self._made) > (MAX_SHARED if self._waiting else 0):
                    del self._made[next(iter(self._made))]

    def _fresh(self, request: Request, arrived: int) -> Answer:
        key = (request.method, request.path, repr(request.params), repr(request.headers.items()))
        begun, answer = self._made.pop(key, (-1, None))
        if answer is None or begun < arrived:
            begun, answer = self._count(), self._make(request)
        self._made[key] = begun, answer
        return answer
