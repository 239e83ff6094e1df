"""One cell, from beginning to end: load, compress, measure, record.

The program's story. A cell does only what it has no result for: metrics that are finished stay, one
that is added later is measured alone, on the kept model or on weights compressed again by the same
recipe.
"""

from __future__ import annotations

import hashlib
import logging
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sweep.cell import Cell
from sweep.environment import environment
from sweep.files import Folder
from sweep.method.walk import LayerRecord, walk
from sweep.metric.metric import Result
from sweep.metric.subject import Subject
from sweep.model import anatomy
from sweep.track import Mirror
from sweep.workshop import Bench, Workshop

log = logging.getLogger("sweep")


def unfinished(cell: Cell, folder: Folder) -> list[str]:
    """Metrics for which the cell has no result with their present settings and data."""
    results = {name: folder.metric(name) for name in cell.parts.metrics}
    return [
        name
        for name, result in results.items()
        if result is None or result["settings_id"] != cell.metric_id(name)
    ]


def finished(cell: Cell, folder: Folder) -> bool:
    """Whether there is nothing left to do for the cell."""
    kept = cell.settings.keep == "none" or folder.model.is_dir()
    return not unfinished(cell, folder) and kept and folder.compression() is not None


class Spent(NamedTuple):
    """Where the seconds of a cell went; the rest is loading, recording and tracking."""

    compressing: float
    measuring: float

    def __str__(self) -> str:
        """For the log."""
        return f"compressing {self.compressing:.2f} s, measuring {self.measuring:.2f} s"


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
        Exception: whatever went wrong in this cell.
    """
    folder = Folder(cell.settings.outputs, cell.name)
    folder.write_cell(cell.config, cell.identity, cell.id)
    todo = unfinished(cell, folder)
    bench = workshop.bench(cell)
    data = {name: workshop.material(cell, name) for name in todo}
    started = time.monotonic()
    for name in todo:
        cell.parts.metrics[name].prepare(bench.dense, data[name], dense_folder.examples(name))
    measuring = time.monotonic() - started
    compresses = cell.parts.method.compresses
    with bench.altered() if compresses else nullcontext(bench.dense) as subject:
        started = time.monotonic()
        weights = _compress(cell, folder, bench, workshop)
        compressing = time.monotonic() - started
        if cell.settings.keep == "model" and not folder.model.is_dir():
            folder.keep_model(lambda path: _save(bench, path))
        for name in todo:
            started = time.monotonic()
            result = cell.parts.metrics[name].measure(subject, bench.dense, data[name])
            seconds = time.monotonic() - started
            measuring += seconds
            record = _record(cell, name, result, weights, subject, seconds)
            folder.write_metric(name, record, result.examples)
            mirror.result(name, record, result.examples)
            log.info("  %s: %s", name, _headline(result))
    folder.clear_failure()
    return Spent(compressing, measuring)


def _compress(cell: Cell, folder: Folder, bench: Bench, workshop: Workshop) -> str:
    """Compress the model in place, or take the kept weights; their hash."""
    method = cell.parts.method
    earlier = folder.compression()
    started = time.monotonic()
    windows = workshop.windows(cell)
    if earlier is not None and method.compresses and folder.model.is_dir():
        _adopt(bench, folder.model)
        return _weights_sha256(bench)
    records = (
        walk(
            bench.model,
            method,
            cell.parts.pattern,
            windows=None if windows is None else (windows.ids, windows.mask),
            batch_size=cell.settings.batch_size,
            progress=workshop.progress,
        )
        if method.compresses
        else []
    )
    weights = _weights_sha256(bench)
    if earlier is not None:
        if earlier["weights_sha256"] != weights:
            log.warning(
                "  compressed again from the recipe: the weights differ from the first time's "
                "(other threads or versions?); each result names the weights it belongs to"
            )
        return weights
    zeros, total = sum(r.zeros for r in records), sum(r.rows * r.cols for r in records)
    for record in records:
        for remark in record.remarks:
            log.warning("  %s: %s", record.name, remark)
    folder.write_compression(
        {
            "cell": cell.id,
            "method": cell.config["options"]["method"],
            "pattern": cell.parts.pattern.label if method.compresses else None,
            "sparsity": zeros / total if total else 0.0,
            "zeros": zeros,
            "prunable_weights": total,
            "calibration": _calibration(cell, workshop),
            "weights_sha256": weights,
            "layers": [_layer(record) for record in records],
            "seconds": round(time.monotonic() - started, 3),
            "environment": environment(str(bench.model.device)),
        }
    )
    if method.compresses:
        log.info("  compressed: %.2f %% of %d weights are zero", 100 * zeros / total, total)
    return weights


def _calibration(cell: Cell, workshop: Workshop) -> dict[str, Any] | None:
    """What a result says of the calibration data."""
    windows = workshop.windows(cell)
    calibration = cell.parts.calibration
    if windows is None or calibration is None:
        return None
    return {
        "data": [asdict(origin) for origin in calibration.origins()],
        "sha256": hashlib.sha256(windows.ids.numpy().tobytes()).hexdigest(),
        "windows": len(windows.ids),
        "seqlen": windows.ids.shape[1],
        "tokens": int(windows.mask.sum()),
        "rows": len(windows.digests),
        "documents_too_short": windows.skipped,
        "seed": cell.settings.seed,
    }


def _record(
    cell: Cell, name: str, result: Result, weights: str, subject: Subject, seconds: float
) -> dict[str, Any]:
    """A metric's result as it is written: numbers, and everything on which they depend."""
    return {
        "metric": name,
        "cell": cell.id,
        "label": cell.label,
        "values": {key: asdict(value) for key, value in result.values.items()},
        "columns": list(result.columns),
        "data": list(result.data),
        "settings": cell.config["metric"][name],
        "settings_id": cell.metric_id(name),
        "model_source": cell.parts.checkpoint.source(),
        "weights_sha256": weights,
        "batch_size": cell.settings.batch_size,
        "seconds": round(seconds, 3),
        "environment": environment(str(subject.device)),
    }


def _layer(record: LayerRecord) -> dict[str, Any]:
    layer: dict[str, Any] = {"name": record.name, "shape": [record.rows, record.cols]}
    layer |= {"zeros": record.zeros, "sparsity": record.sparsity}
    return layer | ({"remarks": list(record.remarks)} if record.remarks else {})


def _headline(result: Result) -> str:
    return ", ".join(f"{name} {result.values[name].value:.4g}" for name in result.columns)


def _weights_sha256(bench: Bench) -> str:
    """Hash over the prunable weights, in the order of their names."""
    total = hashlib.sha256()
    for name, linear in sorted(anatomy.prunable(bench.model).items()):
        weight = linear.weight.detach().cpu().contiguous()
        total.update(name.encode())
        total.update(weight.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _save(bench: Bench, path: Path) -> None:
    """The model and its tokenizer in Hugging Face format, safetensors."""
    bench.model.save_pretrained(path)
    bench.tokenizer.save_pretrained(path)


def _adopt(bench: Bench, path: Path) -> None:
    """Take the linears' weights from a kept model."""
    from transformers import AutoModelForCausalLM

    kept = AutoModelForCausalLM.from_pretrained(path, dtype=bench.model.dtype)
    weights = {name: linear.weight for name, linear in anatomy.prunable(kept).items()}
    with torch.no_grad():
        for name, linear in anatomy.prunable(bench.model).items():
            linear.weight.copy_(weights[name])
