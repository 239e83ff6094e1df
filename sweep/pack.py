"""Cells that one job runs, as a file: what was planned on the submitting machine, and nothing else.

A job reads its file and no YAML, so what it computes is what was planned, whatever is edited in
between. Names of settings and paths of data are in it, never a token or a key.

outputs/jobs/<sweep>/<pack>.json      the cells of one job
outputs/jobs/<sweep>/submitted.jsonl  which job was given which pack, and when
outputs/jobs/<sweep>/submitit/        submitit's files, and what the jobs printed
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from sweep.attempt import Attempt
from sweep.build import build
from sweep.cell import Cell, make
from sweep.files import Folder, write, writing
from sweep.plan import Plan, of_same_model
from sweep.refusal import Refusal
from sweep.track import Tracker
from sweep.workshop import Workshop


@dataclass(frozen=True)
class Pack:
    """What one job runs.

    Attributes:
        cells: of one model.
        dense: the dense cell of that model, with whose answers the others are compared.
    """

    cells: tuple[Cell, ...]
    dense: Cell

    @property
    def opens(self) -> bool:
        """Whether it is the dense cell, for which the model's other packs wait."""
        return self.cells == (self.dense,)


def packs(planned: Plan, todo: Sequence[Cell], cells_per_job: int) -> list[Pack]:
    """The cells in packs: of one model each, its dense cell by itself and before the others."""
    found: list[Pack] = []
    for _, group in groupby(todo, key=of_same_model):
        cells = list(group)
        dense = planned.dense(cells[0])
        if cells[0] is dense:
            found.append(Pack((dense,), dense))
            cells = cells[1:]
        for start in range(0, len(cells), cells_per_job):
            found.append(Pack(tuple(cells[start : start + cells_per_job]), dense))
    return found


def folder(planned: Plan) -> Path:
    """Where a sweep's packs lie."""
    return Path(planned.outputs) / "jobs" / planned.name


def save(
    pack: Pack, planned: Plan, name: str, tracker: Mapping[str, Any], workshop: Workshop
) -> Path:
    """Write a pack's file; its path.

    Args:
        pack: the cells.
        planned: the grid of which they are.
        name: of the file.
        tracker: the node of the configuration, as the job is to use it.
        workshop: knows the hashes of the models, so that no job needs to read them again.
    """
    path = folder(planned) / f"{name}.json"
    content = {
        "sweep": planned.name,
        "tracker": tracker,
        "fingerprints": workshop.fingerprints(),
        "dense": _described(pack.dense),
        "cells": [_described(cell) for cell in pack.cells],
    }
    write(path, json.dumps(content) + "\n")
    return path


def load(
    path: Path, workshop: Workshop, failures: dict[str, str], without: Iterable[str] = ()
) -> Plan:
    """The plan of one pack: its cells, and the dense cell if nobody has finished that.

    A cell whose data are not what they were when the pack was made has failed, as its folder then
    says; the others are run.

    Args:
        path: of its file.
        workshop: of the job.
        failures: is filled with the reasons, by the names of the cells that failed.
        without: ids of cells that are not to be run.

    Raises:
        Refusal: the model is not what it was, so that no cell can be run.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    workshop.trust(content["fingerprints"])
    try:
        cells = [dense := _made(content["dense"], workshop)]
    except Refusal as refusal:
        for said in content["cells"]:
            _blame(said, refusal)
        raise
    for said in content["cells"]:
        if said["id"] == dense.id:
            continue
        try:
            cells.append(_made(said, workshop))
        except Refusal as refusal:
            failures[said["name"]] = str(refusal)
            _blame(said, refusal)
    return Plan(
        cells=tuple(cells),
        todo=tuple(cell for cell in cells if cell.id not in set(without)),
        points=len(content["cells"]),
        name=content["sweep"],
        tracker=build(content["tracker"], "tracker", Tracker),  # type: ignore[type-abstract]
    )


@dataclass(frozen=True)
class Submission:
    """A job that was given a pack.

    Attributes:
        job: its id; of a process of this machine, its number.
        launcher: `slurm` or `local`.
        log: what it printed to stderr.
        cells: of the pack, as `described`.
        process: the process, where the job is one.
    """

    job: str
    launcher: str
    log: Path
    cells: Sequence[Mapping[str, Any]]
    process: Attempt | None

    @property
    def alive(self) -> bool:
        """Of a process: whether it is there. Of a job of SLURM, SLURM knows."""
        return self.process is not None and self.process.runs_here()


def record(submitted: Iterable[tuple[str, Path]], launcher: str) -> None:
    """Add to the sweep's list which jobs were given which packs."""
    for job, path in submitted:
        line = {"job": job, "pack": path.name, "launcher": launcher, "when": time.time()}
        if launcher == "local":
            line["process"] = asdict(Attempt.of(int(job)))
        # one write of less than a page at the end of a file does not mix with another's
        with writing(path), (path.parent / "submitted.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def submissions(outputs: Path) -> Iterator[Submission]:
    """Every job that was ever given a pack below `outputs`, in their order."""
    found: list[tuple[float, Submission]] = []
    packs: dict[Path, list[dict[str, Any]]] = {}  # of this machine's processes each has all
    for file in outputs.glob("jobs/*/submitted.jsonl"):
        for line in file.read_text().splitlines():
            said = json.loads(line)
            path = file.parent / said["pack"]
            if path not in packs:
                packs[path] = json.loads(path.read_text())["cells"] if path.is_file() else []
            process = Attempt(**said["process"]) if "process" in said else None
            log = file.parent / "submitit" / f"{said['job']}_0_log.err"
            submission = Submission(said["job"], said["launcher"], log, packs[path], process)
            found.append((said["when"], submission))
    for _, submission in sorted(found, key=lambda pair: pair[0]):
        yield submission


def described(cell: Cell) -> dict[str, Any]:
    """What a status needs to know of a cell: `id`, `name`, `metrics` (ids of settings), `keep`."""
    return {
        "id": cell.id,
        "name": cell.name,
        "metrics": {name: cell.metric_id(name) for name in cell.parts.metrics},
        "keep": cell.settings.keep,
    }


def _described(cell: Cell) -> dict[str, Any]:
    return {**described(cell), "config": cell.config}


def _blame(said: Mapping[str, Any], refusal: Refusal) -> None:
    """Leave in the folder of a cell that is not finished why it could not be begun."""
    folder = Folder(said["config"]["outputs"], said["name"])
    if any(folder.metric(name, id) is None for name, id in said["metrics"].items()):
        folder.write_failure(f"Refusal: {refusal}\n")


def _made(said: Mapping[str, Any], workshop: Workshop) -> Cell:
    cell = make(said["config"], workshop.fingerprint)
    metrics = {name: cell.metric_id(name) for name in cell.parts.metrics}
    if cell.id != said["id"] or metrics != said["metrics"]:
        reason = (
            "its model, data or the code is not what it was when it was submitted; submit again"
        )
        raise Refusal("", "", f"{said['name']}: {reason}")
    return cell
