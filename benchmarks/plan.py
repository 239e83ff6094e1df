"""`python -m benchmarks.plan`: what it saves to plan a grid, and to run its cells in one process.

Twelve cells (three methods, two sparsities, two calibration sets) of the embedded model as one
command, beside a command for each of them: each into a folder of its own, so that nothing is
shared, and all into one, where they share what is on disk, the dense model's results and answers.
Magnitude reads no calibration data: of its four points two are cells, which commands with one
folder find done, too. What one process saves is work of Python and of the dense model, so that the
ratio grows with the machine's rate of products, which is measured in each turn. Twelve cells of two
methods take their statistics from the dense model, in the same ways. Writes benchmarks/plan.json.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from benchmarks.compress import FASTEST, product_rate
from benchmarks.contest import Contest, arguments, machine, show, write
from benchmarks.grid import timed

ALIKE = ("tracker=none", "report=table", "name=cells")
SMALL = ("calib.n_samples=8", "metric.perplexity.n_samples=8", "metric.tasks.n_samples=8")


@dataclass(frozen=True)
class Grid:
    """Points, and what all of them are asked with."""

    methods: tuple[str, ...]
    ratios: tuple[str, ...]
    calibration: tuple[str, ...] = ("c4", "alpaca")
    more: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For the table."""
        methods, sparsities, sets = map(len, (self.methods, self.ratios, self.calibration))
        return (
            f"{methods * sparsities * sets} points, {methods} methods x {sparsities} sparsities x "
            f"{sets} calibration sets, embedded model"
        )

    def whole(self) -> list[str]:
        """Of all points as one command."""
        lists = map(",".join, (self.methods, self.ratios, self.calibration))
        names = ("method", "sparsity.ratio", "calib")
        return [f"{name}={found}" for name, found in zip(names, lists, strict=True)]

    def points(self) -> list[list[str]]:
        """Of each of them."""
        return [
            [f"method={method}", f"sparsity.ratio={ratio}", f"calib={calib}"]
            for method, ratio, calib in product(self.methods, self.ratios, self.calibration)
        ]


FULL = Grid(("magnitude", "wanda", "sparsegpt"), ("0.5", "0.6"))
QUICK = Grid(("wanda",), ("0.5",), more=SMALL)
DENSE = "method.propagate=dense"
SHARED = Grid(FULL.methods[1:], (*FULL.ratios, "0.7"), more=(DENSE,))
"""As many points of the methods that have statistics."""


def contests(grid: Grid, runs: int) -> list[Contest]:
    """All three ways in turns, each time from nothing."""
    given = (*ALIKE, *grid.more)
    sides: dict[str, Callable[[Path], object]] = {
        "one process": lambda below: timed([*grid.whole(), *given, "-m"], below / "one"),
        "a process per point, each by itself": lambda below: [
            timed([*point, *given], below / str(number))
            for number, point in enumerate(grid.points())
        ],
        "a process per point, one folder": lambda below: [
            timed([*point, *given], below / "one") for point in grid.points()
        ],
    }
    spent: dict[str, list[float]] = {side: [] for side in sides}
    cells: dict[str, set[str]] = {}
    rates: list[float] = []
    for _ in range(runs):
        rates.append(product_rate())
        for side, work in sides.items():
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                work(Path(folder))
                spent[side].append(time.perf_counter() - started)
                cells[side] = {path.name for path in Path(folder).glob("*/cells/*")}
    ours, *theirs = sides
    shared = DENSE in grid.more
    note = "one process saves imports, planning, the dense model's passes and reports"
    note += "; a calibration pass for all cells of a set" if shared else ""
    note += f"; {FASTEST} at {statistics.median(rates):.0f} GFLOP/s"
    return [
        Contest(
            f"{grid}{f', {DENSE}' if shared else ''}",
            against,
            "s",
            None if shared else 3,
            spent[ours],
            spent[against],
            "the same cells" if cells[against] == cells[ours] else "other cells",
            note,
        )
        for against in theirs
    ]


def main() -> None:
    """Measure, print, write."""
    options = arguments("benchmarks.plan", __doc__.splitlines()[0]).parse_args()
    where = machine()  # the code as it is now, whatever is edited meanwhile
    grids, runs = ((QUICK,), 1) if options.quick else ((FULL, SHARED), options.runs)
    found = [contest for grid in grids for contest in contests(grid, runs)]
    show(found, where)
    if not options.quick:
        write("plan", found, where)


if __name__ == "__main__":
    main()
