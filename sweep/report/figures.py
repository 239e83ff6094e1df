"""The figures of a report (matplotlib), as SVG and PNG; the same input gives the same bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sweep.report.curves import curves
from sweep.report.drawn import (
    COLOURS,
    LINES,
    MARKERS,
    PANELS,
    STYLE,
    TOLD,
    Drawn,
    clipped,
    left_out,
    panelled,
    saved,
    sentences,
)
from sweep.report.effect import Effect
from sweep.report.frontier import numbers
from sweep.report.paired import Paired
from sweep.report.table import Rows
from sweep.report.truth import FEW, Link
from sweep.report.typeset import minus

MOST = 40
"""Rows of a panel; more cannot be read."""
WIDEST = 72
"""Letters of a name beside a forest plot."""
MAPS = 12
"""Cells whose layers are drawn."""


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


def truth(links: Sequence[Link]) -> Iterator[Drawn]:
    """A heat map of Spearman's rho per model: distribution metrics by task metrics."""
    for number, model in enumerate(dict.fromkeys(link.model for link in links)):
        own = {(link.metric, link.task): link for link in links if link.model == model}
        metrics, tasks = (list(dict.fromkeys(key[i] for key in own)) for i in (0, 1))
        cut = left_out(len(metrics), LINES, "metrics") + left_out(len(tasks), PANELS, "tasks")
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
        yield saved(f"truth{number or ''}", title, figure, sentences(said))


def scatter(table: Rows, links: Sequence[Link]) -> Iterator[Drawn]:
    """The first task against each distribution metric of the table, a point per cell."""
    tasks = [name for name in table.metrics if name in {link.task for link in links}]
    metrics = [name for name in table.metrics if name in {link.metric for link in links}]
    if not tasks or not metrics:
        return
    task = tasks[0]
    cut, metrics = left_out(len(metrics), PANELS, "metrics"), metrics[:PANELS]
    figure, panels = panelled(len(metrics), width=3.7, height=2.8)
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
    yield saved("against", title, figure, sentences(said))


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
    figure, panels = panelled(len(shown), width=width, height=height, most=2)
    for axes, (metric, found) in zip(panels, shown.items(), strict=False):
        for i, effect in enumerate(reversed(found)):
            if effect.low is not None and effect.high is not None:
                axes.plot([effect.low, effect.high], [i, i], color=COLOURS[0], linewidth=1.5)
            if len(effect.by_seed) > 1:
                each = [i] * len(effect.by_seed)
                axes.plot(effect.by_seed, each, "|", markersize=7, color="#444444")
            axes.plot([effect.difference], [i], marker="o", markersize=4, color=COLOURS[1])
        axes.set_yticks(
            range(len(found)), [clipped(e.name, WIDEST) for e in reversed(found)], fontsize=7
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
    title += left_out(len(by_metric), PANELS, "metrics")
    if any(len(e.name) > WIDEST for found in shown.values() for e in found):
        title += "; names with … are whole in the numbers below and in calibration.csv"
    yield saved("calibration", title, figure, sentences(said))


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
        figure, panels = panelled(len(cells), width=3.9, height=height)
        picture: Any = None
        for axes, cell in zip(panels, cells, strict=False):
            found = {(x["kind"], x["depth"]): x[name] for x in shown if x["cell"] == cell}
            grid = [[float(found.get((k, d), math.nan)) for d in depths] for k in kinds]
            picture = axes.imshow(grid, cmap="cividis", vmin=0, vmax=max(values), aspect="auto")
            axes.set_title(clipped(cell), fontsize=8)
            axes.set_yticks(range(len(kinds)), kinds, fontsize=7)
            step = max(1, len(depths) // 8)
            axes.set_xticks(range(0, len(depths), step), [str(d) for d in depths[::step]])
            axes.set_xlabel("block")
            axes.spines[:].set_visible(False)
        figure.colorbar(picture, ax=list(panels), label=title.lower())
        said = [
            f"{cell}: {_range([x[name] for x in shown if x['cell'] == cell])}" for cell in cells
        ]
        yield saved(f"layers_{name}", f"{title} by depth and kind", figure, sentences(said))


def _varies(layers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the layers of any one cell differ in their sparsity, by a percent or more."""
    found: dict[str, list[float]] = {}
    for layer in layers:
        found.setdefault(layer["cell"], []).append(layer["sparsity"])
    return any(max(values) - min(values) >= 0.01 for values in found.values())


def _rho(link: Link | None) -> float:
    return math.nan if link is None or link.spearman is None else link.spearman.value


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}"
