"""A sweep on one page: a file that needs no network and holds everything (jinja2).

All that comes from models, data, names and paths is escaped by the template, and the page's policy
lets no script run but its own. It stays below three megabytes: figures, tables and answers have
their rooms, and what is not shown is said, with the file that has it. Answers take what is left,
those that differ most first.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from sweep.report.drawn import Drawn
from sweep.report.entries import Entry
from sweep.report.generations import Exchange, exchanges
from sweep.report.layer_maps import MAPS
from sweep.report.notes import measured_on, stand_ins
from sweep.report.table import UNKNOWN, Rows, shown_columns
from sweep.report.typeset import digits, legend, minus, signed, spread

ROOM = 2_900_000
"""Bytes of a page."""

DRAWN = 1_200_000
TABLE = 900_000
MEANS = 150_000
LIST = 80_000
"""Bytes of all figures together, of the table of cells, of that over seeds, of each other list;
what is left is for the answers."""

MOST = 25
"""Answers of a cell that are shown, and flips of either kind, if there is room."""

LISTED = 300
"""Rows of a table of details; the file has all."""

SECTIONS = {
    "curves": ("curves",),
    "truth": ("truth", "against"),
    "calibration": ("calib",),
    "layers": ("layers",),
}
"""Where the figures are, by the beginning of their names."""


PRINTED = 20
"""Answers that are printed, of those that the filter leaves; page.css has the same number."""


def page(
    name: str,
    table: Rows,
    *,
    means: Rows | None,
    tolerances: Sequence[Mapping[str, Any]],
    sentences: Sequence[str],
    links: Sequence[Mapping[str, Any]],
    effects: Sequence[Mapping[str, Any]],
    figures: Sequence[Drawn],
    files: Sequence[str],
    folder: Path,
) -> str:
    """The page as HTML.

    Args:
        name: of the sweep.
        table: its cells.
        means: the same over seeds, if there are several.
        tolerances, links, effects: rows of tables, all with the same names; `cells` are the names
            of those behind a row.
        sentences: what the rank correlations say.
        figures: see `sweep.report.figures`.
        files: that lie beside the page.
        folder: where the page will lie: what it links to is named from there.
    """
    environment = Environment(
        loader=PackageLoader("sweep.report", "page_files"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html")
    content = {
        **_frame(name, table.entries, files),
        **_tables(table, means, folder),
        **_lists(table.entries, tolerances, links, effects, folder),
        "sentences": sentences,
        "figures": {section: _of(section, figures) for section in SECTIONS},
        "layers": _about_layers(table.entries),
        "printed": PRINTED,
    }
    nothing = _answers((), 0, 0, [])
    room = ROOM - len(template.render(content, **nothing).encode())
    return template.render(content, **_fitting_answers(table.entries, room, folder)) + "\n"


def _frame(name: str, entries: Sequence[Entry], files: Sequence[str]) -> dict[str, Any]:
    """What is above and below everything."""
    style, script = (_own(f"page.{kind}") for kind in ("css", "js"))
    return {
        "name": name,
        "counts": _counts(entries),
        "stand_ins": stand_ins({pair for entry in entries for pair in entry.sources}),
        "style": Markup(style),
        "style_hash": _hash(style),
        "script": Markup(script),
        "script_hash": _hash(script),
        "measured_on": measured_on(entries),
        "environment": _environments(entries),
        "files": files,
    }


def _tables(table: Rows, means: Rows | None, folder: Path) -> dict[str, Any]:
    """The table of cells, and that over seeds."""
    rows, columns = _rows(table, TABLE, folder)
    over_seeds, over_columns = ([], []) if means is None else _rows(means, MEANS, folder)
    heads = {
        n: {"name": n, "better": table.better.get(n)} for n in dict.fromkeys(columns + over_columns)
    }
    return {
        "baseline": table.baseline,
        "rows": rows,
        "rows_in_all": len(table.rows),
        "about": shown_columns(table, model=True),
        "metrics": [heads[n] for n in columns],
        "metrics_in_all": len(table.metrics),
        "legend": legend(table),
        "over_seeds": over_seeds,
        "over_seeds_in_all": 0 if means is None else len(means.rows),
        "about_seeds": [] if means is None else shown_columns(means, model=True),
        "metrics_over_seeds": [heads[n] for n in over_columns],
    }


def _lists(
    entries: Sequence[Entry],
    tolerances: Sequence[Mapping[str, Any]],
    links: Sequence[Mapping[str, Any]],
    effects: Sequence[Mapping[str, Any]],
    folder: Path,
) -> dict[str, Any]:
    """The other tables, each as far as there is room; `in_all` says how long they are."""
    cells = [tuple(link["cells"]) for link in links]
    sets = {own: n for n, own in enumerate(dict.fromkeys(cells), start=1)}  # many have the same
    most = LIST // (600 * max(1, len(sets)))
    numbered = [
        {**link, "cells": {"count": len(own), "set": sets[own]}}
        for link, own in zip(links, cells, strict=True)
    ]
    unfinished = [e for e in entries if e.status != "done"]
    measured = [e for e in entries if _layers(e)]
    lists: dict[str, Sequence[Mapping[str, Any]]] = {
        "tolerances": tolerances,
        "links": numbered,
        "sets": [{"cells": own[:most], "count": len(own)} for own in sets],
        "effects": effects[:LISTED],
        "unfinished": [{"cells": [e.name], "status": e.status} for e in unfinished],
        "layered": [{"cells": [e.name], "file": "compression.json"} for e in measured],
    }
    by_name = {entry.name: entry for entry in entries}
    fitting = {name: _fitting(records, by_name, folder) for name, records in lists.items()}
    in_all = {name: len(records) for name, records in lists.items()} | {"effects": len(effects)}
    return {**fitting, "in_all": in_all}


def _fitting_answers(entries: Sequence[Entry], room: int, folder: Path) -> dict[str, Any]:
    """The answers that there is room for."""
    found, total, flips = exchanges(entries, MOST)
    by_name = {entry.name: entry for entry in entries}

    @cache
    def link(cell: str, metric: str, corpus: str) -> str:
        return _link(folder, by_name[cell].rows_file(metric, corpus))

    kept: list[dict[str, Any]] = []
    for one in found:
        said = _answer(one, link(one.cell, one.metric, one.corpus))
        room -= 700 + sum(map(_size, said.values()))
        if room < 0:
            break
        kept.append(said)
    return _answers(kept, total, flips, sorted({said["cell"] for said in kept}))


def _answers(
    kept: Sequence[Mapping[str, Any]], total: int, flips: int, cells: Sequence[str]
) -> dict[str, Any]:
    return {
        "exchanges": kept,
        "exchanges_in_all": total,
        "flips": sum(bool(said["flip"]) for said in kept),
        "flips_in_all": flips,
        "cells_of_exchanges": cells,
    }


def _counts(entries: Sequence[Entry]) -> str:
    states = Counter(entry.status.split(":")[0] for entry in entries)
    listed = ["done", *(["running"] if states["running"] else []), "failed", "missing"]
    said = ", ".join(f"{states[state]} {state}" for state in listed)
    return f"{len(entries)} {'cell' if len(entries) == 1 else 'cells'}: {said}"


def _rows(table: Rows, room: int, folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of the table, and the columns of metrics for which there is room: every row stays
    as long as one column does."""
    shown = shown_columns(table, model=True)
    by_name = {entry.name: entry for entry in table.entries}
    rows: list[dict[str, Any]] = []
    for row in table.rows:
        about = [row[name] for name in shown]
        cells = [by_name[name] for name in row["cell"].split()]
        links = [{"name": one.name, "link": _link(folder, one.folder.path)} for one in cells]
        said = {"about": about, "numbers": [], "status": row["status"].split(":")[0]}
        room -= 90 + sum(30 + _size(x) for x in about)
        room -= sum(30 + _size(x) for link in links for x in link.values())
        if room < 0:
            break
        rows.append({**said, "cells": links})
    columns: list[str] = []
    for name in table.metrics:
        found = [_value(table, row, by_name, name, folder) for row in table.rows[: len(rows)]]
        room -= sum(150 + sum(map(_size, (one or {}).values())) for one in found)
        if room < 0 and columns:
            break
        columns.append(name)
        for row, one in zip(rows, found, strict=True):
            row["numbers"].append(one)
    return rows, columns


def _fitting(
    records: Sequence[Mapping[str, Any]], by_name: Mapping[str, Entry], folder: Path
) -> list[dict[str, Any]]:
    """The first of a table's rows, as many as there is room for; each cell with its link: to the
    file of the record, of the record's metric, or to the cell's folder."""
    room = LIST
    kept: list[dict[str, Any]] = []
    for record in records:
        said = {key: value for key, value in record.items() if key != "file"}
        if isinstance(cells := said.get("cells"), list | tuple):
            targets = [_target(by_name[name], record) for name in cells]
            said["cells"] = [
                {"name": name, "link": _link(folder, target)}
                for name, target in zip(cells, targets, strict=True)
            ]
            room -= sum(40 + _size(one["name"]) + _size(one["link"]) for one in said["cells"])
        room -= sum(9 + _size(v) for v in said.values() if not isinstance(v, list))
        if room < 0:
            break
        kept.append(said)
    return kept


def _target(entry: Entry, record: Mapping[str, Any]) -> Path:
    """What is behind a record."""
    value = entry.values.get(record.get("metric", ""))
    if value is not None:
        return entry.file(value["metric"])
    return entry.folder.path / str(record.get("file", ""))


def _size(said: Any) -> int:
    """Bytes of what a template makes of it."""
    return len(str(Markup.escape(said)).encode())


def _value(
    table: Rows, row: Mapping[str, Any], by_name: Mapping[str, Entry], name: str, folder: Path
) -> dict[str, Any] | None:
    """A number, its spread, its difference to the baseline; of one cell with a link to its file."""
    if name not in row:
        return None
    value, form = row[name], digits(row[name])
    shown = format(value, form)
    change = row.get(f"{name}_vs_{table.baseline}") if row["method"] != table.baseline else None
    unknown = UNKNOWN if table.sign(row, name) == UNKNOWN else ""
    link = None
    if not table.mean:
        entry = by_name[row["cell"]]
        link = _link(folder, entry.file(entry.values[name]["metric"]))
    return {
        "raw": f"{value:.8g}",
        "shown": minus(shown),
        "spread": minus(spread(row.get(f"{name}_sd"), shown)),
        "link": link,
        "best": table.best(row, name),
        "interval": _ends(row, name, lambda end: format(end, form)),
        "change": None if change is None else minus(signed(change, form)) + unknown,
        "change_interval": None
        if change is None
        else _ends(row, f"{name}_vs_{table.baseline}", lambda end: signed(end, form)),
    }


def _ends(row: Mapping[str, Any], name: str, shown: Any) -> str | None:
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return None if low is None or high is None else minus(f"{shown(low)}, {shown(high)}")


def _answer(one: Exchange, link: str) -> dict[str, Any]:
    before, after = (
        ", ".join(
            f"{name} {_score(value)}"
            for name, scores in one.scores.items()
            if (value := scores[i]) is not None
        )
        for i in (1, 0)
    )
    return {**vars(one), "before": before, "after": after, "link": link}


def _score(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _of(section: str, figures: Sequence[Drawn]) -> list[dict[str, str | None]]:
    """The figures of a section: as drawings, as pictures where these are much smaller and there is
    no room, or else without."""
    inside: dict[str, str] = {}
    room = DRAWN
    for figure in sorted(figures, key=lambda one: len(one.svg)):  # so as many as there can be
        room -= _size(figure.alternative) + _size(figure.title) + 400
        for kind, drawn in (("svg+xml", figure.svg), ("png", figure.png)):
            if (needed := len(drawn) * 4 // 3) < room:
                inside[figure.name] = f"data:image/{kind};base64,{base64.b64encode(drawn).decode()}"
                room -= needed
                break
    return [
        {
            "name": figure.name,
            "title": figure.title,
            "alternative": figure.alternative,
            "source": inside.get(figure.name),
        }
        for figure in figures
        if figure.name.startswith(SECTIONS[section])
    ]


def _about_layers(entries: Sequence[Entry]) -> str:
    compressed = [entry for entry in entries if _layers(entry)]
    if not compressed:
        return "No compressed cell has a record of its layers."
    blind = [e for e in compressed if all(x.get("output_error") is None for x in _layers(e))]
    text = "The error is that of a linear's output on calibration data, relative to the dense one."
    if blind:
        count = f"{len(blind)} of {len(compressed)} cells have none: their method reads no data."
        text += f" {count}"
    if len(compressed) - len(blind) > MAPS:
        text += f" {MAPS} cells are drawn: the figure says which, and how many are not."
    return text + " Sparsity is drawn where the layers of a cell differ in it."


def _layers(entry: Entry) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = (entry.compression or {}).get("layers", ())
    return found


def _environments(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """What the results say of where they were made: every value that occurs."""
    found: dict[str, dict[str, None]] = {}
    for entry in entries:
        for result in entry.results.values():
            for key, value in (result.get("environment") or {}).items():
                found.setdefault(key, {})[str(value)] = None
    return [(key, "; ".join(values)) for key, values in found.items()]


def _link(folder: Path, target: Path) -> str:
    """From the page to a file, as a browser wants it."""
    return quote(os.fsencode(os.path.relpath(target, folder)))


def _own(name: str) -> str:
    return (Path(__file__).parent / "page_files" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
