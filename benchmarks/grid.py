"""`python -m benchmarks.grid`: the README's grid, from a cold start and when everything is done.

Every figure is the wall clock of a whole process or is read from the result files. The machine may
be shared, so runs are repeated and the median is shown with the extremes; each figure stands beside
its bound. Writes benchmarks/grid.json.
"""

from __future__ import annotations

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
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.contest import machine
from sweep.options import Options, positive

DEMO = ("method=sparsegpt,wanda", "calib=c4,alpaca", "-m")
RATIOS = ",".join(f"{i / 1000:.3f}" for i in range(250))
THOUSAND = ("method=sparsegpt,wanda", "calib=c4,alpaca", f"sparsity.ratio={RATIOS}", "-m")
PLANNED = ("hydra/launcher=local", "hydra.launcher.dry_run=true")
DONE = re.compile(r"done in ([\d.]+) s: compressing ([\d.]+) s, measuring ([\d.]+) s")
RESULT = Path(__file__).with_name("grid.json")


@dataclass(frozen=True)
class Figure:
    """Something measured, and the bound that it is to keep, if it has one."""

    name: str
    unit: str
    bound: float | None
    values: list[float]

    @property
    def median(self) -> float:
        """Of the runs."""
        return statistics.median(self.values)


def timed(words: Sequence[str], outputs: Path | None = None) -> tuple[float, float]:
    """One command in a process of its own: wall clock in seconds, peak resident memory in MB."""
    given = [] if outputs is None else [f"outputs={outputs}"]
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "sweep", *given, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: exit code {process.returncode}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def spent(outputs: Path, cells: str = "*") -> dict[str, tuple[float, float, float]]:
    """Seconds of each cell by its folder's name: in all, compressing, measuring; from its log.

    The tracker is in the first only.
    """
    found: dict[str, tuple[float, float, float]] = {}
    for log in sorted((outputs / "cells").glob(f"{cells}/log.txt")):
        said = DONE.search(log.read_text())
        if said is None:
            raise RuntimeError(f"{log}: the cell did not finish")
        whole, compressing, measuring = map(float, said.groups())
        found[log.parent.name] = whole, compressing, measuring
    return found


def overhead(outputs: Path) -> list[float]:
    """Seconds of each cell after the first that went neither into compressing nor into measuring.

    The dense cell comes first, and loading falls on it.
    """
    return [
        whole - compressing - measuring
        for name, (whole, compressing, measuring) in spent(outputs).items()
        if "-dense-" not in name
    ]


def measure(runs: int) -> list[Figure]:
    """All figures; the runs of different kinds are interleaved."""
    figures = [
        Figure("the grid, five cells, cold start", "s", 25, []),
        Figure("the same command, everything done", "s", 5, []),
        Figure("--help", "s", 1.5, []),
        Figure("a cell beyond compressing and measuring, after the first", "s", 0.3, []),
        Figure("a grid of 1,000 cells, planned and checked", "s", 10, []),
        Figure("the grid, peak resident memory", "MB", None, []),
    ]
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            outputs = Path(folder)
            seconds, memory = timed(DEMO, outputs)
            figures[0].values.append(seconds)
            figures[1].values.append(timed(DEMO, outputs)[0])
            figures[2].values.append(timed(["--help"])[0])
            figures[3].values.extend(overhead(outputs))
            figures[4].values.append(timed([*PLANNED, *THOUSAND], outputs)[0])
            figures[5].values.append(memory)
    return figures


def show(figures: Sequence[Figure], where: Mapping[str, Any]) -> None:
    """The table on the terminal."""
    table = Table(box=box.MARKDOWN)
    for name in ("what", "unit", "median", "min", "max", "bound", "share of bound"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for figure in figures:
        numbers = (figure.median, min(figure.values), max(figure.values))
        bound = figure.bound
        share = ("", "") if bound is None else (f"{bound:g}", f"{figure.median / bound:.2f}")
        table.add_row(figure.name, figure.unit, *(f"{number:.2f}" for number in numbers), *share)
    console = Console(width=140)
    console.print(table)
    console.print(
        f"{where['date']}, {where['device']}, {where['cores']} cores, torch {where['torch']}, "
        f"{where['threads']} threads, {len(figures[0].values)} runs"
    )


def main() -> None:
    """Measure, print, write."""
    parser = Options("benchmarks.grid", __doc__.splitlines()[0])
    parser.add_argument("--runs", type=positive, default=3)
    parser.add_argument("--quick", action="store_true", help="one run, nothing written")
    options = parser.parse_args()
    where = machine()  # the code as it is now, whatever is edited meanwhile
    figures = measure(1 if options.quick else options.runs)
    show(figures, where)
    if not options.quick:
        written = {f.name: {"unit": f.unit, "bound": f.bound, "values": f.values} for f in figures}
        record = {"machine": where, "figures": written}
        RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
