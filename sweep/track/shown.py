"""What is shown of a cell, read from its files: so that it can be shown at any time, anywhere."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from sweep.attempt import latest
from sweep.disk import once, write
from sweep.files import Folder
from sweep.metric.judge_prompt import CRITERIA
from sweep.report.entries import Entry
from sweep.report.notes import stand_ins
from sweep.report.table import named, telling_apart
from sweep.track.journal import Journal, layers

STAND_IN = "stand-in"
"""The tag of what was measured on, or calibrated with, a corpus that is none."""

SAMPLES = 200
"""Generations shown per corpus; where there are more, a note says so and names the file."""

COLUMNS = ("prompt", "gold", "dense_answer", "answer", "em", "f1", "rouge1", "judge", *CRITERIA)

RESULTS = (
    *("model", "method", "pattern", "sparsity", "settings", "calib", "seed"),
    *("metric", "value", "low", "high", "cell"),
)
"""Columns of a sweep's table of results: a row for each cell and value."""


@dataclass(frozen=True)
class Table:
    """Rows under names."""

    columns: tuple[str, ...]
    rows: list[list[Any]]

    @property
    def digest(self) -> str:
        """Equal for equal tables."""
        return _digest([self.columns, self.rows])


@dataclass(frozen=True)
class Shown:
    """A run in W&B, as it should be.

    Attributes:
        id: of the run: the cell's, or the sweep's own (`run_of`).
        origin: of the folder of outputs that it is read from (`origin_of`): two folders may have
            the same cell, each with its own history and metrics.
        name, group, kind, tags: for people; the kind is the method. The tags are among those that
            a run has on the server, which may be in sweeps of other folders too.
        config: everything on which the numbers depend; in `notes`, which corpora are stand-ins, and
            which generations are not among those shown.
        history: rows with `step` and `time`.
        summary: values by name.
        tables: by name.
        figures: files of images, by name.
        done: whether everything that was asked for is there.
        alive: whether a process works on it at this moment.
        online: whether that process shows it itself.
    """

    id: str
    origin: str
    name: str
    group: str
    kind: str
    config: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    history: Sequence[Mapping[str, Any]] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    figures: Mapping[str, Path] = field(default_factory=dict)
    done: bool = True
    alive: bool = False
    online: bool = False

    @property
    def digest(self) -> str:
        """Equal for what holds the same; tags and group, which folders share, are left out."""
        tables = {name: table.digest for name, table in self.tables.items()}
        figures = {name: image_digest(file) for name, file in self.figures.items()}
        about = [self.name, self.kind, self.config, self.done]
        return _digest([about, list(self.history), self.summary, tables, figures])


def of_cell(
    folder: Folder,
    said: Mapping[str, Any],
    sweeps: Sequence[str] = (),
    journal: Journal | None = None,
) -> Shown:
    """A cell as its folder has it.

    Args:
        folder: of the cell.
        said: what is in its cell.yaml.
        sweeps: whose it is, as far as reports say; its own history may name another.
        journal: its history, if it is open already.
    """
    journal = journal or Journal(folder.progress)
    config, compression = said["config"], folder.compression()
    results = {name: folder.metric(name, id) for name, id in said["metrics"].items()}
    found = {name: result for name, result in results.items() if result is not None}
    head = journal.heads[-1] if journal.heads else {}
    named = names_of(journal, config, sweeps)
    outputs = folder.path.parent.parent
    runs = [run_of(outputs, sweep) for sweep in named]
    label = folder.path.name[:-9]
    about = [said["about"][name] for name in ("model", "method", "sparsity", "calib")]
    data = _data(head, compression, found)
    notes = stand_ins(_corpora(data))
    generations, cut = _generations(folder, said, found)
    summary = {"sparsity": compression["sparsity"]} if compression is not None else {}
    for name, result in found.items():
        summary |= _values(name, result["values"])
    if (failure := folder.failure()) is not None:
        summary["failure"] = failure
    last = latest(folder.path)
    alive = last is not None and last[1]
    return Shown(
        id=said["id"],
        origin=origin_of(outputs),
        name=label,
        group=named[0] if named else "",
        kind=said["about"]["method"],
        tags=_tags(*named, *runs, *about, notes and STAND_IN),
        config={
            **config,
            "cell": said["id"],
            "identity": said["identity"],
            "environment": _environment(head, compression, found.values()),
            "data": data,
            "notes": [*notes, *cut],
        },
        history=[*journal.rows, *_untold(journal, compression)],
        summary=summary,
        tables={**_layer_table(compression), **generations},
        done=compression is not None and len(found) == len(results),
        alive=alive,
        online=alive and head.get("mode") == "online",
    )


def names_of(journal: Journal, config: Mapping[str, Any], sweeps: Sequence[str]) -> list[str]:
    """The sweeps that a cell belongs to, the last one that worked on it first.

    Args:
        journal: of the cell.
        config: its configuration.
        sweeps: those that list it.
    """
    last = journal.heads[-1].get("sweep") if journal.heads else None
    return [*dict.fromkeys(str(name) for name in (last, config.get("name"), *sweeps) if name)]


def run_of(outputs: Path, name: str) -> str:
    """The id of a sweep's run, and the tag of its cells: another folder's sweep of the same name is
    another run. Random, written at the first look, and the same at every other."""
    return once(outputs / "reports" / name / "wandb-run", secrets.token_hex(6))


def origin_of(outputs: Path) -> str:
    """By what a run says which folder of outputs gave it what; random, and written once, too.

    A copy that goes on beside the folder from which it was made is told apart by the path, which is
    in the file as well: else each would replace on the server what the other has sent. A folder
    that was moved, or that another path leads to, is what it was.
    """
    file = outputs / "wandb" / "origin"
    new = f"{secrets.token_hex(6)}\n{file.resolve()}\n"
    said = once(file, new)
    name, *first = said.splitlines()  # earlier versions wrote the name alone
    if first and _is_copy(file, Path(first[0]), said):
        write(file, new)
        return new.splitlines()[0]
    return name


def _is_copy(file: Path, first: Path, said: str) -> bool:
    """Whether what a file says is also in another one, which was the first to say it."""
    try:
        return not first.samefile(file) and first.read_text(encoding="utf-8") == said
    except OSError:  # the first is no longer there
        return False


def of_sweep(name: str, outputs: Path, entries: Sequence[Entry]) -> Shown:
    """A sweep: the values that it asks of its cells in one table, and the figures of its report."""
    settings = telling_apart(entries)
    rows: list[list[Any]] = []
    for entry in entries:
        told = entry.about
        beside = " ".join(named({n: entry.settings.get(n, "") for n in settings}, settings))
        pattern = told["sparsity"] or "dense"
        about = [told["model"], told["method"], pattern, told["ratio"] or 0.0, beside]
        about += [told["calib"] or "", told["seed"]]
        for metric, result in entry.results.items():
            for column in result["columns"]:
                value = result["values"][column]
                numbers = [value["value"], value["low"], value["high"]]
                rows.append([*about, f"{metric}/{column}", *numbers, entry.name])
    figures = sorted((outputs / "reports" / name / "figures").glob("*.png"))
    run = run_of(outputs, name)
    notes = stand_ins({pair for entry in entries for pair in entry.sources})
    return Shown(
        id=run,
        origin=origin_of(outputs),
        name=name,
        group=name,
        kind="sweep",
        tags=_tags(name, run, notes and STAND_IN),
        config={"sweep": name, "cells": [entry.id for entry in entries], "notes": notes},
        summary={"cells": len(entries)},
        tables={"results": Table(RESULTS, rows)},
        figures={f"figures/{file.stem}": file for file in figures},
    )


def image_digest(file: Path) -> str:
    """Of a file's content."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _values(metric: str, values: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Numbers with their intervals: `perplexity/perplexity`, `…_low`, `…_high`."""
    found: dict[str, float] = {}
    for name, value in values.items():
        found[f"{metric}/{name}"] = value["value"]
        for bound in ("low", "high"):
            if value.get(bound) is not None:
                found[f"{metric}/{name}_{bound}"] = value[bound]
    return found


def _environment(
    head: Mapping[str, Any],
    compression: Mapping[str, Any] | None,
    results: Iterable[Mapping[str, Any]],
) -> Any:
    """Code version, device, threads: of the running attempt, else of what it has left."""
    records = [compression, *results] if compression is not None else [*results]
    found = [head, *records]
    return next((said["environment"] for said in found if said and "environment" in said), None)


def _data(
    head: Mapping[str, Any], compression: Mapping[str, Any] | None, results: Mapping[str, Any]
) -> dict[str, Any]:
    """What was read, with its hashes: as planned, and once it has been read, as it was."""
    read = {name: result["data"] for name, result in results.items()}
    if compression is not None and compression["calibration"] is not None:
        read["calib"] = compression["calibration"]
    return {**head.get("data", {}), **read}


def _corpora(data: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Names of corpora in such a record, each with where it comes from."""
    found = [read["data"] if isinstance(read, Mapping) else read for read in data.values()]
    return {(one["corpus"], one["source"]) for one in chain.from_iterable(found)}


def _tags(*words: Any) -> tuple[str, ...]:
    """Words as W&B takes them, each once; empty ones are none."""
    return tuple(dict.fromkeys(str(word)[:64] for word in words if word))


def _untold(journal: Journal, compression: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Rows about layers of a cell that was compressed without a tracker."""
    first = journal.next
    return [{"step": first + i, **row} for i, row in enumerate(journal.untold(layers(compression)))]


def _layer_table(compression: Mapping[str, Any] | None) -> dict[str, Table]:
    if compression is None or not compression["layers"]:
        return {}
    columns = ("index", "layer", "rows", "columns", "zeros", "sparsity", "output_error")
    rows = [
        [
            i,
            layer["name"],
            *layer["shape"],
            layer["zeros"],
            layer["sparsity"],
            layer.get("output_error"),
        ]
        for i, layer in enumerate(compression["layers"])
    ]
    return {"layers": Table(columns, rows)}


def _generations(
    folder: Folder, said: Mapping[str, Any], results: Iterable[str]
) -> tuple[dict[str, Table], list[str]]:
    """The first answers of every metric that generates, beside gold and the dense model's; and a
    line for each table that does not hold them all."""
    found: dict[str, Table] = {}
    cut: list[str] = []
    for metric in results:
        for corpus, rows in folder.examples(metric, said["metrics"][metric]).items():
            if rows and "answer" in rows[0]:
                columns = tuple(column for column in COLUMNS if column in rows[0])
                shown = [[row.get(column) for column in columns] for row in rows[:SAMPLES]]
                called = corpus.replace("/", "-")
                name = f"{metric}/generations_{called}"
                found[name] = Table(columns, shown)
                if len(rows) > SAMPLES:
                    file = f"cells/{folder.path.name}/generations/{metric}-{called}.jsonl"
                    cut.append(f"{name}: the first {SAMPLES} of {len(rows)}; all are in {file}")
    return found, cut


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
