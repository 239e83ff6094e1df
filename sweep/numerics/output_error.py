"""How far a compressed linear's output is from the dense one's: what layer-wise pruning minimises.

    ||X W'^T - X W^T||_F / ||X W^T||_F        (Frantar & Alistarh 2023, arXiv 2301.00774, eq. 1,
                                               as a share of the dense output; without the bias)

X are calibration inputs as the layer meets them: behind compressed blocks. All of them would be as
large as the activations of a model, so it is taken on evenly spaced tokens.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sweep.numerics.products import linear

FEWEST, MOST, SHARE = 64, 1024, 32
"""The error is taken on about one token of `SHARE`, within about these bounds: each costs two
products with the weight, as much as a forward pass of two, and counts with all of its outputs."""

ROWS = 512
"""Outputs that are looked at together: what is between takes a fraction of a weight's memory."""


class InputSample:
    """Every `stride`-th token that reaches a linear, whatever the batches in which they come.

    Args:
        total: tokens that are expected.
    """

    def __init__(self, total: int) -> None:
        kept = min(max(total // SHARE, FEWEST), MOST)
        # odd, and begun in the middle: a divisor of the windows' length would always meet their
        # first tokens, which are unlike all others
        self._stride = (math.ceil(max(1, total) / kept) - 1) // 2 * 2 + 1
        self._next = self._stride // 2  # the next to keep, from the beginning of what comes next
        self._kept: list[Tensor] = []
        self._spare: list[Tensor] = []  # of an expert that gets few tokens

    def add(self, x: Float[Tensor, "tokens in"]) -> None:
        """More inputs; what is kept of them is a copy in their dtype."""
        if self._next < len(x):
            self._kept.append(x[self._next :: self._stride].detach().clone())
            taken = len(self._kept[-1])
            self._next += taken * self._stride
        elif not self._kept and not self._spare and len(x):
            self._spare.append(x[:1].detach().clone())
        self._next -= len(x)

    def tokens(self) -> Float[Tensor, "tokens in"]:
        """What is kept, in one piece."""
        return torch.cat(self._kept or self._spare)

    @classmethod
    def of(cls, tokens: Float[Tensor, "tokens in"]) -> InputSample:
        """One that is complete."""
        found = cls(len(tokens))
        found._kept = [tokens]
        return found

    def error(
        self, dense: Float[Tensor, "out in"], compressed: Float[Tensor, "out in"]
    ) -> float | None:
        """The relative error of the output, computed in fp32; 0 where nothing differs.

        None where it differs from a dense output that is zero on all tokens.
        """
        difference = before = torch.zeros((), dtype=torch.float64, device=dense.device)
        tokens = self.tokens().float()
        for was, now in zip(torch.split(dense, ROWS), torch.split(compressed, ROWS), strict=True):
            output = linear(tokens, was.float())
            change = linear(tokens, now.float()).sub_(output)  # where nothing differs, exactly 0
            difference = difference + change.double().square().sum()
            before = before + output.double().square().sum()
        if float(difference) == 0.0:
            return 0.0
        return math.sqrt(float(difference) / float(before)) if float(before) else None
