"""Kinds of numbers that options take, beyond click's own."""

import math
from typing import Any

import click


class Finite(click.types.FloatParamType):
    """A float; not nan, not infinity."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class FiniteRange(Finite, click.FloatRange):
    """A finite float in a range."""


class IntOrAuto(click.IntRange):
    """An integer in a range, or the word auto."""

    name = "integer or auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "auto" else super().convert(value, param, ctx)
