"""The error of a compressed linear's output against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sweep.numerics.output_error import MOST, SHARE, InputSample


def relative(x: torch.Tensor, dense: torch.Tensor, compressed: torch.Tensor) -> float:
    """By the definition, in double precision."""
    before = x.double() @ dense.double().T
    return float((x.double() @ compressed.double().T - before).norm() / before.norm())


def sampled(x: torch.Tensor, sizes: list[int]) -> InputSample:
    sample = InputSample(len(x))
    for part in torch.split(x, sizes):
        sample.add(part)
    return sample


def test_on_few_tokens_it_is_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    x, dense = torch.randn(100, 16, generator=generator), torch.randn(8, 16, generator=generator)
    compressed = dense.masked_fill(dense.abs() < 0.7, 0)
    assert sampled(x, [100]).error(dense, compressed) == pytest.approx(
        relative(x, dense, compressed), rel=1e-6
    )


@pytest.mark.parametrize("tokens", [5000, 50_000])
def test_of_many_tokens_it_takes_those_that_are_evenly_spaced(tokens: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x, dense = torch.randn(tokens, 4, generator=generator), torch.randn(3, 4, generator=generator)
    compressed = dense * 0.9
    compressed[0] = 0
    sample = sampled(x, [tokens])
    kept = min(tokens // SHARE, MOST)
    assert 0.9 * kept <= len(sample.tokens()) <= 1.1 * kept
    found = sample.error(dense, compressed)
    assert found == pytest.approx(relative(sample.tokens(), dense, compressed), rel=1e-6)
    assert found == pytest.approx(relative(x, dense, compressed), rel=0.1)


@pytest.mark.parametrize("length", [128, 256, 2048])
def test_no_place_in_a_window_is_met_more_often_than_others(length: int) -> None:
    place = (torch.arange(128 * 2048) % length).float()[:, None]
    met = sampled(place, [len(place)]).tokens().long().flatten().bincount(minlength=length)
    assert met.max() <= max(2, 1.3 * met.float().mean())


@pytest.mark.parametrize("came", [1, 40])
def test_an_expert_that_gets_few_of_the_tokens_has_an_error_too(came: int) -> None:
    sample = InputSample(50_000)
    for _ in range(came):
        sample.add(torch.ones(1, 2))
    assert len(sample.tokens()) >= 1
    assert sample.error(torch.ones(1, 2), torch.tensor([[1.0, 0.0]])) == pytest.approx(0.5)


@given(st.lists(st.integers(1, 900), min_size=1, max_size=12))
def test_it_does_not_depend_on_the_batches(sizes: list[int]) -> None:
    x = torch.arange(sum(sizes), dtype=torch.float32).sin()[:, None].repeat(1, 3)
    dense, compressed = torch.ones(2, 3), torch.eye(2, 3)
    assert sampled(x, sizes).error(dense, compressed) == pytest.approx(
        sampled(x, [sum(sizes)]).error(dense, compressed)
    )


def test_nothing_changed_is_zero_and_a_dense_output_of_zero_has_no_share() -> None:
    x, zero, one = torch.ones(4, 2), torch.zeros(1, 2), torch.ones(1, 2)
    assert sampled(x, [4]).error(one, one) == 0
    assert sampled(x, [4]).error(zero, zero) == 0
    assert sampled(x, [4]).error(zero, one) is None
    assert sampled(x, [4]).error(one, zero) == 1
