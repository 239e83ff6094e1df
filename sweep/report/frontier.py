"""How a metric goes with sparsity, or with a setting; how far one can prune within a tolerance.

*Largest sparsity within tolerance* (Jaiswal et al., ICLR 2024, arXiv 2310.01382): the largest at
which a metric is no more than 5 % worse than the dense model's, as at every smaller one that was
tried. Of a metric that is 0 for the dense model (JSD, KL) there is no 5 %, and none is given.

Whether a value is within tolerance is certain only if the whole 95 % interval of its difference to
the dense one, over the same examples, is on one side; so the answer has two ends too: the largest
sparsity that is certainly within, and the largest that may be. Few examples are certain of little
(sweep/numerics/bootstrap.py): of an exact match of 1 no change is certain from 72 questions on, one
for the worse from about 110 on; of 0.5, whose 5 % are half as many, from 146 and about 221 on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import fmean, stdev
from typing import Any

from sweep.report.entries import Entry, model_names
from sweep.report.paired import Paired
from sweep.report.table import Rows, named

TOLERANCE = 0.05
SPARSITY = "sparsity"
UNSTRUCTURED = "unstructured"


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
        worse: 95 % interval, over the same examples, of how much worse than the dense model it is;
            None if that is not known.
    """

    label: str
    place: float
    value: float
    low: float
    high: float
    seeds: int
    cells: tuple[str, ...] = ()
    worse: tuple[float, float] | None = None


@dataclass(frozen=True)
class Line:
    """Points that differ in nothing but the seed and sparsity, or one setting.

    Attributes:
        model, method, calib: of the cells; no calibration set is ''.
        others: the settings that tell rows apart, `n_samples=16`; the sparsity, along a setting.
        pattern: `unstructured`, or the n:m pattern, which is a line of one point.
        points: by their place.
        dense: the dense model's value, if it is there.
        better: which way the metric is better; None if neither.
        along: the setting in which the points differ.
    """

    model: str
    method: str
    calib: str
    others: tuple[str, ...]
    pattern: str
    points: Sequence[Point]
    dense: float | None
    better: str | None = None
    along: str = SPARSITY

    @property
    def name(self) -> str:
        """For a legend; without the pattern, which has a sign of its own."""
        return " ".join(said for said in (self.method, self.calib, *self.others) if said)

    @property
    def room(self) -> float | None:
        """How much worse than the dense model's a value within tolerance may be; None where there
        is no such thing."""
        if not self.dense or self.better is None:
            return None
        return abs(self.dense) * TOLERANCE

    def within(self, point: Point) -> bool:
        """Whether a point's value is within tolerance; there must be one."""
        assert self.room is not None
        assert self.dense is not None
        worse = point.value - self.dense
        return (worse if self.better == "lower" else -worse) <= self.room

    def certain(self, point: Point) -> bool:
        """Whether it is on the same side of the tolerance with its whole interval."""
        if self.room is None or point.worse is None:
            return False
        low, high = point.worse
        return high <= self.room if self.within(point) else low > self.room


def pattern_of(label: str) -> str:
    """Of a sparsity's label: n:m are patterns, shares of zeros are all unstructured."""
    return label if ":" in label else UNSTRUCTURED


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


def lines(table: Rows, metric: str, paired: Paired, along: str = SPARSITY) -> list[Line]:
    """Every line that a metric has, in the order of the table.

    Args:
        table: a row per cell.
        metric: a column of it.
        paired: gives the differences to the dense model their intervals.
        along: sparsity, or a setting whose values are numbers; rows without it are left out.
    """
    groups: dict[tuple[Any, ...], dict[tuple[str, float], list[Entry]]] = {}
    models = model_names(table.entries)
    for row, entry in zip(table.rows, table.entries, strict=True):
        if metric not in row or not entry.about["compresses"] or row[along] == "":
            continue
        label = str(row["sparsity"])
        pattern = pattern_of(label)
        others = named(row, [name for name in table.settings if name != along])
        place = (label, entry.about["ratio"])
        if along != SPARSITY:
            pattern, others = UNSTRUCTURED, (label, *others)
            place = (str(row[along]), float(row[along]))
        weights = entry.about["weights"]
        key = (weights, models[weights], row["method"], row["calib"], others, pattern)
        points = groups.setdefault(key, {})
        points.setdefault(place, []).append(entry)
    dense = {
        entry.about["weights"]: entry
        for entry in table.entries
        if not entry.about["compresses"] and metric in entry.values
    }
    better = table.better.get(metric)
    return [
        Line(
            model=model,
            method=method,
            calib=calib,
            others=others,
            pattern=pattern,
            points=[
                _point(*place, metric, entries, dense.get(weights), better, paired)
                for place, entries in sorted(points.items(), key=lambda item: item[0][1])
            ],
            dense=None if weights not in dense else dense[weights].values[metric]["value"],
            better=better,
            along=along,
        )
        for (weights, model, method, calib, others, pattern), points in groups.items()
    ]


def largest(line: Line) -> tuple[str, str, str] | None:
    """The label of the largest sparsity within tolerance; of the largest that certainly is; of the
    largest that may be. '' if none that was tried is.

    None where the dense model's value is 0 or not there.
    """
    if line.room is None:
        return None
    inside = [(line.within(point), line.certain(point)) for point in line.points]
    ends = (
        [within for within, _ in inside],
        [within and certain for within, certain in inside],
        [within or not certain for within, certain in inside],
    )
    counts = [len([*takewhile(bool, kept)]) for kept in ends]
    labels = ["", *(point.label for point in line.points)]
    return labels[counts[0]], labels[counts[1]], labels[counts[2]]


def tolerances(table: Rows, paired: Paired) -> list[dict[str, Any]]:
    """A row per line and set of sparsities that were tried: the largest within tolerance.

    That is its label; `none` if none is; `–` where the dense model's value is 0, `no dense` where
    it is not there; empty where the line was not measured with the metric at these sparsities.
    Where intervals cross the tolerance there is what they allow: `50% (not certain: 40% to 60%)`.
    `cells` are the names of those that were tried.
    """
    metrics = [metric for metric in table.metrics if metric in table.better]
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for metric in metrics:
        for line in lines(table, metric, paired):
            tried = ", ".join(point.label for point in line.points)
            key = (line.model, line.method, line.calib, " ".join(line.others), line.pattern, tried)
            names = ("model", "method", "calib", "settings", "pattern", "tried")
            row = found.setdefault(
                key, {**dict(zip(names, key, strict=True)), **dict.fromkeys(metrics, "")}
            )
            row[metric] = _said(line)
            own = [cell for point in line.points for cell in point.cells]
            row["cells"] = list(dict.fromkeys([*row.pop("cells", ()), *own]))
    return list(found.values())


def _said(line: Line) -> str:
    """The largest sparsity within tolerance, in words."""
    ends = largest(line)
    if ends is None:
        return "no dense" if line.dense is None else "–"
    found, certain, possible = (label or "none" for label in ends)
    unsure = "" if certain == possible else f" (not certain: {certain} to {possible})"
    return found + unsure


def _point(
    label: str,
    place: float,
    metric: str,
    entries: Sequence[Entry],
    dense: Entry | None,
    better: str | None,
    paired: Paired,
) -> Point:
    found = [entry.values[metric] for entry in entries]
    cells = tuple(entry.name for entry in entries)
    mean = fmean(value["value"] for value in found)
    change = None
    if dense is not None:
        change = paired.mean_difference([(entry, dense) for entry in entries], metric)
    worse = change if change is None or better == "lower" else (-change[1], -change[0])
    if len(found) > 1:
        spread = stdev(value["value"] for value in found)
        ends = (mean - spread, mean + spread)
    else:
        low, high = found[0]["low"], found[0]["high"]
        ends = (mean if low is None else low, mean if high is None else high)
    return Point(label, place, mean, *ends, len(found), cells, worse)
