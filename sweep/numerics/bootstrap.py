"""95 % bootstrap intervals of means and of ratios of sums.

The percentile bootstrap (Efron 1979) over the units that were sampled independently: sequences of a
text, examples of a task; never over the tokens of one sequence, which depend on each other.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0


def resampled(
    sums: Float[ndarray, " unit"], counts: Float[ndarray, " unit"]
) -> Float[ndarray, " resample"]:
    """`sum(sums) / sum(counts)` of `RESAMPLES` samples of the units, drawn with replacement.

    The draws depend on the number of units only, so that figures over the same units are paired.
    Units may count 0; a sample of such alone has no ratio, and is NaN.
    """
    times = draws(len(sums))
    with np.errstate(invalid="ignore"):
        ratios: Float[ndarray, " resample"] = (times @ sums) / (times @ counts)
    return ratios


def interval(sums: Float[ndarray, " unit"], counts: Float[ndarray, " unit"]) -> tuple[float, float]:
    """The 95 % interval of `sum(sums) / sum(counts)`, with the units resampled.

    With `counts` all 1 this is the interval of a mean over units; with tokens per sequence it is
    that of a mean over tokens.

    Args:
        sums: per unit, the sum of what is averaged.
        counts: per unit, over how many it is summed; every one at least 1.
    """
    return tails(resampled(sums, counts))


def tails(found: Float[ndarray, " resample"]) -> tuple[float, float]:
    """The two ends between which 95 % of the draws lie."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)


def unseen(units: int) -> float:
    """The largest share of the population, with 95 % confidence, that none of the units may show.

    The upper end of Clopper and Pearson's interval (1934) of a share of which none of `units` is;
    a bootstrap of such has no width, however few they are. About 3.7 in `units`.
    """
    return float(1 - ((1 - LEVEL) / 2) ** (1 / units))


@lru_cache(maxsize=4)  # a metric has twenty intervals over the same units
def draws(units: int) -> Int[ndarray, "resample unit"]:
    """How often each unit is drawn, in each resample."""
    rng = np.random.default_rng(SEED)
    return rng.multinomial(units, [1 / units] * units, size=RESAMPLES).astype(np.int32)
