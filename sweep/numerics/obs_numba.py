"""A block of the solver compiled for CPUs: what torch does column by column is one loop per core.

Rows are independent once the mask of a block is known, and where it is chosen in groups of M
columns they are so throughout. `LANES` rows at a time, all columns of which fit the innermost
cache, go from the first column to the last, and a core works through a share of the rows. The
arithmetic is that of `sweep.numerics.obs.prune_block`, its oracle, in another order of summation.
Needs numba, which comes with `pip install 'compression-sweep[numba]'`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, no_type_check

import numpy as np
import torch
from numba import njit
from torch import Tensor

LANES = 64
"""Rows at a time: with the 128 columns of a block, 32 KB."""

MATRIX = "float32[:,::1]"

LARGEST = 1024
"""Columns of a block of which the errors of `LANES` rows still fit the second cache."""


_compiled = partial(njit, cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")


@_compiled()
@no_type_check
def _gather(w: Any, errors: Any, upper: Any, j: int, first: int, last: int) -> None:
    """What column j has to make up for of the errors of some columns before it.

    Four of them at a time, one after the other: what is left stays in a register meanwhile.
    """
    fours = first + (last - first) // 4 * 4
    for i in range(first, fours, 4):
        a, b, c, d = upper[i, j], upper[i + 1, j], upper[i + 2, j], upper[i + 3, j]
        for lane in range(LANES):
            left = w[j, lane]
            left -= errors[i, lane] * a
            left -= errors[i + 1, lane] * b
            left -= errors[i + 2, lane] * c
            left -= errors[i + 3, lane] * d
            w[j, lane] = left
    for i in range(fours, last):
        factor = upper[i, j]
        for lane in range(LANES):
            w[j, lane] -= errors[i, lane] * factor


@_compiled()
@no_type_check
def _choose(w: Any, scale: Any, drop: Any, start: int, m: int, count: int) -> None:
    """Marks the `count` lowest scores of each row's group; equal scores go by position."""
    scores = np.empty((m, LANES), np.float32)
    rank = np.empty(LANES, np.int32)
    for j in range(m):
        for lane in range(LANES):
            score = w[start + j, lane] * scale[start + j]
            scores[j, lane] = score * score
    for j in range(m):
        rank[:] = 0
        for k in range(m):
            for lane in range(LANES):
                if k < j:
                    rank[lane] += scores[k, lane] <= scores[j, lane]
                else:
                    rank[lane] += scores[k, lane] < scores[j, lane]
        for lane in range(LANES):
            drop[start + j, lane] = rank[lane] < count


@_compiled(f"void({MATRIX}, boolean[:,::1], {MATRIX}, int64, int64, int64, int64)")
@no_type_check
def _prune(kept: Any, gone: Any, upper: Any, n: int, m: int, begin: int, end: int) -> None:
    """`prune_block` for the rows from `begin` to `end`; a mask is read where M is 0."""
    size = len(kept)
    width = max(m, 1)
    scale = np.empty(size, np.float32)
    for j in range(size):
        scale[j] = 1 / upper[j, j]
    w = np.empty((size, LANES), np.float32)
    errors = np.empty((size, LANES), np.float32)
    drop = np.empty((size, LANES), np.bool_)
    for first in range(begin, end, LANES):
        lanes = min(LANES, end - first)
        for j in range(size):
            for lane in range(LANES):
                w[j, lane] = kept[j, first + lane] if lane < lanes else 0
                drop[j, lane] = gone[j, first + lane] if m == 0 and lane < lanes else False
        for start in range(0, size, width):
            for j in range(start, start + width):
                _gather(w, errors, upper, j, 0, start)
            if m > 0:
                _choose(w, scale, drop, start, m, m - n)
            for j in range(start, start + width):
                _gather(w, errors, upper, j, start, j)
                for lane in range(LANES):
                    errors[j, lane] = w[j, lane] * scale[j] if drop[j, lane] else 0
        for j in range(size):
            for lane in range(lanes):
                kept[j, first + lane] = 0 if drop[j, lane] else w[j, lane]


def prune_block(kept: Tensor, upper: Tensor, gone: Tensor | None, n_of_m: tuple[int, int]) -> None:
    """Prunes a block in place: by the mask `gone`, or where that is None keeping N of every M.

    Args:
        kept: `[block, rows]`, contiguous fp32.
        upper: `[block, block]`, the factor `U` of the block.
        gone: `[block, rows]`, True where a weight goes.
        n_of_m: N and M, which divides the columns.
    """
    n, m = n_of_m if gone is None else (0, 0)
    mask = torch.empty(0, 0, dtype=torch.bool) if gone is None else gone.contiguous()
    given = (kept.numpy(), mask.numpy(), upper.contiguous().numpy(), n, m)
    rows, threads = kept.shape[1], torch.get_num_threads()
    share = -(-rows // (threads * LANES)) * LANES  # a thread's rows, but for the last's
    prune: Callable[..., None] = _prune
    others = [
        _helpers(threads - 1, os.getpid()).submit(prune, *given, begin, min(begin + share, rows))
        for begin in range(share, rows, share)
    ]
    prune(*given, 0, min(share, rows))
    for other in others:
        other.result()


@cache
def _helpers(count: int, process: int) -> ThreadPoolExecutor:
    """Threads beside the caller's, kept: to start them for each block would take as long as the
    block. A process that was forked has none of its parent's."""
    return ThreadPoolExecutor(count)
