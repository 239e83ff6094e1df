"""Rank correlations against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweep.numerics.bootstrap import draws
from sweep.numerics.ranks import correlation, kendall, spearman

FIGURES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=12)


@pytest.mark.filterwarnings("ignore:An input array is constant")
@given(FIGURES)
def test_both_are_scipys_with_and_without_ties(pairs: list[tuple[int, int]]) -> None:
    x, y = (np.array(figure, dtype=float) for figure in zip(*pairs, strict=True))
    for own, theirs in ((spearman, stats.spearmanr), (kendall, stats.kendalltau)):
        found, expected = correlation(x, y, own), float(theirs(x, y).statistic)
        if np.isnan(expected):
            assert found is None
        else:
            assert found is not None
            assert found.value == pytest.approx(expected, abs=1e-12)


def test_every_draw_is_scipys_on_the_cells_drawn() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, 15).astype(float), rng.normal(size=15)
    for own, theirs in ((spearman, stats.spearmanr), (kendall, stats.kendalltau)):
        found = correlation(x, y, own)
        assert found is not None
        for times, value in list(zip(draws(15), found.draws, strict=True))[:40]:
            drawn = np.repeat(np.arange(15), times)
            assert value == pytest.approx(float(theirs(x[drawn], y[drawn]).statistic), abs=1e-12)
        ends = np.percentile(found.draws, [2.5, 97.5])
        assert (found.low, found.high) == pytest.approx(tuple(ends))


def test_the_interval_is_close_to_scipys_bootstrap() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=60)
    y = x + rng.normal(size=60)
    found = correlation(x, y, spearman)
    theirs = stats.bootstrap(
        (x, y), lambda a, b: stats.spearmanr(a, b).statistic, paired=True, vectorized=False,
        method="percentile", n_resamples=1000, rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    assert found is not None
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.05)


def test_what_does_not_vary_has_no_correlation() -> None:
    assert correlation(np.ones(5), np.arange(5.0), spearman) is None
    assert correlation(np.arange(5.0), np.ones(5), kendall) is None
