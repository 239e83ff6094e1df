"""Differences between two cells on the same examples, with their 95 % intervals.

Two cells that are measured on the same examples err on the same ones: the interval of a difference
is much narrower than the two cells' own. So the examples are resampled, each draw for both cells
at once (sweep/numerics/bootstrap.py).

Scores of examples lie on a scale, and differences of theirs on one of twice its length: of these
the interval is no narrower than the exact one for so many changes to the worse and to the better,
and holds where nothing has changed what so few examples cannot show. Losses have no such scale:
where every example differs by the same, there is no interval.

An end is not cut off where the baseline's value is no further from the end of the scale: that value
is of a sample too. Of a model that gets nothing right the difference to dense is all of dense's
value, and as uncertain to both sides as that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from sweep.numerics.bootstrap import Ends, bounded, resampled, spread, weighed
from sweep.report.entries import Entry

Draws = Float[ndarray, " resample"]

SCALES = {"1": (0.0, 1.0), "points": (1.0, 10.0)}
"""Between what the score of an example lies, by its unit."""


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

        None too where no example has a value, or all losses differ by the same.
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
        means = [mean for pair in found for mean in pair]
        reach = means[0].reach
        if reach is None or any(mean.reach is None for mean in means):
            return spread(draws.mean(0))
        return bounded(draws.mean(0), min(mean.examples for mean in means), (-reach, reach))

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
                if value.get("mean") is not None and _counted(value["mean"], rows)
            }
        return self._known[key]


def _resampled(
    value: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping[str, Any]]]
) -> _Resampled:
    mean = value["mean"]
    own = _counted(mean, rows)
    weight, field = mean["weight"], mean["field"]
    # a row without a value (a reply of a judge that cannot be read) counts nothing
    counts = np.array([row[field] is not None for row in own])
    weights = np.array([float(row[weight]) if weight else 1.0 for row in own]) * counts
    values = np.array([0.0 if row[field] is None else float(row[field]) for row in own])
    draws = (resampled if weight or mean["exp"] else weighed)(weights * values, weights)
    return _Resampled(
        draws=np.exp(draws) if mean["exp"] else draws,
        examples=int(counts.sum()),
        reach=_reach(value, values[counts]),
    )


def _counted(
    mean: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Sequence[Mapping[str, Any]]:
    """The rows of which a value is the mean."""
    own, where = rows.get(mean["corpus"], ()), mean.get("where")
    return own if where is None else [row for row in own if row.get(where[0]) == where[1]]


def _reach(value: Mapping[str, Any], scores: Float[ndarray, " example"]) -> float | None:
    """How far apart two scores of an example can be.

    Rows that count once are examples. The mean over a text's tokens lies on a scale too, but
    nothing like at its ends.
    """
    scale = SCALES.get(value.get("unit", ""))
    if scale is None or value["mean"]["weight"] or value["mean"]["exp"] or not len(scores):
        return None
    low, high = scale
    return high - low if (scores >= low).all() and (scores <= high).all() else None


def _data(entry: Entry, metric: str) -> list[tuple[Any, Any]]:
    """Which examples a metric was measured on."""
    return [(data["corpus"], data.get("sha256")) for data in entry.results[metric]["data"]]
