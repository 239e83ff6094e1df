"""The interface of a sparsity pattern: which weights go, given how much each of them matters.

Whoever scores weights knows nothing about patterns, and a pattern knows nothing about methods. All
patterns are exact: they drop as many weights as they say, whatever the ties.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Pattern(ABC):
    """A share of zeros, and where they may lie."""

    @property
    @abstractmethod
    def sparsity(self) -> float:
        """The share of zeros that is asked for, in [0, 1)."""

    @property
    @abstractmethod
    def width(self) -> int | None:
        """How many neighbouring columns are decided together; None if there are no such groups."""

    @property
    @abstractmethod
    def label(self) -> str:
        """A short name for people, such as `50%` or `2:4`."""

    @abstractmethod
    def zeros(self, total: int, per: Literal["row", "layer"]) -> int:
        """How many go of `total` weights that are compared with each other."""

    @abstractmethod
    def check(self, layers: Mapping[str, int]) -> None:
        """Refuses layers that the pattern does not fit.

        Args:
            layers: the `in_features` of each, by name.

        Raises:
            Refusal: for the field that does not fit; names the layer, and what would fit all.
        """

    @abstractmethod
    def drop(
        self, scores: Float[Tensor, "rows cols"], per: Literal["row", "layer"]
    ) -> Bool[Tensor, "rows cols"]:
        """The weights with the lowest scores, True where a weight goes.

        Among equal scores the lower index goes first. `per` says which weights are compared with
        each other, where the pattern leaves that open: those of a row, or all of them.
        """


def without(
    weight: Float[Tensor, "rows cols"],
    gone: Bool[Tensor, "rows cols"],
    out: Float[Tensor, "rows cols"] | None = None,
) -> Float[Tensor, "rows cols"]:
    """A weight in float32 with 0 where it goes; all else keeps every bit.

    As a product of its bits with 1 or 0: where a mask is as good as random that is twice as fast as
    a choice, and no zero has a sign.
    """
    bits = None if out is None else out.view(torch.int32)
    return torch.mul(weight.view(torch.int32), ~gone, out=bits).view(torch.float32)
