"""The table of a sweep: a row per cell, every metric against dense.

Read from the result files; printed on the terminal, written as Markdown and as CSV.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sweep.cell import Cell
from sweep.files import Folder, csv_text, write
from sweep.refusal import OutOfSpace

LOOK = ("model", "method", "sparsity", "calib", "seed")
"""What a row is, on the terminal."""

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
"""Columns of the CSV that say what a row is; then the settings by which rows differ that are alike
in these; then, per metric, value, interval, difference."""


@dataclass(frozen=True)
class Rows:
    """A row per cell as it stands on disk.

    Attributes:
        rows: by name of the column: `<metric>` is the value, `<metric>_low` and `_high` its 95 %
            interval, `<metric>_vs_dense` the difference to the dense cell of the same model.
        settings: columns that tell apart rows which are alike in all others.
        metrics: columns of the metrics.
    """

    rows: list[dict[str, Any]]
    settings: list[str]
    metrics: list[str]


def rows(cells: Sequence[Cell]) -> Rows:
    """The table of the cells."""
    found = [_row(cell) for cell in cells]
    settings = _telling_apart(cells, [about for about, _ in found])
    dense = {
        _model(cell): values
        for cell, (_, values) in zip(cells, found, strict=True)
        if not cell.parts.method.compresses
    }
    table: list[dict[str, Any]] = []
    for cell, (about, values) in zip(cells, found, strict=True):
        own = _settings(cell)
        row = {**about, **{name: own.get(name, "") for name in settings}}
        for name, value in values.items():
            reference = dense.get(_model(cell), {}).get(name)
            row[name] = value["value"]
            row[f"{name}_low"], row[f"{name}_high"] = value["low"], value["high"]
            if reference is not None:
                row[f"{name}_vs_dense"] = value["value"] - reference["value"]
        table.append(row)
    metrics = list(dict.fromkeys(name for _, values in found for name in values))
    return Rows(table, settings, metrics)


def write_report(outputs: str, name: str, cells: Sequence[Cell]) -> str:
    """Write results.csv and results.md of a sweep; the same table as text for the terminal.

    Where the disk does not take the files, there is the text still, and it says so.
    """
    folder = Path(outputs) / "reports" / name
    table = rows(cells)
    notes = [*_measured_on(cells), *stand_ins(cells), f"cells: {Path(outputs) / 'cells'}"]
    values = [f"{c}{s}" for c in table.metrics for s in ("", "_low", "_high", "_vs_dense")]
    markdown = _render(table, markdown=True, width=1000)
    try:
        write(folder / "results.csv", csv_text([*ABOUT, *table.settings, *values], table.rows))
        listed = "".join(f"- {note}\n" for note in notes)
        write(folder / "results.md", f"# {name}\n\n{markdown}\n{listed}")
        notes.append(f"table: {folder / 'results.csv'}, {folder / 'results.md'}")
    except OutOfSpace as full:
        notes.append(f"table: {full}")
    shown = _render(table, markdown=False, width=_width())
    return f"\n{shown}\n" + "".join(f"{note}\n" for note in notes)


def _measured_on(cells: Iterable[Cell]) -> list[str]:
    """One line per metric and set of data: of which texts the numbers are."""
    found: dict[str, None] = {}
    for cell in cells:
        folder = Folder(cell.settings.outputs, cell.name)
        for name in cell.parts.metrics:
            result = folder.metric(name, cell.metric_id(name))
            for data in result["data"] if result is not None else ():
                found[f"{name}: {_amount(data)} of {data['corpus']} ({data['source']})"] = None
    return list(found)


def _amount(data: Mapping[str, Any]) -> str:
    if "scored" not in data:
        return f"{data['rows']} questions"
    most = "" if data["scored"] == "windows" else "at most "
    amount = f"{data['sequences']} {data['scored']} of {most}{data['seqlen']} tokens"
    return f"{amount}, {data['scored_tokens']} of them scored,"


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
    are = "is a stand-in" if len(names) == 1 else "are stand-ins"
    return [f"source: embedded ({listed} {are} made by a micro-world, not real corpora)"]


def _row(cell: Cell) -> tuple[dict[str, Any], Mapping[str, Mapping[str, Any]]]:
    folder = Folder(cell.settings.outputs, cell.name)
    compression = folder.compression()
    options = cell.config["options"]
    # a result of other settings or data is not a result of this sweep
    results = [folder.metric(name, cell.metric_id(name)) for name in cell.parts.metrics]
    values: dict[str, Mapping[str, Any]] = {}
    for result in results:
        if result is not None:
            values |= {name: result["values"][name] for name in result["columns"]}
    compresses, calibration = cell.parts.method.compresses, cell.parts.calibration
    sources = {data["source"] for r in results if r is not None for data in r["data"]}
    sources |= set() if calibration is None else {o.source for o in calibration.origins()}
    about = {
        "cell": cell.name,
        "model": cell.model,
        "method": options["method"],
        "sparsity": cell.parts.pattern.label if compresses else "",
        "achieved_sparsity": compression["sparsity"] if compression else "",
        "calib": options["calib"] if calibration is not None else "",
        "seed": cell.settings.seed if calibration is not None and calibration.draws() else "",
        "status": _status(None in results, folder.failure()),
        "source": " ".join(sorted(sources)),
    }
    return about, values


def _status(missing: bool, failure: str | None) -> str:
    """What is there decides; a failure only says why something is not."""
    if not missing:
        return "done"
    return "missing" if failure is None else f"failed: {failure}"


def _settings(cell: Cell) -> dict[str, Any]:
    """The settings that may change the cell's weights, named as on the command line."""
    read = ["model", "method"] if cell.parts.method.compresses else ["model"]
    read += ["calib"] if cell.parts.calibration is not None else []
    found: dict[str, Any] = {}
    for group in read:
        _flatten(cell.config[group], group, found)
    return found


def _flatten(node: Any, name: str, into: dict[str, Any]) -> None:
    if isinstance(node, Mapping):
        for key, inner in node.items():
            # `calib.path` is what the user set; the corpus that it belongs to was filled in
            _flatten(inner, name if key == "source" else f"{name}.{key}", into)
    elif not name.endswith("._target_"):
        into[name] = node


def _telling_apart(cells: Sequence[Cell], about: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings that differ among cells which look the same without them."""
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for cell, row in zip(cells, about, strict=True):
        look = tuple(str(row[name]) for name in LOOK)
        alike.setdefault(look, []).append(_settings(cell))
    differing: dict[str, None] = {}
    for group in alike.values():
        for name in dict.fromkeys(name for settings in group for name in settings):
            if len({str(settings.get(name)) for settings in group}) > 1:
                differing[name] = None
    return list(differing)


def _render(table: Rows, *, markdown: bool, width: int) -> str:
    """The table as text; on a narrow terminal, one below the other, each with its row names."""
    text = io.StringIO()
    console = Console(
        file=text,
        width=width,
        force_terminal=not markdown and sys.stdout.isatty(),
        legacy_windows=False,
    )
    unbounded = Console(width=10_000)
    left = table.metrics
    while True:
        count = len(left)
        while count > 1 and unbounded.measure(_grid(table, left[:count], markdown)).maximum > width:
            count -= 1
        console.print(_grid(table, left[:count], markdown))
        left = left[count:]
        if not left:
            break
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


def _grid(table: Rows, columns: Sequence[str], markdown: bool) -> Table:
    """What a row is, and each value with its difference to dense."""
    shown = [name for name in LOOK if _varies(table, name) or (markdown and name == "model")]
    shown += table.settings
    unfinished = any(row["status"] != "done" for row in table.rows)
    between = " " if markdown else "\n"
    grid = Table(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)
    for name in shown:
        grid.add_column(name, no_wrap=True)
    for name in columns:
        grid.add_column(
            name if markdown else name.replace("_", between), justify="right", no_wrap=True
        )
    if unfinished:
        grid.add_column("status", no_wrap=True)
    for row in table.rows:
        cells = [_against(row, name, between, intervals=markdown) for name in columns]
        status = [row["status"].split(":")[0]] if unfinished else []
        grid.add_row(*[str(row[name]) for name in shown], *cells, *status)
    return grid


def _width() -> int:
    """Of the terminal; where there is none, of a wide one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 160


def _varies(table: Rows, name: str) -> bool:
    always = ("method", "sparsity", "calib")
    return name in always or len({row[name] for row in table.rows if row[name] != ""}) > 1


def _against(row: Mapping[str, Any], name: str, between: str, *, intervals: bool = False) -> str:
    """A value, its interval if asked for, and in brackets its difference to dense, to one digit."""
    if name not in row:
        return "–"
    value, change = row[name], row.get(f"{name}_vs_dense")
    digits = _digits(value)
    shown = format(value, digits)
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    if intervals and low is not None and high is not None:
        shown += f" [{low:{digits}}, {high:{digits}}]"
    if change is None or row["method"] == "dense":
        return shown
    digits = ".3f" if digits == "#.4g" and abs(change) < 1 else digits
    return f"{shown}{between}({change:+{digits}})"


def _digits(value: float) -> str:
    """Four significant digits, but of shares and small divergences no more than mean something."""
    if abs(value) >= 1:
        return "#.4g" if abs(value) < 1000 else ".0f"
    if value == 0 or abs(value) >= 0.1:
        return ".3f"
    return ".4f" if abs(value) >= 0.001 else ".1e"


def _model(cell: Cell) -> tuple[Any, ...]:
    return cell.identity["model"], cell.identity["dtype"]
