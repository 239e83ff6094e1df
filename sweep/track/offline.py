"""A cell as a file that `wandb sync` can send: one for each cell, however often it was begun.

`wandb sync` appends to a run what a file of the same id holds. So a cell has one file that it has
not sent yet, made anew from the cell's folder whenever there is more to show, and whole at any
moment: the first is there before the cell begins, and one that is replaced goes when the next has
come. A file that was sent is left as it is, and the next one begins after its last row.

outputs/wandb/wandb/offline-run-<time>-<id>/  the client's folder of a run; in `rows` the number of
                                              rows of the history up to its end
outputs/wandb/staged/<the same>/              copies of its tables, which `wandb sync` reads
outputs/wandb/making/                         files that are not whole yet
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from sweep.scratch import own_folder
from sweep.track import server
from sweep.track.shown import Shown


def render(shown: Shown, outputs: Path, project: str, entity: str | None) -> None:
    """Make the cell's file, and take away the one that it replaces.

    Args:
        shown: the cell.
        outputs: the folder of outputs.
        project, entity: where it is to go.

    Raises:
        Exception: whatever the client says.
    """
    folder = outputs / "wandb"
    server.prepare(folder)
    old = [path for path in runs(outputs, shown.id) if not _sent(path)]
    first = max([_rows(path) for path in runs(outputs, shown.id) if _sent(path)], default=0)
    place = _free(folder / "wandb", shown.id)
    staged = folder / "staged" / place.name
    before, os.environ["WANDB_DATA_DIR"] = os.environ["WANDB_DATA_DIR"], str(staged)
    making, clear = own_folder(folder / "making")
    try:
        run = server.open_run(
            shown, "offline", making, project=project, entity=entity, patience=15.0, wait=30.0
        )
        made = Path(run.dir).parent
        try:
            server.fill(run, shown, first)
        finally:
            run.finish(exit_code=0 if shown.done else 1)
        (made / "rows").write_text(f"{_after(shown)}\n")
        place.parent.mkdir(exist_ok=True)
        made.rename(place)
        for path in old:
            path.rename(making / path.name)  # in one step, and then it is deleted
        _clear_copies(folder / "staged", shown.id, [path.name for path in runs(outputs, shown.id)])
    finally:
        os.environ["WANDB_DATA_DIR"] = before
        clear()


def _clear_copies(staged: Path, id: str, kept: Sequence[str]) -> None:
    """Those of files that are gone, or were never finished."""
    for copies in staged.glob(f"offline-run-*-{id}"):
        if copies.name not in kept:
            shutil.rmtree(copies, ignore_errors=True)


def mark_sent(outputs: Path, shown: Shown) -> None:
    """The server has this of the cell: `wandb sync` passes over files that hold no more."""
    for path in runs(outputs, shown.id):
        if _rows(path) <= _after(shown):
            for file in path.glob("*.wandb"):
                file.with_name(f"{file.name}.synced").touch()


def runs(outputs: Path, id: str) -> list[Path]:
    """Folders of the cell's files."""
    return sorted((outputs / "wandb" / "wandb").glob(f"offline-run-*-{id}"))


def _after(shown: Shown) -> int:
    """Number of the row that would come next."""
    return int(shown.history[-1]["step"]) + 1 if shown.history else 0


def _sent(path: Path) -> bool:
    return any(path.glob("*.wandb.synced"))


def _rows(path: Path) -> int:
    try:
        return int((path / "rows").read_text())
    except (OSError, ValueError):
        return 0


def _free(folder: Path, id: str) -> Path:
    """A name as the client would give it, which no file has yet."""
    now = time.time()
    while True:
        stamp = time.strftime("%Y%m%d_%H%M%S", time.localtime(now))
        path = folder / f"offline-run-{stamp}-{id}"
        if not path.exists():
            return path
        now += 1
