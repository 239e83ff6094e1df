"""A run sent to Weights & Biases as it is on disk, by whoever finds that it is not there."""

from __future__ import annotations

from pathlib import Path

from sweep.track import offline, server
from sweep.track.found import Place
from sweep.track.shown import Shown


def send(shown: Shown, outputs: Path, place: Place, patience: float) -> None:
    """Make or continue a run on the server until it holds this.

    Args:
        shown: what it is to hold.
        outputs: the folder of outputs.
        place: where it belongs.
        patience: seconds in which a server that asks for patience must open a run, and take the
            rest of it.

    Raises:
        Exception: whatever the client makes of a server that does not answer or refuses.
    """
    run = server.open_run(
        shown,
        "online",
        outputs / "wandb",
        project=place.project,
        entity=place.entity,
        patience=patience,
        wait=patience,
    )
    try:
        server.fill(run, shown)
    finally:
        run.finish(exit_code=0 if shown.done or shown.alive else 1)
    offline.mark_sent(outputs, shown)
