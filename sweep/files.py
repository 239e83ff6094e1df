"""All files below `outputs`: their names, and what is in them.

outputs/cells/<label>-<id8>/cell.yaml              the frozen configuration and the identity
                           /compression.json       what became of every layer
                           /metrics/<metric>.json  values, data, settings, environment, as
                                                   asked for last; a result with other
                                                   settings is <metric>@<settings_id8>.json
                           /metrics/<metric>-<corpus>.jsonl      the rows behind the values
                           /generations/<metric>-<corpus>.jsonl  the same, of metrics that generate
                           /attempts/<n>.json      who worked or works on it, and how far it is
                           /blocks/                finished blocks of a compression that was stopped
                           /failure.txt            why the cell failed, until the next attempt
                           /progress.jsonl         how it went, row by row (sweep.track.journal)
                           /log.txt
                           /model/                 the compressed model and its card, with
                                                   keep=model
outputs/reports/<sweep>/sweep.json                 which cells the sweep has
                       /wandb-run                  id of its run in W&B, written once
                       /wandb-place.json           where in W&B it was told to go last
                       /report.html, results.csv, … see sweep/report
outputs/cache/fingerprints.json                    content hashes of models, by file times and sizes
outputs/cache/<kind>/<key>.json                    what had its price: a judge's replies,
                                                   what a model said by itself (self)
outputs/cache/stream/<process>/                    weights that are replaced in a streamed model,
                                                   as long as its process runs
outputs/cache/statistics/<process>/                of the dense model, which cells share, likewise
outputs/wandb/
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from sweep.disk import (
    alone,
    json_line,
    json_text,
    read_json,
    read_rows,
    replacing_folder,
    say_damaged,
    whole,
    write,
    writing,
)
from sweep.refusal import Refusal

EVERYTHING = "all"
"""Name of the report of all cells below a folder; no sweep has it."""

LOST = {
    "left_out": "left out, too long",
    "unanswered": "left out, answered by nobody",
    "cut": "cut at seqlen",
}
"""What of the data does not go into a result, or not whole: as it is counted, and in words."""


class Folder:
    """The folder of one cell.

    Args:
        outputs: the sweep's folder of outputs.
        name: the cell's name, `<label>-<id8>`; a folder with the same id8 is taken as it is,
            whatever its label.
    """

    def __init__(self, outputs: str | Path, name: str) -> None:
        cells = Path(outputs) / "cells"
        self.path = cells / name
        if not self.path.is_dir() and (there := _ending(cells, f"-{name[-8:]}")):
            self.path = cells / there

    @classmethod
    def at(cls, path: Path) -> Folder:
        """Of a cell that lies at a path, wherever that is: one that was copied, say."""
        found = cls.__new__(cls)
        found.path = path
        return found

    @property
    def log(self) -> Path:
        """What happened, in lines."""
        return self.path / "log.txt"

    @property
    def progress(self) -> Path:
        """How it went, as W&B shows it."""
        return self.path / "progress.jsonl"

    @property
    def model(self) -> Path:
        """The compressed model, if it was kept."""
        return self.path / "model"

    @property
    def card(self) -> Path:
        """What the kept model says of itself."""
        return self.model / "README.md"

    def write_card(self, text: str) -> None:
        """The kept model's card."""
        write(self.card, text)

    def write_cell(
        self,
        id: str,
        identity: Mapping[str, Any],
        metrics: Mapping[str, str],
        config: Mapping[str, Any],
        about: Mapping[str, Any],
    ) -> None:
        """`cell.yaml`; written first, so that a folder always says what it is.

        Args:
            id, identity, config, about: the cell's.
            metrics: that are asked for, with the ids of their settings.
        """
        content = {
            "id": id,
            "about": dict(about),
            "identity": dict(identity),
            "metrics": dict(metrics),
            "config": dict(config),
        }
        write(self.path / "cell.yaml", yaml.dump(content, Dumper=_Plain, sort_keys=False))

    def cell(self) -> dict[str, Any] | None:
        """What `write_cell` wrote, to be read only; None: nothing is there, or it was damaged."""
        file = self.path / "cell.yaml"
        if not file.is_file():
            return None
        state = file.stat()
        return _cell(file, (state.st_ino, state.st_mtime_ns, state.st_size))

    def write_compression(self, record: Mapping[str, Any]) -> None:
        """`compression.json`."""
        write(self.path / "compression.json", json_text(record))

    def compression(self) -> dict[str, Any] | None:
        """What `write_compression` wrote."""
        return read_json(self.path / "compression.json", _COMPRESSION)

    def write_metric(
        self,
        metric: str,
        record: Mapping[str, Any],
        examples: Mapping[str, Sequence[Mapping[str, Any]]],
    ) -> None:
        """A metric's result; the examples first, so that a result is never without its rows.

        A result that is there already and has other settings is set aside, not overwritten.
        """
        there = self._read(metric)
        if there is not None and there["settings_id"] != record["settings_id"]:
            with writing(self._result(metric)):
                self._rename(metric, _aside(metric, there["settings_id"]))
        kinds = {
            corpus: "generations" if rows and "answer" in rows[0] else "metrics"
            for corpus, rows in examples.items()
        }
        for corpus, rows in examples.items():
            text = "".join(json_line(row) for row in rows)
            write(self._row_file(kinds[corpus], metric, corpus), text)
        write(self._result(metric), json_text({**record, "rows": kinds}))

    def metric(self, metric: str, settings_id: str) -> dict[str, Any] | None:
        """A metric's result with these settings and data (`Cell.metric_id`), if it is all there."""
        stem = self._stem(metric, settings_id)
        found = None if stem is None else self._read(stem)
        if found is None or stem is None:
            return None
        rows = {
            corpus: self._row_file(kind, stem, corpus) for corpus, kind in found["rows"].items()
        }
        return found if all(file.is_file() for file in rows.values()) else None

    def latest_metrics(self) -> dict[str, dict[str, Any]]:
        """Every metric's result with the settings that were asked for last, by metric."""
        files = sorted((self.path / "metrics").glob("*.json"))
        found = {file.stem: self._read(file.stem) for file in files if "@" not in file.stem}
        return {name: result for name, result in found.items() if result is not None}

    def answers(self) -> dict[tuple[str, str, str], str]:
        """Every answer that is kept, of whichever metric, by prompt, gold answer and settings."""
        rows = chain.from_iterable(
            read_rows(file) or () for file in sorted((self.path / "generations").glob("*.jsonl"))
        )
        return {
            (row["prompt"], row["gold"], row["settings"]): row["answer"]
            for row in rows
            if {"prompt", "gold", "settings", "answer"} <= row.keys()
        }

    def examples(self, metric: str, settings_id: str) -> dict[str, list[dict[str, Any]]]:
        """The rows behind the values of such a result, by corpus."""
        stem = self._stem(metric, settings_id)
        result = None if stem is None else self._read(stem)
        if result is None or stem is None:
            return {}
        found: dict[str, list[dict[str, Any]]] = {}
        for corpus, kind in result["rows"].items():
            if (rows := read_rows(self._row_file(kind, stem, corpus))) is not None:
                found[corpus] = rows
        return found

    def result_file(self, metric: str, settings_id: str) -> Path:
        """Where the result with these settings lies, or would lie."""
        return self._result(self._stem(metric, settings_id) or metric)

    def rows_file(self, metric: str, settings_id: str, corpus: str) -> Path | None:
        """Where the rows of such a result on a corpus lie; None if there is no result."""
        stem = self._stem(metric, settings_id)
        result = None if stem is None else self._read(stem)
        if result is None or stem is None:
            return None
        return self._row_file(result["rows"][corpus], stem, corpus)

    def put_first(self, metric: str, settings_id: str) -> None:
        """Let `<metric>.json` be the result with these settings, if that was set aside."""
        aside = _aside(metric, settings_id)
        if self._stem(metric, settings_id) != aside:
            return
        latest = self._read(metric)
        # another sweep may be about the same; what it has moved is where it should be
        with writing(self._result(metric)), contextlib.suppress(FileNotFoundError):
            if latest is not None:
                self._rename(metric, _aside(metric, latest["settings_id"]))
            self._rename(aside, metric)

    def _stem(self, metric: str, settings_id: str) -> str | None:
        """The name under which a result lies: the metric's, or that of one set aside."""
        for stem in (metric, _aside(metric, settings_id)):
            found = self._read(stem)
            if found is not None and found["settings_id"] == settings_id:
                return stem
        return None

    def _read(self, stem: str) -> dict[str, Any] | None:
        return read_json(self._result(stem), _METRIC)

    def _result(self, stem: str) -> Path:
        return self.path / "metrics" / f"{stem}.json"

    def drop_model(self) -> None:
        """The kept model is not what it should be."""
        shutil.rmtree(self.model)

    def _row_file(self, kind: str, stem: str, corpus: str) -> Path:
        called = corpus.replace("/", "-")  # a repository of the hub
        return self.path / kind / f"{stem}-{called}.jsonl"

    def _rename(self, stem: str, new: str) -> None:
        """A result and its rows; the result last, as it is written last."""
        for kind in ("metrics", "generations"):
            for file in (self.path / kind).glob(f"{stem}-*.jsonl"):
                file.rename(file.with_name(new + file.name.removeprefix(stem)))
        self._result(stem).rename(self._result(new))

    def write_failure(self, text: str) -> None:
        """Why the cell failed."""
        write(self.path / "failure.txt", text)

    def failure(self) -> str | None:
        """The first line of why the cell failed, if it did and has not succeeded since."""
        file = self.path / "failure.txt"
        if not file.is_file():
            return None
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        if not lines:  # the disk was full
            return "no reason is known"
        # what a model or a data set says may hold codes that a terminal obeys
        return "".join(letter if letter.isprintable() else "\ufffd" for letter in lines[0])

    def failed_since(self, file: Path) -> bool:
        """Whether the cell failed after a file was written, and has not succeeded."""
        failure = self.path / "failure.txt"
        return failure.is_file() and failure.stat().st_mtime > file.stat().st_mtime

    def clear_failure(self) -> None:
        """The cell is begun again, or has succeeded."""
        (self.path / "failure.txt").unlink(missing_ok=True)

    def keep_model(self, save: Callable[[Path], None]) -> None:
        """Have the model saved beside its place, then move it there in one step."""
        with replacing_folder(self.model) as partial:
            save(partial)


def _ending(folder: Path, end: str) -> str | None:
    """The first name in a folder with this end; a plan asks for thousands."""
    try:
        return min((name for name in os.listdir(folder) if name.endswith(end)), default=None)  # noqa: PTH208
    except FileNotFoundError:
        return None


# ten times as fast where PyYAML was built with libyaml; a status reads a thousand
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def fingerprints(outputs: str | Path) -> dict[str, str]:
    """Content hashes of models' folders that an earlier command has read."""
    return read_json(Path(outputs) / "cache" / "fingerprints.json") or {}


def write_fingerprints(outputs: str | Path, known: Mapping[str, str]) -> None:
    """Remember them: of a large model it takes minutes to read all files."""
    write(Path(outputs) / "cache" / "fingerprints.json", json_text(known))


def scratch(outputs: str | Path, what: str) -> Path:
    """Where a process has what is larger than memory: `stream` or `statistics`."""
    return Path(outputs) / "cache" / what


class Kept:
    """What had its price, a file for each: it outlives the cell, the process and the sweep.

    Args:
        outputs: the sweep's folder of outputs.

    Attributes:
        unreached: see `Memory`; this alone ends with the process.
    """

    def __init__(self, outputs: str | Path) -> None:
        self.unreached: dict[str, Refusal] = {}
        self._folder = Path(outputs) / "cache"
        self._spent: Counter[str] = Counter()
        self._counting = threading.Lock()

    def recall(self, kind: str, key: str) -> dict[str, Any] | None:
        """What is kept under the key; None: nothing is."""
        return read_json(self._file(kind, key))

    def once(
        self,
        kind: str,
        key: str,
        compute: Callable[[], dict[str, Any]],
        *,
        lasts: Callable[[Mapping[str, Any]], bool],
    ) -> dict[str, Any]:
        """What is kept under the key; if nothing is, what `compute` gives; kept if it `lasts`.

        Whoever wants the same at the same time waits, in this process or in another.

        Raises:
            OutOfSpace: the file cannot be written.
        """
        file = self._file(kind, key)
        with alone(file.with_name(f"{key[:2]}.lock")):
            found = read_json(file)
            if found is None:
                found = compute()
                if lasts(found):
                    write(file, json_text(found))
        return found

    def spend(self, kind: str, count: int, most: int) -> bool:
        """Count what this process pays for, or with a negative number what it did not.

        Returns:
            False, and it is not counted, if it would be more than `most`.
        """
        with self._counting:
            if self._spent[kind] + count > most:
                return False
            self._spent[kind] += count
        return True

    def _file(self, kind: str, key: str) -> Path:
        return self._folder / kind / f"{key}.json"


class _Plain(yaml.SafeDumper):
    """Spells out what occurs twice, and does not refer to it as `*id001`."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always."""
        return True


def _aside(metric: str, settings_id: str) -> str:
    return f"{metric}@{settings_id[:8]}"


_CELL = {
    "id": str,
    "about": dict.fromkeys(
        ("model", "weights", "method", "compresses", "sparsity", "ratio", "calib", "seed"), object
    ),
    "identity": dict,
    "metrics": dict,
    "config": {"model": dict, "method": dict, "sparsity": dict, "calib": dict, "keep": str},
}
_COMPRESSION = {
    "sparsity": int | float,
    "layers": list,
    "calibration": object,
    "weights_sha256": str,
}
_METRIC = {"settings_id": str, "values": dict, "columns": list, "data": list, "rows": dict}
"""What is in a file that is whole, at the least, and of which kind."""


@lru_cache(maxsize=2000)  # YAML takes milliseconds, and a report asks twice
def _cell(file: Path, _: tuple[int, ...]) -> dict[str, Any] | None:
    """What a cell.yaml holds, in this state of the file."""
    try:
        found = yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - safe
    except (ValueError, yaml.YAMLError) as error:
        say_damaged(file, str(getattr(error, "problem", None) or error))
        return None
    return whole(file, found, _CELL)
