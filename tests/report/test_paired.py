"""Differences between cells on the same examples."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sweep.report import entries, frontier, table, typeset
from sweep.report.paired import Paired

Write = Callable[..., Path]


def bound(differences: np.ndarray) -> tuple[float, float]:
    """Gaffke's, of differences between scores of 0 to 1, by hand."""
    weights = np.random.default_rng(0).dirichlet(np.ones(len(differences) + 1), 20_000)
    low, high = (weights @ np.append(differences, end) for end in (-1.0, 1.0))
    return float(np.quantile(low, 0.025)), float(np.quantile(high, 0.975))


def of(name: str, outputs: Path) -> list[tuple[float, float]]:
    """The intervals of the compressed cells' differences to dense."""
    dense, *others = entries.below(outputs)
    assert not dense.about["compresses"]
    found = [Paired().difference(one, dense, name) for one in others]
    assert None not in found
    return [ends for ends in found if ends is not None]


def wrong(count: int, examples: int) -> float:
    """The quality of which so many answers are wrong."""
    hard = np.sort(np.random.default_rng(7).uniform(size=examples))
    return float(np.append(hard, 1.0)[examples - count])


def test_the_interval_of_a_difference_is_that_of_the_pairs(
    write_cell: Write, tmp_path: Path
) -> None:
    write_cell(quality=0.9, examples=200)
    write_cell(quality=0.6, calib="alpaca", examples=200)
    one, other = entries.below(tmp_path / "outputs")
    ends = Paired().difference(one, other, "em")
    em = [[row["em"] for row in e.rows("tasks")["alpaca"]] for e in (one, other)]
    assert ends == pytest.approx(bound(np.subtract(*em)), abs=0.006)
    own = [(e.values["em"]["low"], e.values["em"]["high"]) for e in (one, other)]
    unpaired = (own[0][0] - own[1][1], own[0][1] - own[1][0])
    assert ends is not None
    assert ends[1] - ends[0] < unpaired[1] - unpaired[0]


def test_the_same_answers_differ_by_nothing_and_perplexity_is_compared_as_such(
    write_cell: Write, tmp_path: Path
) -> None:
    write_cell(quality=0.7)
    write_cell(quality=0.7, calib="alpaca")
    write_cell("sparsegpt", quality=0.5)
    same, equal, worse = sorted(
        entries.below(tmp_path / "outputs"), key=lambda e: (e.about["method"] != "wanda", e.name)
    )
    assert Paired().difference(same, same, "perplexity") == (0.0, 0.0)
    assert Paired().difference(same, equal, "perplexity") is None  # what 30 texts cannot show
    assert Paired().difference(same, equal, "em") == pytest.approx((-0.1157, 0.1157), abs=1e-4)
    ends = Paired().difference(worse, same, "perplexity")
    difference = worse.values["perplexity"]["value"] - same.values["perplexity"]["value"]
    assert ends is not None
    assert 0 < ends[0] < difference < ends[1]


def test_what_changes_all_examples_alike_may_not_change_those_that_were_not_asked(
    write_cell: Write, tmp_path: Path
) -> None:
    write_cell("dense", quality=1.0, examples=4)
    write_cell("wanda", quality=0.0, examples=4)
    dense, wanda = entries.below(tmp_path / "outputs")
    may = stats.binomtest(0, 4).proportion_ci(0.95, "exact").high
    ends = Paired().difference(wanda, dense, "em")
    assert ends == pytest.approx((-1.0, -1.0 + 2 * may))


@pytest.mark.parametrize("examples", [64, 70])
def test_one_wrong_answer_is_no_more_certain_than_none(
    examples: int, write_cell: Write, tmp_path: Path
) -> None:
    write_cell("dense", quality=1.0, examples=examples)
    for count in range(5):
        write_cell(sparsity=f"{10 + count}%", quality=wrong(count, examples), examples=examples)
    found = of("em", tmp_path / "outputs")
    exact = [stats.binomtest(k, examples).proportion_ci(0.95, "exact").high for k in range(5)]
    assert [-low for low, _ in found] == pytest.approx(exact, rel=0.04)
    assert all(after < before for one, other in pairwise(found)
               for before, after in zip(one, other, strict=True))  # fmt: skip
    row = table.rows(entries.below(tmp_path / "outputs"))
    (said,) = frontier.tolerances(row, Paired())
    assert said["em"] == "13% (not certain: none to 14%)"


def test_what_gets_better_does_not_make_up_for_what_gets_worse(
    write_cell: Write, tmp_path: Path
) -> None:
    """As many to either side: a difference of 0, and less certain than that of no change."""
    write_cell("dense", quality=wrong(2, 64), examples=64)
    write_cell("wanda", quality=wrong(2, 64), examples=64)
    path = write_cell("sparsegpt", quality=wrong(2, 64), examples=64)
    file = path / "generations" / "tasks-alpaca.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in [row for row in rows if row["em"] == 0] + rows[:2]:
        row["em"] = 1 - row["em"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    both, none = of("em", tmp_path / "outputs")
    assert both == pytest.approx(bound(np.r_[-1.0, -1.0, 1.0, 1.0, np.zeros(60)]), abs=0.01)
    assert both[0] < none[0] < none[1] < both[1]


def test_an_interval_is_not_cut_off_at_a_value_that_is_of_a_sample_too(
    write_cell: Write, tmp_path: Path
) -> None:
    """Dense may be better than on these 20; what nothing is left of has then lost more."""
    write_cell("dense", quality=wrong(13, 20), examples=20)
    write_cell("wanda", quality=0.0, examples=20)
    ((low, _),) = of("em", tmp_path / "outputs")
    exact = stats.binomtest(7, 20).proportion_ci(0.95, "exact").high
    assert -low == pytest.approx(exact, rel=0.05)
    assert -low > 0.5 > 7 / 20


def test_a_value_of_some_rows_is_compared_on_these_rows(write_cell: Write, tmp_path: Path) -> None:
    write_cell("dense", quality=0.9, examples=90)
    write_cell("wanda", quality=0.5, examples=90)
    dense, wanda = entries.below(tmp_path / "outputs")
    em = [
        [row["em"] for row in one.rows("tasks")["alpaca"] if row["kind"] == "recall"]
        for one in (wanda, dense)
    ]
    assert len(em[0]) == 30
    found = of("em_recall", tmp_path / "outputs")
    assert found == [pytest.approx(bound(np.subtract(*em)), abs=0.02)]


def test_the_interval_of_a_mean_over_seeds_is_that_of_the_examples_means(
    write_cell: Write, tmp_path: Path
) -> None:
    """By hand: of each example the mean over seeds of its difference."""
    for seed, quality in ((0, 0.55), (1, 0.7), (2, 0.9)):
        write_cell(seed=seed, quality=quality, examples=200)
        write_cell(seed=seed, calib="alpaca", quality=quality - 0.2, examples=200)
    found = entries.below(tmp_path / "outputs")
    pairs = [
        (one, other)
        for one in found
        for other in found
        if one.about["seed"] == other.about["seed"]
        and (one.about["calib"], other.about["calib"]) == ("c4", "alpaca")
    ]
    assert len(pairs) == 3
    em = np.array(
        [[[r["em"] for r in entry.rows("tasks")["alpaca"]] for entry in pair] for pair in pairs]
    )
    each = (em[:, 0] - em[:, 1]).mean(0)
    theirs = bound(each)
    ends = Paired().mean_difference(pairs, "em")
    assert ends == pytest.approx(theirs, abs=0.006)
    one = Paired().difference(*pairs[0], "em")
    assert one is not None
    assert abs(one[1] - one[0] - (theirs[1] - theirs[0])) > 0.012  # and not that of one seed


def test_the_interval_of_a_mean_of_perplexities_is_that_of_their_ratios_by_hand(
    write_cell: Write, tmp_path: Path
) -> None:
    """Not of a mean of losses: exp of tokens' mean loss, drawn anew for every seed alike."""
    for seed, quality in ((0, 0.3), (1, 0.6)):
        write_cell(seed=seed, quality=quality, examples=60)
    write_cell("dense", quality=1.0, examples=60)
    dense, *seeds = entries.below(tmp_path / "outputs")
    assert not dense.about["compresses"]

    def read(entry: entries.Entry, field: str) -> np.ndarray:
        return np.array([float(row[field]) for row in entry.rows("perplexity")["c4"]])

    tokens, losses = read(dense, "tokens"), [read(entry, "loss") for entry in (dense, *seeds)]
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 60, size=(20_000, 60))
    weight = tokens[drawn]
    of_dense, *others = (np.exp((weight * loss[drawn]).sum(1) / weight.sum(1)) for loss in losses)
    theirs = np.quantile(np.mean(others, axis=0) - of_dense, [0.025, 0.975])
    ends = Paired().mean_difference([(entry, dense) for entry in seeds], "perplexity")
    assert ends is not None
    assert ends == pytest.approx(tuple(theirs), abs=0.06 * (theirs[1] - theirs[0]))


def test_other_examples_are_not_compared(write_cell: Write, tmp_path: Path) -> None:
    write_cell(examples=30)
    write_cell(calib="alpaca", examples=31)
    one, other = entries.below(tmp_path / "outputs")
    assert Paired().difference(one, other, "em") is None
    assert Paired().difference(one, other, "nothing") is None


def test_the_table_has_the_interval_of_every_difference(write_cell: Write, tmp_path: Path) -> None:
    write_cell("dense", quality=1.0)
    write_cell(quality=0.6)
    found = table.rows(entries.below(tmp_path / "outputs"), paired=Paired())
    row = found.rows[1]
    assert row["em_vs_dense_low"] < row["em_vs_dense"] < row["em_vs_dense_high"] < 0
    assert "em_vs_dense_low,em_vs_dense_high" in typeset.csv(found).splitlines()[0]
