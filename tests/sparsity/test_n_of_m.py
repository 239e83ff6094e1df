from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sweep.refusal import Refusal
from sweep.sparsity.n_of_m import NofM


@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 6), st.data())
def test_every_group_keeps_its_n_highest_scores_and_equal_scores_go_by_position(
    m: int, groups: int, rows: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, m))
    size = rows * groups * m
    cells = data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=size, max_size=size))
    scores = torch.tensor(cells).reshape(rows, groups * m)
    gone = NofM(n, m).drop(scores, per="row")
    for group, gone_here in zip(
        scores.reshape(-1, m).tolist(), gone.reshape(-1, m).tolist(), strict=True
    ):
        order = sorted(range(m), key=lambda index: (group[index], index))
        assert [index for index in range(m) if gone_here[index]] == sorted(order[: m - n])


def test_n_of_m_keeps_n() -> None:
    scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    assert NofM(1, 4).drop(scores, per="row").tolist() == [[False, True, True, True]]
    assert NofM(1, 4).sparsity == 0.75
    assert NofM(1, 4).label == "1:4"
    assert NofM(1, 4).width == 4


def test_it_makes_no_difference_what_is_compared() -> None:
    scores = torch.rand(5, 8, generator=torch.Generator().manual_seed(0))
    pattern = NofM(2, 4)
    assert pattern.drop(scores, per="row").equal(pattern.drop(scores, per="layer"))


def test_an_indivisible_layer_is_refused_by_name() -> None:
    NofM(2, 4).check({"model.layers.0.mlp.down_proj": 172})
    with pytest.raises(Refusal, match=r"m=4.*170 inputs.*model\.layers\.0\.mlp\.down_proj"):
        NofM(2, 4).check({"model.layers.0.mlp.down_proj": 170})


def test_what_would_divide_every_layer_is_said() -> None:
    layers = {"q_proj": 192, "down_proj": 512}
    with pytest.raises(Refusal, match=r"m=3: .* 512 .* down_proj; .* the divisors of 64,"):
        NofM(1, 3).check(layers)


@pytest.mark.parametrize("ratio", [0.5, 0.6])
def test_a_ratio_beside_the_pattern_is_refused(ratio: float) -> None:
    with pytest.raises(Refusal, match=rf"ratio={ratio}: the pattern 2:4 .* 0\.5; leave ratio out"):
        NofM(2, 4, ratio=ratio)


@pytest.mark.parametrize(("n", "m", "named"), [(0, 4, "n=0"), (5, 4, "n=5"), (1, 0, "m=0")])
def test_numbers_that_make_no_pattern_are_refused_by_name(n: int, m: int, named: str) -> None:
    with pytest.raises(Refusal, match=named):
        NofM(n, m)
