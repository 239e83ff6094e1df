"""Differences between two cells on the same examples, with their 95 % intervals.

Two cells that are measured on the same examples err on the same ones: the interval of a difference
is much narrower than the two cells' own. So the examples are resampled (percentile bootstrap, see
sweep/numerics/bootstrap.py), each draw for both cells at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from sweep.numerics.bootstrap import resampled, tails
from sweep.report.entries import Entry

Draws = Float[ndarray, " resample"]


class Paired:
    """Remembers the resampled values of every cell: of five hundred cells the rows are gigabytes,
    and these are megabytes."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], dict[str, Draws]] = {}
        self._ends: dict[tuple[Any, ...], tuple[float, float] | None] = {}

    def difference(self, one: Entry, other: Entry, name: str) -> tuple[float, float] | None:
        """The 95 % interval of `one`'s value less `other`'s.

        None where the two were not measured on the same examples, or the value is no mean of them.
        """
        return self.mean_difference([(one, other)], name)

    def mean_difference(
        self, pairs: Sequence[tuple[Entry, Entry]], name: str
    ) -> tuple[float, float] | None:
        """The same of the mean over pairs, each draw of the examples for all of them.

        None too where so few examples have a value that a draw may hold none.
        """
        key = (*((one.id, other.id) for one, other in pairs), name)
        if key not in self._ends:
            self._ends[key] = self._interval([self.draws(*pair, name) for pair in pairs])
        return self._ends[key]

    @staticmethod
    def _interval(found: Sequence[Draws | None]) -> tuple[float, float] | None:
        draws = [one for one in found if one is not None]
        if not draws or len(draws) < len(found) or not np.isfinite(draws).all():
            return None
        return tails(np.stack(draws).mean(0))

    def draws(self, one: Entry, other: Entry, name: str) -> Draws | None:
        """The difference in each resample of the examples."""
        values = [entry.values.get(name, {}) for entry in (one, other)]
        metrics = [value.get("metric") for value in values]
        if None in metrics or _data(one, str(metrics[0])) != _data(other, str(metrics[1])):
            return None
        both = [
            self._of(entry, str(m)).get(values[0]["name"])
            for entry, m in zip((one, other), metrics, strict=True)
        ]
        if both[0] is None or both[1] is None or both[0].shape != both[1].shape:
            return None
        return np.asarray(both[0] - both[1])

    def _of(self, entry: Entry, metric: str) -> dict[str, Draws]:
        """Every value of a metric that is a mean, in each resample."""
        key = (entry.id, metric)
        if key not in self._known:
            rows = entry.rows(metric)
            self._known[key] = {
                name: _resampled(value["mean"], rows)
                for name, value in entry.results[metric]["values"].items()
                if value.get("mean") is not None and rows.get(value["mean"]["corpus"])
            }
        return self._known[key]


def _resampled(mean: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Draws:
    own = rows[mean["corpus"]]
    weight, field = mean["weight"], mean["field"]
    # a row without a value (a reply of a judge that cannot be read) counts nothing
    counts = [row[field] is not None for row in own]
    weights = np.array([float(row[weight]) if weight else 1.0 for row in own]) * counts
    values = np.array([0.0 if row[field] is None else float(row[field]) for row in own])
    draws = resampled(weights * values, weights)
    return np.exp(draws) if mean["exp"] else draws


def _data(entry: Entry, metric: str) -> list[tuple[Any, Any]]:
    """Which examples a metric was measured on."""
    return [(data["corpus"], data.get("sha256")) for data in entry.results[metric]["data"]]
