"""The questions that a report answers: how far, what tells the truth, what calibration does."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy import stats

from sweep.files import Folder
from sweep.numerics.ranks import Correlation
from sweep.report import (
    curves,
    drawn,
    effect,
    entries,
    figures,
    frontier,
    generations,
    layer_maps,
    layers,
    notes,
    scale,
    seeds,
    table,
    truth,
)
from sweep.report.__main__ import main
from sweep.report.paired import Paired
from tests.report.conftest import HOSTILE, Page

Write = Callable[..., Path]


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[], table.Rows]:
    return lambda: table.rows(entries.below(tmp_path / "outputs"))


def test_the_largest_sparsity_is_the_last_before_the_first_that_is_out_of_tolerance(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell("dense", quality=1.0, examples=200)
    for label, quality in (("30%", 1.0), ("40%", 0.999), ("50%", 0.5), ("60%", 1.0)):
        write_cell("wanda", label, quality=quality, examples=200)
    write_cell("magnitude", "30%", None, quality=0.2, examples=200)
    write_cell("wanda", "2:4", quality=1.0, examples=200)
    table = rows()
    lines = {(x.method, x.pattern): x for x in frontier.lines(table, "em", Paired())}
    wanda = lines["wanda", "unstructured"]
    largest = frontier.largest(wanda)
    assert largest is not None
    assert largest[0] == "40%"  # at 60 % it is within again, and that is no tolerance
    found = {(r["method"], r["pattern"]): r for r in frontier.tolerances(table, Paired())}
    assert found["wanda", "unstructured"]["tried"] == "30%, 40%, 50%, 60%"
    assert found["magnitude", "unstructured"]["em"] == "none"
    assert found["wanda", "2:4"]["em"] == "2:4"


def test_of_a_dense_value_of_zero_there_are_no_five_percent() -> None:
    def line(dense: float | None, better: str | None) -> frontier.Line:
        return frontier.Line("m", "wanda", "c4", (), "unstructured", [], dense, better)

    assert line(0.0, "lower").room is None
    assert line(None, "lower").room is None
    assert line(1.0, None).room is None
    assert line(4.0, "lower").room == pytest.approx(0.2)
    assert line(-2.0, "lower").room == pytest.approx(0.1)

    def within(dense: float, better: str, value: float) -> bool:
        return line(dense, better).within(frontier.Point("50%", 0.5, value, value, value, 1))

    assert (within(4.0, "lower", 4.19), within(4.0, "lower", 4.21)) == (True, False)
    assert (within(4.0, "higher", 3.81), within(4.0, "higher", 3.79)) == (True, False)
    assert (within(-2.0, "lower", -1.91), within(-2.0, "lower", -1.89)) == (True, False)


def test_what_crosses_the_tolerance_with_its_interval_is_not_certain() -> None:
    def point(label: str, value: float, worse: tuple[float, float] | None) -> frontier.Point:
        return frontier.Point(label, 0.5, value, value, value, 1, (), worse)

    def largest(*points: frontier.Point) -> tuple[str, str, str] | None:
        return frontier.largest(
            frontier.Line("m", "wanda", "c4", (), "unstructured", points, 4.0, "lower")
        )

    inside = point("30%", 4.0, (-0.1, 0.1))
    perhaps_inside = point("40%", 4.1, (0.0, 0.3))
    perhaps_outside = point("50%", 4.3, (0.1, 0.5))
    outside = point("60%", 5.0, (0.8, 1.2))
    assert largest(inside, outside) == ("30%", "30%", "30%")
    assert largest(inside, perhaps_inside, outside) == ("40%", "30%", "40%")
    assert largest(inside, perhaps_inside, perhaps_outside, outside) == ("40%", "30%", "50%")
    assert largest(perhaps_outside, inside) == ("", "", "30%")
    assert largest(point("30%", 4.0, None)) == ("30%", "", "30%")  # of no interval nothing is known


def test_an_interval_over_the_same_examples_decides_what_is_certain(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell("dense", quality=1.0, examples=200)
    for label, quality in (("30%", 1.0), ("40%", 0.96), ("50%", 0.3)):
        write_cell("wanda", label, quality=quality, examples=200)
    found = rows()
    (line,) = frontier.lines(found, "em", Paired())
    assert [line.certain(point) for point in line.points] == [True, False, True]
    near = line.points[1]
    dense, *_ = found.entries
    assert near.worse is not None
    low, high = near.worse
    ends = Paired().difference(found.entries[2], dense, "em")
    assert ends == (-high, -low)  # more is better, so how much worse is the other way round
    (row,) = frontier.tolerances(found, Paired())
    assert 0.95 < near.value < 0.97  # within, and its interval is not
    assert row["em"] == "40% (not certain: 30% to 40%)"
    (figure,) = (one for one in figures.draw(found, [], [], [], Paired()) if one.name == "curves")
    assert b"hollow: not certain on which side of 5 %" in figure.svg
    assert "at 40% (not certain)" in figure.alternative


@pytest.mark.parametrize(("examples", "certain"), [(1, False), (4, False), (71, False), (72, True)])
def test_few_examples_without_a_change_are_not_certain(
    examples: int, certain: bool, write_cell: Write, tmp_path: Path
) -> None:
    """By the exact interval of a share: of 71 examples without a change 5.1 % may change."""
    write_cell("dense", quality=1.0, examples=examples)
    write_cell("wanda", quality=1.0, examples=examples)
    found = table.rows(entries.below(tmp_path / "outputs"), paired=Paired())
    (line,) = frontier.lines(found, "em", Paired())
    (point,) = line.points
    may = stats.binomtest(0, examples).proportion_ci(0.95, "exact").high
    assert point.worse == pytest.approx((-may, may))
    assert line.certain(point) == certain
    row = found.rows[1]
    assert (row["em_vs_dense_low"], row["em_vs_dense_high"]) == pytest.approx((-may, may))
    (said,) = frontier.tolerances(found, Paired())
    assert said["em"] == ("50%" if certain else "50% (not certain: none to 50%)")
    assert "perplexity_vs_dense_low" not in row  # how much a loss may change knows no bound
    assert said["perplexity"] == "50% (not certain: none to 50%)"


def test_a_point_of_several_seeds_is_their_mean_and_deviation(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for seed, quality in ((0, 0.5), (1, 0.6), (2, 0.9)):
        write_cell(seed=seed, quality=quality)
    found = rows()
    values = [row["em"] for row in found.rows]
    (line,) = frontier.lines(found, "em", Paired())
    (point,) = line.points
    assert point.seeds == 3
    assert point.value == pytest.approx(fmean(values))
    assert point.high - point.value == pytest.approx(stdev(values))
    (mean,) = seeds.over_seeds(found).rows
    assert (mean["seeds"], mean["em"], mean["em_sd"]) == (
        3,
        pytest.approx(fmean(values)),
        pytest.approx(stdev(values)),
    )


def test_a_mean_over_seeds_of_which_one_has_no_baseline_has_no_difference(
    write_cell: Write, tmp_path: Path
) -> None:
    write_cell("wanda", seed=0)
    write_cell("magnitude", calib=None, seed=None)
    for seed in (0, 1):
        write_cell("sparsegpt", seed=seed)
    found = table.rows(entries.below(tmp_path / "outputs"), baseline="wanda", paired=Paired())
    assert [row["seed"] for row in found.rows if "em_vs_wanda" in row] == [0, 0]
    (mean,) = (r for r in seeds.over_seeds(found, Paired()).rows if r["method"] == "sparsegpt")
    assert (mean["seeds"], "em" in mean) == (2, True)
    assert "em_vs_wanda" not in mean


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


def test_a_metric_that_orders_the_cells_as_the_task_does_tells_the_truth(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell("dense", quality=1.0)
    for i in range(8):
        write_cell("wanda", f"{10 * (i + 1)}%", quality=1 - i / 9)
    found = truth.links(rows().entries)
    link = next(link for link in found if (link.metric, link.task) == ("perplexity", "em"))
    assert (link.cells, link.configurations) == (8, 8)  # dense is not among them
    assert link.spearman is not None
    assert link.spearman.value == pytest.approx(1.0, abs=0.02)  # lower perplexity, more answers
    said = truth.sentences(found)
    assert any("perplexity ranks 8 compressed cells most like em does" in line for line in said)
    assert any("8 configurations are few" in line for line in said)
    assert any("no random sample" in line for line in said)


def test_few_cells_allow_one_to_say_nothing_and_it_says_so(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for calib in ("c4", "alpaca"):
        write_cell(calib=calib, quality=0.5 if calib == "c4" else 0.8)
    said = truth.sentences(truth.links(rows().entries))
    assert any("2 compressed cells are too few" in line for line in said)
    assert "Nothing can be said" in truth.sentences([])[0]


def test_seeds_of_one_configuration_are_one_witness(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for i in range(5):
        for seed in (0, 1, 2):
            write_cell("wanda", f"{10 * (i + 1)}%", seed=seed, quality=1 - i / 9 - seed / 50)
    found = truth.links(rows().entries)
    assert {(link.cells, link.configurations) for link in found} == {(15, 5)}
    said = " ".join(truth.sentences(found))
    assert "15 compressed cells (5 configurations) are too few" in said
    assert "worse" not in said
    write_cell("wanda", "80%", quality=0.3)
    said = " ".join(truth.sentences(truth.links(rows().entries)))
    assert "ranks 16 compressed cells (6 configurations) most like em does" in said


def test_what_is_the_same_in_all_cells_ranks_nothing(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for i in range(6):
        write_cell("wanda", f"{10 * (i + 1)}%", quality=0.5)
    assert any("same in all cells" in line for line in truth.sentences(truth.links(rows().entries)))


def test_a_calibration_effect_is_taken_within_method_sparsity_and_seed(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for method in ("wanda", "sparsegpt"):
        for seed in (0, 1):
            write_cell(method, calib="c4", seed=seed, quality=0.5 + seed / 10)
            write_cell(method, calib="alpaca", seed=seed, quality=0.8 + seed / 10)
    write_cell("magnitude", "50%", None)
    found = effect.effects(rows(), Paired())
    em = [one for one in found if one.metric == "em"]
    assert {(one.method, one.one, one.other, len(one.by_seed)) for one in em} == {
        ("sparsegpt", "alpaca", "c4", 2),
        ("wanda", "alpaca", "c4", 2),
    }
    for one in em:
        assert one.low is not None
        assert one.high is not None
        assert 0 < one.low < one.difference < one.high


def test_sizes_of_a_calibration_set_are_a_curve_and_no_effects_of_each_pair(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for n_samples in (1, 4, 16):
        for calib in ("c4", "alpaca"):
            write_cell(calib=calib, n_samples=n_samples, quality=0.5 + n_samples / 50)
    found = [one for one in effect.effects(rows(), Paired()) if one.metric == "em"]
    assert [(one.one, one.other) for one in found] == [
        (f"alpaca n_samples={n}", f"c4 n_samples={n}") for n in (1, 4, 16)
    ]


def test_an_effect_of_calibration_sets_has_one_reason(
    write_cell: Write, tmp_path: Path, rows: Callable[[], table.Rows]
) -> None:
    for calib in ("c4", "alpaca"):
        for n_samples in (16, 128):  # two sizes are no curve
            for packing in ("concat", "pad"):
                path = write_cell(calib=calib, n_samples=n_samples, also=packing)
                file = path / "cell.yaml"  # `also` only gave it another id
                setting = f"    n_samples: {n_samples}\n"
                text = file.read_text().replace(f"    also: {packing}\n", "    also: x\n")
                file.write_text(text.replace(setting, f"{setting}    packing: {packing}\n"))
    found = [one for one in effect.effects(rows(), Paired()) if one.metric == "em"]
    assert len(found) == 4 + 2 * 4  # each set's namesake; of one name, one setting at a time
    for one in found:
        words = zip(one.one.split(), one.other.split(), strict=True)
        assert sum(a != b for a, b in words) == 1, one.name


def test_a_set_without_the_setting_is_compared_with_every_value_of_it(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell(calib="alpaca")
    for n_samples in (1, 4, 16):
        write_cell(calib="c4", n_samples=n_samples)
    found = [one for one in effect.effects(rows(), Paired()) if one.metric == "em"]
    assert {(one.one, one.other) for one in found} == {
        ("alpaca", f"c4 n_samples={n}") for n in (1, 4, 16)
    }


def test_effects_are_drawn_in_the_order_of_the_table_with_a_minus(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for label, quality in (("40%", 0.9), ("50%", 0.5), ("60%", 0.8)):
        write_cell(sparsity=label, calib="alpaca", quality=quality)
        write_cell(sparsity=label, calib="c4", quality=0.95)
    found = rows()
    effects = effect.effects(found, Paired())
    figure = drawn.saved(*figures.forest(found, effects))
    said = next(part for part in figure.alternative.split(". ") if part.startswith("em:"))
    assert re.findall(r"wanda (\d+%)", said) == ["40%", "50%", "60%"]
    signs = [number[0] for number in re.findall(r"[-−+][\d.]+", said)]
    assert signs == ["−"] * 3
    svg = figure.svg.decode()
    assert svg.index("wanda 60%") < svg.index("wanda 50%") < svg.index("wanda 40%")  # from below


def test_layers_are_named_by_depth_and_kind(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell(layers=3)
    found = list(layers.layers(rows().entries))
    assert len(found) == 6
    assert (found[-1]["depth"], found[-1]["kind"]) == (2, "mlp.up_proj")
    assert layers._place("transformer.h.11.attn.c_proj") == (11, "attn.c_proj")
    assert layers._place("lm_head") == (0, "lm_head")


def _cells(*kinds: tuple[str, str, str], copies: int = 1) -> list[layer_maps.Candidate]:
    ratios = {"2:4": 0.5}
    return [
        layer_maps.Candidate(
            f"{method}-{calib}-{place}-{copy}",
            (method, calib),
            place,
            ratios.get(place) or float(place[:2]) / 100,
        )
        for method, calib, place in kinds
        for copy in range(copies)
    ]


def test_of_many_cells_each_method_and_calibration_set_is_drawn_at_the_same_sparsities() -> None:
    places = [*(f"{10 * i}%" for i in range(1, 9)), "2:4"]
    four = [(m, c) for m in ("wanda", "sparsegpt") for c in ("c4", "alpaca")]
    cells = _cells(*[(*pair, place) for pair in four for place in places])
    chosen = layer_maps.choice(cells)
    assert [one.place for one in chosen] == ["10%"] * 4 + ["50%"] * 4 + ["80%"] * 4
    assert [one.variant for one in chosen] == four * 3
    assert layer_maps.told(chosen, cells) == (
        "; 12 of 36 cells: wanda c4, wanda alpaca, sparsegpt c4, sparsegpt alpaca at 10%, 50%, 80%;"
        " the other 24 are in layers.csv"
    )


def test_a_sparsity_that_only_one_method_has_comes_after_those_that_all_have() -> None:
    common = [(m, "c4", place) for m in ("wanda", "sparsegpt") for place in ("50%", "60%")]
    alone = [("wanda", "c4", f"{i}%") for i in range(10, 40)]
    chosen = layer_maps.choice(_cells(*alone, *common))
    assert {(one.variant[0], one.place) for one in chosen} >= {(m, p) for m, _, p in common}
    assert len(chosen) == layer_maps.MAPS


def test_a_calibration_set_whose_settings_no_other_has_is_drawn_too_at_the_same_sparsity() -> None:
    """As mixtures with their weights."""
    plain = [
        (m, c, p) for m in ("wanda", "sparsegpt") for c in ("c4", "self") for p in ("50%", "60%")
    ]
    mixed = [
        (m, "mix", f"{p} weight={w}")
        for m in ("wanda", "sparsegpt")
        for p in ("50%", "60%")
        for w in (1, 3)
    ]
    cells = _cells(*plain, *mixed)
    chosen = layer_maps.choice(cells)
    assert {one.variant for one in chosen} == {one.variant for one in cells}
    assert {one.place for one in chosen if one.variant[1] == "mix"} == {
        "50% weight=1",
        "60% weight=1",
    }
    assert len([one for one in chosen if one.variant[1] != "mix"]) == 8


def test_of_more_methods_than_there_is_room_for_each_comes_before_a_second_calibration_set() -> (
    None
):
    kinds = [(f"m{i}", calib, "50%") for i in range(10) for calib in ("c4", "alpaca")]
    cells = _cells(*kinds, copies=2)
    chosen = layer_maps.choice(cells)
    assert {one.variant[0] for one in chosen} == {f"m{i}" for i in range(10)}
    assert [one.variant for one in chosen if one.variant[1] == "alpaca"] == [
        ("m0", "alpaca"),
        ("m1", "alpaca"),
    ]
    assert ", one seed of each; the other 28 are" in layer_maps.told(chosen, cells)


def test_few_cells_are_all_drawn_and_nothing_is_said_of_others() -> None:
    cells = _cells(("wanda", "c4", "50%"), copies=3)
    assert layer_maps.choice(cells) == cells
    assert layer_maps.told(cells, cells) == ""


def test_settings_are_places_and_said(write_cell: Write, rows: Callable[[], table.Rows]) -> None:
    for method in ("wanda", "sparsegpt"):
        for n_samples in (1, 2, 4, 8, 16, 32, 64):
            write_cell(method, n_samples=n_samples)
    found = rows()
    (sketch,) = layer_maps.maps(found, list(layers.layers(found.entries)))
    assert "12 of 14 cells: sparsegpt c4, wanda c4 at 50% n_samples=1, 50% n_sam" in sketch.title
    titles = [axes.get_title() for axes in sketch.figure.axes if axes.get_title()]
    assert len(titles) == len(set(titles)) == layer_maps.MAPS
    assert titles[0].startswith("sparsegpt c4 50% n_samples=1\ntiny-")
    assert all(f"{title.splitlines()[0]} (tiny-" in sketch.alternative for title in titles)


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


def test_kendall_stands_beside_spearman_in_the_figure_and_in_the_sentences(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for i, quality in enumerate((0.9, 0.8, 0.85, 0.6, 0.5, 0.3, 0.35)):
        write_cell(sparsity=f"{10 * (i + 1)}%", quality=quality)
    links = truth.links(rows().entries)
    link = next(link for link in links if (link.metric, link.task) == ("perplexity", "em"))
    assert link.spearman is not None
    assert link.kendall is not None
    (sketch,) = figures.truth(links)
    texts = [text.get_text() for text in sketch.figure.axes[0].texts]
    (first, *_) = texts
    rho, tau = (f"{one.value:.2f}" for one in (link.spearman, link.kendall))
    assert first.replace("−", "-").startswith(f"ρ {rho}")
    assert f"τ {tau}" in first.replace("−", "-")
    assert "Spearman" in sketch.title
    assert "Kendall" in sketch.title
    assert re.search(rf"perplexity with em ρ {rho}, τ {tau}\b", sketch.alternative)
    said = next(one for one in truth.sentences(links) if "like em does" in one)
    assert re.search(rf"\(Spearman {rho} .*?, Kendall {tau} ", said)


def test_answers_that_disagree_most_come_first_and_flips_are_named(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell(quality=0.5, answers=["answer 0 True", *HOSTILE])
    shown, total, flips = generations.exchanges(rows().entries, 10)
    assert total == 30
    assert flips > 10
    assert 10 <= len(shown) <= 20
    assert sum(one.flip == "right to wrong" for one in shown) >= 10  # a flip is what one looks for
    assert [one.disagreement for one in shown] == sorted(
        (o.disagreement for o in shown), reverse=True
    )
    assert shown[0].disagreement == 1
    assert {one.flip for one in shown} <= {"", "right to wrong"}
    assert any(one.flip for one in shown)


def test_a_grade_stands_beside_the_answer_that_was_graded_and_no_other(
    write_cell: Write, tmp_path: Path
) -> None:
    folder = Folder.at(write_cell(quality=0.5))
    said, tasks = folder.cell(), folder.metric("tasks", "t")
    assert said is not None
    assert tasks is not None
    names = ("prompt", "gold", "dense_answer", "answer")
    first, second = (
        {name: row[name] for name in names} for row in folder.examples("tasks", "t")["alpaca"][:2]
    )
    longer = {**second, "dense_answer": f"{second['dense_answer']} and more"}
    graded = [{**first, "judge": 8.0}, {**longer, "judge": 3.0}]
    judge = {**tasks, "settings_id": "j", "values": {}, "columns": []}
    folder.write_metric("judge", judge, {"alpaca": graded})
    asked = {**said["metrics"], "judge": "j"}
    folder.write_cell(said["id"], said["identity"], asked, said["config"], said["about"])
    shown, total, _ = generations.exchanges(entries.below(tmp_path / "outputs"), 40)
    assert len(shown) == total == 31  # the second question was answered in two ways
    found = {(one.prompt, one.dense): {*one.scores} for one in shown}
    assert found[first["prompt"], first["dense_answer"]] == {"em", "f1", "judge"}
    assert found[second["prompt"], second["dense_answer"]] == {"em", "f1"}
    assert found[second["prompt"], longer["dense_answer"]] == {"judge"}


def test_of_answers_that_disagree_alike_flips_come_first(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell(quality=0.7, answers=["x"])
    entries = rows().entries
    shown, total, flips = generations.exchanges(entries, 100)
    assert {one.disagreement for one in shown} == {1}
    assert 4 < flips < total == len(shown)
    assert [bool(one.flip) for one in shown] == [True] * flips + [False] * (total - flips)
    few, *_ = generations.exchanges(entries, 4)
    assert [bool(one.flip) for one in few] == [True] * 4  # and no four others before them


def test_a_long_answer_is_cut_and_says_how_long_it_was() -> None:
    said = generations._cut("a" * 5000)
    assert said.endswith("… (5000 letters)")
    assert len(said) < 1600


def test_words_in_common_are_counted_with_their_number() -> None:
    assert generations._apart("a a b", "a b b") == pytest.approx(1 / 3)
    assert generations._apart("", "") == 0
    assert generations._apart("", "a") == 1


def test_what_was_measured_in_another_way_has_another_name_and_is_not_compared(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell("dense", quality=1.0)
    write_cell("wanda", quality=0.8)
    path = write_cell("sparsegpt", quality=0.8)
    for file in (path / "cell.yaml", path / "metrics" / "tasks.json"):  # with other settings
        text = file.read_text().replace("tasks: t", "tasks: u")
        file.write_text(text.replace('"settings_id": "t"', '"settings_id": "u"'))
    found = rows()
    assert {"em@t", "em@u", "perplexity"} <= set(found.metrics)
    sparsegpt = next(row for row in found.rows if row["method"] == "sparsegpt")
    assert "em@u" in sparsegpt
    assert "em@u_vs_dense" not in sparsegpt
    assert "perplexity_vs_dense" in sparsegpt
    assert {link.task for link in truth.links(found.entries)} <= {"em@t", "f1@t", "em@u", "f1@u"}


def asked_since(path: Path, settings_id: str, **columns: float) -> None:
    """A cell's tasks are measured once more, with other settings, as another sweep asks."""
    folder = Folder.at(path)
    said, first = folder.cell(), folder.metric("tasks", "t")
    assert said is not None
    assert first is not None
    changed = {name: {**first["values"][name], "value": value} for name, value in columns.items()}
    record = {**first, "settings_id": settings_id, "values": {**first["values"], **changed}}
    folder.write_metric("tasks", record, folder.examples("tasks", "t"))
    asked = {**said["metrics"], "tasks": settings_id}
    folder.write_cell(said["id"], said["identity"], asked, said["config"], said["about"])


def test_what_another_sweep_has_asked_since_of_the_dense_model_hides_no_difference_to_it(
    write_cell: Write, tmp_path: Path
) -> None:
    asked_since(write_cell("dense", quality=0.9), "u", em=0.5)
    write_cell("wanda", quality=0.5)
    asked_since(write_cell("magnitude", calib=None, quality=0.7), "u")
    outputs = tmp_path / "outputs"
    found = table.rows(entries.below(outputs), paired=Paired())
    dense, magnitude, wanda = found.rows
    assert (dense["em@u"], dense["em@t"]) == (0.5, 0.9)
    assert wanda["em@t_vs_dense"] == pytest.approx(wanda["em@t"] - dense["em@t"])
    assert wanda["em@t_vs_dense_low"] < wanda["em@t_vs_dense"] < wanda["em@t_vs_dense_high"]
    assert "em@u" not in wanda
    assert "em@t" in magnitude  # it has both, too
    assert magnitude["em@u_vs_dense"] == pytest.approx(magnitude["em@u"] - 0.5)
    assert "no dense" not in str(frontier.tolerances(found, Paired()))
    assert main([str(outputs), "--html"]) == 0
    page = outputs / "reports/all/report.html"
    links = [unquote(link) for link in Page(page).attributes("a", "href")]
    for file in ("metrics/tasks.json", "metrics/tasks@t.json"):
        assert any(link.endswith(f"{magnitude['cell']}/{file}") for link in links), file
    assert all((page.parent / link).exists() for link in links if link.startswith("../"))


def test_settings_that_differ_are_shown_and_only_equal_ones_are_compared(
    write_cell: Write, tmp_path: Path, rows: Callable[[], table.Rows]
) -> None:
    write_cell("wanda", scope="all", quality=0.9)
    write_cell("sparsegpt", scope="all", quality=0.8)
    write_cell("sparsegpt", scope="mlp", quality=0.7)
    found = table.rows(entries.below(tmp_path / "outputs"), baseline="wanda")
    assert found.settings == ["method.scope"]
    compared = {row["method.scope"] for row in found.rows if "em_vs_wanda" in row}
    assert compared == {"all"}
    names = {line.name for line in frontier.lines(found, "em", Paired())}
    assert names == {"wanda c4 scope=all", "sparsegpt c4 scope=all", "sparsegpt c4 scope=mlp"}


def test_models_of_one_name_are_told_apart(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for outputs_of in ("one", "other"):
        for i in range(6):
            write_cell("wanda", f"{10 * (i + 1)}%", quality=1 - i / 9, weights=outputs_of)
        write_cell("sparsegpt", "10%", quality=0.5, weights=outputs_of)
    found = rows()
    assert len({link.model for link in truth.links(found.entries)}) == 2
    assert sum(found.best(row, "em") for row in found.rows) == 2


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


def test_a_metric_that_a_line_lacks_is_empty_in_its_own_column(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell("dense", quality=1.0, examples=200)
    (write_cell("wanda", quality=1.0, examples=200) / "metrics" / "perplexity.json").unlink()
    write_cell("sparsegpt", quality=1.0, examples=200)
    found = {row["method"]: row for row in frontier.tolerances(rows(), Paired())}
    assert list(found["wanda"]) == list(found["sparsegpt"])
    assert (found["wanda"]["perplexity"], found["wanda"]["em"]) == ("", "50%")


def test_metrics_that_no_cells_have_in_common_are_each_taken_over_their_own(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for i in range(6):
        write_cell("wanda", f"{10 * (i + 1)}%", quality=1 - i / 9)
        path = write_cell("sparsegpt", f"{10 * (i + 1)}%", quality=1 - i / 9)
        file = path / "metrics" / "perplexity.json"
        file.write_text(file.read_text().replace('"perplexity"', '"kl"'))
    found = {link.metric: link for link in truth.links(rows().entries) if link.task == "em"}
    assert {name: link.cells for name, link in found.items()} == {"perplexity": 6, "kl": 6}
    assert not set(found["kl"].over) & set(found["perplexity"].over)


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


def test_no_metric_is_said_to_rank_cells_that_it_does_not(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for i, quality in enumerate((0.5, 0.9, 0.3, 0.8, 0.4, 0.7)):
        path = write_cell("wanda", f"{10 * (i + 1)}%", quality=quality)
        file = path / "metrics" / "perplexity.json"
        value = f'"value": {(3, 1, 2, 6, 5, 4)[i]}.0, "low"'
        text = re.sub(r'"value": [\d.]+,\s+"low"', value, file.read_text(), count=1)
        file.write_text(text)
    said = truth.sentences(truth.links(rows().entries))
    assert any(
        "no metric can be said to rank 6 compressed cells as em does" in line for line in said
    )
