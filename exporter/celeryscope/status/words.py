"""Numbers and times as a person reads them."""

from datetime import UTC, datetime

_NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"
_SPACE = "\N{NO-BREAK SPACE}"
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def count(number: float) -> str:
    """Return a whole number with its thousands apart."""
    return f"{number:,.0f}".replace(",", _NARROW_SPACE)


def rate(per_second: float) -> str:
    """Return a rate per second, with as many digits as tell something."""
    return count(per_second) if per_second >= 100 else f"{per_second:.3g}"


def duration(seconds: float) -> str:
    """Return a time in its two largest units, the second left out where it is 0."""
    if seconds < 1:
        return f"{seconds * 1000:.{3 if seconds >= 0.001 else 1}g}{_SPACE}ms"
    if seconds < 10:
        return f"{seconds:.1f}{_SPACE}s"
    left = int(seconds)
    for number, (size, unit) in enumerate(_UNITS):
        if left >= size:
            words = f"{left // size}{_SPACE}{unit}"
            rest = _UNITS[number + 1 :]
            if rest and (second := left % size // rest[0][0]):
                words += f" {second}{_SPACE}{rest[0][1]}"
            return words
    return f"0{_SPACE}s"


def age(seconds: float) -> str:
    """Return how long ago something was, in whole seconds."""
    return duration(max(10.0, seconds)) if seconds >= 10 else f"{int(seconds)}{_SPACE}s"


def clock(wall: float) -> str:
    """Return Unix seconds as a time of day."""
    return datetime.fromtimestamp(wall, UTC).strftime("%H:%M:%S UTC")


def plural(number: float, one: str, several: str = "") -> str:
    """Return a number and what it is of."""
    return f"{count(number)}{_SPACE}{one if number == 1 else several or one + 's'}"
