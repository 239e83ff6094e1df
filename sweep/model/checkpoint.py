"""The interface of a model to be compressed.

Constructing a checkpoint reads nothing. What planning needs of it (`sweep.model.reading`) is had
without the weights (`sweep.model.weights`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from sweep.hub import NAME
from sweep.model.placement import Attention, Device, DeviceMap, Load
from sweep.refusal import Refusal

PICKLED = (
    "holds pickled weights only, not safetensors; model.pickles=true reads them, and nothing but "
    "tensors from them"
)
"""What is said of them where nobody has allowed them."""

DType = Literal["float32", "bfloat16", "float16"]


class Checkpoint(ABC):
    """A causal language model in Hugging Face format."""

    dtype: DType
    device: Device
    attention: Attention
    device_map: DeviceMap | None
    load: Load
    pickles: bool
    trust_remote_code: bool
    blocks: str | None
    dense: str | None

    @abstractmethod
    def folder(self) -> Path:
        """The folder that holds it.

        Raises:
            Refusal: no such folder, or none that holds a model.
        """

    @abstractmethod
    def source(self) -> str:
        """`embedded`, `local` or `hub`: what kind of model a result speaks of."""

    @abstractmethod
    def name(self) -> str | None:
        """What it is called in the cell's name; None: as the option of the configuration."""

    @abstractmethod
    def pinned(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """Its part of a configuration, so that it means the same model for ever.

        Raises:
            Refusal: see `folder`.
        """

    @abstractmethod
    def wrong(self, reason: str) -> Refusal:
        """What is wrong with it, by the setting that chose it."""


def check_folder(path: str, pickles: bool) -> Path:
    """The folder as a path, if it holds a model with weights that may be read.

    Raises:
        Refusal: for the setting `path`.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        hint = f"; model=hub model.repo={path} is of the hub" if NAME.fullmatch(path) else ""
        reason = f"no such folder; give one that holds a Hugging Face model{hint}"
        raise Refusal("path", path, reason)
    if not (folder / "config.json").is_file():
        raise Refusal("path", path, "holds no model (no config.json)")
    if any(folder.glob("*.safetensors")):
        return folder
    if not any(folder.glob("*.bin")):
        raise Refusal("path", path, "holds no weights (no *.safetensors)")
    if not pickles:
        raise Refusal("path", path, PICKLED)
    return folder
