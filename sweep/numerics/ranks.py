"""Rank correlations of two figures over the same cells, and their 95 % bootstrap intervals.

Spearman's rho (Pearson's correlation of midranks) and Kendall's tau-b (Kendall 1945, which allows
for ties). The cells are resampled; a draw that holds only one distinct value of a figure has no
correlation and is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from sweep.numerics.bootstrap import draws, tails

Figures = Float[ndarray, " cell"]
Times = Float[ndarray, "draw cell"]
"""How often each cell is in a draw."""


class Correlation(NamedTuple):
    """A coefficient, the ends of its interval, and its value in every draw (NaN: it has none)."""

    value: float
    low: float
    high: float
    draws: Float[ndarray, " draw"]


Coefficient = Callable[[Figures, Figures, Times], Float[ndarray, " draw"]]


def correlation(x: Figures, y: Figures, coefficient: Coefficient) -> Correlation | None:
    """A rank correlation with its interval; None where one of the two figures does not vary.

    The draws depend on the number of cells only, so that correlations over the same cells are
    paired.
    """
    times = draws(len(x)).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = float(coefficient(x, y, np.ones((1, len(x))))[0])
        resampled = coefficient(x, y, times)
    if not np.isfinite(whole):
        return None
    return Correlation(whole, *tails(resampled[np.isfinite(resampled)]), resampled)


def spearman(x: Figures, y: Figures, times: Times) -> Float[ndarray, " draw"]:
    """Spearman's rho in every draw."""
    n = times.sum(1, keepdims=True)
    middle = (n + 1) / 2
    a, b = _midranks(x, times) - middle, _midranks(y, times) - middle
    products = (times * a * b).sum(1)
    spread = (times * a * a).sum(1) * (times * b * b).sum(1)
    return np.asarray(products / np.sqrt(spread))


def kendall(x: Figures, y: Figures, times: Times) -> Float[ndarray, " draw"]:
    """Kendall's tau-b in every draw."""
    a, b = (np.sign(z[:, None] - z[None, :]) for z in (x, y))

    def pairs(of: Float[ndarray, "cell cell"]) -> Float[ndarray, " draw"]:
        return np.asarray(((times @ of) * times).sum(1))

    return np.asarray(pairs(a * b) / np.sqrt(pairs(a * a) * pairs(b * b)))


def _midranks(x: Figures, times: Times) -> Float[ndarray, "draw cell"]:
    """Rank of each cell in each draw; those that are equal share the mean of theirs."""
    lower = (x[None, :] < x[:, None]).astype(float)
    equal = (x[None, :] == x[:, None]).astype(float)
    return np.asarray(times @ lower.T + (times @ equal.T + 1) / 2)
