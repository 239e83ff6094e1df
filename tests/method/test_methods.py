from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sweep.method.dense import Dense
from sweep.method.magnitude import Magnitude
from sweep.method.method import Layer, Method
from sweep.method.sparsegpt import SparseGPT
from sweep.method.wanda import AT_ONCE_ON_CPU, Wanda
from sweep.numerics.moments import ColumnNorm, SecondMoment, Statistic
from sweep.refusal import Refusal
from sweep.sparsity.n_of_m import NofM
from sweep.sparsity.unstructured import Unstructured

LAYER = Layer("layer", 2, 4)
WEIGHT = torch.tensor([[1.0, -2.0, 3.0, -4.0], [5.0, 6.0, -7.0, 0.5]])


def filled(method: Method, x: Tensor) -> Statistic | None:
    statistic = method.observe(LAYER)
    if statistic is not None:
        statistic.add(x, 1)
    return statistic


def test_dense_compresses_no_layer() -> None:
    assert Dense().allocate({"layer": WEIGHT}, NofM(2, 3)) == {}
    assert Dense().compress(WEIGHT, None, Unstructured(0.5)).weight.equal(WEIGHT)
    assert Dense().observe(LAYER) is None


def test_only_methods_that_read_data_ask_for_a_statistic() -> None:
    for method in (Dense(), Magnitude(), Wanda(), SparseGPT()):
        assert method.reads_data == (method.observe(LAYER) is not None)
        assert method.scope == "all"


def test_magnitude_drops_the_smallest_of_the_layer() -> None:
    kept = Magnitude().compress(WEIGHT, None, Unstructured(0.25)).weight  # 2 of 8 and the next
    assert kept.tolist() == [[0.0, 0.0, 3.0, -4.0], [5.0, 6.0, -7.0, 0.0]]


def test_magnitude_drops_the_smallest_of_every_row() -> None:
    kept = Magnitude(per="row").compress(WEIGHT, None, Unstructured(0.5)).weight
    assert kept.tolist() == [[0.0, 0.0, 3.0, -4.0], [0.0, 6.0, -7.0, 0.0]]


def test_magnitude_drops_the_smallest_of_every_group() -> None:
    kept = Magnitude().compress(WEIGHT, None, NofM(1, 2)).weight
    assert kept.tolist() == [[0.0, -2.0, 0.0, -4.0], [0.0, 6.0, -7.0, 0.0]]


def test_magnitude_over_all_layers_drops_the_smallest_of_all() -> None:
    weights = {"small": torch.full((2, 2), 0.1), "mixed": WEIGHT}
    method = Magnitude(per="global")
    patterns = method.allocate(weights, Unstructured(0.5))  # 6 of 12 and the next
    kept = {
        name: method.compress(weight, None, patterns[name]).weight
        for name, weight in weights.items()
    }
    assert kept["small"].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert kept["mixed"].tolist() == [[0.0, 0.0, 3.0, -4.0], [5.0, 6.0, -7.0, 0.0]]


def test_magnitude_over_all_layers_is_the_same_as_per_group_for_n_of_m() -> None:
    pattern = NofM(2, 4)
    assert Magnitude(per="global").allocate({"layer": WEIGHT}, pattern) == {"layer": pattern}


def test_wanda_weighs_weights_by_the_norm_of_their_input() -> None:
    x = torch.tensor([[3.0, 0.0, 1.0, 0.0], [4.0, 1.0, 0.0, 0.0]])  # norms 5, 1, 1, 0
    method = Wanda()
    kept = method.compress(WEIGHT, filled(method, x), Unstructured(0.5)).weight
    assert kept.tolist() == [[1.0, 0.0, 3.0, 0.0], [5.0, 0.0, -7.0, 0.0]]
    kept = method.compress(WEIGHT, filled(method, x), NofM(1, 2)).weight
    assert kept.tolist() == [[1.0, 0.0, 3.0, 0.0], [5.0, 0.0, -7.0, 0.0]]


def test_wanda_compares_within_rows_and_drops_exactly_the_share() -> None:
    x = torch.randn(20, 33, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(7, 33, generator=torch.Generator().manual_seed(1))
    method = Wanda()
    kept = method.compress(weight, filled(method, x), Unstructured(0.6)).weight
    assert (kept == 0).sum(dim=1).tolist() == [19] * 7  # floor(19.8)


@pytest.mark.parametrize("pattern", [Unstructured(0.37), NofM(2, 4)])
def test_wanda_scores_a_large_matrix_a_few_rows_at_a_time_and_as_one(
    pattern: Unstructured | NofM,
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(700, 1100, generator=generator)
    weight[5] = 1.0  # equal scores, where inputs are
    seen = ColumnNorm()
    inputs = torch.rand(9, 1100, generator=generator)
    inputs[:, 3:40] = 1.0
    seen.add(inputs, 1)
    assert weight.numel() > 2 * AT_ONCE_ON_CPU
    gone = pattern.drop(weight.abs() * seen.norm, per="row")
    found = Wanda().compress(weight, seen, pattern).weight
    assert found.equal(weight.masked_fill(gone, 0.0))
    assert not found[gone].signbit().any()


def test_sparsegpt_says_when_it_raised_the_damping() -> None:
    method, statistic = SparseGPT(), SecondMoment()
    statistic.add(torch.eye(2), 1)
    assert method.compress(torch.ones(1, 2), statistic, NofM(1, 2)).remarks == ()
    # rounding can leave a Hessian indefinite: put one in place
    products = torch.tensor([[1.0, 1.05], [1.05, 1.0]])
    statistic.fill({"products": products, "sequences": torch.tensor(1)})
    remarks = method.compress(torch.ones(1, 2), statistic, NofM(1, 2)).remarks
    assert remarks == ("damping raised from 0.01 to 0.1",)


@pytest.mark.parametrize("damping", [0.0, -1.0, 2.0])
def test_sparsegpt_refuses_a_damping_that_cannot_work(damping: float) -> None:
    with pytest.raises(Refusal, match=f"damping={damping}"):
        SparseGPT(damping=damping)


def test_sparsegpt_refuses_a_block_without_columns() -> None:
    with pytest.raises(Refusal, match="block=0"):
        SparseGPT(block=0)


def test_no_method_changes_the_weight_it_is_given() -> None:
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    before = WEIGHT.clone()
    for method in (Dense(), Magnitude(), Wanda(), SparseGPT()):
        method.compress(WEIGHT, filled(method, x), Unstructured(0.5))
        assert WEIGHT.equal(before)


def test_statistics_are_of_the_kind_that_the_method_computes_with() -> None:
    assert isinstance(Wanda().observe(LAYER), ColumnNorm)
    assert isinstance(SparseGPT().observe(LAYER), SecondMoment)
