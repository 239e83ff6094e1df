"""Zeros anywhere, a fixed number in one layer: what an allocation over many layers hands out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

from jaxtyping import Bool, Float
from torch import Tensor

from sweep.refusal import Refusal
from sweep.sparsity.lowest import lowest_of_all
from sweep.sparsity.pattern import Pattern


@final
@dataclass(frozen=True)
class Counted(Pattern):
    """Exactly `count` of the `total` weights of a layer, which may be all of them.

    Raises:
        Refusal: a count outside [0, total].
    """

    count: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.count <= self.total:
            raise Refusal("count", self.count, f"of {self.total} weights, 0 to all can go")

    @property
    def sparsity(self) -> float:
        return self.count / self.total

    @property
    def width(self) -> None:
        return None

    @property
    def label(self) -> str:
        return f"{self.count} of {self.total}"

    def zeros(self, total: int, per: Literal["row", "layer"]) -> int:
        """The count, whatever it is compared over."""
        return self.count

    def check(self, layers: Mapping[str, int]) -> None:
        for name, inputs in layers.items():
            if self.total % inputs:
                reason = f"no layer of {inputs} inputs (in_features) has as many weights"
                raise Refusal("total", self.total, f"{reason}; {name} has another layer's share")

    def drop(
        self, scores: Float[Tensor, "rows cols"], per: Literal["row", "layer"]
    ) -> Bool[Tensor, "rows cols"]:
        """Compares all weights with each other, as the count was made, whatever `per` says."""
        if scores.numel() != self.total:
            raise ValueError(f"{scores.numel()} scores were given for total={self.total} weights")
        return lowest_of_all(scores, self.count)
