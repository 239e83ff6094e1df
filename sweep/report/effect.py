"""What the calibration set does: the same method, sparsity and seed with one set or another.

The interval is over examples, each draw for both cells and all seeds (see sweep/report/paired.py).
What another calibration sample would change is not in it: a bootstrap over three seeds would claim
95 % and cover three quarters. That is what the single seeds' differences show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

from sweep.report.entries import Entry, model_names
from sweep.report.frontier import numbers
from sweep.report.paired import Paired
from sweep.report.table import Rows, named


@dataclass(frozen=True)
class Effect:
    """A metric with calibration set `one` less the same with `other`.

    Attributes:
        model, method, sparsity: of the cells.
        one, other: the calibration sets, with the settings that tell rows apart.
        metric: the value's name.
        better: which way the metric is better.
        difference: mean over seeds.
        low, high: 95 % interval over examples; None where these are not the same.
        by_seed: the difference of each seed.
        cells: names of the cells.
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
    by_seed: tuple[float, ...]
    cells: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For a row of a figure."""
        return f"{self.method} {self.sparsity}: {self.one} less {self.other}"


def effects(table: Rows, paired: Paired) -> list[Effect]:
    """Every pair of calibration sets, metric by metric.

    What a setting does that has three numbers or more, its curve shows (`frontier.numbers`): sets
    that both have it are compared where it is the same.
    """
    along = numbers(table)
    groups: dict[tuple[Any, ...], dict[str, dict[Any, Entry]]] = {}
    settings: dict[str, tuple[Any, ...]] = {}
    models = model_names(table.entries)
    for row, entry in zip(table.rows, table.entries, strict=True):
        if not entry.about["calib"]:
            continue
        others = [name for name in table.settings if not name.startswith("calib.")]
        own = [name for name in table.settings if name.startswith("calib.")]
        weights = entry.about["weights"]
        method = " ".join([str(row["method"]), *named(row, others)])
        key = (weights, models[weights], method, row["sparsity"])
        calib = " ".join([str(row["calib"]), *named(row, own)])
        groups.setdefault(key, {}).setdefault(calib, {})[entry.about["seed"]] = entry
        settings[calib] = tuple(row[name] for name in along)
    found: list[Effect] = []
    for key, sets in groups.items():
        for one, other in combinations(sets, 2):
            both = zip(settings[one], settings[other], strict=True)
            if any(a != b for a, b in both if "" not in (a, b)):
                continue
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
                    cells = tuple(entry.name for pair in pairs for entry in pair)
                    about = (model, method, sparsity, one, other, metric, better)
                    found.append(Effect(*about, *figures, cells))
    return found


def _figures(
    metric: str, pairs: Sequence[tuple[Entry, Entry]], paired: Paired
) -> tuple[float, float | None, float | None, tuple[float, ...]]:
    """Mean difference, its interval, the difference of each pair."""
    by_seed = tuple(a.values[metric]["value"] - b.values[metric]["value"] for a, b in pairs)
    return fmean(by_seed), *(paired.mean_difference(pairs, metric) or (None, None)), by_seed
