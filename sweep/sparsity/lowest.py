"""The lowest scores of each group: exactly as many as asked for, ties included.

`scores <= sorted[k]` takes one weight too many, and with equal scores any number of them.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def lowest(scores: Float[Tensor, "groups size"], count: int) -> Bool[Tensor, "groups size"]:
    """True at the `count` lowest scores of every group; equal scores go by position."""
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    cutoff = scores.kthvalue(count, dim=1, keepdim=True).values
    below = scores < cutoff
    level = scores == cutoff
    open_places = count - below.sum(dim=1, keepdim=True)
    return below | (level & (level.cumsum(dim=1) <= open_places))
