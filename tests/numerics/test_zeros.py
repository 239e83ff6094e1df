"""Zeros of tensors, counted."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sweep.numerics.zeros import count_zeros


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
def test_zeros_of_both_signs_are_counted_and_nothing_else(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0.0, -0.0, 1.0], [-2.0, 0.0, 3.0]]).to(dtype)
    assert count_zeros(tensor) == 3
    assert count_zeros(tensor.T[1:]) == 2
    assert count_zeros(tensor[:0]) == 0


def test_what_is_no_number_is_no_zero_and_a_parameter_is_counted_as_it_is() -> None:
    tensor = torch.tensor([float("nan"), float("inf"), torch.finfo(torch.float32).tiny / 2, 0.0])
    assert count_zeros(nn.Parameter(tensor)) == 1
