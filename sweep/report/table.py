"""The table of a sweep: a row per cell, every metric against a baseline, dense if nothing is said.

As text for the terminal (rich), as Markdown, CSV and LaTeX (booktabs).
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sweep.files import csv_text
from sweep.refusal import Refusal
from sweep.report.entries import Entry
from sweep.report.paired import Paired

DENSE = "dense"
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
in these; then, per metric, value, interval, difference and its interval."""


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
        baseline: method with which the rows are compared.
    """

    rows: list[dict[str, Any]]
    entries: Sequence[Entry]
    settings: list[str]
    metrics: list[str]
    better: Mapping[str, str]
    baseline: str = DENSE

    def best(self, row: Mapping[str, Any], metric: str) -> bool:
        """Whether no compressed cell of the same model is better by this metric."""
        if metric not in row or metric not in self.better or row["method"] == DENSE:
            return False
        rivals = [
            other[metric]
            for other in self.rows
            if other["model"] == row["model"] and other["method"] != DENSE and metric in other
        ]
        best = min(rivals) if self.better[metric] == "lower" else max(rivals)
        return len(rivals) > 1 and bool(row[metric] == best)


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
            reason = f"is no value of these cells; they have {', '.join(known) or 'none yet'}"
            raise Refusal("columns", name, reason)
    settings = _telling_apart(entries)
    metrics = list(columns) or list(dict.fromkeys(n for entry in entries for n in entry.columns))
    better: dict[str, str] = {}
    table: list[dict[str, Any]] = []
    for entry in entries:
        row = {**_about(entry), **{name: entry.settings.get(name, "") for name in settings}}
        against = _baseline(entry, entries, baseline)
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
    return Rows(table, entries, settings, metrics, better, baseline)


def several_seeds(table: Rows) -> bool:
    """Whether there is anything to take a mean of."""
    return len({row["seed"] for row in table.rows if row["seed"] != ""}) > 1


def means(table: Rows) -> list[dict[str, str]]:
    """`over_seeds` in words: `mean ± deviation`, of one seed the value alone."""
    shown: list[dict[str, str]] = []
    for row in over_seeds(table):
        values = {f"{name}{end}" for name in table.metrics for end in ("", "_sd")}
        said = {name: str(value) for name, value in row.items() if name not in values}
        for name in table.metrics:
            said[name] = "–"
            if name in row:
                form, sd = digits(row[name]), row[f"{name}_sd"]
                said[name] = format(row[name], form) + ("" if sd is None else f" ± {sd:{form}}")
        shown.append(said)
    return shown


def over_seeds(table: Rows) -> list[dict[str, Any]]:
    """Rows that differ in nothing but the seed as one: `<metric>` is the mean, `<metric>_sd` the
    standard deviation (of the sample; None of one seed), `seeds` how many are finished."""
    import pandas as pd

    own = [name for name in LOOK if name != "seed"] + table.settings
    frame = pd.DataFrame(table.rows, columns=[*own, *table.metrics]).fillna(dict.fromkeys(own, ""))
    found: list[dict[str, Any]] = []
    for key, group in frame.groupby(own, sort=False, dropna=False):
        row: dict[str, Any] = dict(zip(own, key, strict=True))
        row["seeds"] = int(group[table.metrics].notna().any(axis=1).sum()) if table.metrics else 0
        for name in table.metrics:
            values = group[name].dropna()
            if len(values):
                row[name] = float(values.mean())
                row[f"{name}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else None
        found.append(row)
    return found


def csv(table: Rows) -> str:
    """All of it, without rounding."""
    ends = ("", "_low", "_high", *(f"_vs_{table.baseline}{end}" for end in ("", "_low", "_high")))
    values = [f"{metric}{end}" for metric in table.metrics for end in ends]
    return csv_text([*ABOUT, *table.settings, *values], table.rows)


def text(table: Rows) -> str:
    """For the terminal; on a narrow one several tables below each other, each with its row names.

    The best of the compressed cells has a star.
    """
    return _render(table, markdown=False, width=_width())


def means_text(table: Rows) -> str:
    """`means` for the terminal."""
    shown = means(table)
    grid = Table(box=box.SIMPLE_HEAD)
    for name in shown[0]:
        grid.add_column(name, no_wrap=True, justify="right" if name in table.metrics else "left")
    for row in shown:
        grid.add_row(*row.values())
    return _printed(grid, markdown=False, width=max(_width(), 40 * len(shown[0])))


def markdown(table: Rows) -> str:
    """One table, however wide, with intervals; the best of the compressed cells is bold."""
    return _render(table, markdown=True, width=1000)


def latex(table: Rows) -> str:
    """A `tabular` with the rules of booktabs; the best of the compressed cells is bold.

    Letters that are not ASCII become the nearest that is, or a question mark.
    """
    import pandas as pd

    shown = shown_columns(table)
    lines = [
        [str(row[name]) for name in shown] + [_against(table, row, n, " ") for n in table.metrics]
        for row in table.rows
    ]
    frame = pd.DataFrame(
        [[_ascii(said) for said in line] for line in lines],
        columns=[_ascii(name) for name in (*shown, *table.metrics)],
    )
    bold = [
        ["" for _ in shown]
        + ["textbf: --rwrap;" if table.best(row, name) else "" for name in table.metrics]
        for row in table.rows
    ]
    styler = frame.style.hide(axis="index").format(escape="latex")
    styler = styler.format_index(escape="latex", axis="columns")
    styler = styler.apply(
        lambda _: pd.DataFrame(bold, index=frame.index, columns=frame.columns), axis=None
    )
    columns = "l" * len(shown) + "r" * len(table.metrics)
    return str(styler.to_latex(hrules=True, column_format=columns))


def notes(entries: Sequence[Entry]) -> list[str]:
    """What belongs below a table: what was measured on which texts, and which are stand-ins."""
    sources = {k: v for entry in entries for k, v in entry.sources.items()}
    return [*measured_on(entries), *stand_ins(sources)]


def measured_on(entries: Iterable[Entry]) -> list[str]:
    """One line per metric and set of data: of which texts the numbers are."""
    found: dict[str, None] = {}
    for entry in entries:
        for name, result in entry.results.items():
            for data in result["data"]:
                line = f"{name}: {_amount(data)} of {data['corpus']} ({data['source']})"
                found[line + _lost(data)] = None
    return list(found)


def stand_ins(sources: Mapping[str, str]) -> list[str]:
    """One line that says which of these corpora are stand-ins; none if all are real.

    Args:
        sources: where the corpora come from, by their names.
    """
    names = [name for name, source in sorted(sources.items()) if source == "embedded"]
    if not names:
        return []
    are = "is a stand-in" if len(names) == 1 else "are stand-ins"
    return [f"source: embedded ({', '.join(names)} {are} made by a micro-world, not real corpora)"]


def _amount(data: Mapping[str, Any]) -> str:
    if "scored" not in data:
        return f"{data['rows']} questions"
    most = "" if data["scored"] == "windows" else "at most "
    amount = f"{data['sequences']} {data['scored']} of {most}{data['seqlen']} tokens"
    return f"{amount}, {data['scored_tokens']} of them scored,"


def _lost(data: Mapping[str, Any]) -> str:
    """What of the data is not in the numbers, or not whole."""
    what = {"left_out": "left out, too long", "cut": "cut at seqlen"}
    return "".join(f"; {data[key]} {said}" for key, said in what.items() if data.get(key))


def _about(entry: Entry) -> dict[str, Any]:
    said = {name: entry.about[name] for name in LOOK}
    about: dict[str, Any] = {name: "" if value is None else value for name, value in said.items()}
    return {
        "cell": entry.name,
        **about,
        "achieved_sparsity": entry.compression["sparsity"] if entry.compression else "",
        "status": entry.status,
        "source": " ".join(sorted(set(entry.sources.values()))),
    }


def _baseline(entry: Entry, entries: Sequence[Entry], method: str) -> Entry | None:
    """The cell with which another is compared: of the baseline's method, and where that reads a
    sparsity, calibration data or a seed, of the same."""
    for other in entries:
        about = other.about
        if (
            about["method"] == method
            and about["weights"] == entry.about["weights"]
            and all(
                about[name] in (None, entry.about[name]) for name in ("sparsity", "calib", "seed")
            )
        ):
            return other
    return None


def _telling_apart(entries: Sequence[Entry]) -> list[str]:
    """The settings that differ among cells which look the same without them."""
    alike: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for entry in entries:
        look = tuple(str(entry.about[name]) for name in LOOK)
        alike.setdefault(look, []).append(entry.settings)
    differing: dict[str, None] = {}
    for group in alike.values():
        for name in dict.fromkeys(name for settings in group for name in settings):
            if len({str(settings.get(name)) for settings in group}) > 1:
                differing[name] = None
    return list(differing)


def _render(table: Rows, *, markdown: bool, width: int) -> str:
    """The table as text."""
    unbounded = Console(width=10_000, markup=False)
    grids: list[Table] = []
    left = table.metrics
    while left or not grids:
        count = len(left)
        while count > 1 and unbounded.measure(_grid(table, left[:count], markdown)).maximum > width:
            count -= 1
        grids.append(_grid(table, left[:count], markdown))
        left = left[count:]
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


def _grid(table: Rows, columns: Sequence[str], markdown: bool) -> Table:
    """What a row is, and each value with its difference to the baseline."""
    shown = shown_columns(table, model=markdown)
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
        cells = [_marked(table, row, name, between, markdown) for name in columns]
        status = [row["status"].split(":")[0]] if unfinished else []
        about = [_cell(row[name]) if markdown else str(row[name]) for name in shown]
        grid.add_row(*about, *cells, *status)
    return grid


def shown_columns(table: Rows, *, model: bool = False) -> list[str]:
    """The columns that say what a row is: those that differ, and a few always."""
    always = {"method", "sparsity", "calib", *(["model"] if model else [])}
    varies = {name for name in LOOK if len({r[name] for r in table.rows if r[name] != ""}) > 1}
    return [name for name in LOOK if name in always | varies] + table.settings


def _width() -> int:
    """Of the terminal; where there is none, of a wide one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 160


def _marked(table: Rows, row: Mapping[str, Any], name: str, between: str, markdown: bool) -> str:
    """A value with its difference, marked if it is the best."""
    said = _against(table, row, name, between, intervals=markdown)
    if not table.best(row, name):
        return said
    value, gap, rest = said.partition(between)
    return f"**{value}**{gap}{rest}" if markdown else f"{value}*{gap}{rest}"


def _against(
    table: Rows, row: Mapping[str, Any], name: str, between: str, *, intervals: bool = False
) -> str:
    """A value, its interval if asked for, and in brackets its difference to the baseline."""
    if name not in row:
        return "–"
    value, change = row[name], row.get(f"{name}_vs_{table.baseline}")
    form = digits(value)
    shown = format(value, form)
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    if intervals and low is not None and high is not None:
        shown += f" [{low:{form}}, {high:{form}}]"
    if change is None or row["method"] == table.baseline:
        return shown
    return f"{shown}{between}({signed(change, form)})"


def signed(change: float, form: str) -> str:
    """A difference of values that are shown in a form, to one digit that means something."""
    form = ".3f" if form == "#.4g" and abs(change) < 1 else form
    return f"{change:+{form}}"


def digits(value: float) -> str:
    """Four significant digits, but of shares and small divergences no more than mean something."""
    if abs(value) >= 1:
        return "#.4g" if abs(value) < 1000 else ".0f"
    if value == 0 or abs(value) >= 0.1:
        return ".3f"
    return ".4f" if abs(value) >= 0.001 else ".1e"


def _cell(value: Any) -> str:
    """What is in a cell of Markdown ends neither the cell nor the line."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def _ascii(said: str) -> str:
    import unicodedata

    plain = said.replace("–", "-").replace("±", "+-")
    return unicodedata.normalize("NFKD", plain).encode("ascii", "replace").decode()
