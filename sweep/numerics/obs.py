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

from sweep.numerics.products import product, sum_with_product
from sweep.sparsity.n_of_m import NofM
from sweep.sparsity.pattern import Pattern

MOST_DAMPING = 1.0
"""A Hessian that cannot be factorised with its mean added to its diagonal is beyond repair."""

PANEL = 768
"""Columns that ask all others in one matrix product, and then, halved again and again, each other.
All others are read for it: with a third of these columns the solver takes a tenth longer."""

CORNER = 192
"""Columns that are factorised at once, on the diagonal."""

STRIP = 32
"""Columns of a block among which errors are spread one by one; from strip to strip it is a matrix
product. A strip of a few thousand rows stays in the cache of a core."""

WORTH = 2**20
"""Weights from which on it pays to load compiled code for a CPU."""

MIRRORED = 256
"""Rows of a matrix that are mirrored at once."""


@final
@dataclass(frozen=True)
class Factor:
    """The factor of a damped Hessian, in the memory of the Hessian.

    Attributes:
        matrix: on its diagonal and above it `R` with `R R^T = H`, whose inverse is the `U` of the
            paper; below it the Hessian.
        dead: inputs that were zero on every token.
        has_dead: whether there is one.
        damping: what was added to the diagonal, in units of its mean.
        diagonal: of the Hessian.
    """

    matrix: Float[Tensor, "in in"]
    dead: Bool[Tensor, " in"]
    has_dead: bool
    damping: float
    diagonal: Float[Tensor, " in"]

    @property
    def root(self) -> Float[Tensor, "in in"]:
        """`R`, a copy."""
        return self.matrix.triu()

    def give_back(self) -> Float[Tensor, "in in"]:
        """The Hessian, in the same memory: this is no factor any more."""
        mirror(self.matrix.T)
        self.matrix.diagonal().copy_(self.diagonal)
        return self.matrix


def mirror(matrix: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Puts what lies above the diagonal below it too."""
    for start in range(0, len(matrix), MIRRORED):
        stop = start + MIRRORED
        own = matrix[start:stop, start:stop]
        own.copy_(own.triu() + own.triu(1).T)
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T
    return matrix


@torch.no_grad()
def factorise(hessian: Float[Tensor, "in in"], damping: float) -> Factor:
    """`R` of `hessian` with dead inputs set to one and `damping * mean(diag)` on its diagonal.

    It takes the place of the Hessian, which it gives back if it is asked to. Where that fails, the
    damping is raised tenfold, up to 1; the factor says what it was. A Hessian that is scaled as a
    whole leads to the same weights. Only what lies on the diagonal and above it goes into the
    factor.

    Raises:
        FloatingPointError: a Hessian that is not finite, or cannot be factorised at all; it holds
            what it held.
    """
    if not torch.stack(hessian.aminmax()).isfinite().all():  # either is NaN where anything is
        raise FloatingPointError("the Hessian of the calibration inputs holds NaN or infinity")
    diagonal = hessian.diagonal().clone()
    dead = diagonal == 0
    living = diagonal.masked_fill(dead, 1.0)
    mirror(hessian)  # what it held is there as long as what lies below the diagonal is left alone
    while True:
        factor = Factor(hessian, dead, bool(dead.any()), damping, diagonal)
        hessian.diagonal().copy_(living + damping * living.mean())
        if _turn_into_root(hessian):
            return factor
        factor.give_back()
        if damping >= MOST_DAMPING:
            raise FloatingPointError(
                "the Hessian of the calibration inputs cannot be factorised, "
                f"even with a damping of {damping:g}"
            )
        damping = min(10 * damping, MOST_DAMPING)


def _turn_into_root(matrix: Float[Tensor, "in in"]) -> bool:
    """Upper triangular `R` with `R R^T` the matrix, in place of its diagonal and what lies above
    it; False where there is none in this precision.

    From the last columns to the first: LAPACK goes from the first, and would need the matrix turned
    round, and copies of it on the way. Columns are changed once, when they are reached, by all
    behind them.
    """
    columns = len(matrix)
    for left in reversed(range(0, columns, PANEL)):
        right = min(left + PANEL, columns)
        behind = matrix[:right, right:], matrix[left:right, right:].T
        rest = sum_with_product(matrix[:right, left:right], *behind, alpha=-1.0)
        if not _root_of_columns(matrix, rest, left, right):
            return False
    return bool(matrix.diagonal().isfinite().all())


def _root_of_columns(
    matrix: Float[Tensor, "in in"], rest: Float[Tensor, "right columns"], left: int, right: int
) -> bool:
    """Fills in the columns of the root from `left` to `right`; `rest` are those of the matrix, less
    what all columns behind them account for."""
    if right - left > CORNER:
        middle = _middle(left, right, CORNER)
        if not _root_of_columns(matrix, rest[:, middle - left :], middle, right):
            return False
        behind = matrix[:middle, middle:right], matrix[left:middle, middle:right].T
        rest = sum_with_product(rest[:middle, : middle - left], *behind, alpha=-1.0)
        return _root_of_columns(matrix, rest, left, middle)
    here = slice(left, right)
    lower, failed = torch.linalg.cholesky_ex(rest[here].flip(0, 1))
    if failed:
        return False
    root = lower.flip(0, 1)
    matrix[here, here] = root + matrix[here, here].tril(-1)
    matrix[:left, here] = product(rest[:left], _inverse(root).T)
    return True


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
        weights: of linears with the same inputs: all rows are solved at once. Their results lie one
            after the other in one piece of memory.
        factor: of the Hessian of these inputs.
        patterns: one for each weight, all of the same `width`; a weight's rows are compared with
            each other only.
        block: columns whose mask is chosen at once where the pattern has no width.
    """
    width = patterns[0].width or block
    step = max(block // width, 1) * width  # a block ends where a group ends
    panel = max(PANEL // step, 1) * step
    rows = [len(weight) for weight in weights]
    root = factor.matrix
    taken = torch.empty(sum(rows), len(root), device=root.device)
    kernel = _kernel(root.device, taken.numel(), step)
    work = _Work(weights, factor, patterns, rows, width, step, kernel, taken)
    for left in range(0, len(root), panel):
        right = min(left + panel, len(root))
        asked = taken.new_zeros(len(taken), right - left)
        asked = sum_with_product(asked, taken[:, :left], root[:left, left:right])
        _take(work, left, right, asked)
    found = torch.split(taken, rows)
    for weight, part in zip(weights, found, strict=True):
        torch.sub(weight, part, out=part)  # of a weight that goes all is taken
        if factor.has_dead:
            part.masked_fill_(factor.dead, 0.0)
    return list(found)


@final
@dataclass(frozen=True)
class _Work:
    """What `prune_columns` is given and what it makes of that; `taken` is `D` as far as it goes."""

    weights: Sequence[Float[Tensor, "_ in"]]
    factor: Factor
    patterns: Sequence[Pattern]
    rows: Sequence[int]
    width: int
    step: int
    kernel: ModuleType | None
    taken: Float[Tensor, "rows in"]


def _take(work: _Work, left: int, right: int, asked: Float[Tensor, "rows columns"]) -> None:
    """Fills in the columns of `D` from `left` to `right`, given `D R` of all columns before."""
    root, taken = work.factor.matrix, work.taken
    if right - left > work.step:
        middle = _middle(left, right, work.step)
        _take(work, left, middle, asked[:, : middle - left])
        before = taken[:, left:middle], root[left:middle, middle:right]
        _take(work, middle, right, sum_with_product(asked[:, middle - left :], *before))
        return
    here = slice(left, right)
    upper = _inverse(root[here, here])
    start = torch.cat([weight[:, here] for weight in work.weights]).float()
    if work.factor.has_dead:
        start.masked_fill_(work.factor.dead[here], 0.0)
    kept = sum_with_product(start, asked, upper)
    if not _by_kernel(work.kernel, kept, upper, work.patterns, work.rows):
        prune_block(kept, upper, work.patterns, work.rows, work.width)
    torch.sub(start, kept, out=taken[:, here])


def _middle(left: int, right: int, step: int) -> int:
    """Where to halve a range, or nearly: the first part is a power of two times `step`."""
    half = step
    while 2 * half < right - left:
        half *= 2
    return left + half


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
    kernel: ModuleType | None,
    kept: Float[Tensor, "rows block"],
    upper: Float[Tensor, "block block"],
    patterns: Sequence[Pattern],
    rows: Sequence[int],
) -> bool:
    """Does what `prune_block` does; False where it does nothing: there is no kernel, or it does not
    know the patterns."""
    if kernel is None:
        return False
    one = patterns[0]
    if one.width is None:
        gone = torch.empty_like(kept, dtype=torch.bool)
        for pattern, these in _compared(patterns, rows):
            gone[these] = pattern.drop((kept[these] / upper.diagonal()).square_(), per="layer")
        kernel.prune_block(kept, upper, gone, (0, 0))
        return True
    if not isinstance(one, NofM) or any(other != one for other in patterns):
        return False
    kernel.prune_block(kept, upper, None, (one.n, one.m))
    return True


def prune_block(
    kept: Float[Tensor, "rows block"],
    upper: Float[Tensor, "block block"],
    patterns: Sequence[Pattern],
    rows: Sequence[int],
    width: int,
) -> None:
    """Prunes the columns of one block in place.

    Each error is gathered when its column is reached, first the errors of all strips before, then
    those of the groups before in the strip, then those of the columns before in the group.
    """
    columns = kept.T.contiguous()  # so that a column's entries are neighbours
    scale = 1 / upper.diagonal()
    weighing = torch.empty_like(columns)  # 1 / U_jj where a weight goes, and zero elsewhere
    errors = torch.empty_like(columns)
    strip = max(STRIP // width, 1) * width if width < len(columns) else STRIP

    own = _compared(patterns, rows)

    def choose(group: slice) -> None:
        for pattern, these in own:
            scores = (columns[group, these] * scale[group, None]).square_()
            gone = pattern.drop(scores.T, per="layer").T
            torch.mul(gone, scale[group, None], out=weighing[group, these])

    def gather(first: int, group: slice) -> None:
        before = slice(first, group.start)
        columns[group].addmm_(upper[before, group].T, errors[before], alpha=-1)

    if width >= len(columns):
        choose(slice(0, len(columns)))
    for left in range(0, len(columns), strip):
        right = min(left + strip, len(columns))
        gather(0, slice(left, right))
        for start in range(left, right, width):
            stop = min(start + width, right)
            if width < len(columns):
                gather(left, slice(start, stop))
                choose(slice(start, stop))
            _spread(
                columns[start:stop],
                upper[start:stop, start:stop],
                weighing[start:stop],
                errors[start:stop],
            )
    # the mask is as good as random: a choice would take twice as long
    kept.copy_(columns.mul_(weighing == 0).T)


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
