from __future__ import annotations

from fractions import Fraction
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sweep.refusal import Refusal
from sweep.sparsity.counted import Counted
from sweep.sparsity.unstructured import Unstructured

PER = st.sampled_from(["row", "layer"])


@st.composite
def score_matrices(draw: st.DrawFn) -> Tensor:
    """Small matrices full of ties, zeros and now and then an infinity."""
    rows, cols = draw(st.integers(1, 9)), draw(st.integers(1, 17))
    values = st.sampled_from([0.0, 1.0, 2.0, 0.5, 1e-30, 1e30, float("inf")])
    cells = draw(st.lists(values, min_size=rows * cols, max_size=rows * cols))
    return torch.tensor(cells).reshape(rows, cols)


def first_by_score_then_position(scores: list[float], count: int) -> list[bool]:
    order = sorted(range(len(scores)), key=lambda index: (scores[index], index))
    gone = set(order[:count])
    return [index in gone for index in range(len(scores))]


@given(score_matrices(), st.decimals(0, "0.999", places=3), PER)
def test_the_lowest_scores_go_and_equal_scores_go_by_position(
    scores: Tensor, ratio: object, per: Literal["row", "layer"]
) -> None:
    groups = scores if per == "row" else scores.reshape(1, -1)
    below = int(Fraction(str(ratio)) * groups.shape[1])
    count = below + 1 if per == "layer" and Fraction(str(ratio)) > 0 else below
    expected = [first_by_score_then_position(group, count) for group in groups.tolist()]
    gone = Unstructured(float(str(ratio))).drop(scores, per)
    assert gone.tolist() == torch.tensor(expected).reshape(scores.shape).tolist()


@given(st.integers(1, 10_000), st.integers(0, 999), PER)
def test_the_count_is_at_most_one_weight_from_the_asked_share(
    total: int, thousandths: int, per: Literal["row", "layer"]
) -> None:
    count = Unstructured(thousandths / 1000).zeros(total, per)
    assert 0 <= count <= total
    assert abs(count - Fraction(thousandths, 1000) * total) <= 1


def test_a_count_follows_the_decimal_that_was_typed() -> None:
    assert Unstructured(0.29).zeros(100, "row") == 29  # 0.29 * 100 is 28.999... in floats
    assert Unstructured(0.7999999999999999).zeros(10, "row") == 8
    assert Unstructured(1e-7).zeros(10_000_000, "row") == 1


def test_no_weight_goes_at_ratio_zero() -> None:
    assert not Unstructured(0.0).drop(torch.zeros(3, 4), "layer").any()


def test_over_a_layer_the_weight_at_the_threshold_goes_too() -> None:
    scores = torch.arange(8.0).reshape(2, 4)
    assert Unstructured(0.5).drop(scores, "layer").sum() == 5
    assert Unstructured(0.5).drop(scores, "row").sum(dim=1).tolist() == [2, 2]


@pytest.mark.parametrize("ratio", [1.0, 1.2, -0.1, float("nan")])
def test_a_ratio_outside_its_range_is_refused_by_name(ratio: float) -> None:
    with pytest.raises(Refusal, match=rf"ratio={ratio}.*\[0, 1\)"):
        Unstructured(ratio)


def test_an_unstructured_pattern_fits_every_layer_and_has_a_readable_label() -> None:
    pattern = Unstructured(0.30000000000000004)
    pattern.check({"layer": 7})
    assert pattern.width is None
    assert pattern.label == "30%"
    assert Unstructured(0.125).label == "12.5%"
    assert Unstructured(0.5).sparsity == 0.5


@given(score_matrices(), st.data())
def test_a_counted_pattern_drops_its_count(scores: Tensor, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, scores.numel()))
    gone = Counted(count, scores.numel()).drop(scores, "layer")
    assert gone.flatten().tolist() == first_by_score_then_position(scores.flatten().tolist(), count)


def test_a_counted_pattern_is_for_its_own_layer_only() -> None:
    pattern = Counted(3, 12)
    assert (pattern.sparsity, pattern.width, pattern.label) == (0.25, None, "3 of 12")
    pattern.check({"layer": 4})
    with pytest.raises(Refusal, match="q_proj"):
        pattern.check({"q_proj": 5})
    with pytest.raises(ValueError, match="total=12"):
        pattern.drop(torch.zeros(2, 4), "layer")
    with pytest.raises(Refusal, match="count=13"):
        Counted(13, 12)
