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
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from sweep.report.entries import Entry
from sweep.report.figures import MAPS, Drawn
from sweep.report.generations import Exchange, exchanges
from sweep.report.notes import measured_on, stand_ins
from sweep.report.table import Rows, shown_columns
from sweep.report.typeset import digits, signed

ROOM = 2_900_000
"""Bytes of a page."""

DRAWN = 1_200_000
TABLE = 1_050_000
LIST = 90_000
"""Bytes of all figures together, of the table of cells, of each other table; what they leave is for
the answers."""

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


def page(
    name: str,
    table: Rows,
    *,
    over_seeds: Sequence[Mapping[str, Any]],
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
        over_seeds, tolerances, links, effects: rows of tables, all with the same names.
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
    style, script = (_own(f"page.{kind}") for kind in ("css", "js"))
    entries = table.entries
    shown = shown_columns(table, model=True)
    folders = {entry.name: _link(folder, entry.folder.path) for entry in entries}
    rows, columns = _rows(table, shown, folder)
    unfinished = [
        {"name": e.name, "status": e.status, "link": folders[e.name]}
        for e in entries
        if e.status != "done"
    ]
    lists = {
        "over_seeds": over_seeds,
        "tolerances": tolerances,
        "links": links,
        "effects": effects[:LISTED],
        "unfinished": unfinished,
    }
    fitting = {name: _fitting(records, folders) for name, records in lists.items()}
    content: dict[str, Any] = {
        "name": name,
        "counts": _counts(entries),
        "stand_ins": stand_ins({pair for entry in entries for pair in entry.sources}),
        "style": Markup(style),
        "style_hash": _hash(style),
        "script": Markup(script),
        "script_hash": _hash(script),
        **fitting,
        "in_all": {name: len(records) for name, records in lists.items()},
        "baseline": table.baseline,
        "about": shown,
        "metrics": [{"name": m, "better": table.better.get(m)} for m in columns],
        "metrics_in_all": len(table.metrics),
        "rows": rows,
        "rows_in_all": len(table.rows),
        "sentences": sentences,
        "effects_in_all": len(effects),
        "figures": {section: _of(section, figures) for section in SECTIONS},
        "layers": _about_layers(entries),
        "measured_on": measured_on(entries),
        "environment": _environments(entries),
        "files": files,
    }
    template = environment.get_template("page.html")
    nothing = {"exchanges": [], "exchanges_in_all": 0, "flips": 0, "flips_in_all": 0}
    bare = template.render(content, **nothing, cells_of_exchanges=[])
    room = ROOM - len(bare.encode())
    found, total, flips = exchanges(entries, MOST)
    kept: list[dict[str, Any]] = []
    for one in found:
        said = _answer(one, f"{folders[one.cell]}/generations")
        room -= 700 + sum(map(_size, said.values()))
        if room < 0:
            break
        kept.append(said)
    cells = sorted({said["cell"] for said in kept})
    html = template.render(
        content,
        exchanges=kept,
        exchanges_in_all=total,
        flips=sum(bool(said["flip"]) for said in kept),
        flips_in_all=flips,
        cells_of_exchanges=cells,
    )
    return html + "\n"


def _counts(entries: Sequence[Entry]) -> str:
    states = Counter(entry.status.split(":")[0] for entry in entries)
    listed = ", ".join(f"{states[state]} {state}" for state in ("done", "failed", "missing"))
    return f"{len(entries)} {'cell' if len(entries) == 1 else 'cells'}: {listed}"


def _rows(
    table: Rows, shown: Sequence[str], folder: Path
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of the table, and the columns of metrics for which there is room: every cell stays
    as long as one column does."""
    room = TABLE
    rows: list[dict[str, Any]] = []
    for row in table.rows:
        about = [row[name] for name in shown]
        rows.append({"about": about, "numbers": [], "status": row["status"].split(":")[0]})
        room -= 60 + sum(30 + _size(said) for said in about)
        if room < 0:
            break
    columns: list[str] = []
    for name in table.metrics:
        pairs = zip(table.rows[: len(rows)], table.entries, strict=False)
        found = [_value(table, row, entry, name, folder) for row, entry in pairs]
        room -= sum(150 + sum(map(_size, (one or {}).values())) for one in found)
        if room < 0 and columns:
            break
        columns.append(name)
        for row, one in zip(rows, found, strict=True):
            row["numbers"].append(one)
    return rows, columns


def _fitting(
    records: Sequence[Mapping[str, Any]], folders: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The first of a table's rows, as many as there is room for; each cell with its link."""
    room = LIST
    kept: list[dict[str, Any]] = []
    for record in records:
        said = dict(record)
        if isinstance(cells := said.get("cells"), list | tuple):
            said["cells"] = [{"name": name, "link": folders[name]} for name in cells]
            room -= sum(40 + _size(one["name"]) + _size(one["link"]) for one in said["cells"])
        room -= sum(9 + _size(v) for v in said.values() if not isinstance(v, list))
        if room < 0:
            break
        kept.append(said)
    return kept


def _size(said: Any) -> int:
    """Bytes of what a template makes of it."""
    return len(str(Markup.escape(said)).encode())


def _value(
    table: Rows, row: Mapping[str, Any], entry: Entry, name: str, folder: Path
) -> dict[str, Any] | None:
    if name not in row:
        return None
    value, form = row[name], digits(row[name])
    change = row.get(f"{name}_vs_{table.baseline}") if row["method"] != table.baseline else None
    metric = entry.values[name]["metric"]
    file = entry.folder.result_file(metric, entry.asked[metric])
    return {
        "raw": f"{value:.8g}",
        "shown": format(value, form),
        "link": _link(folder, file),
        "best": table.best(row, name),
        "interval": _ends(row, name, lambda end: format(end, form)),
        "change": None if change is None else signed(change, form),
        "change_interval": None
        if change is None
        else _ends(row, f"{name}_vs_{table.baseline}", lambda end: signed(end, form)),
    }


def _ends(row: Mapping[str, Any], name: str, shown: Any) -> str | None:
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return None if low is None or high is None else f"{shown(low)}, {shown(high)}"


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
    compressed = [e for e in entries if e.compression and e.compression.get("layers")]
    if not compressed:
        return "No compressed cell has a record of its layers."
    blind = [e for e in compressed if all(x.get("output_error") is None for x in _layers(e))]
    text = "The error is that of a linear's output on calibration data, relative to the dense one."
    if blind:
        count = f"{len(blind)} of {len(compressed)} cells have none: their method reads no data."
        text += f" {count}"
    if len(compressed) - len(blind) > MAPS:
        text += f" The first {MAPS} cells are drawn."
    text += " Sparsity is drawn where the layers of a cell differ in it."
    return text + " All layers of all cells are in layers.csv."


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
    return quote(os.path.relpath(target, folder))


def _own(name: str) -> str:
    return (Path(__file__).parent / "page_files" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
