"""Everything that is said of a sweep, in one folder: tables, figures, a page.

outputs/reports/<sweep>/sweep.json          which cells the sweep has
                       /report.html         the page
                       /results.csv .md     the table; .tex if it was asked for
                       /tolerance.csv       how far one can prune
                       /correlations.csv    whether a metric ranks the cells as the tasks do
                       /calibration.csv     the effect of the calibration set
                       /layers.csv          sparsity and output error, layer by layer
                       /figures/*.svg *.png
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.files import csv_text, replacing, write
from sweep.refusal import OutOfSpace
from sweep.report import (
    effect,
    entries,
    frontier,
    latex,
    layers,
    notes,
    seeds,
    table,
    truth,
    typeset,
)
from sweep.report.entries import Entry
from sweep.report.paired import Paired

if TYPE_CHECKING:
    from sweep.cell import Cell

FORMATS = ("html", "csv", "md", "tex")
RESULTS = ("results.csv", "results.md", "results.tex")
FORM = 7
"""Raised when a report of the same results looks different, so that none of an older form is left.
"""


def conclude(outputs: str, name: str, cells: Iterable[Cell], *, page: bool) -> str:
    """The end of a sweep: its table as text, its report on disk.

    What is there is left alone while no result has changed. Where the disk does not take the files,
    there is the text still, and it says so.

    Args:
        outputs: the sweep's folder.
        name: of the sweep.
        cells: of the sweep.
        page: whether the page and its figures are made.
    """
    found = entries.of(cells)
    folder = Path(outputs) / "reports" / name
    lines = [*notes.notes(found), f"cells: {Path(outputs) / 'cells'}"]
    formats = ("html", "csv", "md") if page else ("csv", "md")
    rows = table.rows(found)
    try:
        files = write_report(folder, found, formats=formats)
        lines += named(files)
        if _know_intervals(rows, folder / "results.csv"):
            lines.insert(0, typeset.SMALL)
    except OutOfSpace as full:
        lines.append(f"report: {full}")
    return "\n".join(["", typeset.text(rows, narrow=True), *lines, ""])


def _know_intervals(rows: table.Rows, file: Path) -> bool:
    """Give the differences the intervals that the table on disk has: they are long in the making.

    Returns:
        Whether any of them holds 0.
    """
    with file.open(encoding="utf-8", newline="") as lines:
        written = {row["cell"]: row for row in csv.DictReader(lines)}
    holds = False
    for row in rows.rows:
        for metric in rows.metrics:
            names = [f"{metric}_vs_{rows.baseline}_{end}" for end in ("low", "high")]
            ends = [written.get(row["cell"], {}).get(name) for name in names]
            if ends[0] and ends[1]:
                low, high = row[names[0]], row[names[1]] = float(ends[0]), float(ends[1])
                holds = holds or (low <= 0 <= high and row["method"] != rows.baseline)
    return holds


def named(files: Sequence[Path]) -> list[str]:
    """A line for the page and one for the tables."""
    tables = [str(file) for file in files if file.suffix != ".html"]
    lines = [f"table: {', '.join(tables)}"] if tables else []
    return lines + [f"report: {file}" for file in files if file.suffix == ".html"]


def write_report(
    folder: Path,
    found: Sequence[Entry],
    *,
    formats: Collection[str],
    baseline: str = table.DENSE,
    columns: Sequence[str] = (),
    mean: bool = False,
    paired: Paired | None = None,
) -> list[Path]:
    """Write what was asked for; the files for people, the page first.

    Args:
        folder: of the report.
        found: the cells.
        formats: some of `FORMATS`.
        baseline, columns: see `sweep.report.table.rows`.
        mean: tables have a row per cell, or over seeds; the page has both.
        paired: knows what has been resampled already.

    Raises:
        OutOfSpace: the disk is full.
        Refusal: see `sweep.report.table.rows`.
    """
    files = {kind: folder / f"results.{kind}" for kind in FORMATS if kind in formats}
    if "html" in files:
        files["html"] = folder / "report.html"
    made = {"form": FORM, "of": entries.digest(found), "formats": sorted(formats)}
    made |= {"columns": list(columns), "baseline": baseline, "mean": mean}
    if entries.made(folder) == made and all(file.is_file() for file in files.values()):
        return list(files.values())
    entries.write_list(folder, found, {})
    paired = paired or Paired()
    rows = table.rows(found, baseline=baseline, columns=columns, paired=paired)
    shown = seeds.over_seeds(rows, paired) if mean else rows
    name = folder.name
    if "csv" in files:
        write(files["csv"], typeset.csv(shown))
    if "md" in files:
        listed = "".join(f"- {note}\n" for note in notes.notes(found))
        write(files["md"], f"# {name}\n\n{typeset.markdown(shown)}\n{listed}")
    if "tex" in files:
        write(files["tex"], latex.latex(shown, name))
    if "html" in files:
        _page(folder, rows, paired)
    entries.write_list(folder, found, made)
    return list(files.values())


def _page(folder: Path, rows: table.Rows, paired: Paired) -> None:
    """The page, its figures, and what they show as tables."""
    # where matplotlib remembers the machine's fonts: all that a run writes goes below outputs
    os.environ.setdefault("MPLCONFIGDIR", str(folder.parent.parent / "cache" / "matplotlib"))
    from sweep.report.figures import draw
    from sweep.report.page import page

    links = truth.links(rows.entries)
    effects = effect.effects(rows, paired)
    linears = list(layers.layers(rows.entries))
    tolerances = frontier.tolerances(rows)
    figures = draw(rows, links, effects, linears)
    shutil.rmtree(folder / "figures", ignore_errors=True)
    for figure in figures:
        _bytes(folder / "figures" / f"{figure.name}.svg", figure.svg)
        _bytes(folder / "figures" / f"{figure.name}.png", figure.png)
    tables = {
        "tolerance.csv": tolerances,
        "correlations.csv": [_link(link) for link in links],
        "calibration.csv": [_effect(one) for one in effects],
        "layers.csv": linears,
    }
    for name, records in tables.items():
        plain = [_plain(record) for record in records]
        write(folder / name, csv_text(list(plain[0]) if plain else ["empty"], plain))
    html = page(
        folder.name,
        rows,
        means=seeds.over_seeds(rows, paired) if seeds.several_seeds(rows) else None,
        tolerances=tolerances,
        sentences=truth.sentences(links),
        links=[_rounded({**_link(link), "cells": link.over}) for link in links],
        effects=[_rounded(_effect(one)) for one in effects],
        figures=figures,
        files=[name for name in (*RESULTS, *tables) if (folder / name).is_file()],
        folder=folder,
    )
    write(folder / "report.html", html)


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """For a CSV: names in one field."""
    return {k: v if not isinstance(v, list | tuple) else " ".join(v) for k, v in record.items()}


def _link(link: truth.Link) -> dict[str, Any]:
    row: dict[str, Any] = {"model": link.model, "metric": link.metric, "task": link.task}
    row |= {"cells": link.cells, "configurations": link.configurations}
    for name in ("spearman", "kendall"):
        found = getattr(link, name)
        if link.configurations < truth.FEW or (found is not None and found.high <= found.low):
            found = None  # as in the figure: so few, or so alike, say nothing
        ends = (None, None, None) if found is None else found[:3]
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    return row


def _effect(one: effect.Effect) -> dict[str, Any]:
    each = " ".join(f"{difference:.4g}" for difference in one.by_seed)
    return {**vars(one), "seeds": len(one.by_seed), "by_seed": each}


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """For people."""
    shown = {k: typeset.minus(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}
    return {k: "–" if v is None else v for k, v in shown.items()}


def _bytes(path: Path, content: bytes) -> None:
    with replacing(path) as partial:
        partial.write_bytes(content)
