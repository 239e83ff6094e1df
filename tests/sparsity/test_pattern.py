"""What a pattern decides is done to a weight and to nothing else of it."""

from __future__ import annotations

import torch

from sweep.sparsity.pattern import without


def test_what_is_left_keeps_every_bit_and_what_goes_is_zero_without_a_sign() -> None:
    values = [1.5, -2.5, 0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38]
    weight = torch.tensor([values, values])
    gone = torch.tensor([[False] * 8, [True] * 8])
    for out in (None, torch.full_like(weight, 7.0)):
        found = without(weight, gone, out)
        assert out is None or out.data_ptr() == found.data_ptr()
        assert found[0].view(torch.int32).equal(weight[0].view(torch.int32))
        assert not found[1].view(torch.int32).any()
