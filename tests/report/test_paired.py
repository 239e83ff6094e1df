"""Differences between cells on the same examples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sweep.report import entries, table, typeset
from sweep.report.paired import Paired

Write = Callable[..., Path]


def test_the_interval_of_a_difference_is_that_of_the_pairs(
    write_cell: Write, tmp_path: Path
) -> None:
    write_cell(quality=0.9, examples=200)
    write_cell(quality=0.6, calib="alpaca", examples=200)
    one, other = entries.below(tmp_path / "outputs")
    ends = Paired().difference(one, other, "em")
    em = [[row["em"] for row in e.rows("tasks")["alpaca"]] for e in (one, other)]
    theirs = stats.bootstrap(
        (np.subtract(*em),), np.mean, method="percentile", n_resamples=2000,
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert ends == pytest.approx((theirs.low, theirs.high), abs=0.02)
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


def test_the_interval_of_a_mean_over_seeds_is_that_of_the_examples_means(
    write_cell: Write, tmp_path: Path
) -> None:
    """By hand: of each example the mean over seeds of its difference, and scipy's bootstrap."""
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
    theirs = stats.bootstrap(
        (each,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(0)
    ).confidence_interval
    ends = Paired().mean_difference(pairs, "em")
    assert ends == pytest.approx((theirs.low, theirs.high), abs=0.006)
    one = Paired().difference(*pairs[0], "em")
    assert one is not None
    assert abs(one[1] - one[0] - (theirs.high - theirs.low)) > 0.012  # and not that of one seed


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
