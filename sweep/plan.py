"""A grid becomes the cells that have to run: checked, without duplicates, the dense cells first."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from sweep.build import build
from sweep.cell import Cell, digest, make
from sweep.check import check, check_unread
from sweep.config import SWEEPS
from sweep.disk import check_writable
from sweep.files import Folder, fingerprints, write_fingerprints
from sweep.method.method import from_dense
from sweep.metric.metric import Charged
from sweep.refusal import Refusal, under
from sweep.report.notes import stand_ins
from sweep.run import finished, unfinished
from sweep.track import Tracker
from sweep.workshop import Workshop, statistics_key

log = logging.getLogger("sweep")

DENSE = {"_target_": "sweep.method.dense.Dense", "scope": "all"}


_COMPRESSES = r"[+~]?(method|sparsity|calib|seed|study)\b"
"""Words of a command that say how a model is compressed."""


@dataclass(frozen=True)
class Plan:
    """A grid, planned.

    Attributes:
        cells: every cell once, models together, the dense cell of a model before its others.
        todo: those that lack a result, in the same order; but those that share statistics of the
            dense model are neighbours.
        points: how many points the grid has.
        name: of the sweep: as set, or made from the ids of its cells.
        tracker: where cells are shown.
    """

    cells: tuple[Cell, ...]
    todo: tuple[Cell, ...]
    points: int
    name: str
    tracker: Tracker

    @property
    def outputs(self) -> str:
        """The folder below which the sweep writes."""
        return self.cells[0].settings.outputs

    def dense(self, cell: Cell) -> Cell:
        """The dense cell of the cell's model."""
        model = of_same_model(cell)
        return next(
            c for c in self.cells if of_same_model(c) == model and not c.parts.method.compresses
        )


def plan(
    configs: Sequence[Mapping[str, Any]], workshop: Workshop, *, runs_here: bool = True
) -> Plan:
    """The plan of a grid whose points are frozen configurations.

    Every point is built and checked before anything runs; one wrong point and nothing runs. Points
    that mean the same are one cell, with the metrics of all of them. A dense cell is added for
    every model.

    Args:
        configs: the points.
        workshop: reads what must be known of models and data.
        runs_here: whether the cells run on this machine, so that it must have their device.

    Raises:
        Refusal: the first point that cannot work.
    """
    for key in SWEEPS:
        _check_one(key, configs)
    remembered = fingerprints(configs[0]["outputs"])
    workshop.trust(remembered)
    points = [make(config, workshop.fingerprint) for config in configs]
    dense = [make(config, workshop.fingerprint) for config in _dense_points(configs)]
    cells: dict[str, Cell] = {}
    for cell in (*dense, *points):
        cells[cell.id] = _merged(cells[cell.id], cell) if cell.id in cells else cell
    by_model: dict[str, list[Cell]] = {}
    for cell in cells.values():
        by_model.setdefault(of_same_model(cell), []).append(cell)
    ordered = tuple(cell for group in by_model.values() for cell in group)
    tracker = build(configs[0]["tracker"], "tracker", Tracker)  # type: ignore[type-abstract]
    check_writable(ordered[0].settings.outputs)
    if workshop.fingerprints() != remembered:
        write_fingerprints(ordered[0].settings.outputs, workshop.fingerprints())
    todo = _neighbours(
        cell for cell in ordered if not finished(cell, Folder(cell.settings.outputs, cell.name))
    )
    check_unread(points, workshop)
    checked = check(todo, workshop, runs_here=runs_here)
    ordered, todo = _replaced(ordered, todo, checked)
    _forecast(todo, workshop, runs_here=runs_here)
    name = points[0].settings.name or "sweep-" + _digest(ordered)[:8]
    return Plan(ordered, todo, len(points), name, tracker)


def _neighbours(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Cells that share statistics of the dense model come one after the other, with the first of
    them: those of one kind are kept at a time. All others stay where they are in the grid."""
    first: dict[str, int] = {}
    places: list[tuple[int, Cell]] = []
    for place, cell in enumerate(cells):
        shares = from_dense(cell.parts.method)
        places.append((first.setdefault(statistics_key(cell), place) if shares else place, cell))
    return tuple(cell for _, cell in sorted(places, key=itemgetter(0)))


def _forecast(todo: Sequence[Cell], workshop: Workshop, *, runs_here: bool) -> None:
    """Say what the metrics of the whole sweep will take beyond time.

    Raises:
        Refusal: see `Charged`.
    """
    waiting: dict[str, list[tuple[Cell, str]]] = {}
    for cell in todo:
        for name in unfinished(cell, Folder(cell.settings.outputs, cell.name)):
            if isinstance(cell.parts.metrics[name], Charged):
                key = digest([name, cell.config["metric"][name]])
                waiting.setdefault(key, []).append((cell, name))
    for found in waiting.values():
        first, name = found[0]
        metric = first.parts.metrics[name]
        cells = [
            (workshop.material(cell, name), Folder(cell.settings.outputs, cell.name).answers())
            for cell, _ in found
        ]
        assert isinstance(metric, Charged)
        with under(f"metric.{name}"):
            memory = workshop.memory(first)
            log.info("%s: %s", name, metric.forecast(cells, memory, runs_here=runs_here))


def _replaced(
    ordered: Sequence[Cell], todo: Sequence[Cell], checked: Sequence[Cell]
) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
    """All cells and those to be run, with what checking made of these: some may be done already."""
    became = {cell.id: after for cell, after in zip(todo, checked, strict=True)}
    for cell in todo:
        if became[cell.id].id != cell.id:
            left = len(became[cell.id].without)
            log.info("%s: %d calibration rows are left to its metrics", cell.label, left)
    still = (
        cell
        for cell in checked
        if cell.id in became or not finished(cell, Folder(cell.settings.outputs, cell.name))
    )
    return tuple(became.get(cell.id, cell) for cell in ordered), tuple(still)


def _check_one(key: str, configs: Sequence[Mapping[str, Any]]) -> None:
    """Raises: Refusal: a setting that belongs to the sweep differs among the points of its grid."""
    values = [config[key] for config in configs]
    if any(value != values[0] for value in values):
        raise Refusal(key, values[1], "is the sweep's; it cannot differ among the points of a grid")


def _digest(cells: Iterable[Cell]) -> str:
    """One for the same cells and the same measurements of them, in whatever order."""
    asked = [[cell.id, *sorted(map(cell.metric_id, cell.parts.metrics))] for cell in cells]
    return digest(sorted(asked))


def _dense_points(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same points without compression, one for each model and choice of metrics.

    They are not kept: a dense model is there already. One that is asked for by name may be.
    """
    found: dict[str, dict[str, Any]] = {}
    for config in configs:
        options = {**config["options"], "method": "dense"}
        words = [word for word in config["words"] if not re.match(_COMPRESSES, word)]
        dense = {**config, "method": DENSE, "options": options, "keep": "none"}
        dense["words"] = [*words, "method=dense"]
        found.setdefault(digest([config["model"], config["metric"]]), dense)
    return list(found.values())


def _merged(first: Cell, second: Cell) -> Cell:
    """One cell with the metrics of both, kept if either of them is to be.

    Raises:
        Refusal: they ask for the same metric with different settings: one result would overwrite
            the other.
    """
    for name in second.parts.metrics:
        if name in first.parts.metrics and first.metric_id(name) != second.metric_id(name):
            one, other = (cell.config["metric"][name] for cell in (first, second))
            raise _two_settings(one, other).under(f"metric.{name}")
    metrics = {**second.parts.metrics, **first.parts.metrics}
    settings = second.settings if second.settings.keep == "model" else first.settings
    config = {
        **first.config,
        "metric": {**second.config["metric"], **first.config["metric"]},
        "keep": settings.keep,
    }
    parts = replace(first.parts, metrics=metrics)
    return replace(first, config=config, settings=settings, parts=parts)


def _two_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> Refusal:
    """Names the first setting of a metric in which two points differ, with both values."""
    key = next((key for key in first if first[key] != second.get(key)), "")
    one, other = first.get(key), second.get(key)
    if key == "source" and isinstance(one, Mapping) and isinstance(other, Mapping):
        if list(one) == list(other):  # the same corpus, from two files
            return _two_settings(*next((one[k], other[k]) for k in one if one[k] != other[k]))
        one, other = ",".join(one), ",".join(other)
    reason = f"the same cell of the grid is asked for {one}; give one, or two commands"
    return Refusal(key, other, reason)


def made_up(cells: Iterable[Cell]) -> list[str]:
    """One line that says which of the cells' corpora are stand-ins; none if all are real."""
    parts = [cell.parts for cell in cells]
    origins = [origin for part in parts for origin in part.calibrated_on()]
    origins += [o for part in parts for name in part.metrics for o in part.measured_on(name)]
    return stand_ins((origin.corpus, origin.source) for origin in origins)


def of_same_model(cell: Cell) -> str:
    """Equal for cells of the same model in the same dtype."""
    return str(cell.about["weights"])
