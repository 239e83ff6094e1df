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
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sweep.refusal import Refusal
from sweep.sparsity.pattern import Pattern

COMPARED = 32
"""The largest group whose scores are compared two by two."""


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

    def zeros(self, total: int, per: Literal["row", "layer"]) -> int:
        return total // self.m * (self.m - self.n)

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
        groups = scores.view(len(scores), -1, self.m).movedim(2, 0).contiguous()
        gone = _ranks(groups) < self.m - self.n
        return gone.movedim(0, 2).flatten(1)


def _ranks(scores: Float[Tensor, "m rows groups"]) -> Int[Tensor, "m rows groups"]:
    """The place of each score in its group, from the lowest; equal scores go by position.

    Every score is compared with every other: for the few of a group that is several times as fast
    as sorting, and on a GPU it is a handful of kernels.
    """
    m = len(scores)
    if m > COMPARED:
        return scores.argsort(dim=0, stable=True).argsort(dim=0)
    ranks = torch.zeros(scores.shape, dtype=torch.int8, device=scores.device)
    for i in range(m - 1):
        goes_later = scores[i] <= scores[i + 1 :]
        ranks[i + 1 :] += goes_later
        ranks[i] += m - 1 - i - goes_later.sum(dim=0, dtype=torch.int8)
    return ranks
