"""A block of the solver as one kernel, for GPUs: what takes hundreds of launches there takes one.

Rows are independent once the mask of a block is known, and where it is chosen in groups of M
columns they are so throughout. Each program holds all columns of some rows in registers and goes
through them. The arithmetic is that of `sweep.numerics.obs.prune_block`, its oracle, in another
order of summation. Needs triton, which comes with torch for CUDA. It is tested in triton's
interpreter; how fast it is on a GPU has not been measured.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST = 256
"""Columns of a block that still fit into the registers."""

ROWS = 16
"""Rows of a program: 128 columns of them are 16 registers of each of 128 threads."""


@triton.jit  # type: ignore[untyped-decorator]
def _prune(  # type: ignore[no-untyped-def]
    kept,
    gone,
    upper,
    rows,
    size,
    DROP: tl.constexpr,  # noqa: N803 - triton's own way to write what is known when it compiles
    M: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[None, :]
    col = tl.arange(0, BLOCK)[:, None]
    inside = (col < size) & (row < rows)
    at = row * size + col
    w = tl.load(kept + at, mask=inside, other=0.0)
    scale = 1.0 / tl.load(upper + col * (size + 1), mask=col < size, other=1.0)
    if M == 0:  # noqa: SIM108 - decided when it compiles
        dropped = tl.load(gone + at, mask=inside, other=0) != 0
    else:
        dropped = w != w
    for j in range(0, size):
        if M > 0:  # noqa: SIM102
            if j % M == 0:  # the group's ranks, equal scores by position
                scores = (w * scale) * (w * scale)
                rank = tl.zeros([BLOCK, ROWS], dtype=tl.int32)
                for k in range(j, j + M):
                    other = tl.sum(tl.where(col == k, scores, 0.0), axis=0)[None, :]
                    goes_first = (other < scores) | ((other == scores) & (col > k))
                    rank += goes_first.to(tl.int32)
                dropped = tl.where((col >= j) & (col < j + M), rank < DROP, dropped)
        error = tl.sum(tl.where((col == j) & dropped, w * scale, 0.0), axis=0)[None, :]
        w -= tl.load(upper + j * size + col, mask=(col > j) & (col < size), other=0.0) * error
    tl.store(kept + at, tl.where(dropped, 0.0, w), mask=inside)


def try_it() -> None:
    """Fails where kernels cannot be built."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    prune_block(torch.ones(1, 4, device=device), torch.eye(4, device=device), None, (2, 4))


def prune_block(kept: Tensor, upper: Tensor, gone: Tensor | None, n_of_m: tuple[int, int]) -> None:
    """Prunes a block in place: by the mask `gone`, or where that is None keeping N of every M.

    Args:
        kept: `[rows, block]`, contiguous fp32.
        upper: `[block, block]`, the factor `U` of the block.
        gone: `[rows, block]`, True where a weight goes.
        n_of_m: N and M, which divides the columns.
    """
    rows, size = kept.shape
    n, m = n_of_m
    mask = kept if gone is None else gone.contiguous().view(torch.uint8)
    current = torch.cuda.device_of(kept)  # type: ignore[no-untyped-call]
    with current:  # Triton launches on the current one, whatever it is given
        _prune[(triton.cdiv(rows, ROWS),)](
            kept,
            mask,
            upper.contiguous(),
            rows,
            size,
            DROP=m - n,
            M=0 if gone is not None else m,
            BLOCK=max(triton.next_power_of_2(size), 16),
            ROWS=ROWS,
            enable_fp_fusion=True,  # Triton is about to change what it does unasked
        )
