"""Numbers on command lines: finite, and such that what they mean ends some day."""

import math
from typing import Any

import click

DAY = 86_400.0  # seconds
SLOWEST, FASTEST = 0.001, 100.0  # what rates are multiplied by
MOST = 1000.0  # arrivals per second of one workload


class Finite(click.FloatRange):
    """A range of numbers that takes neither nan, which no comparison keeps out, nor infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a number of the range."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is no finite number", param, ctx)
        return found
