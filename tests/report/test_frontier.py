"""How far one can prune: within a tolerance, with what certainty, over seeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev

import pytest
from scipy import stats

from sweep.report import entries, figures, frontier, seeds, table
from sweep.report.paired import Paired

Write = Callable[..., Path]


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
