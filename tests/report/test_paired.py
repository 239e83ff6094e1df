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
    assert Paired().difference(same, equal, "perplexity") == (0.0, 0.0)
    ends = Paired().difference(worse, same, "perplexity")
    difference = worse.values["perplexity"]["value"] - same.values["perplexity"]["value"]
    assert ends is not None
    assert 0 < ends[0] < difference < ends[1]


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
