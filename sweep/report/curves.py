"""Every metric by sparsity, or by a setting: what one pays for pruning (matplotlib).

A colour, with its dash, is a method with its calibration set; a marker is a pattern. The dense
level and what is within tolerance of it are drawn in; a point is hollow where the interval of its
difference to dense crosses the tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, cycle, islice
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from sweep.report.drawn import (
    COLOURS,
    GREY,
    LINES,
    MARKERS,
    PANELS,
    TOLD,
    Drawn,
    clipped,
    left_out,
    panelled,
    saved,
    sentences,
)
from sweep.report.frontier import SPARSITY, Line, lines, numbers
from sweep.report.paired import Paired
from sweep.report.table import Rows
from sweep.report.typeset import digits, minus

DASHES: tuple[Any, ...] = ("-", "--", "-.", ":")
EXPLODED = 40
"""Tolerances beyond the dense value at which an axis is no longer linear: the tolerance is then a
fortieth of it."""
BARS = "bars: the 95 % interval over examples; of several seeds, one standard deviation"


def curves(table: Rows, paired: Paired, along: str = SPARSITY) -> Iterator[Drawn]:
    """Every metric by sparsity, a line per method and calibration set, from the dense model on; or
    by a setting, a line per sparsity too."""
    drawn = {name: lines(table, name, paired, along) for name in table.metrics}
    drawn = {name: found for name, found in drawn.items() if found}
    metrics, drawn = len(drawn), dict(islice(drawn.items(), PANELS))
    single = all(len(line.points) < 2 for found in drawn.values() for line in found)
    if not drawn or (single and along == SPARSITY and numbers(table)):
        return  # of many single points nothing is to be seen; they are lines along a setting
    short = along.rpartition(".")[2]
    names = list(dict.fromkeys(_name(x, found) for found in drawn.values() for x in found))
    styles = dict(zip(names[:LINES], _styles(), strict=False))
    drawn = {m: [x for x in found if _name(x, found) in styles] for m, found in drawn.items()}
    patterns = dict.fromkeys(x.pattern for found in drawn.values() for x in found)
    markers = dict(zip(patterns, cycle(MARKERS), strict=False))
    figure, panels = panelled(len(drawn), width=3.7, height=2.8)
    for axes, (metric, found) in zip(panels, drawn.items(), strict=False):
        beside = _beside(found)
        for line, aside in zip(found, beside, strict=True):
            _line(axes, line, styles[_name(line, found)], markers[line.pattern], aside)
        _levels(axes, found)
        _scaled(axes, found)
        axes.set_title(metric)
        axes.set_xlabel(short)
        if along == SPARSITY:
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        else:
            _numbered(axes, [point.place for line in found for point in line.points])
    handles = _legend(styles, markers, [line for found in drawn.values() for line in found])
    longest = max(map(len, handles))
    across = max(1, min(3, len(drawn), int(figure.get_figwidth() * 13 // (longest + 6))))
    figure.set_figheight(figure.get_figheight() + 0.18 * math.ceil(len(handles) / across))
    figure.legend(
        *(handles.values(), [clipped(label, 100) for label in handles]),
        loc="outside lower center",
        ncols=across,
    )
    said = [
        f"{metric}: " + "; ".join(f"{_said(line, found)} {_listed(line)}" for line in found[:TOLD])
        for metric, found in drawn.items()
    ]
    name, title = ("curves", "Sparsity curves") if along == SPARSITY else (along, f"By {short}")
    title += f"; {BARS}"
    if any(any(_beside(found)) for found in drawn.values()):
        title += "; n:m patterns are side by side at the share of zeros that they have in common"
    title += left_out(len(names), LINES, "lines") + left_out(metrics, PANELS, "metrics")
    yield saved(_file(name), title, figure, sentences(said))


def _numbered(axes: Axes, places: Sequence[float]) -> None:
    """An axis of numbers: logarithmic, if they are far apart."""
    if min(places) > 0 and max(places) >= 16 * min(places):
        axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")


def _beside(found: Sequence[Line]) -> list[float]:
    """How far each line is moved aside: n:m points of several methods have one place."""
    places: dict[float, list[int]] = {}
    for number, line in enumerate(found):
        if line.pattern != "unstructured":
            places.setdefault(line.points[0].place, []).append(number)
    aside = [0.0] * len(found)
    for together in places.values():
        step = min(0.015, 0.1 / len(together))
        for i, number in enumerate(together):
            aside[number] = step * (i - (len(together) - 1) / 2)
    return aside


def _line(axes: Axes, line: Line, style: tuple[str, Any], marker: str, aside: float) -> None:
    """A line with its points; those are hollow of which it is not certain on which side of the
    tolerance they are."""
    colour, dash = style
    x = [point.place + aside for point in line.points]
    y = [point.value for point in line.points]
    low = [max(0.0, point.value - point.low) for point in line.points]
    high = [max(0.0, point.high - point.value) for point in line.points]
    if line.pattern == "unstructured":
        begins = line.dense is not None and line.along == SPARSITY
        before = [(0.0, line.dense)] if begins else []
        axes.plot(*zip(*before, *zip(x, y, strict=True), strict=True), dash, color=colour, lw=1.2)
    axes.errorbar(x, y, yerr=[low, high], linestyle="", color=colour, capsize=2, lw=1)
    sure = [line.room is None or line.certain(point) for point in line.points]
    for filled in (True, False):
        points = [(a, b) for a, b, one in zip(x, y, sure, strict=True) if one == filled]
        face = colour if filled else "white"
        axes.plot(
            *zip(*points, strict=True) if points else ([], []),
            linestyle="",
            marker=marker,
            markersize=4.5,
            color=colour,
            markerfacecolor=face,
        )


def _levels(axes: Axes, found: Sequence[Line]) -> None:
    """The dense level, and what is within tolerance of it."""
    levels = dict.fromkeys((line.dense, line.room, line.better) for line in found)
    for dense, room, better in levels:
        if dense is None:
            continue
        axes.axhline(dense, color=GREY, linewidth=0.8)
        if room is not None:
            worst = dense + (room if better == "lower" else -room)
            axes.axhspan(dense, worst, color="#999999", alpha=0.25, linewidth=0)
            axes.axhline(worst, color=GREY, linewidth=0.8, linestyle=":")


def _scaled(axes: Axes, found: Sequence[Line]) -> None:
    """Where values explode, an axis that is linear within tolerance of dense and logarithmic
    beyond: a plain one hides either the others or the tolerance."""
    values = [point.value for line in found for point in line.points]
    dense, room = min(
        ((line.dense, line.room) for line in found if line.room and line.dense and line.dense > 0),
        default=(0.0, None),
    )
    if room is not None and max(values) - dense > EXPLODED * room:

        def bent(y: Any) -> Any:
            return np.arcsinh((y - dense) / room)

        axes.set_yscale("function", functions=(bent, lambda z: dense + room * np.sinh(z)))
        low, high = min(*values, dense - room), max(values)
        ticks = _ticks(dense, high, bent)
        axes.set_ylim(low, dense + (high - dense) * 1.3)
        axes.set_yticks(ticks, [f"{tick:.3g}" for tick in ticks])
        axes.set_ylabel("logarithmic beyond 5 %", fontsize=7)
    elif min(values) > 0 and max(values) > 10 * min(values) and max(values) > 1:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")


def _ticks(dense: float, high: float, bent: Callable[[float], float]) -> list[float]:
    """The dense level, and round numbers that are far enough from each other on such an axis."""
    powers = range(math.floor(math.log10(dense)), math.ceil(math.log10(high)) + 1)
    kept = [dense]
    for number in sorted(m * 10.0**power for power in powers for m in (1, 2, 5)):
        far = bent(number) - bent(kept[-1]) > bent(high) / 9
        if dense < number <= high and far:
            kept.append(number)
    return kept


def _legend(
    styles: Mapping[str, tuple[str, Any]], markers: Mapping[str, str], drawn: Sequence[Line]
) -> dict[str, Artist]:
    """What colours and dashes, signs, levels and hollow points mean."""
    handles: dict[str, Artist] = {
        name: Line2D([], [], color=colour, linestyle=dash)
        for name, (colour, dash) in styles.items()
    }
    if len(markers) > 1 or "unstructured" not in markers:
        handles |= {
            pattern: Line2D([], [], color="black", linestyle="", marker=marker)
            for pattern, marker in markers.items()
        }
    if any(line.dense is not None for line in drawn):
        handles["dense"] = Line2D([], [], color=GREY, linewidth=0.8)
    if any(line.room is not None for line in drawn):
        handles["within 5 % of dense"] = Patch(
            facecolor="#999999", alpha=0.4, edgecolor=GREY, linestyle=":"
        )
    if any(line.room and not line.certain(point) for line in drawn for point in line.points):
        handles["hollow: not certain on which side of 5 %"] = Line2D(
            *([], []), color="black", linestyle="", marker="o", markerfacecolor="white"
        )
    return handles


def _styles() -> Iterator[tuple[str, Any]]:
    """Colours with dashes; thirty-two before the first comes again."""
    return ((COLOURS[i % 8], DASHES[(i + i // 8) % 4]) for i in count())


def _name(line: Line, among: Sequence[Line]) -> str:
    several = len({one.model for one in among}) > 1
    return f"{line.model} {line.name}" if several else line.name


def _said(line: Line, among: Sequence[Line]) -> str:
    """With its pattern."""
    name = _name(line, among)
    return name if line.pattern == "unstructured" else f"{name} {line.pattern}"


def _file(name: str) -> str:
    """Of a figure: a setting may be named after what the user called a corpus."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)


def _listed(line: Line) -> str:
    sure = [line.room is None or line.certain(point) for point in line.points]
    return minus(
        ", ".join(
            f"{p.value:{digits(p.value)}} at {p.label}{'' if one else ' (not certain)'}"
            for p, one in zip(line.points, sure, strict=True)
        )
    )
