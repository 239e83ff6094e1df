"""What is written of a result: its numbers, and everything on which they depend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sweep import size
from sweep.calib.calibration import Windows
from sweep.cell import Cell
from sweep.environment import environment
from sweep.method.walk import LayerRecord
from sweep.metric.metric import Result
from sweep.model import anatomy, saved
from sweep.model.contents import license_of
from sweep.workshop import Bench


def compression(
    cell: Cell,
    layers: Sequence[LayerRecord],
    windows: Windows | None,
    bench: Bench,
    weights: str,
    seconds: float,
) -> dict[str, Any]:
    """`compression.json`: sparsity over all prunable weights in scope, then layer by layer.

    Args:
        cell: the grid point.
        layers: as `walk` gave them.
        windows: with which it was calibrated, if it was.
        bench: holds the model.
        weights: hash of what came out.
        seconds: that it took.
    """
    compresses = cell.parts.method.compresses
    zeros, total = sum(r.zeros for r in layers), sum(r.rows * r.cols for r in layers)
    told = [layer(record) for record in layers]
    stored = size.of_tensors(saved.headers(bench.model), told)
    return {
        "cell": cell.id,
        "method": cell.config["options"]["method"],
        "pattern": cell.parts.pattern.label if compresses else None,
        "sparsity": zeros / total if total else 0.0,
        "zeros": zeros,
        "prunable_weights": total,
        "weights_in_blocks": anatomy.weights_in_blocks(bench.model),
        "calibration": _calibration(cell, windows),
        "weights_sha256": weights,
        "bytes": {"dense": stored.dense, "bitmask": stored.bitmask},
        "license": license_of(bench.folder),
        "layers": told,
        "seconds": round(seconds, 3),
        "environment": environment(str(bench.dense.device)),
    }


def metric(
    cell: Cell, name: str, result: Result, bench: Bench, weights: str, seconds: float
) -> dict[str, Any]:
    """`metrics/<metric>.json`.

    Args:
        cell: the grid point.
        name: of the metric.
        result: what it found.
        bench: holds the model.
        weights: hash of those that were measured.
        seconds: that it took.

    Raises:
        FloatingPointError: a value is no number, so that nothing was found.
    """
    _check_finite(result)
    return {
        "metric": name,
        "cell": cell.id,
        "label": cell.label,
        "values": {key: asdict(value) for key, value in result.values.items()},
        "columns": list(result.columns),
        "data": list(result.data),
        "calibration_data": _origins(cell),
        "settings": cell.config["metric"][name],
        "settings_id": cell.metric_id(name),
        "model_source": cell.parts.checkpoint.source(),
        "model_revision": cell.config["model"].get("revision"),
        "weights_sha256": weights,
        "batch_size": cell.settings.batch_size,
        "seconds": round(seconds, 3),
        "environment": environment(str(bench.dense.device)),
    }


def rows(result: Result) -> dict[str, list[dict[str, Any]]]:
    """The rows behind the values, by corpus; each says what kind of corpus it is of."""
    sources = {data["corpus"]: {"source": data["source"]} for data in result.data}
    return {
        corpus: [{**row, **sources.get(corpus, {})} for row in rows]
        for corpus, rows in result.examples.items()
    }


def _check_finite(result: Result) -> None:
    for name, value in result.values.items():
        numbers = [n for n in (value.value, value.low, value.high) if n is not None]
        if not all(map(math.isfinite, numbers)):
            raise FloatingPointError(f"{name} is {value.value} [{value.low}, {value.high}]")


def _origins(cell: Cell) -> list[dict[str, Any]]:
    """Where the calibration rows came from; none for a method that reads none."""
    return [asdict(origin) for origin in cell.parts.calibrated_on()]


def _calibration(cell: Cell, windows: Windows | None) -> dict[str, Any] | None:
    calibration = cell.parts.calibration
    if windows is None or calibration is None:
        return None
    parts = windows.parts or (windows,)
    origins = _origins(cell)
    return {
        "data": [origin | part.record() for origin, part in zip(origins, parts, strict=True)],
        **windows.record(),
        "seqlen": windows.ids.shape[1],
        "rows_left_to_metrics": len(cell.without),
        "seed": cell.settings.seed if calibration.draws() else None,
    }


def layer(record: LayerRecord) -> dict[str, Any]:
    """What `compression.json` says of a linear."""
    said: dict[str, Any] = {"name": record.name, "shape": [record.rows, record.cols]}
    said |= {"zeros": record.zeros, "sparsity": record.sparsity}
    said |= {"output_error": record.output_error}
    return said | ({"remarks": list(record.remarks)} if record.remarks else {})
