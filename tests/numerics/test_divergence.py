from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from torch import Tensor

from sweep.numerics.divergence import Divergence, compare, negative_log_likelihood

LN2 = math.log(2)
HUGE = st.floats(-(2.0**100), 2.0**100, width=32)


def logits(seed: int, positions: int = 7, vocab: int = 50, scale: float = 3.0) -> Tensor:
    return torch.randn(positions, vocab, generator=torch.Generator().manual_seed(seed)) * scale


def first(positions: int) -> Tensor:
    return torch.zeros(positions, dtype=torch.long)


def differences(found: Divergence) -> list[Tensor]:
    return [found.jsd, found.kl_dense_compressed, found.kl_compressed_dense, found.gold_change]


@pytest.mark.parametrize("scale", [0.5, 3.0, 20.0])
def test_divergences_are_those_of_scipy_in_double_precision(scale: float) -> None:
    dense, compressed = logits(0, scale=scale), logits(1, scale=scale)
    found = compare(dense, compressed, first(7))
    p, q = softmax(dense.double().numpy(), -1), softmax(compressed.double().numpy(), -1)
    expected = {
        "jsd": jensenshannon(p, q, axis=-1) ** 2,
        "kl_dense_compressed": entropy(p, q, axis=-1),
        "kl_compressed_dense": entropy(q, p, axis=-1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(found, name), values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [0.01, 0.3])
def test_means_over_a_large_vocabulary_are_within_1e_6_of_double_precision(scale: float) -> None:
    dense = logits(0, positions=256, vocab=32_000)
    compressed = dense + logits(1, positions=256, vocab=32_000, scale=scale)
    gold = torch.arange(256) * 99
    found = compare(dense, compressed, gold)
    p, q = (one.double().log_softmax(-1) for one in (dense, compressed))
    middle = torch.logaddexp(p, q) - LN2

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return (a.exp() * (a - b)).sum(-1)

    expected = {
        "jsd": (kl(p, middle) + kl(q, middle)) / 2,
        "kl_dense_compressed": kl(p, q),
        "kl_compressed_dense": kl(q, p),
        "gold_change": (q.exp() - p.exp()).gather(1, gold[:, None]),
        "loss_dense": -p.gather(1, gold[:, None]),
        "loss_compressed": -q.gather(1, gold[:, None]),
    }
    assert {*expected, "agrees"} == {*found._fields}
    for name, values in expected.items():
        assert abs(float(getattr(found, name).double().mean() - values.mean())) < 1e-6, name


def test_a_small_divergence_is_not_lost_in_rounding() -> None:
    dense = logits(0)
    compressed = dense + 1e-2 * logits(1)
    found = compare(dense, compressed, first(7))
    p, q = softmax(dense.double().numpy(), -1), softmax(compressed.double().numpy(), -1)
    np.testing.assert_allclose(found.jsd, jensenshannon(p, q, axis=-1) ** 2, rtol=1e-3)


def test_a_position_does_not_depend_on_those_beside_it() -> None:
    """A large vocabulary is taken few positions at a time; the last part is a smaller one."""
    dense, compressed, gold = logits(0, vocab=2**16), logits(1, vocab=2**16), torch.arange(7) * 999
    alone = [compare(dense[[i]], compressed[[i]], gold[[i]]) for i in range(7)]
    for name, values in compare(dense, compressed, gold)._asdict().items():
        torch.testing.assert_close(values, torch.cat([getattr(one, name) for one in alone]))


@given(seed=st.integers(0, 1000), scale=st.floats(0, 1e6), vocab=st.integers(1, 300))
def test_equal_logits_give_exactly_zero(seed: int, scale: float, vocab: int) -> None:
    same = logits(seed, vocab=vocab, scale=scale)
    found = compare(same, same.clone(), first(7))
    assert all(bool((values == 0).all()) for values in differences(found))
    assert bool(found.agrees.all())
    assert torch.equal(found.loss_dense, found.loss_compressed)


def test_a_token_that_neither_model_ever_says_is_as_good_as_none() -> None:
    dense, compressed = logits(0), logits(1)
    silent = torch.full((7, 3), -math.inf)
    found = compare(torch.cat([dense, silent], 1), torch.cat([compressed, silent], 1), first(7))
    for name, values in compare(dense, compressed, first(7))._asdict().items():
        torch.testing.assert_close(getattr(found, name), values)


def test_a_token_that_one_model_never_says_makes_one_divergence_infinite() -> None:
    dense, compressed = logits(0), logits(1)
    compressed[:, 4] = -math.inf
    found = compare(dense, compressed, first(7))
    p, q = softmax(dense.double().numpy(), -1), softmax(compressed.double().numpy(), -1)
    np.testing.assert_allclose(found.jsd, jensenshannon(p, q, axis=-1) ** 2, rtol=1e-5)
    np.testing.assert_allclose(found.kl_compressed_dense, entropy(q, p, axis=-1), rtol=1e-5)
    assert bool(found.kl_dense_compressed.isposinf().all())


def test_what_is_not_a_number_stays_none() -> None:
    dense = logits(0)
    dense[2, 3] = math.nan
    found = compare(dense, logits(1), first(7))
    assert found.jsd.isnan().tolist() == [i == 2 for i in range(7)]


@pytest.mark.parametrize("size", [50.0, 1e3, 1e5, 1e8, 1e30])
def test_distributions_without_a_common_token_are_ln_2_apart(size: float) -> None:
    dense = torch.tensor([[size, -size, 0.0], [size, size, -size]])
    compressed = torch.tensor([[-size, size, 0.0], [-size, -size, size]])
    found = compare(dense, compressed, first(2))
    torch.testing.assert_close(found.jsd, torch.full((2,), LN2), rtol=1e-6, atol=0)


@given(
    st.lists(
        st.tuples(HUGE, HUGE),
        min_size=1,
        max_size=8,
    )
)
def test_huge_logits_give_numbers_between_the_bounds(pairs: list[tuple[float, float]]) -> None:
    dense, compressed = (torch.tensor([list(side)]) for side in zip(*pairs, strict=True))
    found = compare(dense, compressed, first(1))
    for values in found:
        assert bool(values.isfinite().all())
    assert 0 <= float(found.jsd) <= LN2 * (1 + 1e-6)


@given(seed=st.integers(0, 1000), constant=st.floats(-50, 50))
def test_a_constant_added_to_every_logit_of_a_position_changes_nothing(
    seed: int, constant: float
) -> None:
    dense, compressed, gold = logits(seed), logits(seed + 1), torch.arange(7)
    shifts = constant * torch.arange(7.0)[:, None] / 7
    plain, shifted = compare(dense, compressed, gold), compare(dense, compressed + shifts, gold)
    for before, after in zip(differences(plain), differences(shifted), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compare(dense, dense + shifts, gold).jsd, torch.zeros(7))


def test_a_bias_per_vocabulary_entry_does_change_it() -> None:
    dense, bias = logits(0), logits(2, positions=1)
    found = compare(dense, dense + bias, first(7))
    assert float(found.jsd.min()) > 0.01


def test_the_jsd_is_symmetric_and_the_two_kls_are_exchanged() -> None:
    one, other = compare(logits(0), logits(1), first(7)), compare(logits(1), logits(0), first(7))
    torch.testing.assert_close(one.jsd, other.jsd)
    torch.testing.assert_close(one.kl_dense_compressed, other.kl_compressed_dense)
    torch.testing.assert_close(one.gold_change, -other.gold_change)
    assert not torch.allclose(one.kl_dense_compressed, one.kl_compressed_dense)


def test_two_models_agree_where_they_rank_the_same_token_first() -> None:
    dense = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.1, 5.0]])
    compressed = torch.tensor([[9.0, 8.0, 8.5], [2.0, 1.9, 0.0], [0.0, 0.0, 0.1]])
    assert compare(dense, compressed, first(3)).agrees.tolist() == [True, False, True]


def test_the_change_of_the_gold_tokens_probability_is_compressed_minus_dense() -> None:
    dense = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    compressed = torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log()
    found = compare(dense, compressed, torch.tensor([0, 1]))
    torch.testing.assert_close(found.gold_change, torch.tensor([0.25, 0.4]))
    torch.testing.assert_close(found.loss_dense, -torch.tensor([0.25, 0.5]).log())
    torch.testing.assert_close(found.loss_compressed, -torch.tensor([0.5, 0.9]).log())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_losses_are_computed_in_float32_whatever_the_logits_are(dtype: torch.dtype) -> None:
    given, gold = logits(0).to(dtype), torch.arange(7) * 5
    exact = -log_softmax(given.double().numpy(), -1)[np.arange(7), gold.numpy()]
    found = compare(logits(1).to(dtype), given, gold)
    for loss in (negative_log_likelihood(given, gold), found.loss_compressed):
        assert loss.dtype == torch.float32
        np.testing.assert_allclose(loss, exact, rtol=1e-5)
