"""What a cell did, line by line: the history that a mirror shows, on disk before it is elsewhere.

A line is written at once, so whatever kills the cell leaves it; an attempt that goes on with the
cell goes on with the numbers of the lines. By them a server knows what it has already.

outputs/cells/<cell>/progress.jsonl   of every attempt a head (sweep, mode, environment, data), and
                                      then its rows, with `step` and `time`
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class Journal:
    """The lines of one cell.

    Args:
        path: of the file, which may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        said = list(_lines(path))
        self.heads = [line for line in said if "step" not in line]
        self.rows = [line for line in said if "step" in line]
        self._least = 0

    @property
    def next(self) -> int:
        """The number of the row that comes next."""
        return max(self._least, self.rows[-1]["step"] + 1 if self.rows else 0)

    def untold(self, layers: Mapping[int, Mapping[str, Any]]) -> list[dict[str, float]]:
        """A row for each of the layers, by their places in the model, that has none yet.

        Args:
            layers: what `compression.json` says of them.
        """
        told = {row["layer/index"] for row in self.rows if "layer/index" in row}
        return [_of_layer(index, layers[index]) for index in layers if index not in told]

    def begin(self, head: Mapping[str, Any]) -> None:
        """Another attempt, which is described by its head.

        Raises:
            OSError: the disk takes no more.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":  # the last line of an attempt that was killed
                    file.write(b"\n")
        self._write(dict(head))
        self.heads.append(dict(head))

    def add(self, *rows: Mapping[str, float]) -> list[dict[str, Any]]:
        """More rows, as they are written: with their numbers and the time.

        Raises:
            OSError: the disk takes no more.
        """
        now = time.time()
        first = self.next
        made = [{"step": first + i, "time": now, **row} for i, row in enumerate(rows)]
        self.rows += made
        self._write(*made)
        return made

    def skip_to(self, step: int) -> None:
        """The next row has at least this number: a server has had those before."""
        self._least = step

    def _write(self, *lines: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))


def layers(compression: Mapping[str, Any] | None) -> dict[int, Mapping[str, Any]]:
    """The layers in a `compression.json`, by their places in the model."""
    return dict(enumerate(compression["layers"])) if compression is not None else {}


def _of_layer(index: int, layer: Mapping[str, Any]) -> dict[str, float]:
    row = {"layer/index": index, "layer/sparsity": layer["sparsity"]}
    if layer.get("output_error") is not None:
        row["layer/output_error"] = layer["output_error"]
    return row


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    """Whole lines; one that was cut off when a process was killed says nothing."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.split("\n"):
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict):
            yield said
