from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool, Float
from torch import Tensor

from sweep.numerics import obs, products
from sweep.numerics.obs import factorise, prune_columns
from sweep.sparsity.n_of_m import NofM
from sweep.sparsity.pattern import Pattern
from sweep.sparsity.unstructured import Unstructured


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def hessian_of(x: Tensor) -> Tensor:
    return 2 * x.T @ x


def damped(hessian: Tensor, damping: float) -> Tensor:
    """In double precision, as the definition has it."""
    matrix = hessian.double().clone()
    dead = matrix.diagonal() == 0
    matrix.diagonal()[dead] = 1.0
    return matrix + damping * matrix.diagonal().mean() * torch.eye(len(matrix)).double()


def textbook(weight: Tensor, hessian: Tensor, pattern: Pattern, block: int) -> Tensor:
    """Eq. 3 of the SparseGPT paper, row by row, with an inverse computed afresh for every column.

    Removing the first of the remaining weights w costs w_0^2 / [inv(H)]_00 and is made up for by
    w -= w_0 / [inv(H)]_00 * inv(H)[0], where H has the remaining rows and columns.
    """
    weight = weight.double().clone()
    rows, columns = weight.shape
    inverses = [torch.linalg.inv(hessian[j:, j:]) for j in range(columns)]
    first = torch.stack([inverse[0, 0] for inverse in inverses])
    width = pattern.width or block
    gone = torch.zeros(rows, columns, dtype=torch.bool)
    for j in range(columns):
        if j % width == 0:
            group = slice(j, min(j + width, columns))
            gone[:, group] = pattern.drop(weight[:, group] ** 2 / first[group], "layer")
        for i in range(rows):
            if gone[i, j]:
                weight[i, j:] -= weight[i, j] / inverses[j][0, 0] * inverses[j][0]
                weight[i, j] = 0.0
    return weight


@pytest.mark.parametrize(
    ("pattern", "block"),
    [
        (Unstructured(0.5), 128),
        (Unstructured(0.5), 8),
        (Unstructured(0.7), 7),
        (Unstructured(0.0), 8),
        (NofM(2, 4), 128),
        (NofM(2, 4), 8),
        (NofM(1, 4), 6),
        (NofM(4, 8), 4),
        (NofM(3, 12), 16),
    ],
)
def test_the_solver_does_what_the_textbook_says(pattern: Pattern, block: int) -> None:
    weight, x = random(5, 24), random(60, 24, seed=1) @ random(24, 24, seed=2)
    hessian = hessian_of(x)
    step = max(block // (pattern.width or block), 1) * (pattern.width or block)
    expected = textbook(weight, damped(hessian, 0.01), pattern, step)
    kept = prune_columns([weight], factorise(hessian, 0.01), [pattern], block)[0]
    assert (kept == 0).equal(expected == 0)
    torch.testing.assert_close(kept.double(), expected, rtol=1e-3, atol=1e-4)


@dataclass(frozen=True)
class FirstColumns(Pattern):
    """Drops the first `count` columns, whatever their scores."""

    count: int
    sparsity = 0.5
    width = None
    label = "first"

    def zeros(self, total: int, per: Literal["row", "layer"]) -> int:
        raise NotImplementedError

    def check(self, layer: str, in_features: int) -> None:
        pass

    def drop(
        self, scores: Float[Tensor, "rows cols"], per: Literal["row", "layer"]
    ) -> Bool[Tensor, "rows cols"]:
        return (torch.arange(scores.shape[1]) < self.count).expand(scores.shape)


def test_weights_behind_all_pruned_ones_solve_the_least_squares_problem() -> None:
    weight, x = random(4, 12), random(50, 12, seed=1)
    kept = prune_columns([weight], factorise(hessian_of(x), 1e-6), [FirstColumns(5)])[0]
    best = torch.linalg.lstsq(x[:, 5:].double(), (x @ weight.T).double()).solution.T
    assert (kept[:, :5] == 0).all()
    torch.testing.assert_close(kept[:, 5:].double(), best, rtol=1e-3, atol=1e-4)


def test_the_factor_is_the_inverse_of_the_upper_cholesky_factor_of_the_inverse() -> None:
    hessian = hessian_of(random(40, 10))
    factor = factorise(hessian.clone(), 0.01)
    inverse = torch.linalg.inv(damped(hessian, 0.01))
    expected = torch.linalg.cholesky(inverse, upper=True)
    upper = torch.linalg.inv(factor.root.double())
    torch.testing.assert_close(upper, expected, rtol=1e-4, atol=1e-6)
    assert factor.damping == 0.01
    assert not factor.dead.any()


@given(
    columns=st.integers(5, 40),
    panel=st.integers(1, 24),
    corner=st.integers(1, 24),
    block=st.sampled_from([3, 4, 8]),
    pattern=st.sampled_from([Unstructured(0.5), Unstructured(0.3), NofM(2, 4), NofM(1, 5)]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40)
def test_neither_panels_nor_corners_change_what_comes_out(
    columns: int, panel: int, corner: int, block: int, pattern: Pattern, seed: int
) -> None:
    """Against the textbook, at sizes that leave all of them unfilled at the end."""
    width = pattern.width or 1
    columns = max(columns // width, 1) * width
    weight = random(5, columns, seed=seed)
    hessian = hessian_of(random(3 * columns, columns, seed=seed + 1))
    step = max(block // width, 1) * width
    expected = textbook(weight, damped(hessian, 0.01), pattern, step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(obs, "PANEL", panel)
        patch.setattr(obs, "CORNER", corner)
        kept = prune_columns([weight], factorise(hessian, 0.01), [pattern], block)[0]
    assert (kept == 0).equal(expected == 0)
    torch.testing.assert_close(kept.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rows", [16, 130])  # of few rows products are the BLAS's
@pytest.mark.parametrize("pattern", [Unstructured(0.5), NofM(2, 4)])
def test_several_panels_and_corners_of_their_own_size_agree_with_float64(
    pattern: Pattern, rows: int
) -> None:
    columns = 2 * obs.PANEL + 76
    assert columns > max(2 * obs.CORNER, products.DEPTH)
    weight, x = random(rows, columns), random(1500, columns, seed=1)
    x[:, 900] = 0.0  # a dead input
    kept = prune_columns([weight], factorise(hessian_of(x), 0.01), [pattern])[0]
    weight[:, 900] = 0.0
    upper = torch.linalg.cholesky(
        torch.linalg.inv(damped(hessian_of(x.double()), 0.01)), upper=True
    )
    expected = column_by_column(weight, upper, pattern, 128)
    same = int(((kept == 0) == (expected == 0)).sum())
    assert same >= 0.9999 * kept.numel()  # scores that tie within rounding
    alike = ((kept == 0) == (expected == 0)).all(dim=1)
    assert alike.sum() >= 14 * rows // 16
    torch.testing.assert_close(kept[alike].double(), expected[alike], rtol=1e-4, atol=1e-5)


def column_by_column(weight: Tensor, upper: Tensor, pattern: Pattern, block: int) -> Tensor:
    """Algorithm 1 of the SparseGPT paper in float64, without blocks of updates."""
    weight, width = weight.double().clone(), pattern.width or block
    for j in range(weight.shape[1]):
        if j % width == 0:
            group = slice(j, min(j + width, weight.shape[1]))
            scores = weight[:, group] ** 2 / upper.diagonal()[group] ** 2
            gone = torch.zeros_like(weight, dtype=torch.bool)
            gone[:, group] = pattern.drop(scores, "layer")
        error = torch.where(gone[:, j], weight[:, j], 0.0) / upper[j, j]
        weight[:, j:] -= error[:, None] * upper[j, j:]
        weight[gone[:, j], j] = 0.0
    return weight


def test_the_block_size_does_not_change_an_n_of_m_result() -> None:
    weight, factor = random(6, 32), factorise(hessian_of(random(80, 32, seed=1)), 0.01)
    one, other = (prune_columns([weight], factor, [NofM(2, 4)], block)[0] for block in (4, 128))
    assert (one == 0).equal(other == 0)
    torch.testing.assert_close(one, other)


def test_the_weight_given_is_left_alone() -> None:
    weight = random(4, 8)
    before = weight.clone()
    prune_columns([weight], factorise(hessian_of(random(20, 8)), 0.01), [Unstructured(0.5)])
    assert weight.equal(before)


def test_solving_beats_dropping_the_same_weights() -> None:
    weight, x = random(16, 32), random(200, 32, seed=1) @ random(32, 32, seed=2)
    kept = prune_columns([weight], factorise(hessian_of(x), 0.01), [Unstructured(0.5)])[0]
    dropped = weight * (kept != 0)
    assert (x @ (kept - weight).T).norm() < 0.8 * (x @ (dropped - weight).T).norm()


@st.composite
def degenerate_inputs(draw: st.DrawFn) -> Tensor:
    """Calibration inputs that make the Hessian singular in every way seen in models."""
    columns = 4 * draw(st.integers(1, 6))
    tokens = draw(st.integers(1, 40))
    x = random(tokens, columns, seed=draw(st.integers(0, 1000)))
    kind = draw(st.sampled_from(["few tokens", "constant", "rank one", "one huge input", "zero"]))
    if kind == "constant":
        x = torch.full_like(x, 0.7)
    elif kind == "rank one":
        x = x[:, :1] * x[:1, :]
    elif kind == "one huge input":
        x[:, 0] *= 1e4
    elif kind == "zero":
        x = torch.zeros_like(x)
    dead = draw(st.lists(st.booleans(), min_size=columns, max_size=columns))
    x[:, torch.tensor(dead)] = 0.0
    return x


@given(
    degenerate_inputs(),
    st.integers(1, 7),
    st.sampled_from([Unstructured(0.5), Unstructured(0.9), NofM(2, 4), NofM(1, 2)]),
    st.sampled_from([4, 128]),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_degenerate_inputs_give_exact_finite_results(
    x: Tensor, rows: int, pattern: Pattern, block: int, dtype: torch.dtype
) -> None:
    weight = random(rows, x.shape[1]).to(dtype)
    factor = factorise(hessian_of(x), 0.01)
    kept = prune_columns([weight], factor, [pattern], block)[0]
    assert kept.dtype == torch.float32
    assert kept.isfinite().all()
    assert (kept[:, (x == 0).all(dim=0)] == 0).all()
    if factor.dead.any():
        return  # dead inputs lose all their weights, beyond the count
    if pattern.width is None:
        for part in kept.split(block, dim=1):
            share = pattern.sparsity * part.numel()
            assert abs(int((part == 0).sum()) - share) <= 1
    else:
        zeros = (kept.reshape(rows, -1, pattern.width) == 0).sum(dim=2)
        assert (zeros == pattern.sparsity * pattern.width).all()


def test_weights_of_dead_inputs_are_the_first_to_go() -> None:
    x = random(30, 8)
    x[:, :4] = 0.0
    weight = random(3, 8, seed=1)
    weight[:, :4] = 100.0
    kept = prune_columns([weight], factorise(hessian_of(x), 0.01), [Unstructured(0.5)])[0]
    assert (kept[:, :4] == 0).all()
    assert (kept[:, 4:] == 0).sum() == 1


def test_a_dead_input_stays_at_zero_where_its_square_was_lost_to_underflow() -> None:
    factor = factorise(torch.tensor([[1.0, 0.1], [0.1, 0.0]]), 0.01)
    assert factor.dead.tolist() == [False, True]
    assert prune_columns([torch.ones(2, 2)], factor, [NofM(1, 1)])[0][:, 1].tolist() == [0.0, 0.0]
    assert prune_columns([torch.ones(1, 2)], factor, [FirstColumns(1)])[0][0].tolist() == [0.0, 0.0]


def test_a_matrix_that_cannot_be_factorised_gets_more_damping() -> None:
    indefinite = torch.tensor([[1.0, 1.05], [1.05, 1.0]])
    factor = factorise(indefinite.clone(), 0.01)
    assert factor.damping == 0.1
    torch.testing.assert_close(factor.root @ factor.root.T, damped(indefinite, 0.1).float())


@given(
    columns=st.integers(1, 60),
    panel=st.integers(1, 40),
    corner=st.integers(1, 20),
    mirrored=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
def test_a_factor_lies_in_the_memory_of_its_hessian_and_gives_it_back(
    columns: int, panel: int, corner: int, mirrored: int, seed: int
) -> None:
    x = random(2 * columns, columns, seed=seed)
    x[:, 0] *= seed % 2  # a dead input
    hessian = hessian_of(x.double()).float()
    upper = hessian.triu().clone()  # what lies below is not read
    with pytest.MonkeyPatch.context() as patch:
        for name, size in (("PANEL", panel), ("CORNER", corner), ("MIRRORED", mirrored)):
            patch.setattr(obs, name, size)
        factor = factorise(upper, 0.01)
        assert factor.matrix.data_ptr() == upper.data_ptr()
        assert factor.matrix.tril(-1).equal(hessian.tril(-1))
        root = factor.root
        torch.testing.assert_close(
            root.double() @ root.double().T, damped(hessian, 0.01), rtol=1e-5, atol=1e-4
        )
        assert factor.give_back() is upper
    assert upper.equal(hessian)


@pytest.mark.parametrize("pair", [(800, 805), (700, 760), (0, 150)])
def test_a_hessian_that_cannot_be_factorised_holds_what_it_held(pair: tuple[int, int]) -> None:
    """It fails at the first of the two columns: in the panel that is reached first, in the corner
    that is reached first in the next one, and in the last."""
    assert pair[0] // obs.PANEL == int(pair[0] == 800)
    hessian = hessian_of(random(1000, 810).double()).float()
    hessian[pair] = hessian[pair[::-1]] = 1e6
    before = hessian.clone()
    with pytest.raises(FloatingPointError):
        factorise(hessian, 0.01)
    assert hessian.equal(before)
    hessian[pair] = hessian[pair[::-1]] = 1.05 * hessian[pair[0], pair[0]]
    before = hessian.clone()
    factor = factorise(hessian, 0.01)
    assert factor.damping > 0.01
    expected = damped(before, factor.damping)
    root = factor.root.double()
    assert float((root @ root.T - expected).norm() / expected.norm()) < 1e-6


def test_damping_stops_at_one_whatever_it_starts_from() -> None:
    assert factorise(torch.tensor([[1.0, 1.5], [1.5, 1.0]]), 0.03).damping == 1.0


def test_a_matrix_beyond_repair_is_an_error_and_never_nan() -> None:
    with pytest.raises(FloatingPointError, match="damping of 1"):
        factorise(torch.tensor([[1.0, 3.0], [3.0, 1.0]]), 0.01)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_matrix_that_is_not_finite_is_an_error(bad: float) -> None:
    with pytest.raises(FloatingPointError, match="NaN or infinity"):
        factorise(torch.tensor([[1.0, bad], [bad, 1.0]]), 0.01)


def plain(weight: Tensor, root: Tensor, pattern: Pattern, block: int) -> tuple[Tensor, Tensor]:
    """The published column loop, with `U` in full; and how near each score was to its threshold."""
    weight, upper = weight.clone(), torch.linalg.inv(root)
    width = pattern.width or block
    gone = torch.zeros(weight.shape, dtype=torch.bool)
    margin = torch.full(weight.shape, torch.inf, dtype=weight.dtype)
    for j in range(weight.shape[1]):
        if j % width == 0:
            group = slice(j, min(j + width, weight.shape[1]))
            scores = (weight[:, group] / upper.diagonal()[group]) ** 2
            gone[:, group] = pattern.drop(scores, "layer")
            parts = (
                [(scores, gone[:, group])]
                if pattern.width is None
                else list(zip(scores, gone[:, group], strict=True))
            )
            near = [
                (part - part[out].max()).abs() / part[out].max()
                if out.any() and not out.all()
                else torch.ones_like(part)
                for part, out in parts
            ]
            margin[:, group] = near[0] if pattern.width is None else torch.stack(near)
        error = torch.where(gone[:, j], weight[:, j] / upper[j, j], 0.0)
        weight[:, j:] -= error[:, None] * upper[None, j, j:]
        weight[:, j] = torch.where(gone[:, j], 0.0, weight[:, j])
    return weight, margin


@pytest.mark.parametrize("compiled", [False, True])
@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 300),
    st.integers(1, 3),
    st.sampled_from([Unstructured(0.5), Unstructured(0.3), NofM(2, 4), NofM(5, 8)]),
    st.sampled_from([16, 128]),
    st.sampled_from([2.0, 0.4]),
    st.integers(0, 1000),
)
def test_fast_and_slow_differ_only_where_scores_tie_within_rounding(
    compiled: bool,
    rows: int,
    columns: int,
    layers: int,
    pattern: Pattern,
    block: int,
    tokens: float,
    seed: int,
) -> None:
    columns = -(-columns // 8) * 8 if pattern.width else columns
    x = random(1 + int(tokens * columns), columns, seed=seed)  # with few, not of full rank
    x[:, :: 1 + seed % 7] *= 0.0 if seed % 3 == 0 and columns > 8 else 1.0  # some are dead
    factor = factorise(x.T @ x, 0.01)
    weights = [random(rows, columns, seed=seed + i) for i in range(layers)]
    with patch.object(obs, "WORTH", 0 if compiled else 2**40):
        found = prune_columns(weights, factor, [pattern] * layers, block)
    for weight, fast in zip(weights, found, strict=True):
        start = weight.double().masked_fill(factor.dead, 0.0)
        slow, margin = plain(start, factor.root.double(), pattern, block)
        differ = (fast == 0) != (slow == 0)
        if factor.has_dead:  # equal scores, of zero: any of them may be counted
            differ[:, factor.dead] = False
        untouched = ~differ.any(dim=1)  # a weight that ties changes its row from there on
        first = differ.int().argmax(dim=1)
        for row in (~untouched).nonzero()[:, 0].tolist():
            assert margin[row, first[row]] < 1e-4
        assert int((~untouched).sum()) <= 1 + rows // 20
        if untouched.any():
            off = (fast.double() - slow)[untouched].norm() / slow[untouched].norm().clamp(min=1e-9)
            assert off < 1e-4


def test_layers_that_are_solved_together_keep_their_own_thresholds() -> None:
    x = random(200, 48)
    factor = factorise(x.T @ x, 0.01)
    weights = [random(9, 48, seed=1), 10 * random(5, 48, seed=2)]
    for patterns in (
        [Unstructured(0.5), Unstructured(0.5)],
        [Unstructured(0.2), Unstructured(0.7)],
        [NofM(2, 4), NofM(1, 4)],
    ):
        together = prune_columns(weights, factor, patterns, 16)
        for weight, pattern, one in zip(weights, patterns, together, strict=True):
            alone = prune_columns([weight], factor, [pattern], 16)[0]
            assert (one == 0).equal(alone == 0)
            torch.testing.assert_close(one, alone)
