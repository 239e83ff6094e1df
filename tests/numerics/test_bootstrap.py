from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweep.numerics import bootstrap
from sweep.numerics.bootstrap import RESAMPLES, interval, resampled

RNG = np.random.default_rng(7)
LENGTHS = RNG.integers(1, 40, 80).astype(float)
SUMS = RNG.gamma(2.0, 0.5, 80) * LENGTHS


def ratio(sums: np.ndarray, counts: np.ndarray, axis: int = -1) -> np.ndarray:
    return sums.sum(axis) / counts.sum(axis)


@pytest.mark.parametrize("counts", [np.ones(80), LENGTHS], ids=["mean", "ratio of sums"])
def test_intervals_are_those_of_scipys_percentile_bootstrap(counts: np.ndarray) -> None:
    expected = stats.bootstrap(
        (SUMS, counts),
        ratio,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    )
    low, high = interval(SUMS, counts)
    # a 2.5 % quantile of 1,000 draws is known to about 0.08 standard errors
    tolerance = 0.3 * expected.standard_error
    assert low == pytest.approx(expected.confidence_interval.low, abs=tolerance)
    assert high == pytest.approx(expected.confidence_interval.high, abs=tolerance)


def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    samples = rng.exponential(1.0, (300, 60))
    bounds = [interval(sample, np.ones(60)) for sample in samples]
    covered = np.mean([low <= 1.0 <= high for low, high in bounds])
    assert 0.89 <= covered <= 0.98  # the percentile bootstrap of skewed data falls a little short


def test_sequences_are_resampled_and_not_their_tokens() -> None:
    # every sequence is constant in itself: tokens would seem 30 times as many as there are units
    values = np.random.default_rng(0).normal(size=50)
    low, high = interval(values * 30, np.full(50, 30.0))
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(50), rel=0.1)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 50)), min_size=1, max_size=40))
def test_no_resample_lies_outside_the_units_own_means(units: list[tuple[float, int]]) -> None:
    means, counts = (np.array(column, dtype=float) for column in zip(*units, strict=True))
    low, high = interval(means * counts, counts)
    if low is None or high is None:  # they are all alike, or there is one
        assert np.ptp(resampled(means * counts, counts)) < 1e-9
        return
    assert low <= high
    assert min(means) - 1e-9 <= low
    assert high <= max(means) + 1e-9


def test_the_interval_contains_the_estimate() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        counts = rng.integers(1, 30, 40).astype(float)
        sums = rng.normal(size=40) * counts
        low, high = interval(sums, counts)
        assert low < sums.sum() / counts.sum() < high


def test_a_draw_of_units_that_count_nothing_has_no_ratio() -> None:
    found = resampled(np.array([0.0, 0.0, 3.0]), np.array([0.0, 0.0, 1.0]))
    assert set(found[np.isfinite(found)]) == {3.0}
    assert 0.2 < np.isnan(found).mean() < 0.4  # (2/3)^3 of the draws


def test_figures_over_the_same_units_are_drawn_alike() -> None:
    one, other = resampled(SUMS, LENGTHS), resampled(3 * SUMS + 2 * LENGTHS, LENGTHS)
    np.testing.assert_allclose(other, 3 * one + 2)
    assert len(one) == RESAMPLES


def test_another_process_would_draw_the_same() -> None:
    before = interval(SUMS, LENGTHS)
    bootstrap.draws.cache_clear()
    assert interval(SUMS, LENGTHS) == before


@pytest.mark.parametrize("means", [[1.5], [1.5, 1.5, 1.5]], ids=["one", "alike"])
def test_of_units_that_show_no_difference_there_is_no_interval(means: list[float]) -> None:
    counts = np.full(len(means), 4.0)
    assert interval(np.array(means) * counts, counts) == (None, None)


SHARES = [
    (n, k) for n in (1, 4, 20, 71, 72, 200) for k in sorted({0, 1, 2, 3, n // 2, n}) if k <= n
]


@pytest.mark.parametrize(("units", "right"), SHARES)
def test_the_interval_of_a_share_is_clopper_and_pearsons(units: int, right: int) -> None:
    scores = np.r_[np.ones(right), np.zeros(units - right)]
    low, high = interval(scores, np.ones(units), (0.0, 1.0))
    theirs = stats.binomtest(right, units).proportion_ci(0.95, "exact")
    # as above; where all are alike there is nothing to draw
    error = 0.2 * np.sqrt(right * (units - right) / units**3)
    assert low == pytest.approx(theirs.low, abs=error, rel=1e-9)
    assert high == pytest.approx(theirs.high, abs=error, rel=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 1), st.data())
def test_a_score_that_falls_raises_no_end(scores: list[float], lower: float, data: Any) -> None:
    at = data.draw(st.integers(0, len(scores) - 1))
    fallen = [min(one, lower) if i == at else one for i, one in enumerate(scores)]
    ends, after = (
        interval(np.array(own), np.ones(len(own)), (0.0, 1.0)) for own in (scores, fallen)
    )
    assert all(now <= then + 1e-12 for now, then in zip(after, ends, strict=True))


@pytest.mark.parametrize("units", [20, 64])
@pytest.mark.parametrize(("worse", "better"), [(0.02, 0.0), (0.03, 0.01), (0.4, 0.0)])
def test_the_interval_covers_a_difference_however_few_examples_show_it(
    units: int, worse: float, better: float
) -> None:
    """The percentile bootstrap covers a third of the first, and three quarters of the second."""
    chance = np.random.default_rng(5).uniform(size=(200, units))
    changes = np.where(chance < worse, -1.0, np.where(chance > 1 - better, 1.0, 0.0))
    found = [interval(one, np.ones(units), (-1.0, 1.0)) for one in changes]
    assert np.mean([low <= better - worse <= high for low, high in found]) >= 0.95


def test_of_many_scores_that_vary_the_scale_adds_little() -> None:
    scores = np.random.default_rng(6).beta(4, 4, 2000)
    ends, plain = (interval(scores, np.ones(2000), scale) for scale in ((0.0, 1.0), None))
    assert ends == pytest.approx(plain, abs=0.002)
