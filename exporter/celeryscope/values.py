"""Kinds of settings' values: how each is written, what is allowed, and how it is shown in a help text.

A value arrives as text (command line, environment) or as what TOML made of it. A parser raises `ValueError`,
whose text, where it has one, says what is wrong with this value beyond not being what is allowed.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

from celeryscope.naming import Rename

T = TypeVar("T")

DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}  # seconds
SIZE_UNITS = {
    "": 1,
    "B": 1,
    "kB": 1000,
    "KiB": 2**10,
    "MB": 10**6,
    "MiB": 2**20,
    "GB": 10**9,
    "GiB": 2**30,
}  # bytes
LONGEST_DURATION = 3650 * 86400.0  # seconds: beyond it timers overflow
MOST_BUCKETS = 100

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_DURATION = re.compile(rf"{_NUMBER}\s*({'|'.join(DURATION_UNITS)})?", re.ASCII)
_SIZE = re.compile(rf"{_NUMBER}\s*({'|'.join(unit for unit in SIZE_UNITS if unit)})?", re.ASCII)
_COUNT = re.compile(r"\d+(?:_\d+)*", re.ASCII)
_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:/\[\]]*)):(?P<port>\d{1,5})", re.ASCII)


class Address(NamedTuple):
    """Where to listen. An empty host is every interface, port 0 any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of value. `allowed` completes the sentence "must be ..."."""

    parse: Callable[[object], T]
    allowed: str
    metavar: str
    show: Callable[[T], str] = str
    words: tuple[str, ...] = ()  # all values, where they are few


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value.strip()


def _path(value: object) -> Path:
    try:
        return Path(_text(value)).expanduser()
    except RuntimeError as error:
        raise ValueError("no home folder is known for its ~") from error


def _duration(value: object) -> float:
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError
        seconds = float(match[1]) * DURATION_UNITS[match[2] or "s"]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ValueError
    if not 0 < seconds <= LONGEST_DURATION:
        raise ValueError
    return seconds


def _show_duration(seconds: float) -> str:
    for unit, factor in reversed(DURATION_UNITS.items()):
        if seconds >= factor and seconds % factor == 0:
            return f"{seconds / factor:g}{unit}"
    return f"{seconds:g}s"


def _size(value: object) -> int:
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            raise ValueError
        size = float(match[1]) * SIZE_UNITS[match[2] or ""]
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        raise ValueError
    if not 1 <= size <= 2**40 or size != int(size):
        raise ValueError
    return int(size)


def _show_size(size: int) -> str:
    for unit in ("GiB", "MiB", "KiB"):
        if size % SIZE_UNITS[unit] == 0:
            return f"{size // SIZE_UNITS[unit]}{unit}"
    return str(size)


def _count(value: object) -> int:
    if isinstance(value, str) and _COUNT.fullmatch(value.strip()):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10**9:
        raise ValueError
    return value


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }
    if not isinstance(value, str) or value.strip().lower() not in words:
        raise ValueError
    return words[value.strip().lower()]


def _items(value: object) -> list[object]:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    if isinstance(value, Sequence):
        return list(value)
    raise ValueError


def _buckets(value: object) -> tuple[float, ...]:
    bounds = []
    for item in _items(value):
        try:
            bounds.append(_duration(item))
        except ValueError:
            hint = "; +Inf is there by itself" if "inf" in str(item).lower() else ""
            raise ValueError(f"{str(item)[:40]!r} is not an upper bound{hint}") from None
    if not bounds:
        raise ValueError
    if len(bounds) > MOST_BUCKETS:
        raise ValueError(f"there are {len(bounds)}")
    for lower, upper in pairwise(bounds):
        if not lower < upper:
            raise ValueError(f"{upper:g} comes after {lower:g}")
    return tuple(bounds)


def _class_names(value: object) -> tuple[str, ...]:
    names = []
    for item in _items(value):
        name = _text(item)
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"{name[:100]!r} is not a name")
        names.append(name.rpartition(".")[2])
    return tuple(dict.fromkeys(names))


def _names(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_text(item) for item in _items(value)))


def _http_url(value: object) -> str:
    url = _text(value)
    if not re.match("https?://[^/]", url):
        raise ValueError
    return url


def _ratio(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError
    if 1 < value < 100:
        raise ValueError(f"{value:g} % is {value / 100:g}")
    if not 0 < value < 1:
        raise ValueError
    return float(value)


def _texts(value: object) -> list[str]:
    """Return the texts of an array, or the lines of a text."""
    if isinstance(value, str):
        return [line.strip() for line in value.splitlines() if line.strip()]
    if isinstance(value, Sequence):
        return [_text(item) for item in value]
    raise ValueError


def _quoted(text: str) -> str:
    return f'"{text[:100]}"'  # as it was written: a repr would double each backslash


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"{_quoted(text)} is none: {error}") from None
    except (OverflowError, RecursionError):
        raise ValueError(f"{_quoted(text)} is none: it is too large") from None


def _patterns(value: object) -> tuple[re.Pattern[str], ...]:
    return tuple(_pattern(text) for text in _texts(value))


def _renames(value: object) -> tuple[Rename, ...]:
    renames = []
    for text in _texts(value):
        # The last arrow: an expression may hold one, as (?=>) does, a name never does.
        expression, arrow, replacement = text.rpartition("=>")
        if not (expression.strip() and arrow):
            raise ValueError(f"{_quoted(text)} has no => behind an expression")
        rename = Rename(_pattern(expression.strip()), replacement.strip())
        try:
            rename.pattern.sub(rename.replacement, "")
        except (re.error, IndexError) as error:
            raise ValueError(f"{_quoted(text)} has a wrong replacement: {error}") from None
        renames.append(rename)
    return tuple(renames)


def _address(value: object) -> Address:
    match = _ADDRESS.fullmatch(_text(value))
    if match is None or int(match["port"]) > 65535:
        raise ValueError
    return Address(match["six"] or match["host"] or "", int(match["port"]))


def _options(value: object) -> Mapping[str, Any]:
    """Return options from a table, a JSON object, or KEY=VALUE texts, VALUE being JSON or else plain text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("it is not JSON") from None
    if isinstance(value, Mapping):
        return MappingProxyType(dict(value))
    if not isinstance(value, Sequence):
        raise ValueError
    options: dict[str, Any] = {}
    for item in value:
        key, equals, text = _text(item).partition("=")
        if not (key.strip() and equals):
            raise ValueError("an item is not KEY=VALUE")
        try:
            options[key.strip()] = json.loads(text)
        except ValueError:
            options[key.strip()] = text
    return MappingProxyType(options)


def choice(*words: str) -> Kind[str]:
    """Return the kind of value that is one of these words."""

    def parse(value: object) -> str:
        word = _text(value).lower()
        if word not in words:
            raise ValueError
        return word

    return Kind(parse, f"one of {', '.join(words)}", "WORD", words=words)


def subset(*words: str) -> Kind[tuple[str, ...]]:
    """Return the kind of value that is one or more of these words."""

    def parse(value: object) -> tuple[str, ...]:
        chosen = tuple(dict.fromkeys(_text(item).lower() for item in _items(value)))
        if not chosen or not set(chosen) <= set(words):
            raise ValueError
        return chosen

    return Kind(parse, f"one or more of {', '.join(words)}, separated by commas", "WORD,...", ",".join)


NAME: Kind[str | None] = Kind(_text, "a text that is not empty", "NAME")
URL = Kind(_text, "a URL such as redis://HOST:6379/0", "URL")
APP = Kind(_text, "where the Celery app is, as for `celery -A`, such as proj or proj.celery:app", "APP")
PATH: Kind[Path | None] = Kind(_path, "the path of a file", "FILE")
ADDRESS = Kind(_address, "HOST:PORT, such as 127.0.0.1:9808, [::1]:9808 or :9808", "HOST:PORT")
DURATION = Kind(_duration, "a duration above 0: seconds, or a number with ms, s, m, h or d", "DURATION", _show_duration)
SIZE = Kind(_size, "a size above 0: bytes, or a number with kB, KiB, MB, MiB, GB or GiB", "SIZE", _show_size)
COUNT = Kind(_count, "a whole number from 1 to 1000000000", "N")
FLAG = Kind(_flag, "true or false", "", lambda value: "on" if value else "off")
BUCKETS = Kind(
    _buckets,
    f"upper bounds in seconds, ascending, above 0, at most {MOST_BUCKETS} of them, separated by commas",
    "BOUND,...",
    lambda bounds: ",".join(f"{bound:g}" for bound in bounds),
)
CLASS_NAMES = Kind(_class_names, "names of exception classes, separated by commas", "CLASS,...", ",".join)
NAMES = Kind(_names, "names: an array, or separated by commas", "NAME", ",".join)
HTTP_URL = Kind(_http_url, "a URL such as https://USER:PASSWORD@HOST:15672", "URL")
RATIO = Kind(_ratio, "a ratio above 0 and below 1, such as 0.99", "RATIO")
PATTERNS = Kind(
    _patterns,
    "regular expressions: an array, or one a line",
    "REGEX",
    lambda patterns: "\n".join(pattern.pattern for pattern in patterns),
)
RENAMES = Kind(
    _renames,
    "REGEX=>REPLACEMENT texts: an array, or one a line",
    "REGEX=>TEXT",
    lambda renames: "\n".join(str(rename) for rename in renames),
)
OPTIONS: Kind[Mapping[str, Any]] = Kind(
    _options,
    "KEY=VALUE (option), a JSON object (variable) or a table (file)",
    "KEY=VALUE",
    lambda _: "",
)
