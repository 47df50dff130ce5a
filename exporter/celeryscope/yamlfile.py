"""Files in YAML: plain values, each key once, and every error in one line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from celeryscope.errors import ConfigError
from celeryscope.settings import shown

MAX_BYTES = 1024 * 1024  # of a file


def read_keys(file: Path, what: str) -> Mapping[Any, Any]:
    """Return the keys and values of a file, none where it is empty. Raises `ConfigError`, which calls it `what`."""
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{what} {file} cannot be read: {error.strerror}") from error
    reason = "it must hold keys and values"
    try:
        if len(content) > MAX_BYTES:
            raise yaml.MarkedYAMLError(problem="it is larger than 1 MiB")
        document = yaml.load(content, _Loader)  # noqa: S506  # it is a SafeLoader
        if document is None or isinstance(document, Mapping):
            return document or {}
    except yaml.MarkedYAMLError as error:  # its own text quotes the file
        where = f", at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        reason = f"{error.problem}{where}"
    except RecursionError:
        reason = "it nests too deeply"
    except Exception:  # noqa: BLE001 - PyYAML raises anything where a value is not what its tag says
        reason = "it is not text, or holds a value that is not what its tag says"
    raise ConfigError(f"{what} {file} is not YAML as expected: {reason}")


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML keeps the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    problem = f"{shown(key.value)} is given twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                keys.add(key.value)
        return super().construct_mapping(node, deep)
