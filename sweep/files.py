"""All files below `outputs`: their names, and how they are written: whole, or not at all.

outputs/cells/<label>-<id8>/cell.yaml              the frozen configuration and the identity
                           /compression.json       what became of every layer
                           /metrics/<metric>.json  values, data, settings, environment, as
                                                   measured last; an earlier result with other
                                                   settings is <metric>@<settings_id8>.json
                           /metrics/<metric>-<corpus>.jsonl      the rows behind the values
                           /generations/<metric>-<corpus>.jsonl  the same, of metrics that generate
                           /attempts/<n>.json      who worked or works on it, and how far it is
                           /blocks/                finished blocks of a compression that was stopped
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
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sweep.refusal import OutOfSpace, Refusal

log = logging.getLogger("sweep")

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

    def write_cell(
        self,
        id: str,
        identity: Mapping[str, Any],
        metrics: Mapping[str, str],
        config: Mapping[str, Any],
    ) -> None:
        """`cell.yaml`; written first, so that a folder always says what it is.

        Args:
            id, identity, config: the cell's.
            metrics: that are asked for, with the ids of their settings.
        """
        content = {
            "id": id,
            "identity": dict(identity),
            "metrics": dict(metrics),
            "config": dict(config),
        }
        write(self.path / "cell.yaml", yaml.dump(content, Dumper=_Plain, sort_keys=False))

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
        """A metric's result; the examples first, so that a result is never without its rows.

        A result that is there already and has other settings is set aside, not overwritten.
        """
        there = _read_json(self._result(metric))
        if there is not None and there.get("settings_id") != record["settings_id"]:
            self._set_aside(metric, str(there.get("settings_id")))
        for corpus, rows in examples.items():
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            kind = "generations" if rows and "answer" in rows[0] else "metrics"
            write(self.path / kind / f"{metric}-{corpus}.jsonl", text)
        write(self._result(metric), _json(record))

    def metric(self, metric: str, settings_id: str) -> dict[str, Any] | None:
        """A metric's result with these settings and data (`Cell.metric_id`), if there is one."""
        for stem in (metric, _aside(metric, settings_id)):
            found = _read_json(self._result(stem))
            if found is not None and found.get("settings_id") == settings_id:
                return found
        return None

    def examples(self, metric: str, settings_id: str) -> dict[str, list[dict[str, Any]]]:
        """The rows behind the values of such a result, by corpus."""
        latest = _read_json(self._result(metric))
        is_latest = latest is not None and latest.get("settings_id") == settings_id
        stem = metric if is_latest else _aside(metric, settings_id)
        found: dict[str, list[dict[str, Any]]] = {}
        for file in self._rows(stem):
            # not splitlines(), which also splits at U+2028 and U+0085 inside an answer
            lines = file.read_text(encoding="utf-8").split("\n")
            try:
                rows = [json.loads(line) for line in lines if line]
            except ValueError as error:
                log.warning("%s: damaged (%s), taken as missing", file, error)
                continue
            found[file.stem.removeprefix(f"{stem}-")] = rows
        return found

    def _result(self, stem: str) -> Path:
        return self.path / "metrics" / f"{stem}.json"

    def _rows(self, stem: str) -> list[Path]:
        kinds = ("metrics", "generations")
        return [
            file for kind in kinds for file in sorted((self.path / kind).glob(f"{stem}-*.jsonl"))
        ]

    def _set_aside(self, metric: str, settings_id: str) -> None:
        """Rename a result and its rows; the result last, as it is written last."""
        aside = _aside(metric, settings_id)
        with writing(self._result(aside)):
            for file in self._rows(metric):
                file.rename(file.with_name(aside + file.name.removeprefix(metric)))
            self._result(metric).rename(self._result(aside))

    def seconds(self) -> float:
        """Seconds that compressing and measuring took, by what the results say."""
        files = [self.path / "compression.json", *(self.path / "metrics").glob("*.json")]
        records = [record for record in map(_read_json, files) if record is not None]
        return sum(float(record.get("seconds", 0)) for record in records)

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
        with writing(self.model):
            self.path.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=self.path, prefix=".model-"))
            try:
                save(partial)
                partial.chmod(self.path.stat().st_mode)
                shutil.rmtree(self.model, ignore_errors=True)
                partial.rename(self.model)
            finally:
                shutil.rmtree(partial, ignore_errors=True)


class _Plain(yaml.SafeDumper):
    """Spells out what occurs twice, and does not refer to it as `*id001`."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always."""
        return True


def write(path: Path, text: str) -> None:
    """Write a file in one step: readers see the old one or the whole new one.

    Raises:
        OutOfSpace: the disk is full, or the folder may not be written.
    """
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        file.write(text)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to be written to, which then takes its place in one step.

    Raises:
        OutOfSpace: the disk is full, or the folder may not be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            os.close(handle)
            yield Path(name)
            with open(name, "rb") as file:  # noqa: PTH123 - the file is synced, whoever wrote it
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


def _aside(metric: str, settings_id: str) -> str:
    return f"{metric}@{settings_id[:8]}"


def _read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is none, or one that was damaged from outside."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        log.warning("%s: damaged (%s), taken as missing", path, error)
        return None
    if not isinstance(found, dict):
        log.warning("%s: damaged (holds no object), taken as missing", path)
        return None
    return found
