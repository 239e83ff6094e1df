"""Wanda: small weights on quiet inputs go, the rest stays as it is.

Sun, Liu, Bair & Kolter 2024, "A Simple and Effective Pruning Approach for Large Language Models",
https://arxiv.org/abs/2306.11695, Eq. 1:

    score_ij = |W_ij| * ||X_j||_2

with the norm over all calibration tokens, compared within each output row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from sweep.method.method import Compressed, Layer, Method, Propagate
from sweep.numerics.moments import ColumnNorm, Statistic
from sweep.sparsity.pattern import Pattern, without

AT_ONCE_ON_CPU = 2**18
"""Weights that are scored in one go."""


@final
@dataclass(frozen=True)
class Wanda(Method):
    """Drops the weights that contribute least to each output.

    Args:
        scope: which linears.
        propagate: whether statistics are those behind compressed blocks, or of the dense model.
    """

    scope: str = "all"
    propagate: Propagate = "compressed"
    reads_data: ClassVar[bool] = True
    compresses: ClassVar[bool] = True

    def allocate(
        self, weights: Mapping[str, Float[Tensor, "_ _"]], pattern: Pattern
    ) -> Mapping[str, Pattern]:
        return dict.fromkeys(weights, pattern)

    def observe(self, layer: Layer) -> Statistic | None:
        return ColumnNorm()

    def compress(
        self, weight: Float[Tensor, "out in"], seen: Statistic | None, pattern: Pattern
    ) -> Compressed:
        assert isinstance(seen, ColumnNorm)
        norm, kept = seen.norm, torch.empty_like(weight)
        # rows know nothing of each other: a few at a time, what is made of them stays in a cache
        rows = max(1, AT_ONCE_ON_CPU // weight.shape[1])
        if weight.device.type != "cpu":
            rows = len(weight)
        for part, out in zip(torch.split(weight, rows), torch.split(kept, rows), strict=True):
            scores = torch.mul(part, norm, out=out).abs_()
            without(part, pattern.drop(scores, per="row"), out)
        return Compressed(kept)
