"""Every metric by sparsity, or by a setting: what one pays for pruning (matplotlib).

A colour is a method with its calibration set, as in every figure; what else tells lines apart is
in their dashes. A marker is a pattern. The dense level and what is within tolerance of it are drawn
in, for every model with a dash of its own; a point is hollow where the interval of its difference
to dense crosses the tolerance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import Any, Final

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from sweep.report.drawn import (
    COLOURS,
    GREY,
    LINES,
    PANELS,
    TOLD,
    Sketch,
    colours,
    keyed,
    left_out,
    markers,
    panelled,
    sentences,
    told_patterns,
)
from sweep.report.frontier import SPARSITY, UNSTRUCTURED, Line, lines, numbers
from sweep.report.paired import Paired
from sweep.report.scale import level, unfold
from sweep.report.table import Rows
from sweep.report.typeset import digits, minus

Style = tuple[str, Any, float]
"""Colour, dash and width of a line."""
DASHES: tuple[Any, ...] = (
    *("-", "--", "-.", ":"),
    *((0, (6, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (2, 1)), (0, (1, 3))),
)
WIDTHS = (1.2, 2.0, 2.8)
EDGE: Final = ":"
"""Dash of the tolerance's end, and so of no dense level."""
BARS = "bars: the 95 % interval over examples; of several seeds, one standard deviation"


def curves(table: Rows, paired: Paired, along: str = SPARSITY) -> Iterator[Sketch]:
    """Every metric by sparsity, a line per method and calibration set, from the dense model on; or
    by a setting, a line per sparsity too."""
    drawn = {name: lines(table, name, paired, along) for name in table.metrics}
    drawn = {name: found for name, found in drawn.items() if found}
    metrics, drawn = len(drawn), dict(islice(drawn.items(), PANELS))
    single = all(len(line.points) < 2 for found in drawn.values() for line in found)
    if not drawn or (single and along == SPARSITY and numbers(table)):
        return  # of many single points nothing is to be seen; they are lines along a setting
    short = along.rpartition(".")[2]
    pairs = {_name(x, found): (x.method, x.calib) for found in drawn.values() for x in found}
    styles = _styles(dict(islice(pairs.items(), LINES)), colours(table))
    drawn = {m: [x for x in found if _name(x, found) in styles] for m, found in drawn.items()}
    patterns = dict.fromkeys(x.pattern for found in drawn.values() for x in found)
    signs = {pattern: of for pattern, of in markers(table).items() if pattern in patterns}
    levels = _dashes([line for found in drawn.values() for line in found])
    figure, panels = panelled(len(drawn), width=3.7, height=2.8)
    for axes, (metric, found) in zip(panels, drawn.items(), strict=False):
        beside = _beside(found)
        for line, aside in zip(found, beside, strict=True):
            _line(axes, line, styles[_name(line, found)], signs[line.pattern], aside)
        _levels(axes, found, levels)
        ends = [y for line in found for point in line.points for y in (point.low, point.high)]
        axes.set_ylabel(unfold(axes, "y", ends, *level(table, metric)), fontsize=7)
        axes.set_title(metric)
        axes.set_xlabel(short)
        if along == SPARSITY:
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        else:
            _numbered(axes, [point.place for line in found for point in line.points])
    handles = _legend(styles, signs, levels, [line for found in drawn.values() for line in found])
    keyed(figure, handles, len(drawn))
    said = [
        f"{metric}: " + "; ".join(f"{_said(line, found)} {_listed(line)}" for line in found[:TOLD])
        for metric, found in drawn.items()
    ]
    name, title = ("curves", "Sparsity curves") if along == SPARSITY else (along, f"By {short}")
    title += f"; {BARS}"
    if any(any(_beside(found)) for found in drawn.values()):
        title += "; n:m patterns are side by side at the share of zeros that they have in common"
    title += left_out(len(pairs), LINES, "lines") + left_out(metrics, PANELS, "metrics")
    yield Sketch(_file(name), title, figure, sentences(said))


def _numbered(axes: Axes, places: Sequence[float]) -> None:
    """An axis of numbers: logarithmic, if they are far apart."""
    if min(places) > 0 and max(places) >= 16 * min(places):
        axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")


def _beside(found: Sequence[Line]) -> list[float]:
    """How far each line is moved aside: n:m points of several methods have one place."""
    places: dict[float, list[int]] = {}
    for number, line in enumerate(found):
        if line.pattern != UNSTRUCTURED:
            places.setdefault(line.points[0].place, []).append(number)
    aside = [0.0] * len(found)
    for together in places.values():
        step = min(0.015, 0.1 / len(together))
        for i, number in enumerate(together):
            aside[number] = step * (i - (len(together) - 1) / 2)
    return aside


def _line(axes: Axes, line: Line, style: Style, marker: str, aside: float) -> None:
    """A line with its points; those are hollow of which it is not certain on which side of the
    tolerance they are."""
    colour, dash, width = style
    x = [point.place + aside for point in line.points]
    y = [point.value for point in line.points]
    low = [max(0.0, point.value - point.low) for point in line.points]
    high = [max(0.0, point.high - point.value) for point in line.points]
    if line.pattern == UNSTRUCTURED:
        begins = line.dense is not None and line.along == SPARSITY
        before = [(0.0, line.dense)] if begins else []
        way = zip(*before, *zip(x, y, strict=True), strict=True)
        axes.plot(*way, color=colour, linestyle=dash, linewidth=width)
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


def _dashes(drawn: Sequence[Line]) -> dict[str, Any]:
    """Of the dense levels, by model."""
    models = dict.fromkeys(line.model for line in drawn if line.dense is not None)
    return dict(zip(models, cycle(dash for dash in DASHES if dash != EDGE), strict=False))


def _levels(axes: Axes, found: Sequence[Line], dashes: Mapping[str, Any]) -> None:
    """The dense level of every model, and what is within tolerance of it."""
    levels = dict.fromkeys((line.model, line.dense, line.room, line.better) for line in found)
    for model, dense, room, better in levels:
        if dense is None:
            continue
        axes.axhline(dense, color=GREY, linewidth=0.8, linestyle=dashes[model])
        if room is not None:
            worst = dense + (room if better == "lower" else -room)
            axes.axhspan(dense, worst, color="#999999", alpha=0.25, linewidth=0)
            axes.axhline(worst, color=GREY, linewidth=0.8, linestyle=EDGE)


def _legend(
    styles: Mapping[str, Style],
    signs: Mapping[str, str],
    levels: Mapping[str, Any],
    drawn: Sequence[Line],
) -> dict[str, Artist]:
    """What colours and dashes, signs, levels and hollow points mean."""
    handles: dict[str, Artist] = {
        name: Line2D([], [], color=colour, linestyle=dash, linewidth=width)
        for name, (colour, dash, width) in styles.items()
    }
    handles |= told_patterns(signs)
    for model, dash in levels.items():
        name = f"dense {model}" if len({line.model for line in drawn}) > 1 else "dense"
        handles[name] = Line2D([], [], color=GREY, linewidth=0.8, linestyle=dash)
    if any(line.room is not None for line in drawn):
        handles["within 5 % of dense"] = Patch(
            facecolor="#999999", alpha=0.4, edgecolor=GREY, linestyle=EDGE
        )
    if any(line.room and not line.certain(point) for line in drawn for point in line.points):
        handles["hollow: not certain on which side of 5 %"] = Line2D(
            *([], []), color="black", linestyle="", marker="o", markerfacecolor="white"
        )
    return handles


def _styles(
    pairs: Mapping[str, tuple[str, str]], colour: Mapping[tuple[str, str], str]
) -> dict[str, Style]:
    """By name of a line. Twenty-four of one colour differ, and where few lines have each their own,
    so do their dashes: a picture may be printed in grey."""
    before = Counter({own: place for place, own in enumerate(COLOURS)})
    first = before.copy()
    found: dict[str, Style] = {}
    for name, pair in pairs.items():
        own = colour[pair]
        round_, dash = (before[own] - first[own]) // len(DASHES), before[own] % len(DASHES)
        found[name] = (own, DASHES[dash], WIDTHS[round_ % len(WIDTHS)])
        before[own] += 1
    return found


def _name(line: Line, among: Sequence[Line]) -> str:
    several = len({one.model for one in among}) > 1
    return f"{line.model} {line.name}" if several else line.name


def _said(line: Line, among: Sequence[Line]) -> str:
    """With its pattern."""
    name = _name(line, among)
    return name if line.pattern == UNSTRUCTURED else f"{name} {line.pattern}"


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
