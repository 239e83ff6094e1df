"""How many bytes a compressed model takes on disk: dense, and with its zeros left out.

Zeros that are stored take as much room as any other weight. The bitmask form stores one bit for
every weight and the weights that are not zero; what else the format holds of a layer is counted
too: where each row begins, and the shape.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2}
_NUMBER = 8
"""Bytes of an offset or a side of a shape: the format has them as int64."""


@dataclass(frozen=True)
class Size:
    """Bytes of a model's tensors.

    Attributes:
        dense: of all tensors as they are.
        bitmask: of all tensors, the compressed linears in bitmask form.
        linears_dense, linears_bitmask: of the compressed linears alone.
    """

    dense: int
    bitmask: int
    linears_dense: int
    linears_bitmask: int


def bitmask_bytes(shape: Sequence[int], zeros: int, width: int) -> int:
    """What a matrix takes in bitmask form.

    Args:
        shape: rows and columns.
        zeros: how many of its weights are zero.
        width: bytes of one weight.
    """
    rows, columns = prod(shape[:-1]), shape[-1]
    mask = rows * -(-columns // 8)  # every row begins with a byte of its own
    return (rows * columns - zeros) * width + mask + rows * _NUMBER + len(shape) * _NUMBER


def of_model(folder: Path, layers: Iterable[Mapping[str, Any]]) -> Size:
    """Sizes of a model in safetensors; only the files' headers are read.

    Args:
        folder: holds it.
        layers: see `of_tensors`.
    """
    return of_tensors(headers(folder), layers)


def of_tensors(
    tensors: Mapping[str, Mapping[str, Any]], layers: Iterable[Mapping[str, Any]]
) -> Size:
    """Sizes of a model whose tensors on disk are these.

    Where a family stores experts as one tensor of three dimensions (GPT-OSS), which has no bitmask
    form, they are dense in it, zeros and all.

    Args:
        tensors: `dtype` and `shape` by name, as `headers` gives them.
        layers: `name`, `shape` and `zeros` of every compressed linear, as `compression.json` has
            them.
    """
    usual = _usual(tensors)  # a family may store a linear under another name
    dense = sum(prod(tensor["shape"]) * _width(tensor) for tensor in tensors.values())
    linears_dense = linears_bitmask = 0
    for layer in layers:
        stored = tensors.get(f"{layer['name']}.weight")
        if joint := _joint(tensors, layer["name"]):
            linears_dense += prod(layer["shape"]) * _width(joint)
            linears_bitmask += prod(layer["shape"]) * _width(joint)
            continue
        tensor, shape = (stored, stored["shape"]) if stored else (usual, layer["shape"])
        linears_dense += prod(layer["shape"]) * _width(tensor)
        linears_bitmask += bitmask_bytes(shape, layer["zeros"], _width(tensor))
    return Size(dense, dense - linears_dense + linears_bitmask, linears_dense, linears_bitmask)


def _joint(tensors: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """The tensor that an expert's matrix shares with those of the others, if it does."""
    own = re.sub(r"\.experts\.\d+\.", ".experts.", name)
    fused = re.sub(r"\.(gate|up)_proj$", ".gate_up_proj", own)
    return None if own == name else tensors.get(own) or tensors.get(fused)


def _usual(tensors: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A tensor of the dtype that most matrices have; norms may have another."""
    count: dict[str, int] = {}
    for tensor in tensors.values():
        if len(tensor["shape"]) > 1:
            count[tensor["dtype"]] = count.get(tensor["dtype"], 0) + prod(tensor["shape"])
    return {"dtype": max(count, key=lambda dtype: count[dtype])}


def has_joint_experts(folder: Path) -> bool:
    """Whether experts are stored as tensors of three dimensions."""
    return any("expert" in name and len(t["shape"]) == 3 for name, t in headers(folder).items())


def headers(folder: Path) -> dict[str, dict[str, Any]]:
    """`dtype` and `shape` of every tensor in a folder's safetensors, by name."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= header(file)
    return found


def header(file: Path) -> dict[str, dict[str, Any]]:
    """The same of one file."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        said = json.loads(stream.read(length))
    return {name: tensor for name, tensor in said.items() if name != "__metadata__"}


def human(count: int) -> str:
    """`13.5 GB`, `1.2 MB`: powers of a thousand, as disks are sold."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _width(tensor: Mapping[str, Any]) -> int:
    return _BYTES.get(tensor["dtype"], 1)
