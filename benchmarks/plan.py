"""`python -m benchmarks.plan`: what it saves to plan a grid, and to run its cells in one process.

Twelve cells (three methods, two sparsities, two calibration sets) of the embedded model as one
command, beside a command for each of them, all into one folder: what is on disk is shared by both
sides, what is in memory by the one process only. Magnitude reads no calibration data: of its four
points two are cells, which a process per point finds done, too. Writes benchmarks/plan.json.
"""

from __future__ import annotations

import tempfile
from itertools import product
from pathlib import Path

from benchmarks.contest import Contest, arguments, machine, show, turns, write
from benchmarks.grid import timed

METHODS = ("magnitude", "wanda", "sparsegpt")
RATIOS = ("0.5", "0.6")
CALIBRATION = ("c4", "alpaca")
ALIKE = ("tracker=none", "report=table", "name=cells")
QUICK = ("calib.n_samples=8", "metric.perplexity.n_samples=8", "metric.tasks.n_samples=8")


def one_process(outputs: Path, more: tuple[str, ...]) -> float:
    """Seconds of the grid as one command."""
    grid = (
        f"method={','.join(METHODS)}",
        f"sparsity.ratio={','.join(RATIOS)}",
        f"calib={','.join(CALIBRATION)}",
    )
    return timed([*grid, *ALIKE, *more, "-m"], outputs)[0]


def process_per_cell(outputs: Path, more: tuple[str, ...]) -> float:
    """Seconds of its points, a command for each."""
    return sum(
        timed(
            [f"method={method}", f"sparsity.ratio={ratio}", f"calib={calib}", *ALIKE, *more],
            outputs,
        )[0]
        for method, ratio, calib in product(METHODS, RATIOS, CALIBRATION)
    )


def twelve(runs: int, more: tuple[str, ...]) -> Contest:
    """Both ways in turns, each time from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        made: dict[str, list[Path]] = {"one": [], "each": []}

        def fresh(side: str) -> Path:
            made[side].append(Path(folder) / f"{side}-{len(made[side])}")
            return made[side][-1]

        spent = turns(
            lambda: one_process(fresh("one"), more),
            lambda: process_per_cell(fresh("each"), more),
            runs,
        )
        names = [{path.name for path in (made[side][0] / "cells").iterdir()} for side in made]
        agreement = "other cells" if names[0] != names[1] else "the same cells"
    work = "12 points, 3 methods x 2 sparsities x 2 calibration sets, embedded model"
    note = "one process saves imports, planning, the dense model's passes and reports; all else is "
    note += "passes of the cells, which both sides do"
    return Contest(work, "a process per point", "s", 3, *spent, agreement, note)


def main() -> None:
    """Measure, print, write."""
    options = arguments("benchmarks.plan", __doc__.splitlines()[0]).parse_args()
    where = machine()  # the code as it is now, whatever is edited meanwhile
    contests = [twelve(1 if options.quick else options.runs, QUICK if options.quick else ())]
    show(contests, where)
    if not options.quick:
        write("plan", contests, where)


if __name__ == "__main__":
    main()
