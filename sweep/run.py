"""One cell, from beginning to end: load, compress, measure, record.

The program's story. A cell does only what it has no result for: metrics that are finished stay, one
that is added later is measured alone, on the kept model or on weights compressed again by the same
recipe.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

from sweep import card, record
from sweep.blocks import Blocks
from sweep.cell import Cell
from sweep.disk import writing
from sweep.files import LOST, Folder
from sweep.method.walk import LayerRecord, walk
from sweep.metric.metric import Result
from sweep.numerics.precision import full_float32
from sweep.numerics.products import wide_linears
from sweep.refusal import Interrupted, Refusal, under
from sweep.track import Mirror
from sweep.workshop import Bench, Workshop

log = logging.getLogger("sweep")

FEW = 8
"""Layers of which the log tells the same thing one by one."""


def unfinished(cell: Cell, folder: Folder) -> list[str]:
    """Metrics for which the cell has no result with their present settings and data."""
    return [
        name for name in cell.parts.metrics if folder.metric(name, cell.metric_id(name)) is None
    ]


def finished(cell: Cell, folder: Folder) -> bool:
    """Whether there is nothing left to do for the cell."""
    kept = cell.settings.keep == "none" or folder.model.is_dir()
    recorded = kept and folder.compression() is not None and folder.cell() is not None
    return recorded and not unfinished(cell, folder)


class Spent(NamedTuple):
    """Where the seconds of a cell went; the rest is loading, recording and tracking."""

    compressing: float
    measuring: float

    def __str__(self) -> str:
        """For the log."""
        return f"compressing {self.compressing:.2f} s, measuring {self.measuring:.2f} s"


@full_float32()
@wide_linears()
def run(cell: Cell, dense_folder: Folder, workshop: Workshop, mirror: Mirror) -> Spent:
    """Do what the cell still lacks.

    Args:
        cell: the grid point, checked.
        dense_folder: of the model's dense cell, whose kept answers need not be generated again.
        workshop: what cells share.
        mirror: where the cell is shown while it runs.

    Returns:
        Where the time went.

    Raises:
        OutOfSpace: the disk is full; what was finished stays.
        Interrupted: asked to stop; finished blocks and metrics stay.
        Exception: whatever went wrong in this cell.
    """
    folder = Folder(cell.settings.outputs, cell.name)
    asked = {name: cell.metric_id(name) for name in cell.parts.metrics}
    folder.write_cell(cell.id, cell.identity, asked, cell.config, cell.about)
    folder.clear_failure()  # an earlier attempt's is not this one's
    if finished(cell, folder):  # but for what it is
        return Spent(0.0, 0.0)
    todo = unfinished(cell, folder)
    bench = workshop.bench(cell)
    data = {name: workshop.material(cell, name) for name in todo}
    started = time.monotonic()
    for name in todo:
        kept = dense_folder.examples(name, cell.metric_id(name))
        cell.parts.metrics[name].prepare(bench.dense, data[name], kept)
    measuring = time.monotonic() - started
    compresses = cell.parts.method.compresses
    blocks = Blocks(folder)
    with (
        bench.altered() if compresses else nullcontext(bench.dense) as subject,
        _saved_if_interrupted(blocks),
    ):
        started = time.monotonic()
        weights = _compress(cell, folder, bench, workshop, mirror, blocks)
        compressing = time.monotonic() - started
        if cell.settings.keep == "model" and not folder.model.is_dir():
            folder.keep_model(bench.save)
        for name in todo:
            started = time.monotonic()
            with under(f"metric.{name}"):
                result = cell.parts.metrics[name].measure(subject, bench.dense, data[name])
            seconds = time.monotonic() - started
            measuring += seconds
            written = record.metric(cell, name, result, bench, weights, seconds)
            rows = record.rows(result)
            folder.write_metric(name, written, rows)
            mirror.result(name, written, rows)
            _say(name, result)
    if folder.model.is_dir():
        card.write(folder, dense_folder, weights)
    blocks.clear()
    folder.clear_failure()
    return Spent(compressing, measuring)


@contextmanager
def _saved_if_interrupted(blocks: Blocks) -> Iterator[None]:
    """What is compressed need not be compressed again by whoever goes on with the cell."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        blocks.write()
        raise


def _compress(
    cell: Cell, folder: Folder, bench: Bench, workshop: Workshop, mirror: Mirror, blocks: Blocks
) -> str:
    """Compress the model in place, or take the kept weights; their hash."""
    method = cell.parts.method
    earlier = folder.compression()
    if earlier is None and folder.model.is_dir():
        folder.drop_model()  # of whatever record was lost: nothing says what it is
    if earlier is not None and method.compresses and folder.model.is_dir():
        why = "is not the model that was measured"
        try:
            bench.adopt(folder.model, cell.parts.checkpoint.trust_remote_code)
            weights = bench.weights_sha256()
            if weights == earlier["weights_sha256"]:
                return weights
        except Refusal as refusal:
            why = f"cannot be read ({refusal.fault})"
        log.warning("  %s: %s; compressed again", folder.model, why)
        bench.reset()
        folder.drop_model()
    started = time.monotonic()
    windows = workshop.windows(cell)
    layers: list[LayerRecord] = []
    mirror.calibrated(0 if windows is None else int(windows.mask.sum()))
    if method.compresses:
        if there := blocks.there():
            log.info("  goes on from block %d", there)
        with writing(folder.path):
            gathered = workshop.gathered(cell, windows)
            layers = walk(
                bench.model,
                method,
                cell.parts.pattern,
                windows=None if windows is None else (windows.ids, windows.mask),
                batch_size=cell.settings.batch_size,
                progress=workshop.progress,
                finished=blocks,
                told=lambda found: mirror.layers({i: record.layer(x) for i, x in found.items()}),
                gathered=gathered,
            )
    weights = bench.weights_sha256()
    if earlier is not None:
        if earlier["weights_sha256"] != weights:
            log.warning(
                "  compressed again from the recipe: the weights differ from the first time's "
                "(other threads or versions?); each result names the weights it belongs to"
            )
        return weights
    _say_remarks(layers)
    seconds = time.monotonic() - started
    written = record.compression(cell, layers, windows, bench, weights, seconds)
    folder.write_compression(written)
    mirror.compressed(written)
    if method.compresses:
        share, total = 100 * written["sparsity"], written["prunable_weights"]
        log.info("  compressed: %.2f %% of %d weights are zero", share, total)
    return weights


def _say_remarks(layers: Sequence[LayerRecord]) -> None:
    """What methods remark of layers: of many the same, some of them; `compression.json` has all."""
    names: dict[str, list[str]] = {}
    for layer in layers:
        for remark in layer.remarks:
            names.setdefault(remark, []).append(layer.name)
    for remark, own in names.items():
        for name in own[:FEW]:
            log.warning("  %s: %s", name, remark)
        if len(own) > FEW:
            log.warning("  … and %d layers more: %s", len(own) - FEW, remark)


def _say(metric: str, result: Result) -> None:
    """The headline of a result, and what of the data did not go into it."""
    headline = ", ".join(f"{name} {result.values[name].value:.4g}" for name in result.columns)
    log.info("  %s: %s", metric, headline)
    for data in result.data:
        for key, what in LOST.items():
            if data.get(key):
                log.warning("  %s: %d examples of %s %s", metric, data[key], data["corpus"], what)
