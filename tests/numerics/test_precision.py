"""Precision on a GPU, with stand-ins for it: its switches, and its sums of products of halves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from sweep.numerics import moments, precision
from sweep.numerics.moments import SecondMoment
from sweep.numerics.precision import HALVES, adds_up_halves, full_float32, is_precise

PLAIN = torch.mm


@pytest.fixture
def switches() -> Iterator[tuple[Any, Any]]:
    found = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [one.allow_tf32 for one in found]
    yield found
    for one, was in zip(found, before, strict=True):
        one.allow_tf32 = was


def test_float32_is_not_rounded_within_and_the_machines_switches_are_as_before(
    switches: tuple[Any, Any],
) -> None:
    for one in switches:
        one.allow_tf32 = True  # as NVIDIA's containers have it

    @full_float32()
    def works() -> None:
        assert not any(one.allow_tf32 for one in switches)
        with full_float32():
            pass
        assert not any(one.allow_tf32 for one in switches)
        raise ValueError("an error")

    with pytest.raises(ValueError, match="an error"):
        works()
    assert all(one.allow_tf32 for one in switches)


def exact(a: Tensor, b: Tensor, out_dtype: torch.dtype) -> Tensor:
    return PLAIN(a.float(), b.float()).to(out_dtype)


def rounded(a: Tensor, b: Tensor, out_dtype: torch.dtype) -> Tensor:
    """Sums of parts that are halves themselves."""
    parts = zip(a.split(512, dim=1), b.split(512), strict=True)
    return sum((PLAIN(x, y).to(out_dtype) for x, y in parts), torch.zeros(()))


@pytest.fixture
def multiplies(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Has halves multiplied in a given way."""
    yield lambda way: (is_precise.cache_clear(), monkeypatch.setattr(torch, "mm", way))
    is_precise.cache_clear()


@pytest.mark.parametrize("dtype", HALVES)
def test_sums_of_halves_are_believed_where_float64_says_so(
    dtype: torch.dtype, multiplies: Any
) -> None:
    multiplies(exact)
    assert is_precise("cpu", dtype)
    multiplies(rounded)
    assert not is_precise("cpu", dtype)
    multiplies(PLAIN)  # a device that has none
    assert not is_precise("cpu", dtype)
    assert not adds_up_halves(torch.ones(2, 2, dtype=dtype))


@pytest.mark.parametrize("dtype", HALVES)
def test_the_hessian_of_halves_is_that_of_their_float32(
    dtype: torch.dtype, multiplies: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(600, 300, generator=torch.Generator().manual_seed(0)).to(dtype)
    plain, exactly = SecondMoment(), SecondMoment()
    plain.add(x, 2)
    multiplies(exact)
    monkeypatch.setattr(moments, "adds_up_halves", lambda x: x.dtype is dtype)
    exactly.add(x, 2)
    right = x.double().T @ x.double()
    for one in (plain, exactly):
        assert float((one.hessian - right).norm() / right.norm()) < precision.TOLERANCE
