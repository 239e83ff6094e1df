"""The solver behind SparseGPT: Optimal Brain Surgeon, one column of the weights at a time.

Removing weight `w_j` of a row costs `w_j^2 / (2 [inv(H)]_jj)` if the weights that are left make up
for it as well as they can. SparseGPT (https://arxiv.org/abs/2301.00774) goes through the columns
from the first to the last and lets only later columns make up for one. That takes the inverses of
`H[j:, j:]` for all `j`, and one factor holds what is needed of them: with `inv(H) = U^T U` and `U`
upper triangular, `U[j, j:]` is the first row of the inverse of `H[j:, j:]`, divided by the root of
its first entry.

`U` itself is never formed. With `H = R R^T` and `R` upper triangular, `U = inv(R)`. Let `E` be the
errors of the columns, `E_j = w_j / U_jj` where `w_j` goes and zero elsewhere, and `D` what has been
taken from the weights so far. Then `D = E U`, so `E = D R`; and as the error of a weight that stays
is zero, `D` of the columns before says what a block of columns has to make up for:

    D[:, block] = - D[:, :block] R[:block, block] inv(R[block, block])

That is a triangular solve. It needs one Cholesky factorisation of `H` from its last column to its
first, no inverse but those of the blocks on the diagonal, and nearly all of its work is products of
large matrices; the published loop inverts `H` and factorises the inverse, in which digits are lost.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import accumulate
from types import ModuleType
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sweep.numerics.products import add_product, product, sum_with_product
from sweep.sparsity.n_of_m import NofM
from sweep.sparsity.pattern import Pattern

MOST_DAMPING = 1.0
"""A Hessian that cannot be factorised with its mean added to its diagonal is beyond repair."""

PANEL = 512
"""Columns about which those before them are asked in one matrix product: with fewer, a product is
bound by memory, and is slower on two cores by half."""

CORNER = 192
"""Columns that are factorised at once, on the diagonal."""

STRIP = 32
"""Columns of a block among which errors are spread one by one; from strip to strip it is a matrix
product. A strip of a few thousand rows stays in the cache of a core."""

WORTH = 2**20
"""Weights from which on it pays to load compiled code for a CPU."""


@final
@dataclass(frozen=True)
class Factor:
    """The factor of a damped Hessian.

    Attributes:
        root: `R`, upper triangular, with `R R^T = H`; its inverse is the `U` of the paper.
        dead: inputs that were zero on every token.
        has_dead: whether there is one.
        damping: what was added to the diagonal, in units of its mean.
    """

    root: Float[Tensor, "in in"]
    dead: Bool[Tensor, " in"]
    has_dead: bool
    damping: float


@torch.no_grad()
def factorise(hessian: Float[Tensor, "in in"], damping: float) -> Factor:
    """`R` of `hessian` with dead inputs set to one and `damping * mean(diag)` on its diagonal.

    Where that fails, the damping is raised tenfold, up to 1; the factor says what it was. A Hessian
    that is scaled as a whole leads to the same weights. Only what lies on the diagonal and above it
    goes into the factor.

    Raises:
        FloatingPointError: a Hessian that is not finite, or cannot be factorised at all.
    """
    if not torch.stack(hessian.aminmax()).isfinite().all():  # either is NaN where anything is
        raise FloatingPointError("the Hessian of the calibration inputs holds NaN or infinity")
    diagonal = hessian.diagonal().clone()
    dead = diagonal == 0
    diagonal[dead] = 1.0
    mean = diagonal.mean()
    while True:
        root = hessian.clone()
        root.diagonal().copy_(diagonal + damping * mean)
        if _turn_into_root(root):
            return Factor(root, dead, bool(dead.any()), damping)
        if damping >= MOST_DAMPING:
            raise FloatingPointError(
                "the Hessian of the calibration inputs cannot be factorised, "
                f"even with a damping of {damping:g}"
            )
        damping = min(10 * damping, MOST_DAMPING)


def _turn_into_root(matrix: Float[Tensor, "in in"]) -> bool:
    """Upper triangular `R` with `R R^T` the matrix, in its place; False where there is none in this
    precision.

    Block by block from the last column on, within the memory of the matrix: LAPACK goes from the
    first column, and would need the matrix turned round, and copies of it on the way.
    """
    for stop in range(len(matrix), 0, -CORNER):
        start = max(stop - CORNER, 0)
        here = slice(start, stop)
        lower, failed = torch.linalg.cholesky_ex(matrix[here, here].flip(0, 1))
        if failed:
            return False
        root = matrix[here, here].copy_(lower.flip(0, 1))
        above = product(matrix[:start, here], _inverse(root).T)
        matrix[:start, here] = above
        for left in range(0, start, PANEL):  # nothing below the diagonal is read again
            right = min(left + PANEL, start)
            add_product(matrix[:right, left:right], above[:right], above[left:right].T, alpha=-1.0)
    matrix.triu_()
    return bool(matrix.diagonal().isfinite().all())


@torch.no_grad()
def prune_columns(
    weights: Sequence[Float[Tensor, "_ in"]],
    factor: Factor,
    patterns: Sequence[Pattern],
    block: int = 128,
) -> list[Float[Tensor, "_ in"]]:
    """The weights in fp32 with zeros where the patterns want them, and the rest making up for it.

    The mask is chosen from the weights as updated so far, the lowest `w_j^2 / U_jj^2` first: for a
    block of columns and all rows when the block is reached, or group by group where the pattern
    decides `width` columns together.

    Args:
        weights: of linears with the same inputs: all rows are solved at once.
        factor: of the Hessian of these inputs.
        patterns: one for each weight, all of the same `width`; a weight's rows are compared with
            each other only.
        block: columns whose mask is chosen at once where the pattern has no width.
    """
    width = patterns[0].width or block
    step = max(block // width, 1) * width  # a block ends where a group ends
    panel = max(PANEL // step, 1) * step
    rows = [len(weight) for weight in weights]
    columns = len(factor.root)
    kernel = _kernel(factor.root.device, columns * sum(rows), step)
    # D, turned, so that a column's entries are neighbours; what is not reached holds the weights
    taken = _turned(weights, factor)
    for left in range(0, columns, panel):
        right = min(left + panel, columns)
        found = product(factor.root[:left, left:right].T, taken[:left])
        for start in range(left, right, step):
            here = slice(start, min(start + step, right))
            above, asked = factor.root[left:start, here], found[start - left : here.stop - left]
            asked = sum_with_product(asked, above.T, taken[left:start])
            upper = _inverse(factor.root[here, here])
            kept = sum_with_product(taken[here], upper.T, asked)
            if kernel is None or not _by_kernel(kernel, kept, upper, patterns, rows):
                prune_block(kept, upper, patterns, rows, width)
            taken[here].sub_(kept)
    return [
        _kept(weight, part, factor)
        for weight, part in zip(weights, torch.split(taken, rows, dim=1), strict=True)
    ]


def _turned(weights: Sequence[Float[Tensor, "_ in"]], factor: Factor) -> Float[Tensor, "in rows"]:
    """The columns of all weights as rows, in fp32, zero for dead inputs."""
    sizes = [len(weight) for weight in weights]
    found = torch.empty(len(factor.root), sum(sizes), device=factor.root.device)
    for weight, part in zip(weights, torch.split(found, sizes, dim=1), strict=True):
        # torch turns a whole matrix in tiles, and one that has gaps between its rows it does not
        whole = part if part.is_contiguous() else torch.empty_like(part)
        whole.copy_(weight.T)
        if whole is not part:
            part.copy_(whole)
    return found.masked_fill_(factor.dead[:, None], 0.0) if factor.has_dead else found


def _kept(
    weight: Float[Tensor, "out in"], taken: Float[Tensor, "in out"], factor: Factor
) -> Float[Tensor, "out in"]:
    """A weight without what is taken from it; of one that goes all is taken, and zero is left."""
    kept = torch.empty(weight.shape, dtype=taken.dtype, device=taken.device)
    kept.copy_(taken.contiguous().T)
    torch.sub(weight, kept, out=kept)
    return kept.masked_fill_(factor.dead, 0.0) if factor.has_dead else kept


def _inverse(root: Float[Tensor, "block block"]) -> Float[Tensor, "block block"]:
    identity = torch.eye(len(root), dtype=root.dtype, device=root.device)
    inverse: Tensor = torch.linalg.solve_triangular(root, identity, upper=True)
    return inverse


def _kernel(device: torch.device, weights: int, block: int) -> ModuleType | None:
    """What does the work of `prune_block` as one kernel there, where there is something.

    On a CPU it is left out where there are so few weights that loading it would take longer.
    """
    if device.type == "cpu":
        kernel = _loaded("numba") if weights >= WORTH else None
    else:
        kernel = _loaded("triton") if device.type == "cuda" else None
    return kernel if kernel is not None and block <= kernel.LARGEST else None


@cache
def _loaded(compiler: str) -> ModuleType | None:
    """The solver's kernel in a compiler's language, where that compiler is installed and works.

    Numba fails when it is loaded, where it has no folder to keep what it compiles; Triton when it
    first launches, where it finds no C compiler or no header of Python's, by errors of all kinds.
    """
    if find_spec(compiler) is None:
        return None
    try:
        found = import_module(f"sweep.numerics.obs_{compiler}")
        found.try_it()
    except Exception as error:  # noqa: BLE001 - whatever it is, there is another way
        logging.getLogger(__name__).warning("the solver runs without %s: %s", compiler, error)
        return None
    return found


def _by_kernel(
    kernel: ModuleType,
    kept: Float[Tensor, "block rows"],
    upper: Float[Tensor, "block block"],
    patterns: Sequence[Pattern],
    rows: Sequence[int],
) -> bool:
    """Does what `prune_block` does; False where it does nothing: patterns that it does not know."""
    one = patterns[0]
    if one.width is None:
        gone = torch.empty_like(kept, dtype=torch.bool)
        for pattern, these in _compared(patterns, rows):
            scores = (kept[:, these] / upper.diagonal()[:, None]).square_()
            gone[:, these] = pattern.drop(scores.T, per="layer").T
        kernel.prune_block(kept, upper, gone, (0, 0))
        return True
    if not isinstance(one, NofM) or any(other != one for other in patterns):
        return False
    kernel.prune_block(kept, upper, None, (one.n, one.m))
    return True


def prune_block(
    kept: Float[Tensor, "block rows"],
    upper: Float[Tensor, "block block"],
    patterns: Sequence[Pattern],
    rows: Sequence[int],
    width: int,
) -> None:
    """Prunes the columns of one block in place, given as rows: `kept` is turned.

    Each error is gathered when its column is reached, first the errors of all strips before, then
    those of the groups before in the strip, then those of the columns before in the group.
    """
    scale = 1 / upper.diagonal()
    weighing = torch.empty_like(kept)  # 1 / U_jj where a weight goes, and zero elsewhere
    errors = torch.empty_like(kept)
    strip = max(STRIP // width, 1) * width if width < len(kept) else STRIP

    own = _compared(patterns, rows)

    def choose(group: slice) -> None:
        for pattern, these in own:
            scores = (kept[group, these] * scale[group, None]).square_()
            gone = pattern.drop(scores.T, per="layer").T
            torch.mul(gone, scale[group, None], out=weighing[group, these])

    def gather(first: int, group: slice) -> None:
        before = slice(first, group.start)
        kept[group].addmm_(upper[before, group].T, errors[before], alpha=-1)

    if width >= len(kept):
        choose(slice(0, len(kept)))
    for left in range(0, len(kept), strip):
        right = min(left + strip, len(kept))
        gather(0, slice(left, right))
        for start in range(left, right, width):
            stop = min(start + width, right)
            if width < len(kept):
                gather(left, slice(start, stop))
                choose(slice(start, stop))
            _spread(
                kept[start:stop],
                upper[start:stop, start:stop],
                weighing[start:stop],
                errors[start:stop],
            )
    kept.mul_(weighing == 0)  # the mask is as good as random: a choice would take twice as long


def _spread(
    kept: Float[Tensor, "group rows"],
    upper: Float[Tensor, "group group"],
    weighing: Float[Tensor, "group rows"],
    errors: Float[Tensor, "group rows"],
) -> None:
    """Updates columns one by one by the errors before, and fills in their errors."""
    factors, before = upper.T.contiguous(), errors.T
    for j, (column, weigh, error) in enumerate(zip(kept, weighing, errors, strict=True)):
        if j:
            column.addmv_(before[:, :j], factors[j, :j], alpha=-1)
        torch.mul(column, weigh, out=error)


def _compared(patterns: Sequence[Pattern], rows: Sequence[int]) -> list[tuple[Pattern, slice]]:
    """Which rows each pattern decides about: those of its weight, or all where all patterns are the
    same one and it decides row by row."""
    if patterns[0].width is not None and all(one == patterns[0] for one in patterns):
        return [(patterns[0], slice(0, sum(rows)))]
    stops = list(accumulate(rows))
    return [(p, slice(stop - n, stop)) for p, n, stop in zip(patterns, rows, stops, strict=True)]
