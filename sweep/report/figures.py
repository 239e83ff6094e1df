"""The figures of a report (matplotlib), as SVG and PNG; the same input gives the same bytes.

Colours are those of Okabe and Ito, which people who see fewer colours can tell apart; dashes or
markers say the same once more. No text is read as mathematics: names may hold any sign.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, cycle, islice
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sweep.report.effect import Effect
from sweep.report.frontier import SPARSITY, Line, lines, numbers
from sweep.report.paired import Paired
from sweep.report.table import Rows
from sweep.report.truth import FEW, Link
from sweep.report.typeset import digits, minus

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":")
GREY = "#666666"
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "sweep",
    "text.parse_math": False,
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.hspace": 0.06,
}
MOST = 40
"""Rows of a panel; more cannot be read."""
PANELS = 12
"""Of a figure; more are not looked at, and a page has no room for them."""
LINES = 24
"""Of a panel; a legend of more cannot be read, and their colours, markers and dashes no more be
told apart."""
EXPLODED = 40
"""Tolerances beyond the dense value at which an axis is no longer linear: the tolerance is then a
fortieth of it."""
BARS = "bars: the 95 % interval over examples; of several seeds, one standard deviation"
WIDEST = 72
"""Letters of a name beside a forest plot."""
TOLD = 8
"""Lines, or rows, of a panel that the text alternative has; the tables have all."""
MAPS = 12
"""Cells whose layers are drawn."""


@dataclass(frozen=True)
class Drawn:
    """A figure.

    Attributes:
        name: of its files.
        title: above it.
        alternative: what it shows, for those who do not see it.
        svg, png: the picture.
    """

    name: str
    title: str
    alternative: str
    svg: bytes
    png: bytes


def draw(
    table: Rows,
    links: Sequence[Link],
    effects: Sequence[Effect],
    layers: Sequence[Mapping[str, Any]],
    paired: Paired,
) -> list[Drawn]:
    """Every figure for which there is something to draw."""
    with rc_context(STYLE):
        return [
            *curves(table, paired),
            *[drawn for along in numbers(table) for drawn in curves(table, paired, along)],
            *truth(links),
            *scatter(table, links),
            *forest(effects),
            *maps(layers),
        ]


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
    figure, panels = _panels(len(drawn), width=3.7, height=2.8)
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
        *(handles.values(), [_clipped(label, 100) for label in handles]),
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
    title += _cut(len(names), LINES, "lines") + _cut(metrics, PANELS, "metrics")
    yield _saved(_file(name), title, figure, _short(said))


def truth(links: Sequence[Link]) -> Iterator[Drawn]:
    """A heat map of Spearman's rho per model: distribution metrics by task metrics."""
    for number, model in enumerate(dict.fromkeys(link.model for link in links)):
        own = {(link.metric, link.task): link for link in links if link.model == model}
        metrics, tasks = (list(dict.fromkeys(key[i] for key in own)) for i in (0, 1))
        cut = _cut(len(metrics), LINES, "metrics") + _cut(len(tasks), PANELS, "tasks")
        metrics, tasks = metrics[:LINES], tasks[:PANELS]
        figure = Figure(figsize=(2.6 + 1.15 * len(tasks), 1.3 + 0.5 * len(metrics)))
        axes = figure.subplots()
        values = [[_rho(own.get((metric, task))) for task in tasks] for metric in metrics]
        picture = axes.imshow(values, cmap="PuOr", vmin=-1, vmax=1, aspect="auto")
        for i, metric in enumerate(metrics):
            for j, task in enumerate(tasks):
                link = own.get((metric, task))
                if link is not None and link.spearman is not None:
                    value, low, high, _ = link.spearman
                    colour = "white" if abs(value) > 0.6 else "black"
                    shown = link.configurations >= FEW and high > low
                    ends = f"\n[{low:.2f}, {high:.2f}]" if shown else ""
                    text = minus(f"{value:.2f}{ends}")
                    axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=7)
        axes.set_xticks(range(len(tasks)), tasks, rotation=30, ha="right")
        axes.set_yticks(range(len(metrics)), metrics)
        axes.spines[:].set_visible(False)
        figure.colorbar(picture, label="Spearman, turned so that 1 is the truth")
        said = [
            f"{metric} with {task} {minus(f'{_rho(link):.2f}')}"
            for (metric, task), link in own.items()
            if link.spearman is not None
        ]
        title = f"Rank correlation with the tasks, {model}{cut}"
        yield _saved(f"truth{number or ''}", title, figure, _short(said))


def scatter(table: Rows, links: Sequence[Link]) -> Iterator[Drawn]:
    """The first task against each distribution metric of the table, a point per cell."""
    tasks = [name for name in table.metrics if name in {link.task for link in links}]
    metrics = [name for name in table.metrics if name in {link.metric for link in links}]
    if not tasks or not metrics:
        return
    task = tasks[0]
    cut, metrics = _cut(len(metrics), PANELS, "metrics"), metrics[:PANELS]
    figure, panels = _panels(len(metrics), width=3.7, height=2.8)
    methods = dict.fromkeys(row["method"] for row in table.rows)
    styles = dict(zip(methods, zip(cycle(COLOURS), cycle(MARKERS), strict=False), strict=False))
    for axes, metric in zip(panels, metrics, strict=False):
        for method, (colour, marker) in styles.items():
            points = [r for r in table.rows if r["method"] == method and metric in r and task in r]
            x, y = ([point[name] for point in points] for name in (metric, task))
            axes.plot(x, y, linestyle="", marker=marker, color=colour, label=method)
        axes.set_xlabel(metric)
        axes.set_ylabel(task)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    said = [f"{task} of {len(table.rows)} cells against {', '.join(metrics)}; see the table"]
    title = f"{task} against the distribution metrics{cut}"
    yield _saved("against", title, figure, _short(said))


def forest(effects: Sequence[Effect]) -> Iterator[Drawn]:
    """The difference between calibration sets with its interval, in the order of the table; of more
    than there is room for, the largest."""
    by_metric: dict[str, list[Effect]] = {}
    for effect in effects:
        by_metric.setdefault(effect.metric, []).append(effect)
    if not by_metric:
        return
    shown = {metric: _largest(found) for metric, found in islice(by_metric.items(), PANELS)}
    longest = max(map(len, shown.values()))
    widest = min(WIDEST, max(len(e.name) for found in shown.values() for e in found))
    width, height = 2.8 + 0.06 * widest, 0.8 + 0.18 * longest
    figure, panels = _panels(len(shown), width=width, height=height, most=2)
    for axes, (metric, found) in zip(panels, shown.items(), strict=False):
        for i, effect in enumerate(reversed(found)):
            if effect.low is not None and effect.high is not None:
                axes.plot([effect.low, effect.high], [i, i], color=COLOURS[0], linewidth=1.5)
            if len(effect.by_seed) > 1:
                each = [i] * len(effect.by_seed)
                axes.plot(effect.by_seed, each, "|", markersize=7, color="#444444")
            axes.plot([effect.difference], [i], marker="o", markersize=4, color=COLOURS[1])
        axes.set_yticks(
            range(len(found)), [_clipped(e.name, WIDEST) for e in reversed(found)], fontsize=7
        )
        axes.axvline(0, color="#666666", linewidth=0.8)
        axes.set_title(f"{metric} ({found[0].better} is better)")
        axes.set_ylim(-1, len(found))
        axes.xaxis.set_major_locator(MaxNLocator(4))
    said = [
        f"{metric}: " + "; ".join(f"{e.name} {minus(f'{e.difference:+.3g}')}" for e in found[:TOLD])
        for metric, found in shown.items()
    ]
    title = "Effect of the calibration set"
    if any(len(found) > MOST for found in by_metric.values()):
        title += f"; the {MOST} largest of each metric, all are in calibration.csv"
    title += _cut(len(by_metric), PANELS, "metrics")
    if any(len(e.name) > WIDEST for found in shown.values() for e in found):
        title += "; names with … are whole in the numbers below and in calibration.csv"
    yield _saved("calibration", title, figure, _short(said))


def _largest(found: Sequence[Effect]) -> list[Effect]:
    """As many as a panel has room for."""
    kept = set(map(id, sorted(found, key=lambda one: -abs(one.difference))[:MOST]))
    return [one for one in found if id(one) in kept]


def maps(layers: Sequence[Mapping[str, Any]]) -> Iterator[Drawn]:
    """Output error by depth and kind of linear, a map per cell; sparsity where it varies."""
    for name, title in (("output_error", "Relative output error"), ("sparsity", "Sparsity")):
        known = [layer for layer in layers if layer[name] is not None]
        cells = list(dict.fromkeys(layer["cell"] for layer in known))[:MAPS]
        shown = [layer for layer in known if layer["cell"] in cells]
        values = [float(layer[name]) for layer in shown]
        if not values or (name == "sparsity" and not _varies(shown)):
            continue
        kinds = list(dict.fromkeys(layer["kind"] for layer in shown))
        depths = sorted({layer["depth"] for layer in shown})
        height = 1.0 + 0.22 * len(kinds)
        figure, panels = _panels(len(cells), width=3.9, height=height)
        picture: Any = None
        for axes, cell in zip(panels, cells, strict=False):
            found = {(x["kind"], x["depth"]): x[name] for x in shown if x["cell"] == cell}
            grid = [[float(found.get((k, d), math.nan)) for d in depths] for k in kinds]
            picture = axes.imshow(grid, cmap="cividis", vmin=0, vmax=max(values), aspect="auto")
            axes.set_title(_clipped(cell), fontsize=8)
            axes.set_yticks(range(len(kinds)), kinds, fontsize=7)
            step = max(1, len(depths) // 8)
            axes.set_xticks(range(0, len(depths), step), [str(d) for d in depths[::step]])
            axes.set_xlabel("block")
            axes.spines[:].set_visible(False)
        figure.colorbar(picture, ax=list(panels), label=title.lower())
        said = [
            f"{cell}: {_range([x[name] for x in shown if x['cell'] == cell])}" for cell in cells
        ]
        yield _saved(f"layers_{name}", f"{title} by depth and kind", figure, _short(said))


def _varies(layers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the layers of any one cell differ in their sparsity, by a percent or more."""
    found: dict[str, list[float]] = {}
    for layer in layers:
        found.setdefault(layer["cell"], []).append(layer["sparsity"])
    return any(max(values) - min(values) >= 0.01 for values in found.values())


def _numbered(axes: Axes, places: Sequence[float]) -> None:
    """An axis of numbers: logarithmic, if they are far apart."""
    if min(places) > 0 and max(places) >= 16 * min(places):
        axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")


def _beside(found: Sequence[Line]) -> list[float]:
    """How far each line is moved aside: n:m points of several methods have one place."""
    apart = [line for line in found if line.pattern != "unstructured"]
    step = min(0.015, 0.1 / max(1, len(apart)))
    places = {id(line): step * (i - (len(apart) - 1) / 2) for i, line in enumerate(apart)}
    return [places.get(id(line), 0.0) for line in found]


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
    for dense, room, better in {(line.dense, line.room, line.better) for line in found}:
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
        ((line.dense or 0.0, line.room) for line in found if line.room is not None and line.dense),
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


def _panels(
    count: int, *, width: float, height: float, most: int = 3
) -> tuple[Figure, Sequence[Axes]]:
    """A figure with so many panels, at most so many side by side."""
    across = min(count, most)
    down = math.ceil(count / across)
    figure = Figure(figsize=(width * across, height * down + 0.6))
    axes = list(figure.subplots(down, across, squeeze=False).flatten())
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def _saved(name: str, title: str, figure: Figure, alternative: str) -> Drawn:
    svg, png = io.BytesIO(), io.BytesIO()
    with _salted(name), warnings.catch_warnings():
        # of letters that its font lacks: in SVG text is text, and the reader's fonts have them
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    return Drawn(name, title, alternative, svg.getvalue(), png.getvalue())


@contextmanager
def _salted(name: str) -> Iterator[None]:
    """Ids that are the same at every run, and others in every figure of a page."""
    with rc_context({"svg.hashsalt": name}):
        yield


def _rho(link: Link | None) -> float:
    return math.nan if link is None or link.spearman is None else link.spearman.value


def _listed(line: Line) -> str:
    sure = [line.room is None or line.certain(point) for point in line.points]
    return minus(
        ", ".join(
            f"{p.value:{digits(p.value)}} at {p.label}{'' if one else ' (not certain)'}"
            for p, one in zip(line.points, sure, strict=True)
        )
    )


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}"


def _clipped(name: str, most: int = 48) -> str:
    """Without its middle: what tells long names apart is at their ends."""
    end = most // 2
    return name if len(name) <= most else f"{name[: most - 1 - end]}…{name[-end:]}"


def _cut(count: int, most: int, what: str) -> str:
    """What a figure does not have."""
    where = "all are in the tables" if what == "lines" else "--columns chooses"
    return f"; the first {most} of {count} {what} ({where})" if count > most else ""


def _short(said: Sequence[str], most: int = 12) -> str:
    """Sentences, not more of them than anybody listens to."""
    rest = len(said) - most
    shown = ". ".join(islice(said, most))
    return f"{shown}. And {rest} more; see the files." if rest > 0 else f"{shown}."
