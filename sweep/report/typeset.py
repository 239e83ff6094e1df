"""A table in letters: for the terminal (rich), as Markdown, as CSV; how a number is written."""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from csv import DictWriter
from itertools import zip_longest
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sweep.report.table import UNCLEAR, UNKNOWN, Rows, shown_columns

ABOUT = (
    "cell",
    "model",
    "weights",
    "method",
    "sparsity",
    "achieved_sparsity",
    "calib",
    "seed",
    "status",
    "source",
)
"""Columns of the CSV that say what a row is; then the settings by which rows differ that are alike
in these; then, per metric, value, interval (over seeds: deviation), difference and its interval."""


def csv(table: Rows) -> str:
    """All of it, without rounding."""
    spread = ("", "_sd") if table.mean else ("", "_low", "_high")
    ends = (*spread, *(f"_vs_{table.baseline}{end}" for end in ("", "_low", "_high")))
    values = [f"{metric}{end}" for metric in table.metrics for end in ends]
    about = [name for name in ABOUT if not (table.mean and name == "seed")]
    return csv_text([*about, *table.settings, *values], table.rows)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV, with a header."""
    text = io.StringIO()
    writer = DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


Signs = Mapping[str, Mapping[str, str]]
"""By cell and metric what a difference is marked with, in place of its interval."""

LEGEND = {
    UNCLEAR: "the 95 % interval of the difference holds 0; the table's files have all intervals",
    UNKNOWN: "the difference has no interval",
}


def legend(table: Rows, signs: Signs | None = None) -> list[str]:
    """What the signs of a table mean; one whose differences have intervals marks those without."""
    if signs is None:
        used = {table.sign(row, name) for row in table.rows for name in table.metrics} & {UNKNOWN}
    else:
        used = {sign for own in signs.values() for sign in own.values()}
    return [f"{sign}: {said}" for sign, said in LEGEND.items() if sign in used]


def text(table: Rows, *, signs: Signs | None = None) -> str:
    """For the terminal; on a narrow one several tables below each other, each with its row names.

    The best of the compressed cells has a star. Differences have intervals if the table has them;
    or instead of them a sign (`LEGEND`), and the table is narrow.

    Args:
        table: its rows.
        signs: of the differences, in place of intervals.
    """
    return _render(table, markdown=False, width=_width(), signs=signs)


def markdown(table: Rows) -> str:
    """One table, however wide, with intervals; the best of the compressed cells is bold."""
    return _render(table, markdown=True, width=1000)


def verbatim(said: Any) -> str:
    """A name or a message in Markdown: on one line, and no sign of it means anything."""
    return re.sub(r"[\\`*\[\]<>|~&#$]|(?<!\w)_|_(?!\w)", r"\\\g<0>", " ".join(str(said).split()))


def digits(value: float) -> str:
    """Four significant digits, but of shares and small divergences no more than mean something."""
    if abs(value) >= 1:
        return "#.4g" if abs(value) < 1000 else ".0f"
    if value == 0 or abs(value) >= 0.1:
        return ".3f"
    return ".4f" if abs(value) >= 0.001 else ".1e"


def signed(change: float, form: str) -> str:
    """A difference of values that are shown in a form, to one digit that means something."""
    form = ".3f" if form == "#.4g" and abs(change) < 1 else form
    return f"{change:+{form}}"


def minus(said: str) -> str:
    """Numbers for people: with a minus that is one, and no hyphen."""
    return re.sub(r"(?<!\w)-(?=[\d.])|(?<=\de)-(?=\d)", "−", said)


def spread(sd: float | None, shown: str) -> str:
    """A deviation, to the digits of a value that is shown beside it, or to the first that is not 0.

    Nothing where there is none.
    """
    if sd is None:
        return ""
    form = ".1e" if "e" in shown else f".{len(shown.partition('.')[2])}f"
    said = format(sd, form)
    return f" ± {said}" if float(said) or not sd else f" ± {sd:.1g}"


def _render(table: Rows, *, markdown: bool, width: int, signs: Signs | None = None) -> str:
    """The table as text."""
    unbounded = Console(width=10_000, markup=False)

    def wide(columns: Sequence[str]) -> int:
        return unbounded.measure(_grid(table, columns, markdown, signs)).maximum

    bare = wide(())
    widths = [wide((name,)) - bare for name in table.metrics] if not markdown else []
    parts: list[list[str]] = [[]]
    room = width - bare
    for name, needed in zip_longest(table.metrics, widths, fillvalue=0):
        room -= int(needed)
        if room < 0 and parts[-1]:
            parts.append([])
            room = width - bare - int(needed)
        parts[-1].append(str(name))
    grids = [_grid(table, part, markdown, signs) for part in parts]
    return _printed(*grids, markdown=markdown, width=width)


def _printed(*grids: Table, markdown: bool, width: int) -> str:
    output = io.StringIO()
    console = Console(
        file=output,
        width=width,
        force_terminal=not markdown and sys.stdout.isatty(),
        legacy_windows=False,
        markup=False,
    )
    for grid in grids:
        console.print(grid)
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


def _grid(table: Rows, columns: Sequence[str], markdown: bool, signs: Signs | None) -> Table:
    """What a row is, and each value with its difference to the baseline."""
    shown = shown_columns(table, model=markdown)
    unfinished = any(row["status"] != "done" for row in table.rows)
    between = " " if markdown else "\n"
    grid = Table(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)
    for name in shown:
        grid.add_column(verbatim(name) if markdown else name, no_wrap=True)
    for name in columns:
        head = verbatim(name) if markdown else name.replace("_", between)
        grid.add_column(head, justify="right", no_wrap=True)
    if unfinished:
        grid.add_column("status", no_wrap=True)
    for row in table.rows:
        cells = [
            _marked(table, row, name, between, markdown=markdown, intervals=markdown, signs=signs)
            for name in columns
        ]
        status = [row["status"].split(":")[0]] if unfinished else []
        about = [(verbatim if markdown else str)(row[name]) for name in shown]
        grid.add_row(*about, *cells, *status)
    return grid


def _marked(
    table: Rows,
    row: Mapping[str, Any],
    name: str,
    between: str,
    *,
    markdown: bool,
    intervals: bool,
    signs: Signs | None = None,
) -> str:
    """A value with its difference, marked if it is the best."""
    said = _against(table, row, name, between, intervals=intervals, signs=signs)
    if not table.best(row, name):
        return said
    value, gap, rest = said.partition(between)
    return f"**{value}**{gap}{rest}" if markdown else f"{value}*{gap}{rest}"


def _against(
    table: Rows,
    row: Mapping[str, Any],
    name: str,
    between: str,
    *,
    intervals: bool = False,
    signs: Signs | None = None,
) -> str:
    """A value, its deviation, its interval if asked for, and in brackets its difference to the
    baseline with its interval; or with a sign in place of that."""
    if name not in row:
        return "–"
    value, change = row[name], row.get(f"{name}_vs_{table.baseline}")
    form = digits(value)
    shown = format(value, form)
    shown += spread(row.get(f"{name}_sd"), shown)
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    if intervals and low is not None and high is not None:
        shown += f" [{low:{form}}, {high:{form}}]"
    if change is None or row["method"] == table.baseline:
        return shown
    said = signed(change, form)
    if signs is not None:
        return f"{shown}{between}({said}{signs.get(row['cell'], {}).get(name, '')})"
    if (found := table.ends(row, name)) is None:
        return f"{shown}{between}({said}{table.sign(row, name)})"
    ends = f"[{', '.join(signed(end, form) for end in found)}]"
    return f"{shown}\n({said})\n{ends}" if between == "\n" else f"{shown}{between}({said} {ends})"


def _width() -> int:
    """Of the terminal; where there is none, of a wide one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 160
