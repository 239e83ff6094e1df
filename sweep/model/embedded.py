"""The model that ships with the package: small, trained, and there without a network.

How it came to be is told in sweep/model/tiny/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

from sweep.model.checkpoint import Checkpoint, DType
from sweep.model.placement import Attention, Device, Load
from sweep.refusal import Refusal

WEIGHTS = Path(__file__).parent / "tiny" / "weights"


@final
@dataclass(frozen=True)
class Tiny(Checkpoint):
    """The embedded two-million-parameter Llama.

    Attributes:
        dtype: of the weights; they ship in float16 and were trained in float32.
        device: where it runs.
        attention: which implementation computes attention; `auto`: the library's choice.
        load: `stream` has its blocks come from disk one at a time.
    """

    dtype: DType = "float32"
    device: Device = "auto"
    attention: Attention = "auto"
    load: Load = "whole"
    device_map: ClassVar[None] = None  # type: ignore[misc]
    pickles: ClassVar[bool] = False  # type: ignore[misc]
    trust_remote_code: ClassVar[bool] = False  # type: ignore[misc]
    blocks: ClassVar[None] = None  # type: ignore[misc]
    dense: ClassVar[None] = None  # type: ignore[misc]

    def folder(self) -> Path:
        """Where the package is installed."""
        return WEIGHTS

    def source(self) -> str:
        """`embedded`."""
        return "embedded"

    def name(self) -> None:
        """The option's."""

    def pinned(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """As it is: its identity is what the files hold."""
        return node

    def wrong(self, reason: str) -> Refusal:
        """By its option; its folder is the installation's."""
        return Refusal("", "tiny", f"{reason} ({WEIGHTS}); install the package anew")
