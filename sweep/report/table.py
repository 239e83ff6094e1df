"""The table of a sweep: a row per cell, every metric against dense.

Read from the result files; printed on the terminal, written as Markdown and as CSV.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sweep.cell import Cell
from sweep.files import Folder, csv_text, write

ABOUT = (
    "cell",
    "model",
    "method",
    "sparsity",
    "achieved_sparsity",
    "calib",
    "seed",
    "status",
    "source",
)
"""Columns of the CSV that say what a row is; then, per metric, value, interval, difference."""


def rows(cells: Sequence[Cell]) -> tuple[list[dict[str, Any]], list[str]]:
    """A row per cell as it stands on disk, and the names of the metrics' columns.

    `<column>` is the value, `<column>_low` and `_high` its 95 % interval, `<column>_vs_dense` the
    difference to the dense cell of the same model.
    """
    found = [_row(cell) for cell in cells]
    columns = list(dict.fromkeys(name for _, values in found for name in values))
    dense = {
        _model(cell): values
        for cell, (_, values) in zip(cells, found, strict=True)
        if not cell.parts.method.compresses
    }
    table: list[dict[str, Any]] = []
    for cell, (about, values) in zip(cells, found, strict=True):
        row = dict(about)
        for name, value in values.items():
            reference = dense.get(_model(cell), {}).get(name)
            row[name] = value["value"]
            row[f"{name}_low"], row[f"{name}_high"] = value["low"], value["high"]
            if reference is not None:
                row[f"{name}_vs_dense"] = value["value"] - reference["value"]
        table.append(row)
    return table, columns


def write_report(outputs: str, name: str, cells: Sequence[Cell]) -> str:
    """Write results.csv and results.md of a sweep; the same table as text for the terminal."""
    folder = Path(outputs) / "reports" / name
    table, columns = rows(cells)
    notes = [*stand_ins(cells), f"cells: {Path(outputs) / 'cells'}"]
    header = [*ABOUT, *(f"{c}{s}" for c in columns for s in ("", "_low", "_high", "_vs_dense"))]
    write(folder / "results.csv", csv_text(header, table))
    markdown = _render(table, columns, markdown=True, width=1000)
    write(folder / "results.md", f"# {name}\n\n{markdown}\n" + "".join(f"- {n}\n" for n in notes))
    shown = _render(table, columns, markdown=False, width=_width())
    notes += [f"table: {folder / 'results.csv'}, {folder / 'results.md'}"]
    return f"\n{shown}\n" + "".join(f"{note}\n" for note in notes)


def stand_ins(cells: Iterable[Cell]) -> list[str]:
    """One line that says which of the sweep's corpora are stand-ins; none if all are real."""
    names: set[str] = set()
    for cell in cells:
        parts = cell.parts
        origins = list(parts.calibration.origins()) if parts.calibration is not None else []
        for metric in parts.metrics.values():
            origins += metric.origins()
        names |= {origin.corpus for origin in origins if origin.source == "embedded"}
    if not names:
        return []
    listed = ", ".join(sorted(names))
    return [
        f"source: embedded ({listed} are stand-ins made by a micro-world, not the real corpora)"
    ]


def _row(cell: Cell) -> tuple[dict[str, Any], Mapping[str, Mapping[str, Any]]]:
    folder = Folder(cell.settings.outputs, cell.name)
    compression = folder.compression()
    options = cell.config["options"]
    results = {name: folder.metric(name) for name in cell.parts.metrics}
    # a result of other settings or data is not a result of this sweep
    results = {
        name: found if found is not None and found["settings_id"] == cell.metric_id(name) else None
        for name, found in results.items()
    }
    values: dict[str, Mapping[str, Any]] = {}
    for result in results.values():
        if result is not None:
            values |= {name: result["values"][name] for name in result["columns"]}
    sources = {data["source"] for r in results.values() if r is not None for data in r["data"]}
    failure = folder.failure()
    missing = [name for name, result in results.items() if result is None]
    compresses, calibration = cell.parts.method.compresses, cell.parts.calibration
    about = {
        "cell": cell.name,
        "model": cell.label.split("-" + options["method"])[0],
        "method": options["method"],
        "sparsity": cell.parts.pattern.label if compresses else "",
        "achieved_sparsity": compression["sparsity"] if compression else "",
        "calib": options["calib"] if calibration is not None else "",
        "seed": cell.settings.seed if calibration is not None else "",
        "status": f"failed: {failure}" if failure else "missing" if missing else "done",
        "source": " ".join(sorted(sources)),
    }
    return about, values


def _render(
    table: Sequence[Mapping[str, Any]], columns: Sequence[str], *, markdown: bool, width: int
) -> str:
    """The table as text; on a narrow terminal, one below the other, each with its row names."""
    text = io.StringIO()
    console = Console(
        file=text,
        width=width,
        force_terminal=not markdown and sys.stdout.isatty(),
        legacy_windows=False,
    )
    unbounded = Console(width=10_000)
    left = list(columns)
    while left:
        count = len(left)
        while count > 1 and unbounded.measure(_grid(table, left[:count], markdown)).maximum > width:
            count -= 1
        console.print(_grid(table, left[:count], markdown))
        left = left[count:]
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


def _grid(table: Sequence[Mapping[str, Any]], columns: Sequence[str], markdown: bool) -> Table:
    """Method, sparsity, calibration, and each value with its difference to dense."""
    about = ("model", "method", "sparsity", "calib", "seed")
    shown = [name for name in about if _varies(table, name)]
    between = " " if markdown else "\n"
    grid = Table(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)
    for name in shown:
        grid.add_column(name, no_wrap=True)
    for name in columns:
        grid.add_column(
            name if markdown else name.replace("_", between), justify="right", no_wrap=True
        )
    for row in table:
        if row["status"] == "done" or any(name in row for name in columns):
            cells = [_against(row, name, between) for name in columns]
        else:
            cells = [row["status"].split(":")[0], *[""] * (len(columns) - 1)]
        grid.add_row(*[str(row[name]) for name in shown], *cells)
    return grid


def _width() -> int:
    """Of the terminal; where there is none, of a wide one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 160


def _varies(table: Sequence[Mapping[str, Any]], name: str) -> bool:
    always = ("method", "sparsity", "calib")
    return name in always or len({row[name] for row in table if row[name] != ""}) > 1


def _against(row: Mapping[str, Any], name: str, between: str) -> str:
    """A value, and in brackets its difference to dense, to the same digit."""
    if name not in row:
        return "missing"
    value, change = row[name], row.get(f"{name}_vs_dense")
    digits = _digits(value)
    shown = format(value, digits)
    if change is None or row["method"] == "dense":
        return shown
    digits = ".3f" if digits == "#.4g" and abs(change) < 1 else digits
    return f"{shown}{between}({change:+{digits}})"


def _digits(value: float) -> str:
    """Four significant digits, but of shares and small divergences no more than mean something."""
    if abs(value) >= 1:
        return "#.4g"
    if value == 0 or abs(value) >= 0.1:
        return ".3f"
    return ".4f" if abs(value) >= 0.001 else ".1e"


def _model(cell: Cell) -> tuple[Any, ...]:
    return cell.identity["model"], cell.identity["dtype"]
