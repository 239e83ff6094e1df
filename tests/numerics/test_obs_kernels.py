"""The solver's kernels against their oracle: triton's in its interpreter, so no GPU is needed."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

import pytest
import torch

import sweep.numerics.obs as obs
from sweep.numerics.obs import _by_kernel, _inverse, factorise, prune_block, prune_columns
from sweep.sparsity.n_of_m import NofM
from sweep.sparsity.pattern import Pattern
from sweep.sparsity.unstructured import Unstructured

PATTERNS = [Unstructured(0.5), NofM(2, 4), NofM(1, 4), NofM(5, 8)]


@pytest.fixture(params=["triton", "numba"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setitem(os.environ, "TRITON_INTERPRET", "1")
    pytest.importorskip(request.param, reason=f"{request.param} is not here; the test extra has it")
    return import_module(f"sweep.numerics.obs_{request.param}")


@pytest.mark.parametrize("columns", [128, 40])
@pytest.mark.parametrize("rows", [1, 37])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_kernel_does_what_the_plain_form_does(
    kernel: ModuleType, columns: int, rows: int, pattern: Pattern
) -> None:
    generator = torch.Generator().manual_seed(columns + rows)
    x = torch.randn(300, columns, generator=generator)
    upper = _inverse(factorise(x.T @ x, 0.01).root)
    kept = torch.randn(rows, columns, generator=generator)
    kept[0] = 1.0  # equal weights
    plain = kept.clone()
    prune_block(plain, upper, [pattern], [rows], pattern.width or columns)
    assert _by_kernel(kernel, kept, upper, [pattern], [rows])
    assert (kept == 0).equal(plain == 0)
    torch.testing.assert_close(kept, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_large_matrices_are_solved_by_compiled_code_to_the_same_weights(
    pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    numba = pytest.importorskip("sweep.numerics.obs_numba", reason="numba is not here")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(900, 304, generator=generator)
    x[:, 7] = 0.0  # a dead input
    factor = factorise(x.T @ x, 0.01)
    weights = [torch.randn(rows, 304, generator=generator) for rows in (70, 1, 203)]
    patterns = [pattern] * 3
    plain = prune_columns(weights, factor, patterns)
    blocks: list[int] = []
    compiled = numba.prune_block

    def seen(*given: object) -> None:
        blocks.append(1)
        compiled(*given)

    monkeypatch.setattr(obs, "WORTH", 274 * 304)
    monkeypatch.setattr(numba, "prune_block", seen)
    fast = prune_columns(weights, factor, patterns)
    assert len(blocks) == 3
    for one, other in zip(fast, plain, strict=True):
        assert (one == 0).equal(other == 0)
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(obs, "WORTH", 274 * 304 + 1)
    prune_columns(weights, factor, patterns)
    assert len(blocks) == 3


@pytest.mark.parametrize("rows", [1, 64, 129, 300])
@pytest.mark.parametrize("n_of_m", [None, (2, 4), (3, 5)])
def test_threads_of_torch_and_others_do_the_same(
    rows: int, n_of_m: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    numba = pytest.importorskip("sweep.numerics.obs_numba", reason="numba is not here")
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(300, 60, generator=generator)
    upper = _inverse(factorise(x.T @ x, 0.01).root)
    dense = torch.randn(rows, 60, generator=generator)
    gone = torch.rand(rows, 60, generator=generator) < 0.5 if n_of_m is None else None
    given = (upper, gone, n_of_m or (0, 0))
    threads = torch.get_num_threads()
    found = []
    try:
        for team, count in ((numba.team(), 1), (numba.team(), 3), (None, 1), (None, 3)):
            monkeypatch.setattr(numba, "team", lambda team=team: team)
            torch.set_num_threads(count)
            kept = dense.clone()
            numba.prune_block(kept, *given)
            found.append(kept)
    finally:
        torch.set_num_threads(threads)
    assert not found[0].equal(dense)
    assert all(one.equal(found[0]) for one in found)


def test_compiled_code_is_handed_what_it_can_read() -> None:
    numba = pytest.importorskip("sweep.numerics.obs_numba", reason="numba is not here")
    kept, upper, gone = torch.randn(70, 8), torch.eye(8), torch.zeros(70, 8, dtype=torch.bool)
    wrong = [
        (torch.randn(140, 8)[::2], upper, gone, (0, 0)),
        (kept.double(), upper, gone, (0, 0)),
        (kept, upper.double(), gone, (0, 0)),
        (kept, torch.eye(7), gone, (0, 0)),
        (kept, upper, gone[:4], (0, 0)),
        (kept, upper, gone.float(), (0, 0)),
        (kept, upper, None, (1, 3)),
    ]
    for given in wrong:
        with pytest.raises(ValueError, match="prune_block"):
            numba.prune_block(*given)
    numba.prune_block(kept[:0], upper, gone[:0], (0, 0))


def test_what_fails_in_a_thread_of_torchs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    numba = pytest.importorskip("sweep.numerics.obs_numba", reason="numba is not here")
    monkeypatch.setattr(numba, "team", lambda: lambda given, threads: None)
    with pytest.raises(MemoryError, match="has not been done"):
        numba.prune_block(torch.randn(70, 8), torch.eye(8), None, (2, 4))


def test_equal_scores_go_by_position_in_compiled_code() -> None:
    numba = pytest.importorskip("sweep.numerics.obs_numba", reason="numba is not here")
    kept = torch.ones(70, 8)
    numba.prune_block(kept, torch.eye(8), None, (2, 4))
    assert (kept == torch.tensor([0.0, 0, 1, 1, 0, 0, 1, 1])).all()


def test_without_a_folder_for_compiled_code_the_plain_form_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(name: str) -> ModuleType:
        raise RuntimeError("cannot cache function '_gather': no locator available")

    monkeypatch.setattr(obs, "import_module", fails)
    monkeypatch.setattr(obs, "find_spec", lambda name: object())
    obs._loaded.cache_clear()
    try:
        assert obs._kernel(torch.device("cpu"), obs.WORTH, 128) is None
    finally:
        obs._loaded.cache_clear()
    assert "without numba: cannot cache" in caplog.text


def test_where_kernels_for_a_gpu_cannot_be_built_the_plain_form_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(os.environ, "TRITON_INTERPRET", "1")
    triton = pytest.importorskip("sweep.numerics.obs_triton", reason="triton is not here")

    class Launcher:
        def __getitem__(self, grid: object) -> None:
            raise AssertionError("libcuda.so cannot found!")

    obs._loaded.cache_clear()
    try:
        assert obs._kernel(torch.device("cuda"), 0, 128) is triton
        obs._loaded.cache_clear()
        monkeypatch.setattr(triton, "_prune", Launcher())
        assert obs._kernel(torch.device("cuda"), 0, 128) is None
    finally:
        obs._loaded.cache_clear()
    assert "the solver runs without triton: libcuda.so" in caplog.text
