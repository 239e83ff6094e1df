"""Sparsity and output error by depth and kind of linear."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sweep.report.entries import Entry

COLUMNS = ("cell", "layer", "depth", "kind", "rows", "columns", "sparsity", "output_error")


def layers(entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    """A row per linear of every compressed cell.

    `depth` is the number of its block, `kind` its name in it (`self_attn.q_proj`); `output_error`
    is the relative error of its output on calibration data (sweep/numerics/output_error.py), None
    of a method that reads none.
    """
    for entry in entries:
        for layer in (entry.compression or {}).get("layers", ()):
            depth, kind = _place(layer["name"])
            yield {
                "cell": entry.name,
                "layer": layer["name"],
                "depth": depth,
                "kind": kind,
                "rows": layer["shape"][0],
                "columns": layer["shape"][1],
                "sparsity": layer["sparsity"],
                "output_error": layer.get("output_error"),
            }


def _place(name: str) -> tuple[int, str]:
    """`model.layers.3.self_attn.q_proj` is at 3, `self_attn.q_proj`."""
    found = re.search(r"(?:^|\.)(\d+)\.(.+)$", name)
    return (int(found[1]), found[2]) if found else (0, name)
