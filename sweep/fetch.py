"""`python -m sweep.fetch [the words of a sweep]`: everything that a grid reads, into the caches.

For clusters whose nodes have no internet: run where there is a network, with the words of the sweep
(`-m` or not). Every model's files, every calibration set and every metric's text is read once, as a
job will read it, and what cannot be had is named before anything is submitted.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sweep import garbage
from sweep.grid import quiet
from sweep.plan import plan
from sweep.progress import Progress
from sweep.workshop import Workshop


def fetch(configs: Sequence[Mapping[str, Any]]) -> None:
    """Read what the grid of frozen configurations reads; say what it was.

    Raises:
        Refusal: something cannot be had.
    """
    quiet()
    workshop = Workshop(Progress())
    planned = plan(configs, workshop, runs_here=False)
    found: dict[str, None] = {}
    for cell in planned.cells:
        checkpoint = cell.parts.checkpoint
        found[f"model {checkpoint.folder()}"] = None
        calibration = cell.parts.calibration
        if calibration is not None and not calibration.sampled:
            workshop.windows(cell)
            for origin in cell.parts.calibrated_on():
                found[f"calib {origin.corpus}: {origin.location} at {origin.revision}"] = None
        for name in cell.parts.metrics:
            workshop.material(cell, name)
            for origin in cell.parts.measured_on(name):
                found[f"metric.{name} {origin.corpus}: {origin.location} at {origin.revision}"] = (
                    None
                )
    sys.stdout.write("".join(f"{line}\n" for line in found))
    sys.stdout.write(f"{len(planned.cells)} cells have what they need\n")


def main() -> None:
    """The command of a sweep, with another launcher."""
    from sweep import __main__ as command

    words = [word for word in sys.argv[1:] if word not in ("-m", "--multirun")]
    words = [word for word in words if not word.startswith("hydra/launcher=")]
    # settings of the launcher that the sweep will have mean nothing here
    words = [word for word in words if "hydra.launcher." not in word]
    sys.argv[1:] = [*words, "hydra/launcher=fetch", "-m"]
    command.main()


if __name__ == "__main__":
    with garbage.alone():
        main()
