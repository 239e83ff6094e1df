"""Rank correlations against scipy."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweep.numerics.bootstrap import draws
from sweep.numerics.ranks import Correlation, apart, correlation, kendall, spearman

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


def test_cells_of_one_group_are_drawn_together() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 24))
    groups = np.repeat(np.arange(8), 3)
    found = correlation(x, y, spearman, groups)
    assert found is not None
    for times, value in list(zip(draws(8), found.draws, strict=True))[:40]:
        drawn = np.repeat(np.arange(24), times[groups])
        assert value == pytest.approx(float(stats.spearmanr(x[drawn], y[drawn]).statistic))
    thrice = correlation(np.repeat(x[:8], 3), np.repeat(y[:8], 3), spearman, groups)
    once = correlation(x[:8], y[:8], spearman)
    assert thrice is not None
    assert once is not None  # the same witnesses heard three times know no more
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))


def _called(
    noises: tuple[float, ...], configurations: int, seeds: int, times: int
) -> list[set[tuple[int, int]]]:
    """The pairs of metrics that are called different, in each of so many made-up sweeps."""
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(configurations), seeds)
    pairs = list(combinations(range(len(noises)), 2))
    called: list[set[tuple[int, int]]] = []
    for _ in range(times):
        task = rng.uniform(size=configurations)[groups]
        # the error of a metric is the configuration's: another seed is no other witness
        metrics = [task + noise * rng.normal(size=configurations)[groups] for noise in noises]
        found = [correlation(one, task, spearman, groups) for one in metrics]
        p = apart([(found[i], found[j]) for i, j in pairs if found[i]])
        called.append({pair for pair, chance in zip(pairs, p, strict=True) if chance < 0.05})
    return called


@pytest.mark.parametrize(("configurations", "seeds"), [(6, 1), (10, 3), (30, 1)])
@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_equal_metrics_are_seldom_called_different(
    noise: float, configurations: int, seeds: int
) -> None:
    called = _called((noise,) * 5, configurations, seeds, 40)
    assert sum(map(bool, called)) <= 4  # of 40; of pairs looked at one by one it would be half


def test_a_metric_that_is_worse_is_called_so_and_the_others_are_not() -> None:
    called = _called((0.05, 0.05, 0.05, 0.05, 0.3), 30, 1, 40)
    assert sum(4 in pair for one in called for pair in one) > 0.75 * 4 * 40
    assert sum(any(4 not in pair for pair in one) for one in called) <= 3


def test_what_has_no_correlation_in_most_draws_is_not_called_different() -> None:
    drawn = np.where(np.arange(1000) < 400, np.linspace(0.7, 0.9, 1000), np.nan)
    one, other = Correlation(0.8, 0.7, 0.9, drawn), Correlation(0.1, 0.0, 0.2, np.full(1000, 0.1))
    assert apart([(one, other)]) == [1.0]


def test_what_does_not_differ_in_any_draw_is_not_called_different() -> None:
    x = np.arange(12.0)
    one, same = correlation(x, x, spearman), correlation(x, 2 * x, spearman)
    assert one is not None
    assert same is not None
    assert apart([(one, same), (one, None)]) == [1.0, 0.0]
    assert apart([]) == []


@pytest.mark.parametrize("noise", [0.3, 0.35, 0.4, 0.5, 0.6])
def test_two_are_told_apart_as_by_scipys_permutations(noise: float) -> None:
    """From hardly different (p = 0.6) to clearly (p = 0.004), each p within a factor of two."""
    task = np.random.default_rng(5).normal(size=40)
    rng = np.random.default_rng(7)
    good, other = task + 0.3 * rng.normal(size=40), task + noise * rng.normal(size=40)
    found = [correlation(x, task, spearman) for x in (good, other)]
    assert found[0] is not None
    (own,) = apart([(found[0], found[1])])
    ranks = [stats.rankdata(x) for x in (good, other)]
    of_task = stats.zscore(stats.rankdata(task))

    def difference(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        one, two = (stats.zscore(stats.rankdata(x, axis=axis), axis) for x in (a, b))
        return np.asarray((one - two) @ of_task)

    theirs = stats.permutation_test(
        ranks, difference, vectorized=True, permutation_type="samples", n_resamples=2000,
        rng=np.random.default_rng(6),
    ).pvalue  # fmt: skip
    assert theirs / 2 < own < theirs * 2
    assert 0.001 < theirs < 0.7
