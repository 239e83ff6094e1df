"""Zeros anywhere: the lowest `ratio` of each group of weights that are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, final

from jaxtyping import Bool, Float
from torch import Tensor

from sweep.refusal import Refusal
from sweep.sparsity.lowest import lowest, lowest_of_all
from sweep.sparsity.pattern import Pattern

DIGITS = 12
"""Of a ratio; more are an error of the arithmetic that made it."""


@final
@dataclass(frozen=True)
class Unstructured(Pattern):
    """A share of the weights, wherever they lie.

    Args:
        ratio: the share of zeros, in [0, 1).

    Raises:
        Refusal: a ratio outside [0, 1).
    """

    ratio: float

    def __post_init__(self) -> None:
        if not 0 <= round(self.ratio, DIGITS) < 1:
            raise Refusal("ratio", self.ratio, "the share of zeros must be in [0, 1)")

    @property
    def sparsity(self) -> float:
        return self.ratio

    @property
    def width(self) -> None:
        return None

    @property
    def label(self) -> str:
        return f"{100 * self.ratio:g}%"

    def check(self, layers: Mapping[str, int]) -> None:
        """Fits every layer."""

    def drop(
        self, scores: Float[Tensor, "rows cols"], per: Literal["row", "layer"]
    ) -> Bool[Tensor, "rows cols"]:
        if per == "row":
            return lowest(scores, self.zeros(scores.shape[1], per))
        return lowest_of_all(scores, self.zeros(scores.numel(), per))

    def zeros(self, total: int, per: Literal["row", "layer"]) -> int:
        """How many of `total` weights that are compared with each other go.

        `floor(ratio * total)` in a row, as Wanda's code counts. Over a layer the weight at the
        threshold goes too, one more, as the code of magnitude pruning and of SparseGPT counts: on
        a small model that one weight per layer moves the perplexity by more than half a percent.

        The product is exact, of the decimal that was typed: in floats 0.29 * 100 is below 29, and
        a range of ratios may hold 0.7999999999999999.
        """
        below = int(Fraction(str(round(self.ratio, DIGITS))) * total)
        return below + 1 if per == "layer" and self.ratio > 0 else below
