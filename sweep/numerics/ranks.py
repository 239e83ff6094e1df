"""Rank correlations of two figures over the same cells, and their 95 % bootstrap intervals.

Spearman's rho (Pearson's correlation of midranks) and Kendall's tau-b (Kendall 1945, which allows
for ties). What is resampled are groups of cells that are no independent witnesses (seeds of one
configuration); a draw that holds only one distinct value of a figure has no correlation and is left
out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from sweep.numerics.bootstrap import RESAMPLES, draws, tails

NEARLY = 0.9999
"""Of coefficients, before Fisher's z, which is infinite at 1."""

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


def correlation(
    x: Figures,
    y: Figures,
    coefficient: Coefficient,
    groups: Int[ndarray, " cell"] | None = None,
) -> Correlation | None:
    """A rank correlation with its interval; None where one of the two figures does not vary.

    The draws depend on the groups only, so that correlations over the same cells are paired.

    Args:
        x, y: the figures.
        coefficient: `spearman` or `kendall`.
        groups: number of the group of each cell, from 0 on; a draw has all cells of a group or
            none. None: each cell is one.
    """
    groups = np.arange(len(x)) if groups is None else groups
    times = draws(int(groups.max()) + 1)[:, groups].astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = float(coefficient(x, y, np.ones((1, len(x))))[0])
        resampled = coefficient(x, y, times)
    if not np.isfinite(whole):
        return None
    return Correlation(whole, *tails(resampled[np.isfinite(resampled)]), resampled)


def apart(pairs: Sequence[tuple[Correlation, Correlation | None]]) -> list[float]:
    """For each pair the p-value of "they are the same", corrected for all of the pairs.

    A bootstrap of the largest difference (max-T; Westfall and Young 1993, Romano and Wolf 2005) of
    Fisher's z (atanh), each by its deviation over the draws: how often the largest of all centred
    differences of a draw is at least the one that was found. Of two whose difference is the same in
    every draw nothing can be said, and p is 1; one that is the same in every draw is not 0.

    Args:
        pairs: of correlations over the same cells; None: no correlation at all, 0.
    """
    largest = np.zeros(RESAMPLES)
    found: list[float] = []
    for one, other in pairs:
        difference = _z(one.value) - (0.0 if other is None else _z(other.value))
        drawn = _z(one.draws) - (0.0 if other is None else _z(other.draws))
        known = drawn[np.isfinite(drawn)]
        spread = float(known.std()) if len(known) > RESAMPLES / 2 else 0.0
        if spread < 1e-9:
            found.append(np.inf if other is None and len(known) and difference else 0.0)
            continue
        largest = np.fmax(largest, np.abs(drawn - difference) / spread)
        found.append(abs(float(difference)) / spread)
    return [float((largest >= size).mean()) if size else 1.0 for size in found]


def _z(coefficient: Any) -> Any:
    """Fisher's, finite also where all ranks agree."""
    return np.arctanh(NEARLY * np.asarray(coefficient))


def spearman(x: Figures, y: Figures, times: Times) -> Float[ndarray, " draw"]:
    """Spearman's rho in every draw."""
    n = times.sum(1, keepdims=True)
    middle = (n + 1) / 2
    a, b = _midranks(x, times) - middle, _midranks(y, times) - middle
    weighted = times * a
    products = np.einsum("dc,dc->d", weighted, b)
    spread = np.einsum("dc,dc->d", weighted, a) * np.einsum("dc,dc,dc->d", times, b, b)
    return np.asarray(products / np.sqrt(spread))


def kendall(x: Figures, y: Figures, times: Times) -> Float[ndarray, " draw"]:
    """Kendall's tau-b in every draw."""
    a, b = (np.sign(z[:, None] - z[None, :]) for z in (x, y))

    def pairs(of: Float[ndarray, "cell cell"]) -> Float[ndarray, " draw"]:
        return np.asarray(((times @ of) * times).sum(1))

    return np.asarray(pairs(a * b) / np.sqrt(pairs(a * a) * pairs(b * b)))


def _midranks(x: Figures, times: Times) -> Float[ndarray, "draw cell"]:
    """Rank of each cell in each draw; those that are equal share the mean of theirs."""
    # in the order of x: how many of a draw are lower, and how many have the same value
    order = np.argsort(x, kind="stable")
    first = np.flatnonzero(np.diff(x[order], prepend=np.nan) != 0)
    of = np.repeat(np.arange(len(first)), np.diff(first, append=len(x)))
    equal = np.add.reduceat(times[:, order], first, axis=1)
    ranks = np.cumsum(equal, axis=1) - equal + (equal + 1) / 2
    found = np.empty_like(times)
    found[:, order] = ranks[:, of]
    return found
