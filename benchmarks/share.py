"""`python -m benchmarks.share`: what statistics of the dense model save, and what they cost.

One grid on the embedded model, SparseGPT and Wanda at several sparsities, as published (every block
is fed by compressed ones, and each cell has a pass of its own) and with `method.propagate=dense`
(one pass through the dense model serves all cells). Beside the seconds stand the metrics of every
cell of both: other statistics give other weights. Writes benchmarks/share.json.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.contest import Contest, arguments, machine, show, turns, write
from benchmarks.grid import spent, timed

GRID = (
    *("method=sparsegpt,wanda", "sparsity.ratio=0.3,0.4,0.5,0.6,0.7", "calib=c4"),
    *("metric=[perplexity,divergence,tasks]", "metric.tasks.source=alpaca"),
    *("tracker=none", "report=table", "name=share", "-m"),
)
SMALL = (
    *("sparsity.ratio=0.5,0.6", "calib.n_samples=8", "metric.perplexity.n_samples=8"),
    *("metric.divergence.n_samples=8", "metric.tasks.n_samples=8"),
)
WORSE: dict[str, Callable[[Mapping[str, str]], float]] = {
    "wrong answers of 100": lambda row: 100 * (1 - float(row["em"])),
    "perplexity": lambda row: float(row["perplexity"]),
    "nats of JSD": lambda row: float(row["jsd"]),
}
"""What less is better of."""


def run(propagate: str, outputs: Path, words: tuple[str, ...]) -> float:
    """Seconds of the whole command."""
    seconds, _ = timed([*GRID, *words, f"method.propagate={propagate}"], outputs)
    return seconds


def rows(outputs: Path) -> list[dict[str, str]]:
    """The table of a finished grid."""
    with (outputs / "reports" / "share" / "results.csv").open(newline="") as lines:
        return [row for row in csv.DictReader(lines) if row["method"] != "dense"]


def measure(runs: int, words: tuple[str, ...]) -> list[Contest]:
    """The seconds of the grid, those in compression, and each cell's metrics."""
    with tempfile.TemporaryDirectory() as name:
        folders: dict[str, list[Path]] = {"dense": [], "compressed": []}

        def side(propagate: str) -> float:
            folders[propagate].append(Path(name) / f"{propagate}{len(folders[propagate])}")
            return run(propagate, folders[propagate][-1], words)

        whole = turns(lambda: side("dense"), lambda: side("compressed"), runs)
        inside = [
            [sum(seconds for _, seconds, _ in spent(one).values()) for one in folders[side]]
            for side in folders
        ]
        tables = [rows(folders[side][0]) for side in folders]
    cells = f"{len(tables[0])} cells of SparseGPT and Wanda"
    against = "propagate=compressed"
    contests = [
        Contest(f"{cells}, propagate=dense, the whole command", against, "s", None, *whole),
        Contest(f"{cells}, propagate=dense, compressing", against, "s", None, *inside),
    ]
    for dense, compressed in zip(*tables, strict=True):
        what = f"{dense['method']} {dense['sparsity']}"
        assert what == f"{compressed['method']} {compressed['sparsity']}"
        (unit, worse), *others = WORSE.items()
        both = ([worse(row)] for row in (dense, compressed))
        beside = "; ".join(
            f"{name} {of(dense):.3g}, and {of(compressed):.3g}" for name, of in others
        )
        work = f"{what}, propagate=dense"
        contests.append(Contest(work, against, unit, None, *both, agreement=beside))
    return contests


def main() -> None:
    """Measure, print, write."""
    options = arguments("benchmarks.share", (__doc__ or "").splitlines()[0]).parse_args()
    where = machine()  # the code as it is now, whatever is edited meanwhile
    contests = measure(*((1, SMALL) if options.quick else (options.runs, ())))
    show(contests, where)
    if not options.quick:
        write("share", contests, where)


if __name__ == "__main__":
    main()
