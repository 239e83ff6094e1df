"""Magnitude pruning: the smallest weights go, the rest stays as it is.

Han, Pool, Tran & Dally 2015, "Learning both Weights and Connections for Efficient Neural Networks",
https://arxiv.org/abs/1506.02626:

    score_ij = |W_ij|

compared over the whole layer, over each row, or over all layers at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from jaxtyping import Float
from torch import Tensor

from sweep.method.method import Compressed, Layer, Method
from sweep.numerics.moments import Statistic
from sweep.sparsity.counted import Counted
from sweep.sparsity.lowest import counts_of_lowest
from sweep.sparsity.pattern import Pattern, without


@final
@dataclass(frozen=True)
class Magnitude(Method):
    """Drops the weights of smallest magnitude.

    Args:
        scope: which linears.
        per: which weights are compared with each other: those of a `layer`, of a `row`, or of all
            layers (`global`). Patterns that decide within small groups leave no choice.
    """

    scope: str = "all"
    per: Literal["layer", "row", "global"] = "layer"
    reads_data: ClassVar[bool] = False
    compresses: ClassVar[bool] = True

    def allocate(
        self, weights: Mapping[str, Float[Tensor, "_ _"]], pattern: Pattern
    ) -> Mapping[str, Pattern]:
        if self.per != "global" or pattern.width is not None:
            return dict.fromkeys(weights, pattern)
        sizes = {name: weight.numel() for name, weight in weights.items()}
        gone = counts_of_lowest(weights.values(), pattern.zeros(sum(sizes.values()), per="layer"))
        return {
            name: Counted(count, sizes[name]) for name, count in zip(weights, gone, strict=True)
        }

    def indifferent(self, pattern: Pattern) -> Mapping[str, Any]:
        """`per`, where the pattern decides within small groups."""
        return {} if pattern.width is None else {"per": "layer"}

    def observe(self, layer: Layer) -> Statistic | None:
        return None

    def compress(
        self, weight: Float[Tensor, "out in"], seen: Statistic | None, pattern: Pattern
    ) -> Compressed:
        gone = pattern.drop(weight.abs(), per="row" if self.per == "row" else "layer")
        return Compressed(without(weight, gone))
