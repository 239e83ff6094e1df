"""The lowest scores of each group: exactly as many as asked for, ties included.

`scores <= sorted[k]` takes one weight too many, and with equal scores any number of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray as Array
from torch import Tensor

CHUNK = 2**18
"""Scores of which a copy is partitioned at once: 1 MB, a core's cache."""

PIECE = 2**22
"""Weights that are counted at once."""

LONG = 2**15
"""Scores of a group from which on it is sorted on a GPU, where one block of threads selects from a
group: fine for the rows of a weight, and of a whole weight twenty times as slow as to sort it."""


def lowest(scores: Float[Tensor, "groups size"], count: int) -> Bool[Tensor, "groups size"]:
    """True at the `count` lowest scores of every group; equal scores go by position."""
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    cutoff = _smallest(scores, count)
    if scores.device.type != "cpu":  # there, to ask in which groups scores are equal is to wait
        return _exactly(scores, cutoff, count)
    gone = scores <= cutoff
    if np.count_nonzero(gone.numpy()) != len(scores) * count:
        tied = (gone.sum(dim=1) != count).nonzero().squeeze(1)
        gone[tied] = _exactly(scores[tied], cutoff[tied], count)
    return gone


def _exactly(
    scores: Float[Tensor, "groups size"], cutoff: Float[Tensor, "groups 1"], count: int
) -> Bool[Tensor, "groups size"]:
    """Those below the cutoff, and of those at it the first ones."""
    below = scores < cutoff
    open_places = count - below.sum(dim=1, keepdim=True)
    level = scores == cutoff
    return below | (level & (level.cumsum(dim=1, dtype=torch.int32) <= open_places))


def lowest_of_all(scores: Float[Tensor, "rows cols"], count: int) -> Bool[Tensor, "rows cols"]:
    """True at the `count` lowest of all scores; equal scores go by position, row by row.

    A mask of scores whose columns lie contiguous in memory does so too, as the solver wants it.
    """
    if count and scores.device.type == "cpu" and scores.T.is_contiguous():
        gone = scores <= _smallest(scores.T.reshape(1, -1), count)
        if np.count_nonzero(gone.numpy()) == count:
            return gone
    return lowest(scores.reshape(1, -1), count).reshape(scores.shape)


def counts_of_lowest(weights: Collection[Tensor], count: int) -> list[int]:
    """How many of each tensor are among the `count` lowest magnitudes of all.

    Equal ones go by position, tensor by tensor. Each is read twice and one at a time, so that they
    may be more than the memory holds: as an integer, the bits of a magnitude in float32 have the
    order of the magnitudes, and the threshold is found by counting first their upper halves, then
    the lower ones of those in question.

    Args:
        weights: finite; may be read anew each time that it is gone through.
        count: at most as many as there are.
    """
    if count == 0:
        return [0 for _ in weights]
    halves = torch.zeros(2**15, dtype=torch.long)
    for weight in weights:
        for bits in _bits(weight):
            halves += (bits >> 16).bincount(minlength=len(halves)).cpu()
    upper = int(torch.searchsorted(halves.cumsum(0), count))
    left = count - int(halves[:upper].sum())
    below: list[int] = []
    lowers: list[Tensor] = []
    for weight in weights:
        surely, lower = 0, torch.zeros(2**16, dtype=torch.int32)
        for bits in _bits(weight):
            half = bits >> 16
            surely += int((half < upper).sum())
            among = bits[half == upper] & 0xFFFF
            lower += among.bincount(minlength=len(lower)).cpu()
        below.append(surely)
        lowers.append(lower)
    sums = torch.stack(lowers).sum(0).cumsum(0)
    threshold = int(torch.searchsorted(sums, left))
    level = left - (int(sums[threshold - 1]) if threshold else 0)
    found: list[int] = []
    for surely, lower in zip(below, lowers, strict=True):
        equal = min(int(lower[threshold]), level)
        level -= equal
        found.append(surely + int(lower[:threshold].sum()) + equal)
    return found


def _bits(weight: Tensor) -> Iterator[Tensor]:
    """The bits of its magnitudes in float32 as integers, a piece at a time."""
    for piece in torch.split(weight.detach().flatten(), PIECE):
        yield piece.float().abs().view(torch.int32)


def _smallest(scores: Float[Tensor, "groups size"], count: int) -> Float[Tensor, "groups 1"]:
    """The `count`-th smallest score of every group.

    On a CPU by numpy's partition, which is vectorised: many times as fast as torch's selection, to
    the same value. Many groups are spread over torch's threads.
    """
    if scores.device.type != "cpu" or scores.dtype == torch.bfloat16:
        return _selected(scores, count)
    values = scores.detach().numpy()
    parts = np.array_split(values, max(min(values.size // CHUNK, len(values)), 1))
    if len(parts) == 1:
        return torch.from_numpy(_ranks(values, count - 1))
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        return torch.from_numpy(np.concatenate([*threads.map(_ranks, parts, repeat(count - 1))]))


def _selected(scores: Float[Tensor, "groups size"], count: int) -> Float[Tensor, "groups 1"]:
    """The same by torch."""
    if scores.shape[1] < LONG:
        return scores.kthvalue(count, dim=1, keepdim=True).values
    sorted_ = scores.sort(dim=1).values
    return sorted_[:, count - 1 : count].clone()  # a view would keep all of it alive


def _ranks(values: Float[Array, "groups size"], rank: int) -> Float[Array, "groups 1"]:
    """The value of this rank in each row, as a column."""
    partitioned = np.partition(values, rank, axis=1)
    found: Array = partitioned[:, rank : rank + 1].copy()  # a view would keep all of it alive
    return found
