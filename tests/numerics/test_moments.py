from __future__ import annotations

import pytest
import torch

from sweep.numerics import moments
from sweep.numerics.moments import ColumnNorm, SecondMoment, Statistic

INPUTS = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))


def in_parts(statistic: Statistic, x: torch.Tensor) -> None:
    for part in x.split([1, 9, 20]):
        statistic.add(part, 1)


def test_a_column_norm_is_the_norm_over_all_tokens() -> None:
    statistic = ColumnNorm()
    in_parts(statistic, INPUTS)
    torch.testing.assert_close(statistic.norm, torch.linalg.vector_norm(INPUTS, dim=0))


def test_a_second_moment_is_twice_the_sum_of_products_per_sequence() -> None:
    statistic = SecondMoment()
    in_parts(statistic, INPUTS)
    expected = sum((2 / 3) * torch.outer(x, x) for x in INPUTS)
    torch.testing.assert_close(statistic.hessian, expected)


@pytest.mark.parametrize("stripe", [1, 2, 4, 5, 6])
def test_a_second_moment_is_the_same_in_stripes(
    stripe: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "STRIPE", stripe)
    statistic = SecondMoment()
    in_parts(statistic, INPUTS)
    torch.testing.assert_close(statistic.hessian, 2 / 3 * INPUTS.T @ INPUTS)


def test_sums_are_kept_in_fp32_whatever_the_inputs_are() -> None:
    ones = torch.ones(1000, 2, dtype=torch.bfloat16)  # a bf16 sum would stop at 256
    norm, moment = ColumnNorm(), SecondMoment()
    for row in ones.split(1):
        norm.add(row, 1)
        moment.add(row, 1)
    assert norm.norm.dtype == moment.hessian.dtype == torch.float32
    torch.testing.assert_close(norm.norm, torch.full((2,), 1000.0).sqrt())
    torch.testing.assert_close(moment.hessian, torch.full((2, 2), 2.0))


def test_a_factor_is_computed_once_and_again_after_more_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moments, "STRIPE", 2)
    statistic = SecondMoment()
    statistic.add(INPUTS[:10], 1)
    first = statistic.factor(0.01)
    assert statistic.factor(0.01) is first
    assert statistic.factor(0.1).damping == 0.1
    statistic.add(INPUTS[10:], 1)
    whole = SecondMoment()
    whole.add(INPUTS[:10], 1)
    whole.add(INPUTS[10:], 1)
    assert statistic.factor(0.01).root.equal(whole.factor(0.01).root)
    sums, expected = (one.state()["products"].triu() for one in (statistic, whole))
    assert sums.equal(expected)
    assert statistic.hessian.equal(whole.hessian)


@pytest.mark.parametrize("kind", [ColumnNorm, SecondMoment])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_a_sum_that_is_not_finite_is_noticed(kind: type, bad: float) -> None:
    statistic = kind()
    statistic.add(INPUTS, 1)
    assert statistic.finite()
    statistic.add(torch.full((1, 6), bad), 1)
    assert not statistic.finite()


@pytest.mark.parametrize("kind", [ColumnNorm, SecondMoment])
def test_a_statistic_without_data_has_no_value(kind: type) -> None:
    with pytest.raises(ValueError, match="no calibration token"):
        kind().finite()
