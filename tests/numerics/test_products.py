"""Products by oneDNN are those of torch's BLAS, and are asked for where they are faster only."""

from __future__ import annotations

from threading import Event, Thread

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from sweep.numerics import products
from sweep.numerics.moments import SecondMoment

sizes = st.integers(1, 70)


def laid(rows: int, cols: int, how: str) -> Tensor:
    """A matrix that lies in memory row by row, column by column, or with gaps between its rows."""
    generator = torch.Generator().manual_seed(rows + cols)
    match how:
        case "turned":
            return torch.randn(cols, rows, generator=generator).T
        case "gaps":
            return torch.randn(rows, cols + 3, generator=generator)[:, 1 : cols + 1]
        case _:
            return torch.randn(rows, cols, generator=generator)


lay = st.sampled_from(["whole", "turned", "gaps"])


@given(
    n=sizes,
    k=sizes,
    m=sizes,
    rows=st.sampled_from([1, 8]),
    depth=st.integers(1, 70),
    ways=st.tuples(lay, lay, lay),
    alpha=st.sampled_from([1.0, -1.0]),
)
def test_products_are_those_of_exact_arithmetic_however_matrices_lie(
    n: int, k: int, m: int, rows: int, depth: int, ways: tuple[str, str, str], alpha: float
) -> None:
    a, b, term = laid(n, k, ways[0]), laid(k, m, ways[1]), laid(n, m, ways[2])
    exact = a.double() @ b.double()
    near = {"rtol": 1e-5, "atol": 1e-5}
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(products, "LEAST", 1)
        patch.setattr(products, "ROWS", rows)
        patch.setattr(products, "DEPTH", depth)
        torch.testing.assert_close(products.product(a, b), exact.float(), **near)
        summed = products.sum_with_product(term, a, b, alpha)
        torch.testing.assert_close(summed, (term.double() + alpha * exact).float(), **near)
        out = laid(n, m, ways[2])
        back = products.add_product(out, a, b)
        assert back is out
        torch.testing.assert_close(out, (term.double() + exact).float(), **near)


def test_on_a_cpu_with_avx512_onednn_multiplies() -> None:
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("this CPU has no AVX-512")
    assert products.library() == "oneDNN"
    a, b = torch.randn(1024, 64), torch.randn(64, 1024)
    with torch.no_grad(), torch.profiler.profile() as seen:
        products.product(a, b)
    assert "mkldnn::_linear_pointwise" in {event.key for event in seen.key_averages()}


def test_a_matrix_with_gaps_reaches_onednn_without_them() -> None:
    for how in ("whole", "turned"):
        matrix = laid(5, 7, how)
        assert products._whole(matrix) is matrix
    for matrix in (laid(5, 7, "gaps"), laid(7, 5, "gaps").T):
        whole = products._whole(matrix)
        assert whole.is_contiguous() == (matrix.stride(1) == 1)
        assert whole.T.is_contiguous() == (matrix.stride(0) == 1)
        assert whole.equal(matrix)


@pytest.mark.parametrize("layer", [nn.Linear(1024, 64), Conv1D(64, 1024)])
def test_linear_layers_ask_it_within_the_scope_only(layer: nn.Module, asked: list[Tensor]) -> None:
    x = torch.randn(2, 64, 1024)
    plain = layer(x)
    assert not asked
    with products.wide_linears(), products.wide_linears():
        torch.testing.assert_close(layer(x), plain, rtol=1e-5, atol=1e-5)
    assert len(asked) == 1
    with products.wide_linears(), products.plain_linears():
        layer(x)
    layer(x)
    assert len(asked) == 1
    assert (nn.functional.linear, torch.addmm) == (products.PLAIN, products.PLAIN_ADDMM)


def test_other_sums_are_torchs_own(asked: list[Tensor]) -> None:
    bias, x, weight = torch.randn(64), torch.randn(128, 1024), torch.randn(1024, 64)
    with products.wide_linears():
        assert torch.addmm(bias, x, weight, alpha=2).equal(
            products.PLAIN_ADDMM(bias, x, weight, alpha=2)
        )
        torch.addmm(torch.randn(128, 64), x, weight)
        torch.addmm(torch.randn(1), x, weight)
        torch.addmm(input=bias, mat1=x, mat2=weight, beta=2)
        torch.addmm(bias, x[:2], weight)
    assert not asked


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.randn(4, 64), torch.randn(64, 64)),
        (torch.randn(1024, 64).bfloat16(), torch.randn(64, 64).bfloat16()),
        (torch.randn(1024, 64).double(), torch.randn(64, 64).double()),
        (torch.randn(2**15), torch.randn(64, 2**15)),
        (torch.randn(1024, 64, device="meta"), torch.randn(64, 64, device="meta")),
    ],
    ids=["few", "bfloat16", "float64", "a vector", "no data"],
)
def test_what_onednn_would_not_do_better_is_torchs(
    x: Tensor, weight: Tensor, asked: list[Tensor]
) -> None:
    assert products.linear(x, weight).shape == (*x.shape[:-1], 64)
    assert not asked


def test_what_is_trained_has_its_gradient(asked: list[Tensor]) -> None:
    layer, x = nn.Linear(1024, 64), torch.randn(128, 1024)
    with products.wide_linears(), torch.enable_grad():
        layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert not asked


BIASES = {
    "with gaps": torch.randn(128)[::2],
    "one for all": torch.randn(1).expand(64),
    "a number": torch.tensor(2.0),
    "a row": torch.randn(1, 64),
    "float64": torch.randn(64).double(),
}


@pytest.mark.parametrize("which", BIASES)
def test_what_onednn_would_misread_is_torchs(which: str, asked: list[Tensor]) -> None:
    x, weight, bias = torch.randn(1024, 64), torch.randn(64, 64), BIASES[which]
    if bias.dtype == torch.float64:
        with pytest.raises(RuntimeError, match="dtype"):
            products.linear(x, weight, bias)
    else:
        plain = products.PLAIN(x, weight, bias)
        assert products.linear(x, weight, bias).equal(plain)
        with products.wide_linears():
            assert torch.addmm(bias, x, weight).shape == (1024, 64)
    assert not asked


def test_a_bias_is_added_and_shapes_that_do_not_fit_are_refused_as_by_torch() -> None:
    x, weight, bias = torch.randn(3, 400, 64), torch.randn(80, 64), torch.randn(80)
    near = {"rtol": 1e-4, "atol": 1e-4}
    with torch.no_grad(), products.wide_linears():
        plain = products.PLAIN(x, weight, bias)
        torch.testing.assert_close(products.linear(x, weight, bias), plain, **near)
        torch.testing.assert_close(
            nn.functional.linear(input=x, weight=weight, bias=bias), plain, **near
        )
        rows = x.reshape(-1, 64)
        torch.testing.assert_close(torch.addmm(bias, rows, weight.T), plain.reshape(-1, 80), **near)
        for wrong in (torch.randn(80, 63), torch.randn(2, 80, 64)):
            with pytest.raises(RuntimeError, match=r"mat|dim|shape|size"):
                nn.functional.linear(x, wrong)
        sparse = weight.to_sparse()
        torch.testing.assert_close(
            nn.functional.linear(rows, sparse), products.PLAIN(rows, weight), **near
        )


def test_under_autocast_it_is_torchs(asked: list[Tensor]) -> None:
    with products.wide_linears(), torch.autocast("cpu", torch.bfloat16):
        found = nn.functional.linear(torch.randn(1024, 64), torch.randn(64, 64))
    assert found.dtype == torch.bfloat16
    assert not asked


def test_texts_of_all_lengths_are_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: set[tuple[int, ...]] = set()

    class Seen:
        def __call__(self, x: Tensor, weight: Tensor, *_: object) -> Tensor:
            shapes.add(tuple(x.shape))
            return products.PLAIN(x, weight)

    monkeypatch.setattr(products, "library", lambda: "oneDNN")
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", Seen())
    weight = torch.randn(64, 64)
    with torch.no_grad():
        for rows in range(256, 512, 5):
            x = torch.randn(rows, 64)
            assert products.linear(x, weight).shape == (rows, 64)
            moment = SecondMoment()
            moment.add(torch.randn(rows, 1024), 1)
    assert len({rows for rows, _ in shapes}) <= 3
    assert len(shapes) <= 5


def test_threads_each_have_their_own_scope(asked: list[Tensor]) -> None:
    layer, x = nn.Linear(1024, 64), torch.randn(128, 1024)
    entered, leave = Event(), Event()

    def other() -> None:
        with products.wide_linears():
            entered.set()
            leave.wait(10)

    thread = Thread(target=other)
    with products.wide_linears():
        thread.start()
        assert entered.wait(10)
    layer(x)  # the other's scope is open
    leave.set()
    thread.join()
    assert not asked
    assert (nn.functional.linear, torch.addmm) == (products.PLAIN, products.PLAIN_ADDMM)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_who_turns_onednn_off_gets_torchs_blas(asked: list[Tensor]) -> None:
    with torch.backends.mkldnn.flags(enabled=False):
        products.product(torch.randn(1024, 64), torch.randn(64, 64))
    assert not asked
    products.product(torch.randn(1024, 64), torch.randn(64, 64))
    assert len(asked) == 1


def test_a_torch_without_the_operation_multiplies_by_its_blas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")

    monkeypatch.setattr(products, "_by_onednn", gone)
    products.library.cache_clear()
    try:
        assert products.library() == "BLAS"
        with torch.no_grad(), products.wide_linears():
            assert nn.functional.linear is products.PLAIN
            a, b = torch.randn(1024, 64), torch.randn(64, 64)
            assert products.product(a, b).equal(torch.mm(a, b))
    finally:
        products.library.cache_clear()
