"""A causal language model from a folder on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from sweep.model.checkpoint import Checkpoint, DType, check_folder
from sweep.model.placement import (
    Attention,
    Device,
    DeviceMap,
    Load,
    check_device_map,
    check_load,
)
from sweep.refusal import Refusal


@final
@dataclass(frozen=True)
class Local(Checkpoint):
    """Any Hugging Face causal language model on disk.

    Attributes:
        path: the folder, with config.json, *.safetensors and the tokenizer.
        dtype: of the weights; statistics and solvers are in float32 in any case.
        device: where it runs.
        attention: which implementation computes attention; `auto`: the library's choice.
        device_map: how accelerate spreads it over devices, the host's memory and disk; None: it is
            on `device` whole.
        load: `stream` has its blocks come from disk one at a time.
        pickles: also read pickled weights; of them nothing but tensors (`weights_only`).
        trust_remote_code: also run model code that stands in the folder.
        blocks: path of the list of its blocks, where that is not found; None: it is found.
        dense: regular expression over the names of matrices that are never pruned; None: none.
    """

    path: str
    dtype: DType = "float32"
    device: Device = "auto"
    attention: Attention = "auto"
    device_map: DeviceMap | None = None
    load: Load = "whole"
    pickles: bool = False
    trust_remote_code: bool = False
    blocks: str | None = None
    dense: str | None = None

    def __post_init__(self) -> None:
        """Raises: Refusal: a device map that cannot be meant, or streaming beside one."""
        check_device_map(self.device, self.device_map)
        check_load(self.load, self.device_map, self.pickles)

    def folder(self) -> Path:
        """The folder `path`, checked."""
        return check_folder(self.path, self.pickles)

    def source(self) -> str:
        """`local`."""
        return "local"

    def name(self) -> str:
        """The folder's."""
        return self.folder().resolve().name

    def pinned(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """As it is: its identity is what the files hold."""
        return node

    def wrong(self, reason: str) -> Refusal:
        """By the folder, as given."""
        return Refusal("path", self.path, reason)
