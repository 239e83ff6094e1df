"""A causal language model from a folder on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from sweep.model.checkpoint import Checkpoint, Device, DType, check_folder
from sweep.refusal import Refusal


@final
@dataclass(frozen=True)
class Local(Checkpoint):
    """Any Hugging Face causal language model on disk.

    Attributes:
        path: the folder, with config.json, *.safetensors and the tokenizer.
        dtype: of the weights; statistics and solvers are in float32 in any case.
        device: where it runs.
        pickles: also read pickled weights, which can run code.
        trust_remote_code: also run model code that stands in the folder.
    """

    path: str
    dtype: DType = "float32"
    device: Device = "auto"
    pickles: bool = False
    trust_remote_code: bool = False

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
