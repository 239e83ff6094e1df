"""N:M sparsity: N of every M consecutive inputs of a row are kept.

That is NVIDIA's reading (https://arxiv.org/abs/2104.08378), and 2:4 is the case that hardware
speeds up. Published pruning code prunes N of M instead: the same for 2:4, another thing for 1:4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sweep.refusal import Refusal
from sweep.sparsity.pattern import Pattern


@final
@dataclass(frozen=True)
class NofM(Pattern):
    """Keep `n` of every `m` consecutive weights of a row.

    Args:
        n: weights that are kept in a group, 1 to m.
        m: weights in a group.
        ratio: not to be set: n and m fix it. It is here to be refused by name.

    Raises:
        Refusal: n and m that make no pattern, or a ratio beside them.
    """

    n: int
    m: int
    ratio: float | None = None

    def __post_init__(self) -> None:
        if self.m < 1:
            raise Refusal("m", self.m, "a group must hold at least one weight")
        if not 1 <= self.n <= self.m:
            raise Refusal("n", self.n, f"of m={self.m} weights, 1 to {self.m} can be kept")
        if self.ratio is not None:
            reason = f"the pattern {self.label} has a ratio of its own, {self.sparsity:g}"
            raise Refusal("ratio", self.ratio, f"{reason}; leave ratio out")

    @property
    def sparsity(self) -> float:
        return (self.m - self.n) / self.m

    @property
    def width(self) -> int:
        return self.m

    @property
    def label(self) -> str:
        return f"{self.n}:{self.m}"

    def check(self, layers: Mapping[str, int]) -> None:
        for name, inputs in layers.items():
            if inputs % self.m:
                reason = (
                    f"does not divide the {inputs} inputs (in_features) of {name}; choose m among "
                    f"the divisors of {math.gcd(*layers.values())}, or leave layers out of the "
                    "scope"
                )
                raise Refusal("m", self.m, reason)

    def drop(
        self, scores: Float[Tensor, "rows cols"], per: Literal["row", "layer"]
    ) -> Bool[Tensor, "rows cols"]:
        groups = scores.reshape(len(scores), -1, self.m)
        gone = groups.argsort(dim=2, stable=True)[..., : self.m - self.n]
        return torch.zeros_like(groups, dtype=torch.bool).scatter_(2, gone, True).flatten(1)
