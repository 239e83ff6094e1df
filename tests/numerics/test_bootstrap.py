from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweep.numerics import bootstrap
from sweep.numerics.bootstrap import RESAMPLES, interval, resampled, unseen

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


def test_a_single_unit_has_an_interval_without_width() -> None:
    assert interval(np.array([6.0]), np.array([4.0])) == (1.5, 1.5)


@pytest.mark.parametrize("units", [1, 4, 71, 72, 5000])
def test_what_none_of_some_units_shows_is_clopper_and_pearsons(units: int) -> None:
    expected = stats.binomtest(0, units).proportion_ci(0.95, "exact").high
    assert unseen(units) == pytest.approx(expected, rel=1e-9)
