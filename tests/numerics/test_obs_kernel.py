"""The solver's kernel against its oracle, in triton's interpreter: no GPU is needed."""

from __future__ import annotations

import os

import pytest
import torch

from sweep.numerics.obs import _gone, _inverse, factorise, prune_block
from sweep.sparsity.n_of_m import NofM
from sweep.sparsity.pattern import Pattern
from sweep.sparsity.unstructured import Unstructured


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "TRITON_INTERPRET", "1")
    pytest.importorskip("triton", reason="triton is not here; torch's CUDA builds bring it")


@pytest.mark.parametrize("columns", [128, 40])
@pytest.mark.parametrize("rows", [1, 37])
@pytest.mark.parametrize("pattern", [Unstructured(0.5), NofM(2, 4), NofM(1, 4), NofM(5, 8)])
def test_the_kernel_does_what_the_plain_form_does(
    columns: int, rows: int, pattern: Pattern
) -> None:
    from sweep.numerics import obs_kernel

    generator = torch.Generator().manual_seed(columns + rows)
    x = torch.randn(300, columns, generator=generator)
    upper = _inverse(factorise(x.T @ x, 0.01).root)
    kept = torch.randn(columns, rows, generator=generator)
    kept[:, 0] = 1.0  # equal weights
    plain = kept.clone()
    prune_block(plain, upper, [pattern], [rows], pattern.width or columns)
    gone = None
    if pattern.width is None:
        gone = _gone((kept / upper.diagonal()[:, None]).square_(), [pattern], [rows])
    n_of_m = (pattern.n, pattern.m) if isinstance(pattern, NofM) else (0, 0)
    obs_kernel.prune_block(kept, upper, gone, n_of_m)
    assert (kept == 0).equal(plain == 0)
    torch.testing.assert_close(kept, plain, rtol=1e-4, atol=1e-5)
