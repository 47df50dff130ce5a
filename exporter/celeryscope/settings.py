"""How a setting is declared, how a value of it is read, and what is said of a wrong one."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeVar

from celeryscope.errors import ConfigError
from celeryscope.redaction import redact
from celeryscope.values import Kind

T = TypeVar("T")

PREFIX = "CELERYSCOPE_"
_SHOWN_LENGTH = 100  # characters of a bad value


@dataclass(frozen=True)
class Setting:
    """How a setting is written and explained. `flag` is an option's short or only name, where it has one."""

    key: str
    default: Any
    kind: Kind[Any]
    group: str
    help: str
    secret: bool
    flag: str
    repeated: bool

    @property
    def variable(self) -> str:
        """Return the environment variable's name."""
        return PREFIX + self.key.upper()

    @property
    def flags(self) -> tuple[str, ...]:
        """Return the command line's names, the long one last."""
        if self.flag.startswith("--"):
            return (self.flag,)
        long = "--" + self.key.replace("_", "-")
        return (self.flag, long) if self.flag else (long,)


def declare(
    default: T,
    kind: Kind[T],
    group: str,
    help: str,
    *,
    secret: bool = False,
    flag: str = "",
    repeated: bool = False,
) -> T:
    """Return a field of the configuration whose metadata make a `Setting`, with its name as the key."""
    metadata = {
        "default": default,
        "kind": kind,
        "group": group,
        "help": help,
        "secret": secret,
        "flag": flag,
        "repeated": repeated,
    }
    # A factory, for defaults that have no hash; all of them are immutable. A secret stays out of the repr.
    return field(default_factory=lambda: default, metadata=metadata, repr=not secret)


def parse(key: str, kind: Kind[T], value: object, origin: str, *, secret: bool = False) -> T:
    """Return a value as its kind has it. Raises `ConfigError` that names key, value, origin and what is allowed."""
    try:
        return kind.parse(value)
    except (ValueError, OverflowError) as error:  # the latter for a whole number beyond every float
        told = "this value (not shown: it may hold a secret)" if secret else shown(value)
        reason = f"; {redact(str(error))}" if str(error) else ""
        message = f"{key} cannot be {told}, from {origin}: must be {kind.allowed}{reason}"
    raise ConfigError(message)  # outside of the handler, since the parser's error may quote the value


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a question for the known name that is nearest, to be put behind a message; empty where none is near."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {matches[0]}?" if matches else ""


def shown(value: object) -> str:
    """Return a value as a message shows it: masked, and cut where it is long."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):  # YAML has keys that are no text, and values within themselves
        text = str(value)
    text = redact(text)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}..."
