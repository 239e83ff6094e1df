"""`python -m benchmarks.pictures [STUDY …]`: the README's pictures of the studies, made anew.

Each is a figure of the report on a study with the embedded model. Cells that are done are not run
again, so what was stopped goes on; with --outputs in a new folder everything is run. Writes
docs/*.png and benchmarks/pictures.json: when and where, how many cells, the seconds that went into
them, and the correlations that the README's text names.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.contest import HERE, machine
from benchmarks.grid import spent
from sweep.options import Options

DOCS = HERE.parent / "docs"
RESULT = HERE / "pictures.json"

SMALL = [f"metric.{name}.n_samples=4" for name in ("perplexity", "divergence", "tasks")]
"""Words that make a study small, to try the command."""


class Picture(NamedTuple):
    """A figure of a study's report.

    Attributes:
        figure: its name there.
        columns: the values that it shows; none: all.
    """

    figure: str
    columns: tuple[str, ...] = ()

    def file(self, study: str) -> Path:
        """Where the README has it."""
        return DOCS / f"tiny-{study}-{self.figure.rpartition('.')[2]}.png"


FEW = ("jsd", "em_alpaca", "em_unnatural")
PICTURES = {
    "khanal_capone": Picture("against"),
    "sparsity_frontier": Picture("curves"),
    "calibration_size": Picture("calib.n_samples", FEW),
    "calibration_source": Picture("calibration", FEW),
    "metric_validity": Picture("truth"),
}
"""By study."""


def make(study: str, outputs: Path, words: Sequence[str]) -> tuple[Path, dict[str, Any]]:
    """Run what is missing of a study, and its report.

    Args:
        study: its name.
        outputs: where its cells and its report lie, or are to lie.
        words: more of the command line.

    Returns:
        The figure, and what is to be said of it.

    Raises:
        CalledProcessError: a cell failed.
        FileNotFoundError: the report has no such figure.
    """
    picture, report = PICTURES[study], outputs / "reports" / study
    settings = ["model=tiny", "tracker=none", "report=table", f"outputs={outputs}"]
    _run("sweep", f"+study={study}", *settings, *words, "-m")
    chosen = ["--columns", ",".join(picture.columns)] if picture.columns else []
    _run("sweep.report", str(report), "--html", "--csv", *chosen)
    figure = report / "figures" / f"{picture.figure}.png"
    if not figure.is_file():
        raise FileNotFoundError(f"{figure}: the report on {study} has no such figure")
    names = [cell["name"] for cell in json.loads((report / "sweep.json").read_text())["cells"]]
    seconds = round(sum(spent(outputs, name)[name][0] for name in names))
    told: dict[str, Any] = {"machine": machine(), "cells": len(names), "seconds": seconds}
    if picture.figure == "truth":
        told["spearman"] = _spearman(report / "correlations.csv")
    return figure, told


def _run(module: str, *words: str) -> None:
    subprocess.run([sys.executable, "-m", module, *words], check=True, stdout=subprocess.DEVNULL)


def _spearman(file: Path) -> dict[str, list[float]]:
    """Rank correlations with their intervals, by metric and task."""
    with file.open(newline="") as lines:
        return {
            f"{row['metric']} {row['task']}": [
                round(float(row[name]), 4) for name in ("spearman", "spearman_low", "spearman_high")
            ]
            for row in csv.DictReader(lines)
            if row["spearman"]
        }


def main(given: Sequence[str] | None = None) -> None:
    """Make the pictures, and write down what they are of."""
    parser = Options("benchmarks.pictures", __doc__.splitlines()[0])
    parser.add_argument(
        "study", nargs="*", choices=[*PICTURES, []], metavar="STUDY", help=", ".join(PICTURES)
    )
    parser.add_argument("--outputs", type=Path, default=HERE.parent / "outputs" / "pictures")
    parser.add_argument("--quick", action="store_true", help="small, and nothing written")
    options = parser.parse_args(given)
    outputs = options.outputs / "quick" if options.quick else options.outputs
    for study in options.study or PICTURES:
        figure, told = make(study, outputs.absolute(), SMALL if options.quick else [])
        sys.stdout.write(f"{figure}: {told['cells']} cells, {told['seconds']} s\n")
        if not options.quick:
            shutil.copyfile(figure, PICTURES[study].file(study))
            record = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
            RESULT.write_text(json.dumps({**record, study: told}, indent=2) + "\n")


if __name__ == "__main__":
    main()
