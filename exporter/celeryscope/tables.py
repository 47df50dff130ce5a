"""The tables of the configuration file: what tasks and queues are expected to do, by name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from celeryscope import values
from celeryscope.errors import ConfigError
from celeryscope.objectives import ByName, Objectives, QueueObjectives, TaskObjectives
from celeryscope.settings import parse, shown, suggestion
from celeryscope.values import Kind

T = TypeVar("T")
Kinds = Mapping[str, Kind[Any]]

TASK_KEYS: Kinds = MappingProxyType(
    {
        "success_ratio": values.RATIO,
        "wait": values.DURATION,
        "wait_ratio": values.RATIO,
        "runtime": values.DURATION,
        "runtime_ratio": values.RATIO,
        "expected_interval": values.DURATION,
        "runtime_buckets": values.BUCKETS,
        "wait_buckets": values.BUCKETS,
    }
)
QUEUE_KEYS: Kinds = MappingProxyType({"allowed_wait": values.DURATION})
TABLES = ("task", "queue")


def objectives(document: Mapping[str, object], file: Path) -> Objectives:
    """Return what the tables of a TOML document say. Raises `ConfigError` that names file, table and key."""
    return Objectives(
        tasks=_by_name(document, "task", TASK_KEYS, TaskObjectives, file),
        queues=_by_name(document, "queue", QUEUE_KEYS, QueueObjectives, file),
    )


def _by_name(
    document: Mapping[str, object],
    table: str,
    kinds: Kinds,
    make: Callable[..., T],
    file: Path,
) -> ByName[T]:
    tables = document.get(table, {})
    usage = f'what is said of a {table} stands in a table with its name, such as [{table}."NAME"], or [{table}."*"]'
    if not isinstance(tables, Mapping):
        raise ConfigError(f"{table} cannot be {shown(tables)}, in {file}: {usage}")
    read: dict[str, T] = {}
    for name, content in tables.items():
        if not isinstance(content, Mapping):
            raise ConfigError(f"key {shown(name)} stands in [{table}] itself, in {file}: {usage}")
        read[name] = make(**_values(content, table, name, kinds, file))
    return ByName(MappingProxyType(read))


def _values(content: Mapping[str, object], table: str, name: str, kinds: Kinds, file: Path) -> dict[str, Any]:
    origin = f"{_title(table, name)} in {file}"
    for key, value in content.items():
        if key not in kinds:
            if isinstance(value, Mapping):
                whole = f"{name}.{key}"
                raise ConfigError(
                    f"[{table}.{whole}] in {file} is a table in a table: a name stands in quotes, "
                    f"as in {_title(table, whole)}"
                )
            known = suggestion(key.replace("-", "_"), kinds) or f"; known are {', '.join(kinds)}"
            raise ConfigError(f"unknown key {shown(key)} in {origin}{known}")
        threshold = key.removesuffix("_ratio")
        if threshold in kinds and threshold not in content:
            raise ConfigError(f"{key} stands alone in {origin}: {threshold} must say how long is good")
    return {key: parse(key, kinds[key], value, origin) for key, value in content.items()}


def _title(table: str, name: str) -> str:
    return f'[{table}."{name}"]'
