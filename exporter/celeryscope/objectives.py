"""What tasks and queues are expected to do, by name: values only, and which of them applies to a name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Generic, TypeVar

T = TypeVar("T")

WILDCARD = "*"
DEFAULT_RATIO = 0.99
DEFAULT_ALLOWED_WAIT = 900.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskObjectives:
    """Of one task, or of all whose name fits. Durations are seconds; what is None is not asked for."""

    success_ratio: float | None = None
    wait: float | None = None
    wait_ratio: float = DEFAULT_RATIO
    runtime: float | None = None
    runtime_ratio: float = DEFAULT_RATIO
    expected_interval: float | None = None
    runtime_buckets: tuple[float, ...] | None = None
    wait_buckets: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueObjectives:
    """Of one queue, or of all whose name fits."""

    allowed_wait: float | None = None  # seconds


@dataclass(frozen=True)
class ByName(Generic[T]):
    """Values by name, where `*` in a name stands for any text. The exact name wins, else the first that fits."""

    values: Mapping[str, T] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def exact(self) -> Mapping[str, T]:
        """The values of names without a `*`."""
        return {name: value for name, value in self.values.items() if WILDCARD not in name}

    @cached_property
    def _globs(self) -> list[tuple[re.Pattern[str], T]]:
        return [(_glob(name), value) for name, value in self.values.items() if WILDCARD in name]

    def get(self, name: str) -> T | None:
        """Return what applies to a name; None where nothing does."""
        value = self.exact.get(name)
        if value is not None:
            return value
        return next((value for pattern, value in self._globs if pattern.fullmatch(name)), None)


def _glob(name: str) -> re.Pattern[str]:
    first, *others, last = map(re.escape, name.split(WILDCARD))
    # Each part where it comes first and nowhere else, so that a name takes linear time for each.
    middle = "".join(f"(?>.*?{part})" for part in others if part)
    return re.compile(f"{first}{middle}.*{last}", re.DOTALL)


@dataclass(frozen=True)
class Objectives:
    """All that the configuration file says of tasks and queues."""

    tasks: ByName[TaskObjectives] = field(default_factory=ByName[TaskObjectives])
    queues: ByName[QueueObjectives] = field(default_factory=ByName[QueueObjectives])
