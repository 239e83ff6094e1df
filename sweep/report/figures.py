"""The figures of a report (matplotlib), as SVG and PNG; the same input gives the same bytes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sweep.report.curves import curves
from sweep.report.drawn import (
    GREY,
    INK,
    LINES,
    MARKERS,
    PANELS,
    STYLE,
    TOLD,
    Drawn,
    Sketch,
    clipped,
    colours,
    keyed,
    left_out,
    markers,
    panelled,
    ranged,
    saved,
    sentences,
    told_patterns,
)
from sweep.report.effect import Effect
from sweep.report.entries import model_names
from sweep.report.frontier import numbers, pattern_of
from sweep.report.layer_maps import maps
from sweep.report.notes import mark
from sweep.report.paired import Paired
from sweep.report.scale import level, unfold
from sweep.report.table import Rows
from sweep.report.truth import FEW, Link
from sweep.report.typeset import minus

MOST = 40
"""Rows of a panel; more cannot be read."""
WIDEST = 72
"""Letters of a name beside a forest plot."""
FILLS = ("full", "left", "right")
"""Of markers: of the first eight methods with their calibration set, of the second, the third."""

Kind = tuple[str, str, str] | None
"""Method, calibration set and pattern of a point; None: dense."""


def draw(
    table: Rows,
    links: Sequence[Link],
    effects: Sequence[Effect],
    layers: Sequence[Mapping[str, Any]],
    paired: Paired,
) -> list[Drawn]:
    """Every figure for which there is something to draw."""
    with rc_context(STYLE):
        sketches = [
            *curves(table, paired),
            *[drawn for along in numbers(table) for drawn in curves(table, paired, along)],
            *truth(links),
            *scatter(table, links),
            *forest(table, effects),
            *maps(table, layers),
        ]
        told = mark(table.entries)
        return [saved(sketch, told) for sketch in sketches]


def truth(links: Sequence[Link]) -> Iterator[Sketch]:
    """A heat map per model, distribution metrics by task metrics: Spearman's rho is its colour,
    Kendall's tau is written beside it."""
    for number, model in enumerate(dict.fromkeys(link.model for link in links)):
        own = {(link.metric, link.task): link for link in links if link.model == model}
        metrics, tasks = (list(dict.fromkeys(key[i] for key in own)) for i in (0, 1))
        metrics = _by_kind(metrics, texts := {x.metric: x.text for x in own.values()})
        cut = left_out(len(metrics), LINES, "metrics") + left_out(len(tasks), PANELS, "tasks")
        metrics, tasks = metrics[:LINES], tasks[:PANELS]
        figure = Figure(figsize=(2.6 + 1.2 * len(tasks), max(3.2, 1.3 + 0.6 * len(metrics))))
        axes = figure.subplots()
        values = [[_rho(own.get((metric, task))) for task in tasks] for metric in metrics]
        picture = axes.imshow(values, cmap="PuOr", vmin=-1, vmax=1, aspect="auto")
        for i, metric in enumerate(metrics):
            for j, task in enumerate(tasks):
                if (link := own.get((metric, task))) is not None and link.spearman is not None:
                    colour = "white" if abs(_rho(link)) > 0.6 else "black"
                    text = "\n".join(_coefficients(link))
                    axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=7)
        axes.set_xticks(range(len(tasks)), tasks, rotation=30, ha="right")
        axes.set_yticks(range(len(metrics)), [_on(metric, texts[metric]) for metric in metrics])
        axes.spines[:].set_visible(False)
        figure.colorbar(picture, label="Spearman's ρ; 1: cells are ranked as by the task")
        said = [
            f"{metric} with {task} {', '.join(_coefficients(link, ends=False))}"
            for (metric, task), link in own.items()
            if link.spearman is not None
        ]
        title = f"Rank correlation with the tasks, {model}: Spearman's ρ and Kendall's τ{cut}"
        yield Sketch(f"truth{number or ''}", title, figure, sentences(said))


def _coefficients(link: Link, *, ends: bool = True) -> Iterator[str]:
    """Both, each with its interval below it, if that says something."""
    for letter, found in (("ρ", link.spearman), ("τ", link.kendall)):
        if found is not None:
            yield minus(f"{letter} {found.value:.2f}")
            if ends and link.configurations >= FEW and found.high > found.low:
                yield minus(f"[{found.low:.2f}, {found.high:.2f}]")


def scatter(table: Rows, links: Sequence[Link]) -> Iterator[Sketch]:
    """The first task against each distribution metric of the table, a point per cell; a figure per
    model, as the correlations have."""
    looks = _looks(table)
    linked = dict.fromkeys(link.model for link in links)
    models = {
        weights: name for weights, name in model_names(table.entries).items() if name in linked
    }
    for number, (weights, model) in enumerate(models.items()):
        both = zip(table.rows, table.entries, strict=True)
        own = [(row, entry) for row, entry in both if row["weights"] == weights]
        rows, entries = zip(*own, strict=True)
        yield from _scatter(
            f"against{number or ''}",
            model,
            replace(table, rows=[*rows], entries=entries),
            [link for link in links if link.model == model],
            looks,
        )


def _scatter(
    name: str,
    model: str,
    table: Rows,
    links: Sequence[Link],
    looks: Mapping[Kind, Mapping[str, Any]],
) -> Iterator[Sketch]:
    """Of the cells of one model."""
    tasks = [name for name in table.metrics if name in {link.task for link in links}]
    metrics = [name for name in table.metrics if name in {link.metric for link in links}]
    if not tasks or not metrics:
        return
    task = tasks[0]
    cut, metrics = left_out(len(metrics), PANELS, "metrics"), metrics[:PANELS]
    cut += left_out(len(colours(table)), LINES, "methods with their calibration set")
    figure, panels = panelled(len(metrics), width=3.7, height=2.8)
    kinds: dict[Kind, None] = {}
    said: list[str] = []
    for axes, metric in zip(panels, metrics, strict=False):
        points: dict[Kind, list[tuple[float, float]]] = {}
        for row, entry in zip(table.rows, table.entries, strict=True):
            pattern = pattern_of(str(row["sparsity"]))
            kind = (row["method"], row["calib"], pattern) if entry.about["compresses"] else None
            if kind in looks and metric in row and task in row:
                points.setdefault(kind, []).append((row[metric], row[task]))
        for kind, found in points.items():
            axes.plot(*zip(*found, strict=True), linestyle="", **looks[kind])
        places = [x for found in points.values() for x, _ in found]
        reads = unfold(axes, "x", places, *level(table, metric))
        axes.set_xlabel(f"{metric}\n({reads})" if reads else metric)
        axes.set_ylabel(task)
        kinds |= dict.fromkeys(points)
        heights = [y for found in points.values() for _, y in found]
        said.append(
            f"{task} of {len(places)} cells, {ranged(heights)}, against {metric}, {ranged(places)}"
        )
    keyed(figure, _key(table, looks, kinds), len(panels))
    title = f"{task} against the distribution metrics, {model}{cut}"
    yield Sketch(name, title, figure, sentences([*said, "All are in the table"]))


def _looks(table: Rows) -> dict[Kind, dict[str, Any]]:
    """Of a point: colour and fill by method and calibration set, marker by pattern."""
    looks: dict[Kind, dict[str, Any]] = {
        (*pair, pattern): {"marker": sign, "color": colour, "fillstyle": FILLS[place // 8]}
        for place, (pair, colour) in enumerate(islice(colours(table).items(), LINES))
        for pattern, sign in markers(table).items()
    }
    looks[None] = {"marker": "*", "color": GREY, "markersize": 9}
    return looks


def _key(
    table: Rows, looks: Mapping[Kind, Mapping[str, Any]], kinds: Collection[Kind]
) -> dict[str, Artist]:
    """What colours and signs mean, of those that occur."""
    handles: dict[str, Artist] = {}
    for method, calib in colours(table):
        own = [k for k in kinds if k is not None and k[:2] == (method, calib)]
        if own:
            look = {**looks[own[0]], "marker": MARKERS[0]}
            handles[" ".join(word for word in (method, calib) if word)] = Line2D(
                [], [], linestyle="", **look
            )
    used = {kind[2] for kind in kinds if kind is not None}
    handles |= told_patterns({p: sign for p, sign in markers(table).items() if p in used})
    if None in kinds:
        handles["dense"] = Line2D([], [], linestyle="", **looks[None])
    return handles


def forest(table: Rows, effects: Sequence[Effect]) -> Iterator[Sketch]:
    """The difference between calibration sets with its interval, in the order of the table; of more
    than there is room for, the largest. It is of two sets, so it has no colour of one."""
    by_metric: dict[str, list[Effect]] = {}
    for effect in effects:
        by_metric.setdefault(effect.metric, []).append(effect)
    if not by_metric:
        return
    shown = {metric: _largest(found) for metric, found in islice(by_metric.items(), PANELS)}
    longest = max(map(len, shown.values()))
    several = len({effect.model for effect in effects}) > 1

    def called(effect: Effect) -> str:
        return f"{effect.model} {effect.name}" if several else effect.name

    lengths = [len(called(e)) for found in shown.values() for e in found]
    widest = min(WIDEST, max(lengths))
    width, height = 2.8 + 0.06 * widest, 0.8 + 0.18 * longest
    figure, panels = panelled(len(shown), width=width, height=height, most=2)
    for axes, (metric, found) in zip(panels, shown.items(), strict=False):
        places: list[float] = []
        for i, effect in enumerate(reversed(found)):
            places += [effect.difference, *effect.by_seed]
            if effect.low is not None and effect.high is not None:
                places += [effect.low, effect.high]
                axes.plot([effect.low, effect.high], [i, i], color=GREY, linewidth=1.5)
            if len(effect.by_seed) > 1:
                each = [i] * len(effect.by_seed)
                axes.plot(effect.by_seed, each, "|", markersize=7, color=INK)
            axes.plot([effect.difference], [i], marker="o", markersize=4, color=INK)
        axes.set_yticks(
            range(len(found)), [clipped(called(e), WIDEST) for e in reversed(found)], fontsize=7
        )
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.set_title(f"{metric} ({found[0].better} is better)")
        axes.set_ylim(-1, len(found))
        if reads := unfold(axes, "x", places, room=level(table, metric)[1]):
            axes.set_xlabel(reads, fontsize=7)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
    said = [
        f"{metric}: "
        + "; ".join(f"{called(e)} {minus(f'{e.difference:+.3g}')}" for e in found[:TOLD])
        for metric, found in shown.items()
    ]
    title = "Effect of the calibration set"
    if any(len(found) > MOST for found in by_metric.values()):
        title += f"; the {MOST} largest of each metric, all are in calibration.csv"
    title += left_out(len(by_metric), PANELS, "metrics")
    if max(lengths) > WIDEST:
        title += "; names with … are whole in the numbers below and in calibration.csv"
    yield Sketch("calibration", title, figure, sentences(said))


def _largest(found: Sequence[Effect]) -> list[Effect]:
    """As many as a panel has room for."""
    kept = set(map(id, sorted(found, key=lambda one: -abs(one.difference))[:MOST]))
    return [one for one in found if id(one) in kept]


def _by_kind(metrics: Sequence[str], texts: Mapping[str, str]) -> list[str]:
    """Those of one kind together, whatever text they are of: all JSDs, then all KLs."""
    kinds = {name: _named(name).removesuffix(_corpus(texts[name])) for name in metrics}
    order = list(dict.fromkeys(kinds.values()))
    return sorted(metrics, key=lambda name: order.index(kinds[name]))


def _on(metric: str, text: str) -> str:
    """A metric with the text that it is of, unless its name says that."""
    said = not text or _named(metric).endswith(_corpus(text))
    return metric if said else f"{metric}\non {text}"


def _named(metric: str) -> str:
    """Without what tells it from the same, measured in another way."""
    return metric.partition("@")[0]


def _corpus(text: str) -> str:
    """The end of a metric's name that is of a text."""
    return f"_{text.partition(' ')[0]}"


def _rho(link: Link | None) -> float:
    return math.nan if link is None or link.spearman is None else link.spearman.value
