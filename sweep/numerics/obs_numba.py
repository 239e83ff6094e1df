"""A block of the solver compiled for CPUs: what torch does column by column is one loop per core.

Rows are independent once the mask of a block is known, and where it is chosen in groups of M
columns they are so throughout. `LANES` rows at a time, all columns of which fit the innermost
cache, go from the first column to the last, and a core works through a share of the rows. The
arithmetic is that of `sweep.numerics.obs.prune_block`, its oracle, in another order of summation.
Needs numba, which comes with `pip install 'compression-sweep[numba]'`.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, no_type_check

import llvmlite.binding as llvm
import numpy as np
import torch
from numba import carray, cfunc, njit, types
from torch import Tensor

LANES = 64
"""Rows at a time: with the 128 columns of a block, 32 KB."""

LARGEST = 1024
"""Columns of a block of which the errors of `LANES` rows still fit the second cache."""

KEPT, GONE, UPPER, NUMBERS, DONE = range(5)
"""Places of what `_share` is given."""

_compiled = partial(njit, cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")


@_compiled()
@no_type_check
def _gather(w: Any, errors: Any, upper: Any, j: int, first: int, last: int) -> None:
    """What column j has to make up for of the errors of some columns before it."""
    for i in range(first, last):
        factor = upper[i, j]
        for lane in range(LANES):
            w[j, lane] -= errors[i, lane] * factor


@_compiled()
@no_type_check
def _gather_fours(w: Any, errors: Any, upper: Any, j: int, last: int) -> None:
    """The same for four columns from j on, of the errors of the first `last`, a multiple of 4.

    What is loaded of four errors serves four columns, and what is left of these stays in registers
    meanwhile; a column's errors are subtracted one after the other.
    """
    for i in range(0, last, 4):
        a0, a1, a2, a3 = upper[i, j], upper[i + 1, j], upper[i + 2, j], upper[i + 3, j]
        k = j + 1
        b0, b1, b2, b3 = upper[i, k], upper[i + 1, k], upper[i + 2, k], upper[i + 3, k]
        k = j + 2
        c0, c1, c2, c3 = upper[i, k], upper[i + 1, k], upper[i + 2, k], upper[i + 3, k]
        k = j + 3
        d0, d1, d2, d3 = upper[i, k], upper[i + 1, k], upper[i + 2, k], upper[i + 3, k]
        for lane in range(LANES):
            e0, e1 = errors[i, lane], errors[i + 1, lane]
            e2, e3 = errors[i + 2, lane], errors[i + 3, lane]
            w[j, lane] = w[j, lane] - e0 * a0 - e1 * a1 - e2 * a2 - e3 * a3
            w[j + 1, lane] = w[j + 1, lane] - e0 * b0 - e1 * b1 - e2 * b2 - e3 * b3
            w[j + 2, lane] = w[j + 2, lane] - e0 * c0 - e1 * c1 - e2 * c2 - e3 * c3
            w[j + 3, lane] = w[j + 3, lane] - e0 * d0 - e1 * d1 - e2 * d2 - e3 * d3


@_compiled()
@no_type_check
def _choose(w: Any, scale: Any, stays: Any, start: int, m: int, count: int) -> None:
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
            stays[start + j, lane] = np.float32(rank[lane] >= count)


@_compiled()
@no_type_check
def _load(w: Any, stays: Any, kept: Any, gone: Any, first: int, m: int) -> None:
    """Takes `LANES` rows from `first` on, or those that are left, and where a mask is read theirs:
    1 where a weight stays, and 0 where it goes."""
    for lane in range(min(LANES, len(kept) - first)):
        for j in range(kept.shape[1]):
            w[j, lane] = kept[first + lane, j]
        if m == 0:
            for j in range(kept.shape[1]):
                stays[j, lane] = np.float32(1) - np.float32(gone[first + lane, j])


@_compiled()
@no_type_check
def _prune(kept: Any, gone: Any, upper: Any, n: int, m: int, begin: int, end: int) -> None:
    """`prune_block` for the rows from `begin` to `end`; a mask is read where M is 0."""
    size = kept.shape[1]
    group = m if m > 0 else 4
    scale = np.empty(size, np.float32)
    for j in range(size):
        scale[j] = 1 / upper[j, j]
    w = np.zeros((size, LANES), np.float32)
    errors = np.empty((size, LANES), np.float32)
    stays = np.ones((size, LANES), np.float32)
    for first in range(begin, end, LANES):
        _load(w, stays, kept, gone, first, m)
        for start in range(0, size, group):
            stop = min(start + group, size)
            if stop - start == 4:
                _gather_fours(w, errors, upper, start, start)
            else:
                for j in range(start, stop):
                    _gather(w, errors, upper, j, 0, start)
            if m > 0:
                _choose(w, scale, stays, start, m, m - n)
            for j in range(start, stop):
                _gather(w, errors, upper, j, start, j)
                for lane in range(LANES):
                    errors[j, lane] = (1 - stays[j, lane]) * w[j, lane] * scale[j]
        for lane in range(min(LANES, end - first)):
            for j in range(size):
                kept[first + lane, j] = w[j, lane] * stays[j, lane]


_number = types.ExternalFunction("omp_get_thread_num", types.int32())
_team_size = types.ExternalFunction("omp_get_num_threads", types.int32())


@no_type_check
def _share(given: Any) -> None:
    """What a thread of torch's team does of `prune_block`."""
    size, rows, n, m, step = carray(given[NUMBERS], 5, np.int64)
    kept = carray(given[KEPT], (rows, size), np.float32)
    gone = carray(given[GONE], (rows if m == 0 else 0, size), np.bool_)
    upper = carray(given[UPPER], (size, size), np.float32)
    done = carray(given[DONE], -(-rows // step), np.bool_)
    for begin in range(_number() * step, rows, _team_size() * step):
        _prune(kept, gone, upper, n, m, begin, min(begin + step, rows))
        done[begin // step] = True


def try_it() -> None:
    """Fails where nothing can be compiled: not once it has been loaded."""


def prune_block(kept: Tensor, upper: Tensor, gone: Tensor | None, n_of_m: tuple[int, int]) -> None:
    """Prunes a block in place: by the mask `gone`, or where that is None keeping N of every M.

    Args:
        kept: `[rows, block]`, contiguous fp32.
        upper: `[block, block]`, the factor `U` of the block.
        gone: `[rows, block]`, True where a weight goes.
        n_of_m: N and M, which divides the columns.

    Raises:
        ValueError: tensors of another kind or shape, for compiled code believes what it is handed.
        MemoryError: there was none left for what a thread works in.
    """
    n, m = n_of_m if gone is None else (0, 0)
    (rows, size), threads = kept.shape, torch.get_num_threads()
    mask = torch.empty(0, 0, dtype=torch.bool) if gone is None else gone.contiguous()
    upper = upper.contiguous()
    right = kept.dtype is upper.dtype is torch.float32 and kept.is_contiguous()
    right = right and upper.shape == (size, size) and (gone is not None or size % m == 0)
    if not right or (gone is not None and (gone.shape != kept.shape or gone.dtype != torch.bool)):
        raise ValueError(f"prune_block: {kept.shape}, {upper.shape}, {mask.shape}, {n_of_m}")
    if rows == 0:
        return
    step = -(-rows // (threads * LANES)) * LANES  # a thread's rows, but for the last's
    if (run := team()) is None:
        prune = partial(_prune, kept.numpy(), mask.numpy(), upper.numpy(), n, m)
        begins = range(0, rows, step)
        ends = (min(begin + step, rows) for begin in begins)
        list(_others(threads, os.getpid()).map(prune, begins, ends))
        return
    numbers = np.array([size, rows, n, m, step], np.int64)
    done = np.zeros(-(-rows // step), np.bool_)
    tensors = [one.data_ptr() for one in (kept, mask, upper)]
    places = [*tensors, numbers.ctypes.data, done.ctypes.data]
    run((ctypes.c_void_p * len(places))(*places), threads)
    if not done.all():  # an error cannot leave the team
        raise MemoryError("the solver's compiled block has not been done")


@cache
def team() -> Callable[[Any, int], None] | None:
    """Has torch's own threads do `_share`; None where GNU's OpenMP is not loaded.

    For a while after their last work they wait by running, and threads beside them would have to
    share the cores with them: a block would take two to three times as long.
    """
    try:
        gomp = ctypes.CDLL("libgomp.so.1", os.RTLD_NOLOAD)
    except OSError:
        return None
    for name in ("omp_get_thread_num", "omp_get_num_threads"):
        llvm.add_symbol(name, ctypes.cast(getattr(gomp, name), ctypes.c_void_p).value)
    share = cfunc(types.void(types.CPointer(types.voidptr)), cache=True)(_share)

    def run(given: Any, threads: int) -> None:
        gomp.GOMP_parallel(share.ctypes, given, threads, 0)

    return run


@cache
def _others(count: int, process: int) -> ThreadPoolExecutor:
    """Threads of our own, kept: to start them for each block would take as long as the block. A
    process that was forked has none of its parent's."""
    return ThreadPoolExecutor(count)
