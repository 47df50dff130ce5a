"""Shapes of JSON, to hold a document against.

A shape is a type (`float` stands for any number), a set of values, a mapping of names to shapes, or a list of one
shape. A name that is not in a mapping is not known; `ANY` is whatever one likes, `{"*": shape}` a mapping
with any names.
"""

from collections.abc import Iterator

ANY = object()


def unknown(value: object, shape: object, path: str) -> Iterator[str]:
    """Where a value goes beyond a shape: the path, and what is there."""
    match shape:
        case _ if shape is ANY:
            return
        case type():
            fits = isinstance(value, int | float) if shape is float else isinstance(value, shape)
            if not fits or (isinstance(value, bool) and shape is not bool):
                yield f"{path}: {value!r} is no {shape.__name__}"
        case set():
            if not isinstance(value, str | int | float) or value not in shape:
                yield f"{path}: {value!r}"
        case dict():
            if not isinstance(value, dict):
                yield f"{path}: {value!r} is no object"
                return
            for name, inner in value.items():
                if name not in shape and "*" not in shape:
                    yield f"{path}.{name}: {inner!r}"
                else:
                    yield from unknown(inner, shape.get(name, shape.get("*")), f"{path}.{name}")
        case [inner]:
            if not isinstance(value, list):
                yield f"{path}: {value!r} is no list"
                return
            for index, item in enumerate(value):
                yield from unknown(item, inner, f"{path}[{index}]")
        case _:
            raise TypeError(f"no shape: {shape!r}")
