"""All files below `outputs`: their names, and how they are written: whole, or not at all.

outputs/cells/<label>-<id8>/cell.yaml              the frozen configuration and the identity
                           /compression.json       what became of every layer
                           /metrics/<metric>.json  values, data, settings, environment
                           /metrics/<metric>-<corpus>.jsonl      the rows behind the values
                           /generations/<metric>-<corpus>.jsonl  the same, of metrics that generate
                           /failure.txt            why the cell failed, until it succeeds
                           /log.txt
                           /model/                 the compressed model, with keep=model
outputs/reports/<sweep>/results.csv, results.md
outputs/cache/, outputs/logs/, outputs/wandb/
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sweep.refusal import OutOfSpace, Refusal

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class Folder:
    """The folder of one cell.

    Args:
        outputs: the sweep's folder of outputs.
        name: the cell's name, `<label>-<id8>`; a folder with the same id8 is taken as it is,
            whatever its label.
    """

    def __init__(self, outputs: str | Path, name: str) -> None:
        cells = Path(outputs) / "cells"
        there = sorted(cells.glob(f"*-{name[-8:]}")) if cells.is_dir() else []
        self.path = there[0] if there else cells / name

    @property
    def log(self) -> Path:
        """What happened, in lines."""
        return self.path / "log.txt"

    @property
    def model(self) -> Path:
        """The compressed model, if it was kept."""
        return self.path / "model"

    def write_cell(self, config: Mapping[str, Any], identity: Mapping[str, Any], id: str) -> None:
        """`cell.yaml`; written first, so that a folder always says what it is."""
        text = yaml.safe_dump(
            {"id": id, "identity": dict(identity), "config": dict(config)}, sort_keys=False
        )
        write(self.path / "cell.yaml", text)

    def cell(self) -> dict[str, Any] | None:
        """What `write_cell` wrote."""
        file = self.path / "cell.yaml"
        found: dict[str, Any] | None = yaml.safe_load(file.read_text()) if file.is_file() else None
        return found

    def write_compression(self, record: Mapping[str, Any]) -> None:
        """`compression.json`."""
        write(self.path / "compression.json", _json(record))

    def compression(self) -> dict[str, Any] | None:
        """What `write_compression` wrote."""
        return _read_json(self.path / "compression.json")

    def write_metric(
        self,
        metric: str,
        record: Mapping[str, Any],
        examples: Mapping[str, Sequence[Mapping[str, Any]]],
    ) -> None:
        """A metric's result; the examples first, so that a result is never without its rows."""
        for corpus, rows in examples.items():
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write(self._examples(metric, corpus, rows), text)
        write(self.path / "metrics" / f"{metric}.json", _json(record))

    def metric(self, metric: str) -> dict[str, Any] | None:
        """A metric's result, if there is one."""
        return _read_json(self.path / "metrics" / f"{metric}.json")

    def metrics(self) -> list[str]:
        """Names of the metrics that have results."""
        return sorted(file.stem for file in (self.path / "metrics").glob("*.json"))

    def examples(self, metric: str) -> dict[str, list[dict[str, Any]]]:
        """The rows behind a metric's values, by corpus."""
        found: dict[str, list[dict[str, Any]]] = {}
        for kind in ("metrics", "generations"):
            for file in sorted((self.path / kind).glob(f"{metric}-*.jsonl")):
                corpus = file.stem.removeprefix(f"{metric}-")
                # not splitlines(), which also splits at U+2028 and U+0085 inside an answer
                lines = file.read_text(encoding="utf-8").split("\n")
                found[corpus] = [json.loads(line) for line in lines if line]
        return found

    def write_failure(self, text: str) -> None:
        """Why the cell failed."""
        write(self.path / "failure.txt", text)

    def failure(self) -> str | None:
        """The first line of why the cell failed, if it did and has not succeeded since."""
        file = self.path / "failure.txt"
        return file.read_text().splitlines()[0] if file.is_file() else None

    def clear_failure(self) -> None:
        """The cell has succeeded."""
        (self.path / "failure.txt").unlink(missing_ok=True)

    def keep_model(self, save: Callable[[Path], None]) -> None:
        """Have the model saved beside its place, then move it there in one step."""
        partial = self.path / "model.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            with writing(partial):
                partial.mkdir(parents=True)
                save(partial)
                shutil.rmtree(self.model, ignore_errors=True)
                partial.rename(self.model)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _examples(self, metric: str, corpus: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        kind = "generations" if rows and "answer" in rows[0] else "metrics"
        return self.path / kind / f"{metric}-{corpus}.jsonl"


def write(path: Path, text: str) -> None:
    """Write a file in one step: readers see the old one or the whole new one.

    Raises:
        OutOfSpace: the disk is full, or the folder may not be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an error of the disk into `OutOfSpace`."""
    try:
        yield
    except Exception as error:
        # safetensors has an error of its own, which holds the system's number in its text
        said = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(said[1]) if said else None
        if number in _FULL:
            raise OutOfSpace(f"{path}: cannot be written ({os.strerror(number)})") from error
        raise


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def check_writable(outputs: str) -> None:
    """Raises: Refusal: `outputs` cannot be made, or cannot be written to."""
    try:
        Path(outputs).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=outputs) as probe:
            probe.write(b"0" * 4096)
            probe.flush()
    except OSError as error:
        reason = f"cannot be written to ({error.strerror}); choose a folder that can"
        raise Refusal("outputs", outputs, reason) from error


def _json(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
