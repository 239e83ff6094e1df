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

import logging
import os
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep import garbage
from sweep.disk import replacing, write, writing
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

log = logging.getLogger("sweep")

FORMATS = {
    "html": "report.html",
    "csv": "results.csv",
    "md": "results.md",
    "tex": "results.tex",
}
BEHIND = ("tolerance.csv", "correlations.csv", "calibration.csv", "layers.csv")
"""What comes with the page, beside the figures."""

FORM = 10
"""Raised when a report of the same results looks different, so that none of an older form is left.
"""


@dataclass(frozen=True)
class Written:
    """What is on disk of a report.

    Attributes:
        files: for people, the page first.
        signs: by cell and metric, what a difference is marked with (`Rows.sign`).
        removed: names of the files that showed older results, or were made with other options, and
            were not asked for.
    """

    files: Sequence[Path]
    signs: typeset.Signs
    removed: Sequence[str] = ()

    @property
    def named(self) -> list[str]:
        """A line for the tables, one for the page, one for what is gone."""
        tables = [str(file) for file in self.files if file.suffix != ".html"]
        pages = [file for file in self.files if file.suffix == ".html"]
        lines = [f"table: {', '.join(tables)}"] if tables else []
        lines += [f"report: {file}" for file in pages]
        gone = ", ".join(self.removed)
        return lines + ([f"removed, of older results or other options: {gone}"] if gone else [])


def begin(outputs: str, name: str, cells: Iterable[Cell]) -> None:
    """The beginning of a sweep: the list of its cells. However it is stopped, what it lacks is
    known.

    Args:
        outputs, name, cells: see `conclude`.
    """
    folder = Path(outputs) / "reports" / name
    try:
        with writing(below := Path(outputs) / "cells"):
            below.mkdir(parents=True, exist_ok=True)  # beside it, a list is not taken for a copy
        entries.write_list(folder, entries.of(cells), entries.made(folder))
    except OutOfSpace as full:  # the cells may find room all the same
        log.warning("report: %s", full)


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
    rows = table.rows(found)
    lines = [*notes.notes(found, rows.metrics), f"cells: {Path(outputs) / 'cells'}"]
    formats = ("html", "csv", "md") if page else ("csv", "md")
    signs: typeset.Signs = {}
    try:
        written = write_report(folder, found, formats=formats)
        signs = written.signs
        lines += written.named
    except OutOfSpace as full:
        lines.append(f"report: {full}")
    text = typeset.text(rows, signs=signs)
    return "\n".join(["", text, *typeset.legend(rows, signs), *lines, ""])


def write_report(
    folder: Path,
    found: Sequence[Entry],
    *,
    formats: Collection[str],
    baseline: str = table.DENSE,
    columns: Sequence[str] = (),
    mean: bool = False,
    paired: Paired | None = None,
) -> Written:
    """Write what was asked for; what is there of other formats goes if it is of older results, or
    of another baseline, other columns or means: no two tables of a folder contradict each other.
    A page, which has means too, stays where only they differ.

    Args:
        folder: of the report.
        found: the cells.
        formats: some of `FORMATS`; a page, new or one that stays, comes with the CSV, to which it
            refers.
        baseline, columns: see `sweep.report.table.rows`.
        mean: tables have a row per cell, or over seeds; the page has both.
        paired: knows what has been resampled already.

    Raises:
        OutOfSpace: the disk is full.
        Refusal: see `sweep.report.table.rows`.
    """
    of: dict[str, Any] = {"form": FORM, "results": entries.digest(found)}
    of |= {"columns": list(columns), "baseline": baseline, "mean": mean}
    last = entries.made(folder)
    there = (folder / FORMATS["html"]).is_file()
    stays = there and "html" not in formats and {**last.get("of", {}), "mean": mean} == of
    formats = {*formats, "csv"} if stays or "html" in formats else set(formats)
    files = [folder / FORMATS[kind] for kind in FORMATS if kind in formats]
    same = (last.get("of"), last.get("formats")) == (of, sorted(formats))
    if same and all((folder / name).is_file() for name in last["files"]):
        return Written(files, last["signs"])
    entries.write_list(folder, found, {})
    paired = paired or Paired()
    rows = table.rows(found, baseline=baseline, columns=columns, paired=paired)
    shown = seeds.over_seeds(rows, paired) if mean else rows
    if "csv" in formats:
        write(folder / FORMATS["csv"], typeset.csv(shown))
    if "md" in formats:
        below = [*typeset.legend(shown), *notes.notes(found, rows.metrics)]
        listed = "".join(f"- {typeset.verbatim(note)}\n" for note in below)
        text = f"# {typeset.verbatim(folder.name)}\n\n{typeset.markdown(shown)}\n{listed}"
        write(folder / FORMATS["md"], text)
    if "tex" in formats:
        write(folder / FORMATS["tex"], latex.latex(shown, folder.name))
    behind = _page(folder, rows, paired) if "html" in formats else []
    names = [*(FORMATS[kind] for kind in FORMATS if kind in formats), *behind]
    kept = [*names, FORMATS["html"], *BEHIND] if stays else names
    removed = [] if last.get("of") == of else _remove_others(folder, kept)
    signs = _signs(rows)
    made = {"of": of, "formats": sorted(formats), "files": names, "signs": signs}
    entries.write_list(folder, found, made)
    return Written(files, signs, removed)


def _remove_others(folder: Path, names: Collection[str]) -> list[str]:
    """What an earlier report has left there."""
    left = [name for name in (*FORMATS.values(), *BEHIND) if name not in names]
    left = [name for name in left if (folder / name).is_file()]
    for name in left:
        (folder / name).unlink()
    if FORMATS["html"] not in names:
        shutil.rmtree(folder / "figures", ignore_errors=True)
    return left


def _signs(rows: table.Rows) -> dict[str, dict[str, str]]:
    """By cell and metric, what its difference is marked with where it has no room for more."""
    found = {
        row["cell"]: {name: sign for name in rows.metrics if (sign := rows.sign(row, name))}
        for row in rows.rows
    }
    return {cell: own for cell, own in found.items() if own}


def _page(folder: Path, rows: table.Rows, paired: Paired) -> list[str]:
    """The page, its figures, and what they show as tables; the names of all but the page."""
    # where matplotlib remembers the machine's fonts: all that a run writes goes below outputs
    os.environ.setdefault("MPLCONFIGDIR", str(folder.parent.parent / "cache" / "matplotlib"))
    from sweep.report.figures import draw
    from sweep.report.page import page

    garbage.begin()
    links = truth.links(rows.entries)
    effects = effect.effects(rows, paired)
    linears = list(layers.layers(rows.entries))
    tolerances = frontier.tolerances(rows, paired)
    figures = draw(rows, links, effects, linears, paired)
    shutil.rmtree(folder / "figures", ignore_errors=True)
    drawn: list[str] = []
    for figure in figures:
        for kind, content in (("svg", figure.svg), ("png", figure.png)):
            drawn.append(f"figures/{figure.name}.{kind}")
            _bytes(folder / drawn[-1], content)
    behind: Sequence[Sequence[Mapping[str, Any]]] = (
        tolerances,
        [_link(link) for link in links],
        [_effect(one) for one in effects],
        linears,
    )
    for name, records in zip(BEHIND, behind, strict=True):
        plain = [_plain(record) for record in records]
        write(folder / name, typeset.csv_text(list(plain[0]) if plain else ["empty"], plain))
    html = page(
        folder.name,
        rows,
        means=seeds.over_seeds(rows, paired) if seeds.several_seeds(rows) else None,
        tolerances=tolerances,
        sentences=truth.sentences(links),
        links=[_rounded({**_link(link), "cells": link.over}) for link in links],
        effects=[_rounded(_effect(one)) for one in effects],
        figures=figures,
        files=[FORMATS["csv"], *BEHIND],
        folder=folder,
    )
    write(folder / FORMATS["html"], html)
    return [*BEHIND, *drawn]


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
