"""How a metric goes with sparsity, or with a setting; how far one can prune within a tolerance.

*Largest sparsity within tolerance* (Jaiswal et al., ICLR 2024, arXiv 2310.01382): the largest at
which a metric is no more than 5 % worse than the dense model's, as at every smaller one that was
tried. Of a metric that is 0 for the dense model (JSD, KL) there is no 5 %, and none is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from sweep.report.entries import Entry, model_names
from sweep.report.table import Rows, named

TOLERANCE = 0.05
SPARSITY = "sparsity"


@dataclass(frozen=True)
class Point:
    """A metric at one place of a line.

    Attributes:
        label: the pattern's, or the setting's value.
        place: share of zeros asked for, or the setting's value.
        value: of one cell, or the mean over seeds.
        low, high: 95 % interval of one cell; of several seeds, one standard deviation to each side.
        seeds: how many.
        cells: their names.
    """

    label: str
    place: float
    value: float
    low: float
    high: float
    seeds: int
    cells: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """Points that differ in nothing but the seed and sparsity, or one setting.

    Attributes:
        model, method, calib: of the cells; no calibration set is ''.
        others: the settings that tell rows apart, `n_samples=16`; the sparsity, along a setting.
        pattern: `unstructured`, or the n:m pattern, which is a line of one point.
        points: by their place.
        dense: the dense model's value, if it is there.
        along: the setting in which the points differ.
    """

    model: str
    method: str
    calib: str
    others: tuple[str, ...]
    pattern: str
    points: Sequence[Point]
    dense: float | None
    along: str = SPARSITY

    @property
    def name(self) -> str:
        """For a legend."""
        pattern = "" if self.pattern == "unstructured" else self.pattern
        return " ".join(said for said in (self.method, self.calib, *self.others, pattern) if said)


def numbers(table: Rows) -> list[str]:
    """The settings of the calibration that have three values or more, all of them numbers."""
    found = {name: {row[name] for row in table.rows} - {""} for name in table.settings}
    return [
        name
        for name, values in found.items()
        if name.startswith("calib.")
        and len(values) > 2
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    ]


def lines(table: Rows, metric: str, along: str = SPARSITY) -> list[Line]:
    """Every line that a metric has, in the order of the table.

    Args:
        table: a row per cell.
        metric: a column of it.
        along: sparsity, or a setting whose values are numbers; rows without it are left out.
    """
    groups: dict[tuple[Any, ...], dict[tuple[str, float], list[Entry]]] = {}
    models = model_names(table.entries)
    for row, entry in zip(table.rows, table.entries, strict=True):
        if metric not in row or not entry.about["compresses"] or row[along] == "":
            continue
        label = str(row["sparsity"])
        pattern = label if ":" in label else "unstructured"
        others = named(row, [name for name in table.settings if name != along])
        place = (label, entry.about["ratio"])
        if along != SPARSITY:
            pattern, others = "unstructured", (label, *others)
            place = (str(row[along]), float(row[along]))
        weights = entry.about["weights"]
        key = (weights, models[weights], row["method"], row["calib"], others, pattern)
        points = groups.setdefault(key, {})
        points.setdefault(place, []).append(entry)
    dense = {
        entry.about["weights"]: entry.values[metric]["value"]
        for entry in table.entries
        if not entry.about["compresses"] and metric in entry.values
    }
    return [
        Line(
            model=model,
            method=method,
            calib=calib,
            others=others,
            pattern=pattern,
            points=[
                _point(*place, metric, entries)
                for place, entries in sorted(points.items(), key=lambda item: item[0][1])
            ],
            dense=dense.get(weights),
            along=along,
        )
        for (weights, model, method, calib, others, pattern), points in groups.items()
    ]


def bound(dense: float | None, better: str) -> float | None:
    """The worst value within tolerance of the dense one; None where there is no such thing."""
    if not dense:
        return None
    room = abs(dense) * TOLERANCE
    return dense + room if better == "lower" else dense - room


def largest(line: Line, better: str) -> str | None:
    """The label of the largest sparsity within tolerance; '' if none that was tried is.

    None where the dense model's value is 0 or not there.
    """
    worst = bound(line.dense, better)
    if worst is None:
        return None
    found = ""
    for point in line.points:
        if (point.value > worst) if better == "lower" else (point.value < worst):
            break
        found = point.label
    return found


def tolerances(table: Rows) -> list[dict[str, Any]]:
    """A row per line and set of sparsities that were tried: the largest within tolerance.

    That is its label; `none` if none is; `–` where the dense model's value is 0, `no dense` where
    it is not there; empty where the line was not measured with the metric at these sparsities.
    `cells` are the names of those that were tried.
    """
    metrics = [metric for metric in table.metrics if metric in table.better]
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for metric in metrics:
        for line in lines(table, metric):
            tried = ", ".join(point.label for point in line.points)
            key = (line.model, line.method, line.calib, " ".join(line.others), line.pattern, tried)
            names = ("model", "method", "calib", "settings", "pattern", "tried")
            row = found.setdefault(
                key, {**dict(zip(names, key, strict=True)), **dict.fromkeys(metrics, "")}
            )
            label = largest(line, table.better[metric])
            nothing = "no dense" if line.dense is None else "–"
            row[metric] = nothing if label is None else label or "none"
            own = [cell for point in line.points for cell in point.cells]
            row["cells"] = list(dict.fromkeys([*row.pop("cells", ()), *own]))
    return list(found.values())


def _point(label: str, place: float, metric: str, entries: Sequence[Entry]) -> Point:
    found = [entry.values[metric] for entry in entries]
    cells = tuple(entry.name for entry in entries)
    mean = fmean(value["value"] for value in found)
    if len(found) > 1:
        spread = stdev(value["value"] for value in found)
        return Point(label, place, mean, mean - spread, mean + spread, len(found), cells)
    low, high = found[0]["low"], found[0]["high"]
    ends = (mean if low is None else low, mean if high is None else high)
    return Point(label, place, mean, *ends, 1, cells)
