"""`python -m benchmarks.page`: the README's section on speed and memory, made from the JSON files.

Nothing there is typed by hand: a number on the page is one that a benchmark has written.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contest import HERE, NOT_MEASURED

README = HERE.parent / "README.md"
OPENING, CLOSING = "<!-- speed -->\n", "<!-- /speed -->"
NAMES = ("grid", "share", "plan", "compress", "gpu", "memory", "metrics")


def section(records: Mapping[str, Mapping[str, Any]]) -> str:
    """What is below its bound, and a table for every benchmark that has been run, by name."""
    tables = [_table(name, records[name]) for name in NAMES if name in records]
    every = [one for record in records.values() for one in record.get("contests", ())]
    below = [
        f"{one['work']}, against {one['against']}: {one['ratio']:.2f} of {one['bound']:.3g}"
        for one in every
        if one["bound"] is not None and one["ratio"] is not None and one["ratio"] < one["bound"]
    ]
    lines = ["Below what must be reached:", "", *(f"- {one}" for one in below), ""] if below else []
    return "\n".join([*lines, *tables])


def _table(name: str, record: Mapping[str, Any]) -> str:
    where = record["machine"]
    lines = [
        f"`python -m benchmarks.{name}` ({where['date']}, {where['device']}, {where['cores']} "
        f"cores, torch {where['torch']}, {where['threads']} threads):",
        "",
    ]
    if "contests" in record:
        lines += [
            "| work | against | turns | ours | theirs | ratio | must reach | results, and what "
            "bounds it |"
        ]
        lines += ["|---|---|---:|---:|---:|---:|---:|---|"]
        lines += [_contest(one) for one in record["contests"]]
    else:
        lines += ["| what | median | min | max | bound |", "|---|---:|---:|---:|---:|"]
        lines += [_figure(*figure) for figure in record["figures"].items()]
    return "\n".join([*lines, ""])


def _contest(one: Mapping[str, Any]) -> str:
    sides = [
        f"{_median(one[side])} {one['unit']}" if one[side] else "" for side in ("ours", "theirs")
    ]
    ratio = NOT_MEASURED if one["ratio"] is None else f"{one['ratio']:.2f}"
    if one["theirs"] and not any(one["theirs"]):
        ratio, sides[1] = "", ""  # a phase without products of matrices has none to be compared
    bound = "" if one["bound"] is None else f"{one['bound']:.3g}"
    said = "; ".join(filter(None, (one["agreement"], one["note"])))
    turns = str(max(len(one["ours"]), len(one["theirs"])) or "")
    cells = [one["work"], one["against"], turns, *sides, ratio, bound, said]
    return f"| {' | '.join(cells)} |"


def _figure(what: str, figure: Mapping[str, Any]) -> str:
    values, unit = figure["values"], figure["unit"]
    numbers = [_median(values), _number(min(values)), _number(max(values))]
    bound = "" if figure["bound"] is None else f"{figure['bound']:g} {unit}"
    return f"| {what} | {' | '.join(f'{number} {unit}' for number in numbers)} | {bound} |"


def _median(values: list[float]) -> str:
    return _number(statistics.median(values))


def _number(value: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def written(folder: Path = HERE) -> dict[str, Any]:
    """What the benchmarks have written, by name."""
    files = [folder / f"{name}.json" for name in NAMES]
    return {file.stem: json.loads(file.read_text()) for file in files if file.exists()}


def main() -> None:
    """Put the section in place of the old one."""
    before, _, rest = README.read_text().partition(OPENING)
    _, _, after = rest.partition(CLOSING)
    README.write_text(f"{before}{OPENING}{section(written())}{CLOSING}{after}")


if __name__ == "__main__":
    main()
