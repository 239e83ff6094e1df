"""Cells that one job runs, as a file: what was planned on the submitting machine, and nothing else.

A job reads its file and no YAML, so what it computes is what was planned, whatever is edited in
between. Names of settings and paths of data are in it, never a token or a key.

outputs/jobs/<sweep>/<pack>.json      the cells of one job
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from sweep.attempt import given_up
from sweep.build import build
from sweep.cell import Cell, make
from sweep.disk import write
from sweep.files import Folder
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
    """The cells in packs: of one model each, its dense cell by itself and before the others.

    By itself, and last, is a cell that a process had in its hands when it ended without a word: it
    may have been the reason, and would be again.
    """
    found: list[Pack] = []
    for _, group in groupby(todo, key=of_same_model):
        cells = list(group)
        dense = planned.dense(cells[0])
        if cells[0] is dense:
            found.append(Pack((dense,), dense))
            cells = cells[1:]
        alone = {cell.id: cell for cell in cells if _ended_a_process(cell)}
        cells = [cell for cell in cells if cell.id not in alone]
        for start in range(0, len(cells), cells_per_job):
            found.append(Pack(tuple(cells[start : start + cells_per_job]), dense))
        found += [Pack((cell,), dense) for cell in alone.values()]
    return found


def _ended_a_process(cell: Cell) -> bool:
    folder = Folder(cell.settings.outputs, cell.name)
    return folder.failure() is None and given_up(folder.path)


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
    """The plan of one pack: its cells, and the dense cell if nobody has tried that since.

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
    left_out = set(without)
    if Folder(dense.settings.outputs, dense.name).failed_since(path):
        left_out |= {dense.id} - {said["id"] for said in content["cells"]}
    return Plan(
        cells=tuple(cells),
        todo=tuple(cell for cell in cells if cell.id not in left_out),
        points=len(content["cells"]),
        name=content["sweep"],
        tracker=build(content["tracker"], "tracker", Tracker),  # type: ignore[type-abstract]
    )


def _described(cell: Cell) -> dict[str, Any]:
    return {**cell.described(), "config": cell.config}


def _blame(said: Mapping[str, Any], refusal: Refusal) -> None:
    """Leave in the folder of a cell that is not finished why it could not be begun."""
    folder = Folder(said["config"]["outputs"], said["name"])
    if any(folder.metric(name, id) is None for name, id in said["metrics"].items()):
        trace = "".join(traceback.format_exception(refusal))  # with what a library said
        folder.write_failure(f"Refusal: {refusal}\n\n{trace}")


def _made(said: Mapping[str, Any], workshop: Workshop) -> Cell:
    cell = make(said["config"], workshop.fingerprint)
    metrics = {name: cell.metric_id(name) for name in cell.parts.metrics}
    if cell.id != said["id"] or metrics != said["metrics"]:
        reason = (
            "its model, data or the code is not what it was when it was submitted; submit again"
        )
        raise Refusal("", "", f"{said['name']}: {reason}")
    return cell
