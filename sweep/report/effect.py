"""What the calibration set does: the same method, sparsity and seed with one set or another.

The examples are resampled, each draw for both cells (see sweep/report/paired.py); of several seeds
the seeds are resampled as well, so that the interval holds what either would change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from sweep.numerics.bootstrap import draws, tails
from sweep.report.entries import Entry
from sweep.report.paired import Paired
from sweep.report.table import Rows


@dataclass(frozen=True)
class Effect:
    """A metric with calibration set `one` less the same with `other`.

    Attributes:
        model, method, sparsity: of the cells.
        one, other: the calibration sets, with the settings that tell rows apart.
        metric: the value's name.
        better: which way the metric is better.
        difference: mean over seeds.
        low, high: 95 % interval; None where the examples are not the same.
        seeds: how many pairs.
    """

    model: str
    method: str
    sparsity: str
    one: str
    other: str
    metric: str
    better: str
    difference: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def name(self) -> str:
        """For a row of a figure."""
        return f"{self.method} {self.sparsity}: {self.one} less {self.other}"


def effects(table: Rows, paired: Paired) -> list[Effect]:
    """Every pair of calibration sets, metric by metric."""
    groups: dict[tuple[Any, ...], dict[str, dict[Any, Entry]]] = {}
    for row, entry in zip(table.rows, table.entries, strict=True):
        if not entry.about["calib"]:
            continue
        others = [name for name in table.settings if not name.startswith("calib.")]
        key = (
            *(entry.about["weights"], row["model"], row["method"], row["sparsity"]),
            *(str(row[name]) for name in others),
        )
        own = [str(row[n]) for n in table.settings if n.startswith("calib.") and row[n] != ""]
        calib = " ".join([str(row["calib"]), *own])
        groups.setdefault(key, {}).setdefault(calib, {})[entry.about["seed"]] = entry
    found: list[Effect] = []
    for key, sets in groups.items():
        for one, other in combinations(sets, 2):
            seeds = [seed for seed in sets[one] if seed in sets[other]]
            for metric in table.metrics:
                if metric not in table.better:
                    continue
                pairs = [(sets[one][seed], sets[other][seed]) for seed in seeds]
                pairs = [p for p in pairs if all(metric in entry.values for entry in p)]
                if pairs:
                    better = table.better[metric]
                    figures = _figures(metric, pairs, paired)
                    model, method, sparsity = key[1:4]
                    found.append(
                        Effect(model, method, sparsity, one, other, metric, better, *figures)
                    )
    return found


def _figures(
    metric: str, pairs: Sequence[tuple[Entry, Entry]], paired: Paired
) -> tuple[float, float | None, float | None, int]:
    """Mean difference, its interval, number of pairs."""
    difference = fmean(a.values[metric]["value"] - b.values[metric]["value"] for a, b in pairs)
    resampled = [paired.draws(a, b, metric) for a, b in pairs]
    if any(one is None for one in resampled):
        return difference, None, None, len(pairs)
    by_seed = np.stack([one for one in resampled if one is not None], axis=1)
    times = draws(len(pairs))
    low, high = tails((times * by_seed).sum(1) / len(pairs))
    return difference, low, high, len(pairs)
