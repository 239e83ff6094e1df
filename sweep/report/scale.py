"""An axis on which values that explode can be read beside those that hardly move (matplotlib).

Linear near the dense model's value and logarithmic far from it, on both sides: arcsinh of the
distance in tolerances. A plain axis hides either the others or the tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes

from sweep.report.frontier import TOLERANCE
from sweep.report.table import Rows
from sweep.report.typeset import minus

EXPLODED = 40
"""Tolerances from the dense value at which an axis is no longer linear: the tolerance is then a
fortieth of it."""
NAMED = {"x": 6, "y": 10}
"""Numbers that an axis has room for: they lie beside each other, or above."""


def level(table: Rows, metric: str) -> tuple[float, float | None]:
    """The dense model's value and how far from it is within tolerance; of several models the
    smallest, and None for the second where there is no such thing."""
    dense = [
        entry.values[metric]["value"]
        for entry in table.entries
        if not entry.about["compresses"] and metric in entry.values
    ]
    found = [(value, abs(value) * TOLERANCE) for value in dense if value and metric in table.better]
    return min(found, default=(0.0, None))


def unfold(
    axes: Axes,
    which: Literal["x", "y"],
    values: Sequence[float],
    centre: float = 0.0,
    room: float | None = None,
) -> str:
    """Where values explode, an axis that shows them all.

    Args:
        axes: of a panel.
        which: its axis.
        values: all that is drawn along it.
        centre: the dense model's value, or 0 of differences.
        room: how far from it is within tolerance; None: there is no tolerance, and what is no
            larger than 1 does not explode; else the nearer half of the values is in the linear
            part.

    Returns:
        How the axis is to be read; nothing if it is linear.
    """
    if not values:
        return ""
    axis, scaled = (axes.xaxis, axes.set_xscale) if which == "x" else (axes.yaxis, axes.set_yscale)
    if room is None and min(values) > 0 and max(values) > max(1, 10 * min(values)):
        scaled("log")
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
        return "logarithmic"
    distances = [distance for value in values if (distance := abs(value - centre))]
    width = median(distances or [0.0]) if room is None else room
    if max(distances, default=0.0) <= max(EXPLODED * width, 1.0 if room is None else 0.0):
        return ""

    def bent(value: Any) -> Any:
        return np.arcsinh((value - centre) / width)

    def straight(value: Any) -> Any:
        return centre + width * np.sinh(value)

    scaled("function", functions=(bent, straight))
    near = width if room else 0.0  # the tolerance is seen, on both sides
    low, high = min(*values, centre - near), max(*values, centre + near)
    margin = (bent(high) - bent(low)) / 25
    (axes.set_xlim if which == "x" else axes.set_ylim)(
        straight(bent(low) - margin), straight(bent(high) + margin)
    )
    ticks = _ticks((low, centre, high), width, bent, NAMED[which])
    axis.set_ticks(ticks, [minus(format(t, ".3g" if abs(t) < 1000 else "g")) for t in ticks])
    of_dense = f"{100 * TOLERANCE:g} % of dense"
    return f"logarithmic beyond {of_dense if room else f'±{width:.2g}'}"


def _ticks(
    places: tuple[float, float, float], width: float, bent: Callable[[float], float], most: int
) -> list[float]:
    """The centre, and on both sides round numbers that are far enough from each other."""
    low, centre, high = places
    powers = range(math.floor(math.log10(width)), math.ceil(math.log10(max(-low, high))) + 1)
    numbers = [sign * m * 10.0**power for power in powers for m in (1, 2, 5) for sign in (1, -1)]
    apart = (bent(high) - bent(low)) / most
    kept = [centre]
    for side in (1, -1):
        last = centre
        for number in sorted(numbers, key=lambda n: side * n):
            if low <= number <= high and side * (bent(number) - bent(last)) > apart:
                kept.append(last := number)
    return sorted(kept)
