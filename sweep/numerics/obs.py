"""The solver behind SparseGPT: Optimal Brain Surgeon, one column of the weights at a time.

Removing weight `w_j` of a row costs `w_j^2 / (2 [inv(H)]_jj)` if the weights that are left make up
for it as well as they can. SparseGPT (https://arxiv.org/abs/2301.00774) goes through the columns
from the first to the last and lets only later columns make up for one. That takes the inverses of
`H[j:, j:]` for all `j`, and one factor holds what is needed of them: with `inv(H) = U^T U` and `U`
upper triangular, `U[j, j:]` is the first row of the inverse of `H[j:, j:]`, divided by the root of
its first entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sweep.sparsity.pattern import Pattern

MOST_DAMPING = 1.0
"""A Hessian that cannot be factorised with its mean added to its diagonal is beyond repair."""


@final
@dataclass(frozen=True)
class Factor:
    """The factor of a damped inverse Hessian.

    Attributes:
        upper: `U`, upper triangular, with `U^T U = inv(H)`.
        dead: inputs that were zero on every token.
        damping: what was added to the diagonal, in units of its mean.
    """

    upper: Float[Tensor, "in in"]
    dead: Bool[Tensor, " in"]
    damping: float


def factorise(hessian: Float[Tensor, "in in"], damping: float) -> Factor:
    """`U` of `hessian` with dead inputs set to one and `damping * mean(diag)` on its diagonal.

    Where that fails, the damping is raised tenfold, up to 1; the factor says what it was.

    Raises:
        FloatingPointError: a Hessian that is not finite, or cannot be factorised at all.
    """
    if not hessian.isfinite().all():
        raise FloatingPointError("the Hessian of the calibration inputs holds NaN or infinity")
    dead = hessian.diagonal() == 0
    alive = hessian.clone()
    alive.diagonal()[dead] = 1.0
    mean = alive.diagonal().mean()
    while True:
        damped = alive.clone()
        damped.diagonal().add_(damping * mean)
        upper = _inverse_factor(damped)
        if upper is not None:
            return Factor(upper, dead, damping)
        if damping >= MOST_DAMPING:
            raise FloatingPointError(
                "the Hessian of the calibration inputs cannot be factorised, "
                f"even with a damping of {damping:g}"
            )
        damping = min(10 * damping, MOST_DAMPING)


def _inverse_factor(matrix: Float[Tensor, "in in"]) -> Float[Tensor, "in in"] | None:
    """The upper Cholesky factor of the inverse, None where it does not exist in this precision.

    A Cholesky factorisation from the last column to the first gives `matrix = R R^T` with `R` upper
    triangular, hence `inv(matrix) = inv(R)^T inv(R)`: half the work of factorising the inverse, and
    the inverse, in which most digits would be lost, is never formed.
    """
    flipped, failed = torch.linalg.cholesky_ex(matrix.flip(0, 1))
    if failed:
        return None
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    upper = torch.linalg.solve_triangular(flipped.flip(0, 1), identity, upper=True)
    return upper if upper.isfinite().all() else None


def prune_columns(
    weight: Float[Tensor, "out in"], factor: Factor, pattern: Pattern, block: int = 128
) -> Float[Tensor, "out in"]:
    """The weights in fp32 with zeros where the pattern wants them, and the rest making up for it.

    The mask is chosen from the weights as updated so far, the lowest `w_j^2 / U_jj^2` first: for a
    block of columns and all rows when the block is reached, or group by group where the pattern
    decides `width` columns together. The error of a column is spread over its block at once, and
    over the columns behind the block in one matrix product.
    """
    kept = weight.float().clone()
    kept[:, factor.dead] = 0.0
    width = pattern.width or block
    step = max(block // width, 1) * width  # a block ends where a group ends
    columns = kept.shape[1]
    for start in range(0, columns, step):
        stop = min(start + step, columns)
        upper = factor.upper[start:stop, start:stop]
        errors = _prune_block(kept[:, start:stop], upper, pattern, width)
        kept[:, stop:].addmm_(errors, factor.upper[start:stop, stop:], alpha=-1)
    kept[:, factor.dead] = 0.0
    return kept


def _prune_block(
    kept: Float[Tensor, "out block"],
    upper: Float[Tensor, "block block"],
    pattern: Pattern,
    width: int,
) -> Float[Tensor, "out block"]:
    """Prunes the columns of one block in place; returns their errors, each divided by `U_jj`."""
    scale = upper.diagonal()
    gone = torch.zeros_like(kept, dtype=torch.bool)
    errors = torch.zeros_like(kept)
    for j in range(kept.shape[1]):
        if j % width == 0:
            group = slice(j, j + width)
            scores = (kept[:, group] / scale[group]).square()
            gone[:, group] = pattern.drop(scores, per="layer")
        errors[:, j] = torch.where(gone[:, j], kept[:, j] / scale[j], 0.0)
        kept[:, j:].addr_(errors[:, j], upper[j, j:], alpha=-1)
        kept[:, j].masked_fill_(gone[:, j], 0.0)  # exact zero, not a rounding residue
    return errors
