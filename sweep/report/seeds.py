"""The table over seeds: cells that differ in nothing but the seed are one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from statistics import fmean, stdev
from typing import Any

from sweep.report.entries import Entry
from sweep.report.paired import Paired
from sweep.report.table import LOOK, Rows


def several_seeds(table: Rows) -> bool:
    """Whether there is anything to take a mean of."""
    return len({row["seed"] for row in table.rows if row["seed"] != ""}) > 1


def over_seeds(table: Rows, paired: Paired | None = None) -> Rows:
    """A row for the cells that differ in nothing but the seed.

    `<metric>` is the mean over the seeds that are finished, `<metric>_sd` the standard deviation
    (of the sample; none of one seed), `seeds` how many there are; `<metric>_vs_<baseline>` the mean
    of the differences, with the 95 % interval over examples, each draw for all seeds: what another
    calibration sample would change is not in that, but in the deviation (see effect.py).

    Args:
        table: a row per cell.
        paired: gives the differences their intervals; None: they have none.
    """
    own = [name for name in LOOK if name != "seed"]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, row in enumerate(table.rows):
        key = tuple(row[name] for name in ("weights", *own, *table.settings))
        groups.setdefault(key, []).append(number)
    means = [_mean(table, numbers, own, paired) for numbers in groups.values()]
    return replace(table, rows=means, settings=[*table.settings, "seeds"], mean=True)


def _mean(
    table: Rows, numbers: Sequence[int], own: Sequence[str], paired: Paired | None
) -> dict[str, Any]:
    rows = [table.rows[number] for number in numbers]
    pairs = [(table.entries[number], table.against[number]) for number in numbers]
    finished = [row for row in rows if any(name in row for name in table.metrics)]
    done = sum(row["status"] == "done" for row in rows)
    achieved = [r["achieved_sparsity"] for r in rows if r["achieved_sparsity"] != ""]
    mean: dict[str, Any] = {
        **{name: rows[0][name] for name in ("weights", *own, *table.settings)},
        "cell": " ".join(row["cell"] for row in rows),
        "seeds": len(finished),
        "achieved_sparsity": fmean(achieved) if achieved else "",
        "status": "done" if done == len(rows) else f"{done} of {len(rows)} done",
        "source": " ".join(sorted({word for row in rows for word in row["source"].split()})),
    }
    for name in table.metrics:
        measured = [name in row for row in rows]
        values = [row[name] for row in compress(rows, measured)]
        if not values:
            continue
        mean[name] = fmean(values)
        if len(values) > 1:
            mean[f"{name}_sd"] = stdev(values)
        mean |= _change(
            table, list(compress(rows, measured)), list(compress(pairs, measured)), name, paired
        )
    return mean


def _change(
    table: Rows,
    rows: Sequence[Mapping[str, Any]],
    pairs: Sequence[tuple[Entry, Entry | None]],
    name: str,
    paired: Paired | None,
) -> dict[str, float]:
    """The mean difference to the baseline, and its interval."""
    change = f"{name}_vs_{table.baseline}"
    if not all(change in row for row in rows):
        return {}
    found = {change: fmean(row[change] for row in rows)}
    both = [(entry, against) for entry, against in pairs if against is not None]
    ends = None if paired is None else paired.mean_difference(both, name)
    if ends is not None:
        found[f"{change}_low"], found[f"{change}_high"] = ends
    return found
