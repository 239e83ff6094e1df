"""Differences between two cells on the same examples, with their 95 % intervals.

Two cells that are measured on the same examples err on the same ones: the interval of a difference
is much narrower than the two cells' own. So the examples are resampled (percentile bootstrap, see
sweep/numerics/bootstrap.py), each draw for both cells at once.

Where every example differs by the same, which is mostly by nothing, all draws are alike, and four
questions would be as certain as four thousand. Of those that were not asked, a share may differ all
the same (`sweep.numerics.bootstrap.unseen`), each by as much as its scale allows: that is the
interval then. Losses have no such scale, and so there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from sweep.numerics.bootstrap import resampled, tails, unseen
from sweep.report.entries import Entry

Draws = Float[ndarray, " resample"]
Ends = tuple[float, float]


SCALES = {"1": (0.0, 1.0), "points": (1.0, 10.0)}
"""Between what the score of an example lies, by its unit."""

NOTHING = 1e-12
"""What is narrower than this is a residue of rounding."""


class _Resampled(NamedTuple):
    """A mean over examples.

    Attributes:
        draws: its value in each resample.
        examples: how many have a value.
        reach: how far from each other the scores of an example can be; None: that is not known.
    """

    draws: Draws
    examples: int
    reach: float | None


class Paired:
    """Remembers the resampled values of every cell: of five hundred cells the rows are gigabytes,
    and these are megabytes."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], dict[str, _Resampled]] = {}
        self._ends: dict[tuple[Any, ...], Ends | None] = {}

    def difference(self, one: Entry, other: Entry, name: str) -> Ends | None:
        """The 95 % interval of `one`'s value less `other`'s.

        None where the two were not measured on the same examples, or the value is no mean of them.
        """
        return self.mean_difference([(one, other)], name)

    def mean_difference(self, pairs: Sequence[tuple[Entry, Entry]], name: str) -> Ends | None:
        """The same of the mean over pairs, each draw of the examples for all of them.

        None too where so few examples have a value that a draw may hold none.
        """
        key = (*((one.id, other.id) for one, other in pairs), name)
        if key not in self._ends:
            self._ends[key] = self._interval([self._both(*pair, name) for pair in pairs])
        return self._ends[key]

    @staticmethod
    def _interval(pairs: Sequence[tuple[_Resampled, _Resampled] | None]) -> Ends | None:
        found = [pair for pair in pairs if pair is not None]
        draws = np.array([one.draws - other.draws for one, other in found])
        if not found or len(found) < len(pairs) or not np.isfinite(draws).all():
            return None
        if all(one is other for one, other in found):  # a cell and itself
            return 0.0, 0.0
        low, high = tails(draws.mean(0))
        if high - low > NOTHING * max(1.0, abs(low), abs(high)):
            return low, high
        one = found[0][0]
        if any(mean.reach is None for pair in found for mean in pair) or one.reach is None:
            return None
        share = unseen(one.examples)
        return low - share * (one.reach + low), low + share * (one.reach - low)

    def _both(self, one: Entry, other: Entry, name: str) -> tuple[_Resampled, _Resampled] | None:
        """The value of each, if they were measured on the same examples."""
        values = [entry.values.get(name, {}) for entry in (one, other)]
        metrics = [value.get("metric") for value in values]
        if None in metrics or _data(one, str(metrics[0])) != _data(other, str(metrics[1])):
            return None
        first, second = (
            self._of(entry, str(m)).get(values[0]["name"])
            for entry, m in zip((one, other), metrics, strict=True)
        )
        if first is None or second is None or first.draws.shape != second.draws.shape:
            return None
        return first, second

    def _of(self, entry: Entry, metric: str) -> dict[str, _Resampled]:
        """Every value of a metric that is a mean, in each resample."""
        key = (entry.id, metric)
        if key not in self._known:
            rows = entry.rows(metric)
            self._known[key] = {
                name: _resampled(value, rows)
                for name, value in entry.results[metric]["values"].items()
                if value.get("mean") is not None and rows.get(value["mean"]["corpus"])
            }
        return self._known[key]


def _resampled(
    value: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping[str, Any]]]
) -> _Resampled:
    mean = value["mean"]
    own = rows[mean["corpus"]]
    weight, field = mean["weight"], mean["field"]
    # a row without a value (a reply of a judge that cannot be read) counts nothing
    counts = np.array([row[field] is not None for row in own])
    weights = np.array([float(row[weight]) if weight else 1.0 for row in own]) * counts
    values = np.array([0.0 if row[field] is None else float(row[field]) for row in own])
    draws = resampled(weights * values, weights)
    low, high = SCALES.get("" if mean["exp"] else value.get("unit", ""), (np.inf, np.inf))
    bounded = bool((values[counts] >= low).all() and (values[counts] <= high).all())
    return _Resampled(
        draws=np.exp(draws) if mean["exp"] else draws,
        examples=int(counts.sum()),
        reach=float(high - low) if bounded and counts.any() else None,
    )


def _data(entry: Entry, metric: str) -> list[tuple[Any, Any]]:
    """Which examples a metric was measured on."""
    return [(data["corpus"], data.get("sha256")) for data in entry.results[metric]["data"]]
