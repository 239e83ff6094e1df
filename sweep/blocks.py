"""Finished blocks of a compression on disk, so that one that was stopped goes on where it was.

The walk offers every block that it has compressed. Those of the last minute are still only in the
model; they are written when it is asked to stop. What comes out is the same as without a stop: the
walk runs the finished blocks again with their weights to feed the next one, and runs nothing else.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import final

from sweep.disk import replacing
from sweep.files import Folder
from sweep.method.walk import Finished, Outcome
from sweep.model.matrix import Matrix

EVERY = 60.0
"""Seconds of compression that a process which is killed without warning may lose."""

Outcomes = Mapping[str, Outcome]


@final
class Blocks(Finished):
    """Of one cell; what an interrupted walk leaves for the next.

    Args:
        folder: the cell's.
    """

    def __init__(self, folder: Folder) -> None:
        self._path = folder.path / "blocks"
        self._unwritten: list[tuple[int, Mapping[str, Matrix], Outcomes]] = []
        self._written = time.monotonic()

    def there(self) -> int:
        """How many an earlier process has left."""
        return len(list(self._path.glob("[0-9]*.safetensors")))

    def restore(self, number: int, linears: Mapping[str, Matrix]) -> Outcomes | None:
        """See `Finished`."""
        from safetensors import safe_open

        file = self._file(number)
        if not file.is_file():
            return None
        with safe_open(file, framework="pt") as saved:
            said = {name: json.loads(text) for name, text in saved.metadata().items()}
            if said.keys() != linears.keys():
                return None
            for name, linear in linears.items():
                linear.put(saved.get_tensor(name))
        return {
            name: Outcome(tuple(one["remarks"]), one["output_error"]) for name, one in said.items()
        }

    def keep(self, number: int, linears: Mapping[str, Matrix], outcomes: Outcomes) -> None:
        """See `Finished`."""
        self._unwritten.append((number, linears, outcomes))
        if time.monotonic() - self._written > EVERY:
            self.write()

    def write(self) -> None:
        """What is not on disk yet.

        Raises:
            OutOfSpace: the disk is full.
        """
        from safetensors.torch import save_file

        while self._unwritten:
            number, linears, outcomes = self._unwritten[0]
            weights = {
                name: linear.weight.detach().cpu().contiguous() for name, linear in linears.items()
            }
            metadata = {name: json.dumps(outcome._asdict()) for name, outcome in outcomes.items()}
            with replacing(self._file(number)) as partial:
                save_file(weights, partial, metadata)
            self._unwritten.pop(0)
        self._written = time.monotonic()

    def clear(self) -> None:
        """The cell is finished: nobody needs them any more."""
        self._unwritten.clear()
        shutil.rmtree(self._path, ignore_errors=True)

    def _file(self, number: int) -> Path:
        return self._path / f"{number:04d}.safetensors"
