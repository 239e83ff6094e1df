"""SparseGPT: weights go column by column, and the columns behind make up for them.

Frantar & Alistarh 2023, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot",
https://arxiv.org/abs/2301.00774, Eq. 3 and Algorithm 1, with H the Hessian of the layer's squared
error on the calibration tokens and U the upper Cholesky factor of its inverse:

    score_ij = W_ij^2 / U_jj^2
    W_i,j:  -=  (W_ij / U_jj) * U_j,j:      where W_ij goes

The solver is `sweep.numerics.obs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from sweep.method.method import Compressed, Layer, Method, Propagate
from sweep.numerics.moments import SecondMoment, Statistic
from sweep.numerics.obs import MOST_DAMPING, prune_columns
from sweep.refusal import Refusal
from sweep.sparsity.pattern import Pattern


@final
@dataclass(frozen=True)
class SparseGPT(Method):
    """Drops the weights whose loss is easiest to make up for, and makes up for it.

    Args:
        scope: which linears.
        damping: added to the diagonal of the Hessian, in units of its mean; raised where it is not
            enough, with a remark.
        block: columns whose mask is chosen at once, over all rows.
        propagate: whether statistics are those behind compressed blocks, or of the dense model.

    Raises:
        Refusal: damping outside (0, 1], or a block without columns.
    """

    scope: str = "all"
    damping: float = 0.01
    block: int = 128
    propagate: Propagate = "compressed"
    reads_data: ClassVar[bool] = True
    compresses: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.damping <= MOST_DAMPING:
            reason = f"must be above 0 and at most {MOST_DAMPING:g}"
            raise Refusal("damping", self.damping, reason)
        if self.block < 1:
            raise Refusal("block", self.block, "must be at least 1 column")

    def allocate(
        self, weights: Mapping[str, Float[Tensor, "_ _"]], pattern: Pattern
    ) -> Mapping[str, Pattern]:
        return dict.fromkeys(weights, pattern)

    def observe(self, layer: Layer) -> Statistic | None:
        return SecondMoment()

    def compress(
        self, weight: Float[Tensor, "out in"], seen: Statistic | None, pattern: Pattern
    ) -> Compressed:
        return self.compress_together([weight], seen, [pattern])[0]

    def compress_together(
        self,
        weights: Sequence[Float[Tensor, "_ in"]],
        seen: Statistic | None,
        patterns: Sequence[Pattern],
    ) -> list[Compressed]:
        """All rows in one solve; the threshold is of each layer."""
        assert isinstance(seen, SecondMoment)
        factor = seen.factor(self.damping)
        remarks = (f"damping raised from {self.damping:g} to {factor.damping:g}",)
        kept = prune_columns(weights, factor, patterns, self.block)
        return [Compressed(own, remarks if factor.damping != self.damping else ()) for own in kept]
