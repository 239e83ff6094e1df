"""The table of a sweep: a row per cell, every metric against a baseline, which is usually dense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sweep.refusal import Refusal, did_you_mean, listed
from sweep.report.entries import Entry
from sweep.report.paired import Paired

DENSE = "dense"
LOOK = ("model", "method", "sparsity", "calib", "seed")
"""What a row is, on the terminal."""
UNCLEAR = "~"
"""Of a difference whose 95 % interval holds 0."""
UNKNOWN = "?"
"""Of a difference that has no interval."""


@dataclass(frozen=True)
class Rows:
    """A row per cell as it stands on disk.

    Attributes:
        rows: by name of the column: `<metric>` is the value, `<metric>_low` and `_high` its 95 %
            interval, `<metric>_vs_dense` the difference to the dense cell of the same model (or
            `_vs_<baseline>`), with `_low` and `_high` where it was asked for.
        entries: the cells, in the same order.
        settings: columns that tell apart rows which are alike in all others.
        metrics: columns of the metrics.
        better: for a metric's column, which way is better.
        against: the cell with which each is compared.
        baseline: method with which the rows are compared.
        mean: whether the rows are means over seeds (`sweep.report.seeds`) and not the cells.
        intervals: whether differences have their intervals, where there are such.
    """

    rows: list[dict[str, Any]]
    entries: Sequence[Entry]
    settings: list[str]
    metrics: list[str]
    better: Mapping[str, str]
    against: Sequence[Entry | None] = ()
    baseline: str = DENSE
    mean: bool = False
    intervals: bool = False

    def best(self, row: Mapping[str, Any], metric: str) -> bool:
        """Whether no compressed cell of the same model and sparsity is better by this metric.

        Over several sparsities it would mark the one that is compressed least.
        """
        if metric not in row or metric not in self.better or row["method"] == DENSE:
            return False
        best, rivals = self._best[row["weights"], row["sparsity"], metric]
        return rivals > 1 and bool(row[metric] == best)

    def ends(self, row: Mapping[str, Any], metric: str) -> tuple[float, float] | None:
        """The interval of a row's difference to the baseline, if it has one."""
        change = f"{metric}_vs_{self.baseline}"
        low, high = row.get(f"{change}_low"), row.get(f"{change}_high")
        return None if low is None or high is None else (low, high)

    def sign(self, row: Mapping[str, Any], metric: str) -> str:
        """What a difference is marked with: `UNCLEAR`, `UNKNOWN`, or nothing."""
        if not self.intervals or row["method"] == self.baseline:
            return ""
        if f"{metric}_vs_{self.baseline}" not in row:
            return ""
        ends = self.ends(row, metric)
        if ends is None:
            return UNKNOWN
        return UNCLEAR if ends[0] <= 0 <= ends[1] else ""

    @cached_property
    def _best(self) -> dict[tuple[str, str, str], tuple[float, int]]:
        """By model, sparsity (or pattern) and metric the best value of the compressed cells, and
        how many have one."""
        found: dict[tuple[str, str, str], list[float]] = {}
        for row in self.rows:
            for metric in self.better:
                if row["method"] != DENSE and metric in row:
                    key = (row["weights"], row["sparsity"], metric)
                    found.setdefault(key, []).append(row[metric])
        return {
            key: ((min if self.better[key[-1]] == "lower" else max)(values), len(values))
            for key, values in found.items()
        }


def rows(
    entries: Sequence[Entry],
    *,
    baseline: str = DENSE,
    columns: Sequence[str] = (),
    paired: Paired | None = None,
) -> Rows:
    """The table of the cells.

    Args:
        entries: the cells.
        baseline: method with which they are compared.
        columns: those of the metrics that are wanted; none: all that the metrics call columns.
        paired: gives the differences their intervals; None: they have none.

    Raises:
        Refusal: no cell has the baseline's method, or no metric the name of a column.
    """
    if entries and baseline not in {entry.about["method"] for entry in entries} | {DENSE}:
        methods = ", ".join(sorted({str(entry.about["method"]) for entry in entries}))
        raise Refusal("baseline", baseline, f"is no method of these cells; they have {methods}")
    known = dict.fromkeys(name for entry in entries for name in entry.values)
    for name in columns:
        if name not in known:
            hint = did_you_mean(name, known)
            reason = f"is no value of these cells; {hint}they have {listed(known, name)}"
            raise Refusal("columns", name, reason)
    settings = telling_apart(entries)
    metrics = list(columns) or list(dict.fromkeys(n for entry in entries for n in entry.columns))
    better: dict[str, str] = {}
    table: list[dict[str, Any]] = []
    references = [_baseline(entry, entries, baseline, settings) for entry in entries]
    for entry, against in zip(entries, references, strict=True):
        row = {**_about(entry), **{name: entry.settings.get(name, "") for name in settings}}
        for name in metrics:
            if (value := entry.values.get(name)) is None:
                continue
            row |= {
                name: value["value"],
                f"{name}_low": value["low"],
                f"{name}_high": value["high"],
            }
            if value.get("better"):
                better[name] = value["better"]
            if against is None or (reference := against.values.get(name)) is None:
                continue
            change = f"{name}_vs_{baseline}"
            row[change] = value["value"] - reference["value"]
            ends = None if paired is None else paired.difference(entry, against, name)
            if ends is not None:
                row[f"{change}_low"], row[f"{change}_high"] = ends
        table.append(row)
    return Rows(
        *(table, entries, settings, metrics, better, references, baseline),
        intervals=paired is not None,
    )


def shown_columns(table: Rows, *, model: bool = False) -> list[str]:
    """The columns that say what a row is: those that differ, and a few always."""
    always = {"method", "sparsity", "calib", *(["model"] if model else [])}
    varies = {n for n in LOOK if len({r[n] for r in table.rows if r.get(n, "") != ""}) > 1}
    return [name for name in LOOK if name in always | varies] + table.settings


def _about(entry: Entry) -> dict[str, Any]:
    said = {name: entry.about[name] for name in LOOK}
    about: dict[str, Any] = {name: "" if value is None else value for name, value in said.items()}
    return {
        "cell": entry.name,
        "weights": entry.about["weights"],
        **about,
        "achieved_sparsity": entry.compression["sparsity"] if entry.compression else "",
        "status": entry.status,
        "source": " ".join(sorted({source for _, source in entry.sources})),
    }


def _baseline(
    entry: Entry, entries: Sequence[Entry], method: str, settings: Sequence[str]
) -> Entry | None:
    """The cell with which another is compared: of the baseline's method, and where that reads a
    sparsity, calibration data, a seed or any setting that tells cells apart, of the same."""
    for other in entries:
        about = other.about
        if (
            about["method"] == method
            and about["weights"] == entry.about["weights"]
            and all(about[n] in (None, entry.about[n]) for n in ("sparsity", "calib", "seed"))
            and all(
                str(other.settings[n]) == str(entry.settings.get(n))
                for n in settings
                if n in other.settings
            )
        ):
            return other
    return None


def named(row: Mapping[str, Any], settings: Sequence[str]) -> tuple[str, ...]:
    """The settings of a row, each with the last part of its name: `n_samples=16`."""
    found = [(name, row[name]) for name in settings if row[name] != ""]
    return tuple(f"{_short(name)}={value}" for name, value in found)


def _short(name: str) -> str:
    """`calib.n_samples` is `n_samples`; of `calib.parts.c4.weight` the part belongs to it."""
    parts = name.split(".")
    return ".".join(parts[-2:]) if len(parts) > 3 else parts[-1]


COMMON = (".scope", ".n_samples", ".seqlen", ".dtype")
"""Ends of the names of settings that mean the same with every option of their group."""


def telling_apart(entries: Sequence[Entry]) -> list[str]:
    """The settings in which cells differ beyond what their model, method and calibration set say.

    A setting differs if one option of its group has it with several values; or, of those that mean
    the same with every option, if any two cells do.
    """
    values: dict[str, dict[str, set[str]]] = {}
    for entry in entries:
        for name, value in entry.settings.items():
            option = str(entry.about[name.partition(".")[0]])
            values.setdefault(name, {}).setdefault(option, set()).add(str(value))
    return [
        name
        for name, found in values.items()
        if any(len(of_one) > 1 for of_one in found.values())
        or (name.endswith(COMMON) and len(set().union(*found.values())) > 1)
    ]
