"""What the calibration set does: the same method, sparsity and seed with one set or another.

The interval is over examples, each draw for both cells and all seeds (see sweep/report/paired.py).
What another calibration sample would change is not in it: a bootstrap over three seeds would claim
95 % and cover three quarters. That is what the single seeds' differences show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """Every pair of calibration sets that are alike but for one thing, metric by metric.

    What a setting does that has three numbers or more, its curve shows (`frontier.numbers`).
    """
    along = numbers(table)
    own = [name for name in table.settings if name.startswith("calib.")]
    others = [name for name in table.settings if name not in own]
    groups: dict[tuple[Any, ...], dict[str, dict[Any, Entry]]] = {}
    about: dict[str, Mapping[str, Any]] = {}
    models = model_names(table.entries)
    for row, entry in zip(table.rows, table.entries, strict=True):
        if not entry.about["calib"]:
            continue
        weights = entry.about["weights"]
        method = " ".join([str(row["method"]), *named(row, others)])
        key = (weights, models[weights], method, row["sparsity"])
        calib = " ".join([str(row["calib"]), *named(row, own)])
        groups.setdefault(key, {}).setdefault(calib, {})[entry.about["seed"]] = entry
        about[calib] = {name: row[name] for name in ("calib", *own)}
    found: list[Effect] = []
    for key, sets in groups.items():
        for one, other in combinations(sets, 2):
            rest = [about[third] for third in sets if third not in (one, other)]
            if not _comparable(about[one], about[other], rest, along):
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
                    names = (model, method, sparsity, one, other, metric, better)
                    found.append(Effect(*names, *figures, cells))
    return found


def _comparable(
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    rest: Sequence[Mapping[str, Any]],
    along: Sequence[str],
) -> bool:
    """Whether what two calibration sets do differently has one reason.

    Sets of two names are compared where the settings that both have are the same. Those of one name
    are not where a third is between them, like the one in some settings and like the other in all
    the rest: it tells the settings' effects apart.

    Args:
        one, other: name and settings of each; '' where it has none of that name.
        rest: the same of all others.
        along: settings with a curve of their own.
    """
    differ = {
        name for name in one if one[name] != other[name] and "" not in (one[name], other[name])
    }
    if "calib" in differ:
        return differ == {"calib"}
    between = any(all(third[name] in (one[name], other[name]) for name in one) for third in rest)
    return not differ.intersection(along) and not between


def _figures(
    metric: str, pairs: Sequence[tuple[Entry, Entry]], paired: Paired
) -> tuple[float, float | None, float | None, tuple[float, ...]]:
    """Mean difference, its interval, the difference of each pair."""
    by_seed = tuple(a.values[metric]["value"] - b.values[metric]["value"] for a, b in pairs)
    return fmean(by_seed), *(paired.mean_difference(pairs, metric) or (None, None)), by_seed
