"""Figures: what is seen in them, told apart and said."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure

from sweep.numerics.ranks import Correlation
from sweep.report import (
    curves,
    drawn,
    effect,
    figures,
    frontier,
    layers,
    notes,
    scale,
    table,
    truth,
)
from sweep.report.paired import Paired

Write = Callable[..., Path]


def test_calibration_sets_of_several_sizes_are_a_line_along_their_size(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell("dense", quality=1.0)
    for n_samples in (2, 128, 16):
        for seed in (0, 1):
            quality = 0.5 + n_samples / 300 + seed / 50
            write_cell(n_samples=n_samples, seed=seed, quality=quality)
    found = rows()
    assert frontier.numbers(found) == ["calib.n_samples"]
    (line,) = frontier.lines(found, "em", Paired(), "calib.n_samples")
    assert (line.name, line.dense) == ("wanda c4 50%", 1.0)
    assert [(p.label, p.place, p.seeds) for p in line.points] == [
        ("2", 2, 2),
        ("16", 16, 2),
        ("128", 128, 2),
    ]
    by_hand = [r["em"] for r in found.rows if r.get("calib.n_samples") == 16]
    assert line.points[1].value == pytest.approx(fmean(by_hand))
    shown = {one.name: one for one in figures.draw(found, [], [], [], Paired())}
    assert shown.keys() == {"calib.n_samples"}  # a curve by sparsity would be single points
    assert "wanda c4 50%" in shown["calib.n_samples"].alternative
    write_cell(sparsity="60%", n_samples=16)
    assert {"curves", "calib.n_samples"} <= {
        one.name for one in figures.draw(rows(), [], [], [], Paired())
    }


def _legend(figure: Figure) -> dict[str, Any]:
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    return dict(zip(labels, legend.legend_handles, strict=True))


def test_markers_are_patterns_and_stand_in_the_legend_and_none_hides_another(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell("dense", quality=1.0)
    for method in ("wanda", "sparsegpt"):
        for label in ("40%", "60%", "2:4", "4:8"):
            write_cell(method, label, quality=0.8)
    table = rows()
    (sketch,) = curves.curves(table, Paired())
    handles = _legend(sketch.figure)
    names = ["sparsegpt c4", "wanda c4", "unstructured", "2:4", "4:8", "dense"]
    assert list(handles)[:6] == names
    assert "within 5 % of dense" in handles
    assert len({handles[name].get_linestyle() for name in names[:2]}) == 2
    assert [handles[name].get_marker() for name in names[2:5]] == ["o", "s", "^"]
    found = frontier.lines(table, "em", Paired())
    aside = dict(zip([(x.method, x.pattern) for x in found], curves._beside(found), strict=True))
    assert aside["wanda", "unstructured"] == 0
    patterned = [line for line in found if line.pattern != "unstructured"]
    (point,) = patterned[0].points
    lone = replace(patterned[0], pattern="1:4", points=[replace(point, place=0.75)])
    assert curves._beside([*patterned, lone])[-1] == 0  # it has its place for itself
    assert len({aside[m, p] for m in ("wanda", "sparsegpt") for p in ("2:4", "4:8")}) == 4


def test_a_method_with_its_calibration_set_has_one_colour_in_all_figures(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell("dense", quality=1.0)
    write_cell("magnitude", "40%", None, None, quality=0.6)
    for method in ("wanda", "sparsegpt"):
        for calib in ("c4", "alpaca"):
            for n in (1, 4, 16):
                for label in ("40%", "60%"):
                    write_cell(method, label, calib, n_samples=n, quality=0.5 + n / 50)
    found = rows()
    links, effects = truth.links(found.entries), effect.effects(found, Paired())
    sketches = [
        *curves.curves(found, Paired()),
        *curves.curves(found, Paired(), "calib.n_samples"),
        *figures.scatter(found, links),
    ]
    assert [sketch.name for sketch in sketches] == ["curves", "calib.n_samples", "against"]
    colours: dict[str, set[str]] = {}
    for sketch in sketches:
        for label, handle in _legend(sketch.figure).items():
            pair = re.match(r"magnitude|(?:wanda|sparsegpt) \w+|dense", label)
            if pair is not None:
                colours.setdefault(pair[0], set()).add(handle.get_color())
    assert len(colours) == 6
    assert all(len(own) == 1 for own in colours.values()), colours
    assert len(set().union(*colours.values())) == 6
    assert colours["dense"] == {drawn.GREY}
    (forest,) = figures.forest(found, effects)  # a difference of two has the colour of neither
    used = {line.get_color() for axes in forest.figure.axes for line in axes.lines}
    assert used
    assert not used & set(drawn.COLOURS)


def test_lines_of_one_colour_are_told_apart_as_long_as_a_legend_can_be_read() -> None:
    pairs = {f"wanda c4 scope={i}": ("wanda", "c4") for i in range(drawn.LINES)}
    assert len(set(curves._styles(pairs, {("wanda", "c4"): drawn.COLOURS[0]}).values())) == 24
    many = {str(i): ("wanda", str(i)) for i in range(drawn.LINES)}
    colours = {pair: drawn.COLOURS[i % 8] for i, pair in enumerate(many.values())}
    assert len(set(curves._styles(many, colours).values())) == drawn.LINES


def _places(axes: Any, values: Sequence[float], which: int) -> list[float]:
    """Where values lie on an axis, as shares of it."""
    ends = (axes.get_xlim, axes.get_ylim)[which]()
    low, high, *found = (axes.transData.transform((v, v))[which] for v in (*ends, *values))
    return [float((place - low) / (high - low)) for place in found]


def test_the_tolerance_is_seen_on_an_axis_of_values_that_explode() -> None:
    axes = Figure().subplots()
    assert scale.unfold(axes, "y", (3.0, 3.1, 3.2), 3.0, 0.15) == ""
    values = (3.0, 3.1, 40.0, 9000.0)
    assert scale.unfold(axes, "y", values, 3.0, 0.15) == "logarithmic beyond 5 % of dense"
    dense, worst, high = _places(axes, (3.0, 3.15, 9000.0), 1)
    assert 0 < dense < worst - 0.05 < high < 1
    ticks = list(axes.get_yticks())
    assert ticks[0] == 3.0
    assert len(ticks) > 4
    assert max(ticks) <= 9000


def test_differences_that_explode_are_seen_on_both_sides_of_none() -> None:
    axes = Figure().subplots()
    said = scale.unfold(axes, "x", (-120.0, -0.2, 0.0, 0.1, 3.0), room=0.15)
    assert said == "logarithmic beyond 5 % of dense"
    places = _places(axes, (-120.0, -3.0, -0.15, 0.0, 0.15, 3.0), 0)
    assert places == sorted(places)
    assert all(b - a > 0.05 for a, b in pairwise(places))
    assert places[3] - places[2] == pytest.approx(places[4] - places[3])
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert "0" in labels
    assert any(label.startswith("−") for label in labels)
    assert not any(label.startswith("-") for label in labels)


def test_what_has_no_tolerance_is_unfolded_if_it_explodes_and_not_if_it_is_below_one() -> None:
    axes = Figure().subplots()
    assert scale.unfold(axes, "x", (0.0, 0.00001, 0.00001, 0.6)) == ""
    assert axes.get_xscale() == "linear"
    assert scale.unfold(axes, "x", (0.01, 0.1, 20.0)) == "logarithmic"
    assert scale.unfold(axes, "y", (0.0, 0.01, 0.1, 0.1, 20.0)) == "logarithmic beyond ±0.1"
    assert _places(axes, (0.1,), 1)[0] > 0.05
    assert scale.unfold(axes, "y", ()) == ""


def test_where_perplexity_explodes_scatter_and_forest_are_read_as_the_curves_are(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell("dense", quality=1.0)
    for label, quality in (("30%", 0.98), ("50%", 0.9), ("60%", 0.5), ("80%", -12.0)):
        write_cell(sparsity=label, calib="c4", quality=quality)
        write_cell(sparsity=label, calib="alpaca", quality=quality - abs(quality) / 10)
    found = rows()
    links, effects = truth.links(found.entries), effect.effects(found, Paired())
    (curve,) = curves.curves(found, Paired())
    (scatter,) = figures.scatter(found, links)
    (forest,) = figures.forest(found, effects)
    assert [scale.level(found, m)[1] is not None for m in ("perplexity", "em")] == [True, True]
    read = "logarithmic beyond 5 % of dense"
    shown = [sketch.figure.axes[0] for sketch in (curve, scatter, forest)]
    labels = (shown[0].get_ylabel(), shown[1].get_xlabel(), shown[2].get_xlabel())
    assert labels == (read, f"perplexity\n({read})", read)
    points = [x for line in shown[1].lines for x in line.get_xdata()]
    assert len(points) == 9
    best = sorted(_places(shown[1], points, 0))[:4]  # on a linear axis all would be one line
    assert best[-1] - best[0] > 0.02
    assert figures.scatter(found, links) is not None
    assert forest.figure.axes[1].get_xlabel() == ""  # exact match is in no need of it


@pytest.mark.parametrize("corpora", ["few", "many"])
def test_figures_say_in_themselves_what_is_a_stand_in_and_hide_nothing_by_it(
    corpora: str, write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell("dense", quality=1.0)
    for i in range(7):
        for calib in ("c4", "alpaca", f"corpus-{'of-a-long-name-' * 5}"):
            write_cell(sparsity=f"{10 * (i + 1)}%", calib=calib, quality=1 - i / 8)
    found = rows()
    if corpora == "many":
        (entry, *_) = found.entries
        entry.results["tasks"]["data"] += [
            {"corpus": f"corpus-{i}", "source": "embedded"} for i in range(60)
        ]
    told = notes.mark(found.entries)
    assert told.startswith("embedded stand-ins: c4")
    assert told.endswith("; model tiny")
    links, effects = truth.links(found.entries), effect.effects(found, Paired())
    linears = list(layers.layers(found.entries))
    pictures = figures.draw(found, links, effects, linears, Paired())
    assert {"curves", "truth", "against", "calibration"} <= {one.name for one in pictures}
    for one in pictures:
        written = re.sub(r"<[^>]+>|\s", "", one.svg.decode())
        assert told.replace(" ", "") in written, one.name
        assert told[1:] in one.alternative
        assert told not in one.title  # it is in the picture
    with rc_context(drawn.STYLE):
        for sketch in (*figures.truth(links), *figures.scatter(found, links)):
            drawn.saved(sketch, told)
            sketch.figure.draw_without_rendering()
            box = sketch.figure._suptitle.get_window_extent()  # type: ignore[attr-defined]
            assert sketch.figure.bbox.containsx(box.x0)
            assert sketch.figure.bbox.containsx(box.x1)
            for other in (*sketch.figure.axes, *sketch.figure.legends):
                around = other.get_tightbbox()
                assert around is not None
                assert not box.overlaps(around)
                low, high = sketch.figure.bbox.padded(1).get_points()
                assert (around.get_points() >= low).all(), sketch.name
                assert (around.get_points() <= high).all(), sketch.name


def test_figures_of_real_corpora_have_no_such_note(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for method in ("dense", "wanda"):
        file = write_cell(method) / "metrics"
        for metric in file.glob("*.json"):
            metric.write_text(metric.read_text().replace('"embedded"', '"hub"'))
    found = rows()
    assert notes.mark(found.entries) == ""
    (curve,) = figures.draw(found, [], [], [], Paired())
    assert b"stand-in" not in curve.svg
    assert "stand-in" not in curve.alternative


def test_every_figure_names_the_model_where_there_are_several(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for model, worse in (("small", 0.2), ("large", 0.0)):
        write_cell("dense", model=model, quality=1.0 - worse)
        for i in range(6):
            for calib in ("c4", "alpaca"):
                label, quality = f"{10 * (i + 1)}%", 0.9 - i / 10 - worse
                write_cell("wanda", label, calib, model=model, quality=quality)
    found = rows()
    links, effects = truth.links(found.entries), effect.effects(found, Paired())
    (forest,) = figures.forest(found, effects)
    for axes in forest.figure.axes:
        labels = [label.get_text() for label in axes.get_yticklabels()]
        assert len(set(labels)) == len(labels) == 12
        assert {label.split()[0] for label in labels} == {"small", "large"}
    assert "small wanda 10%: alpaca less c4" in forest.alternative
    scatters = list(figures.scatter(found, links))
    assert [one.name for one in scatters] == ["against", "against1"]
    assert [one.title.split(", ")[1] for one in scatters] == ["large", "small"]
    for one, worse in zip(scatters, (0.0, 0.2), strict=True):
        points = [line.get_ydata() for line in one.figure.axes[0].lines]
        assert sum(map(len, points)) == 13
        assert max(y for ys in points for y in ys) == pytest.approx(1 - worse, abs=0.05)
    (sketch,) = curves.curves(found, Paired())
    handles = _legend(sketch.figure)
    dashes = [handles[f"dense {model}"].get_linestyle() for model in ("large", "small")]
    assert dashes == ["-", "--"]
    levels = {
        line.get_linestyle(): line.get_ydata()[0]
        for line in sketch.figure.axes[1].lines
        if line.get_color() == drawn.GREY
    }
    assert levels["-"] > levels["--"]  # the larger's level, and the smaller's


def test_the_heat_map_has_metrics_of_one_kind_together_and_says_on_which_text_each_is() -> None:
    of = {
        "jsd_c4": "c4 windows",
        "jsd_alpaca": "alpaca responses",
        "perplexity": "c4 windows",
        "kl_c4": "c4 windows",
        "perplexity_compressed": "alpaca responses",
        "kl_alpaca": "alpaca responses",
        "jsd_alpaca@1f": "alpaca responses",
    }
    rho = Correlation(0.5, 0.1, 0.8, np.ones(3))
    links = [truth.Link("m", name, "em", 9, 9, rho, rho, (), text) for name, text in of.items()]
    (sketch,) = figures.truth(links)
    axes, bar = sketch.figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        *("jsd_c4", "jsd_alpaca", "jsd_alpaca@1f"),
        "perplexity\non c4 windows",
        *("kl_c4", "kl_alpaca"),
        "perplexity_compressed\non alpaca responses",
    ]
    assert bar.get_ylabel().endswith("cells are ranked as by the task")
