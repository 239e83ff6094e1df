"""Zeros anywhere, a fixed number in one layer: what an allocation over many layers hands out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from jaxtyping import Bool, Float
from torch import Tensor

from sweep.sparsity.lowest import lowest
from sweep.sparsity.pattern import Pattern


@final
@dataclass(frozen=True)
class Counted(Pattern):
    """Exactly `count` of the `total` weights of a layer, which may be all of them.

    Raises:
        ValueError: a count outside [0, total].
    """

    count: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.count <= self.total:
            raise ValueError(f"count={self.count}: of {self.total} weights, 0 to all can go")

    @property
    def sparsity(self) -> float:
        return self.count / self.total

    @property
    def width(self) -> None:
        return None

    @property
    def label(self) -> str:
        return f"{self.count} of {self.total}"

    def check(self, layer: str, in_features: int) -> None:
        if self.total % in_features:
            raise ValueError(
                f"total={self.total}: no layer of {in_features} inputs (in_features) has as many "
                f"weights; {layer} was given another layer's share"
            )

    def drop(
        self, scores: Float[Tensor, "rows cols"], per: Literal["row", "layer"]
    ) -> Bool[Tensor, "rows cols"]:
        """Compares all weights with each other, as the count was made, whatever `per` says."""
        if scores.numel() != self.total:
            raise ValueError(f"total={self.total}: {scores.numel()} scores were given")
        return lowest(scores.reshape(1, -1), self.count).reshape(scores.shape)
