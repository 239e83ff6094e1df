"""95 % intervals of means and of ratios of sums, by resampling.

Units are what was sampled independently: sequences of a text, examples of a task; never the tokens
of one sequence, which depend on each other.

Of losses and the like: the percentile bootstrap (Efron 1979). It knows nothing of what no unit has
shown: four answers that are all right would be certain, and five thousand no more so.

Of scores that lie on a scale: the bound of Gaffke (2005), see Learned-Miller and Thomas
(https://arxiv.org/abs/1905.06208). For each end there is one unit more, which is at that end of
the scale, and all are weighed at random, uniformly over all weights (as in the Bayesian bootstrap,
Rubin 1981). Of shares, scores of 0 or 1, that is the exact interval (Clopper and Pearson 1934), but
for having 1,000 draws where they vary; of many that do it is the bootstrap's. No score that falls
raises an end.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0

NOTHING = 1e-12
"""What is narrower than this is a residue of rounding."""

Ends = tuple[float, float]


def resampled(
    sums: Float[ndarray, " unit"], counts: Float[ndarray, " unit"]
) -> Float[ndarray, " resample"]:
    """`sum(sums) / sum(counts)` of `RESAMPLES` samples of the units, drawn with replacement.

    The draws depend on the number of units only, so that figures over the same units are paired.
    Units may count 0; a sample of such alone has no ratio, and is NaN.
    """
    return _ratios(draws(len(sums)), sums, counts)


def weighed(
    sums: Float[ndarray, " unit"], counts: Float[ndarray, " unit"]
) -> Float[ndarray, " resample"]:
    """`sum(sums) / sum(counts)` of `RESAMPLES` weighings of the units, which `bounded` needs.

    Of the same number of units they are the same, as in `resampled`.
    """
    return _ratios(_weights(len(sums)), sums, counts)


def interval(
    sums: Float[ndarray, " unit"], counts: Float[ndarray, " unit"], scale: Ends | None = None
) -> Ends | tuple[None, None]:
    """The 95 % interval of `sum(sums) / sum(counts)`, with the units resampled.

    With `counts` all 1 this is the interval of a mean over units; with tokens per sequence it is
    that of a mean over tokens.

    Args:
        sums: per unit, the sum of what is averaged.
        counts: per unit, over how many it is summed; every one at least 1.
        scale: between what a unit's mean may lie, where it may well lie at either end: a score of
            one answer. Without it there is no interval of one unit, nor of units that are all
            alike: what others may be, they do not show.
    """
    if scale is not None:
        return bounded(weighed(sums, counts), len(sums), scale)
    return spread(resampled(sums, counts)) or (None, None)


def bounded(found: Float[ndarray, " resample"], units: int, scale: Ends) -> Ends:
    """The interval of a mean of scores that lie on a scale (see above).

    Args:
        found: what `weighed` gives.
        units: how many have a score.
        scale: its ends.
    """
    low, high = scale
    return low + _from_end(found - low, units), high - _from_end(high - found, units)


def _from_end(distances: Float[ndarray, " resample"], units: int) -> float:
    """How far the interval stays from an end of the scale, of draws that are so far from it.

    One unit more at that end weighs Beta(1, units), so a draw comes nearer to it than d with chance
    min(1, (d / its distance)^units); all draws together with 2.5 %. That is k, for the k draws that
    are nearer than d, and d^units times a sum over the others: solved for d, with the first k that
    fits.
    """
    with np.errstate(divide="ignore"):
        powers = units * np.sort(np.log(np.maximum(distances, 0.0)))  # of 0: nearer than anything
    nearer = np.arange(np.ceil((1 - LEVEL) / 2 * len(powers)))
    beyond = np.logaddexp.accumulate(-powers[::-1])[::-1][: len(nearer)]
    found = np.log((1 - LEVEL) / 2 * len(powers) - nearer) - beyond
    fits = np.isfinite(beyond) & (found <= powers[: len(nearer)])
    return float(np.exp(found[fits.argmax()] / units)) if fits.any() else 0.0


def spread(found: Float[ndarray, " resample"]) -> Ends | None:
    """`tails`; None where all draws are alike but for rounding."""
    low, high = tails(found)
    return (low, high) if high - low > NOTHING * max(1.0, abs(low), abs(high)) else None


def tails(found: Float[ndarray, " resample"]) -> tuple[float, float]:
    """The two ends between which 95 % of the draws lie."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)


def _ratios(times: Any, sums: Any, counts: Any) -> Float[ndarray, " resample"]:
    with np.errstate(invalid="ignore"):
        ratios: Float[ndarray, " resample"] = (times @ sums) / (times @ counts)
    return ratios


@lru_cache(maxsize=4)  # a metric has twenty intervals over the same units
def draws(units: int) -> Int[ndarray, "resample unit"]:
    """How often each unit is drawn, in each resample."""
    rng = np.random.default_rng(SEED)
    return rng.multinomial(units, [1 / units] * units, size=RESAMPLES).astype(np.int32)


@lru_cache(maxsize=4)
def _weights(units: int) -> Float[ndarray, "resample unit"]:
    """Of each unit, in each resample; they need not add up to 1.

    Exponential: such, divided by their sum, are uniform over all weights. Each unit has the same
    ones in an order of its own (a Latin hypercube), which halves the error of a few units' sums.
    """
    even = (np.arange(RESAMPLES) + 0.5) / RESAMPLES
    same = np.tile(-np.log1p(-even)[:, None], units)
    weights: Float[ndarray, "resample unit"] = np.random.default_rng(SEED).permuted(same, axis=0)
    return weights
