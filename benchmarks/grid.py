"""`python -m benchmarks.grid`: the README's grid, from a cold start and when everything is done.

Every figure is the wall clock of a whole process or is read from the result files. The machine may
be shared, so runs are repeated and the median is shown with the extremes; each figure stands beside
its bound. Writes benchmarks/grid.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

DEMO = ("method=sparsegpt,wanda", "calib=c4,alpaca", "-m")
DONE = re.compile(r"done in ([\d.]+) s: compressing ([\d.]+) s, measuring ([\d.]+) s")
RESULT = Path(__file__).with_name("grid.json")


@dataclass(frozen=True)
class Figure:
    """Something measured, in seconds, and the bound that it is to keep."""

    name: str
    bound: float
    seconds: list[float]

    @property
    def median(self) -> float:
        """Of the runs."""
        return statistics.median(self.seconds)


def timed(words: Sequence[str], outputs: Path | None = None) -> float:
    """Wall clock of one command in a process of its own, in seconds."""
    given = [] if outputs is None else [f"outputs={outputs}"]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "sweep", *given, *words], check=True, capture_output=True)
    return time.perf_counter() - started


def overhead(outputs: Path) -> list[float]:
    """Seconds of each cell after the first that went neither into compressing nor into measuring.

    From the last line of each cell's log. The tracker is in it; the dense cell comes first, and
    loading falls on it.
    """
    found: list[float] = []
    for log in sorted((outputs / "cells").glob("*/log.txt")):
        said = DONE.search(log.read_text())
        if said is None:
            raise RuntimeError(f"{log}: the cell did not finish")
        whole, compressing, measuring = map(float, said.groups())
        if "-dense-" not in log.parent.name:
            found.append(whole - compressing - measuring)
    return found


def measure(runs: int) -> list[Figure]:
    """All figures; the runs of different kinds are interleaved."""
    figures = [
        Figure("the grid, five cells, cold start", 45, []),
        Figure("the same command, everything done", 5, []),
        Figure("--help", 1.5, []),
        Figure("a cell beyond compressing and measuring, after the first", 0.3, []),
    ]
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            outputs = Path(folder)
            figures[0].seconds.append(timed(DEMO, outputs))
            figures[1].seconds.append(timed(DEMO, outputs))
            figures[2].seconds.append(timed(["--help"]))
            figures[3].seconds.extend(overhead(outputs))
    return figures


def machine() -> dict[str, Any]:
    """Where this was measured."""
    from sweep.environment import environment

    return {
        **environment("cpu"),
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def show(figures: Sequence[Figure], where: Mapping[str, Any]) -> None:
    """The table on the terminal."""
    table = Table(box=box.MARKDOWN)
    for name in ("what", "median s", "min", "max", "bound s", "share of bound"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for figure in figures:
        numbers = (figure.median, min(figure.seconds), max(figure.seconds), figure.bound)
        share = f"{figure.median / figure.bound:.2f}"
        table.add_row(figure.name, *(f"{number:.2f}" for number in numbers), share)
    console = Console(width=120)
    console.print(table)
    console.print(
        f"{where['date']}, {where['device']}, {where['cores']} cores, torch {where['torch']}, "
        f"{where['threads']} threads, {len(figures[0].seconds)} runs"
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one run, nothing written")
    options = parser.parse_args()
    figures, where = measure(1 if options.quick else options.runs), machine()
    show(figures, where)
    if not options.quick:
        record = {"machine": where, "figures": {f.name: f.seconds for f in figures}}
        RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
