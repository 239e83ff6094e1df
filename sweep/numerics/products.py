"""Products of float32 matrices on a CPU by the library in torch that has its widest arithmetic.

torch asks its BLAS. In the builds for x86 that is MKL, which takes kernels for AVX2 on processors
that are not Intel's: half of what a processor with AVX-512 can do. oneDNN, which is in the same
builds and multiplies matrices in bfloat16 there, takes kernels for AVX-512 wherever they run, and
so is asked instead (measured on an AMD EPYC; on Intel's processors both have such kernels). Both
add up in float32; they round in another order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from threading import Lock
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEAST = 2**20
"""Products of two numbers from which on oneDNN is worth its call, which takes longer."""

ROWS = 128
"""oneDNN gets them in multiples where texts decide how many there are: it keeps a program for each
shape, a third of a MB, and texts of all lengths would make hundreds. Fewer are left to the BLAS; of
one or two it is as fast."""

DEPTH = 1024
"""Columns of a matrix with gaps between its rows that are copied for it at once, so that they come
from the cache: in one piece a product takes half as long again."""

PLAIN, PLAIN_ADDMM = nn.functional.linear, torch.addmm


@cache
def library() -> str:
    """What multiplies large float32 matrices on this CPU: `oneDNN`, or torch's `BLAS`."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return "BLAS"
    gaps = torch.ones(ROWS, 7)
    try:  # what torch's compiler uses, but undocumented
        found = _by_onednn(gaps[:, :3].contiguous(), torch.ones(4, 3), None)
        summed = _sum_by_onednn(gaps[:, 3:], gaps[:, :3], torch.ones(4, 3))
    except (AttributeError, RuntimeError, TypeError):
        return "BLAS"
    right = found.shape == summed.shape == (ROWS, 4) and bool((summed == found + 1).all())
    return "oneDNN" if right and bool((found == 3).all()) else "BLAS"


def linear(
    x: Float[Tensor, "*_ in"], weight: Float[Tensor, "out in"], bias: Tensor | None = None
) -> Float[Tensor, "*_ out"]:
    """`torch.nn.functional.linear`, by oneDNN where `library` says so and there is enough to do."""
    if _worth(x, weight, bias):
        return _by_onednn(x, weight, bias)
    return PLAIN(x, weight, bias)


def product(a: Float[Tensor, "n k"], b: Float[Tensor, "k m"]) -> Float[Tensor, "n m"]:
    """`a @ b`; either may lie transposed in memory."""
    return linear(a, b.T)


def add_product(
    out: Float[Tensor, "n m"], a: Float[Tensor, "n k"], b: Float[Tensor, "k m"]
) -> Float[Tensor, "n m"]:
    """`out += a @ b`, in place."""
    if _worth(a, b.T):
        return out.add_(_by_onednn(a, b.T, None))
    return out.addmm_(a, b)


def sum_with_product(
    term: Float[Tensor, "n m"],
    a: Float[Tensor, "n k"],
    b: Float[Tensor, "k m"],
    alpha: float = 1.0,
) -> Float[Tensor, "n m"]:
    """`term + alpha * a @ b`; there may be gaps between the rows of `term` and of `a`."""
    if not _worth(a, b.T):
        return PLAIN_ADDMM(term, a, b, alpha=alpha)
    for start in range(0, a.shape[1], DEPTH):
        piece = slice(start, start + DEPTH)
        weight = _whole(b[piece].T) if alpha == 1 else b[piece].T * alpha
        term = _sum_by_onednn(term, a[:, piece], weight)
    return term


_wide: ContextVar[bool] = ContextVar("_wide", default=False)
_lock = Lock()
_scopes: list[None] = []
"""One for each scope that is open, whatever thread it is of."""


@contextmanager
def wide_linears() -> Iterator[None]:
    """Within it the linear layers of all models multiply by `linear`, in this thread."""
    with _multiplying(wide=True) if library() == "oneDNN" else nullcontext():
        yield


@contextmanager
def plain_linears() -> Iterator[None]:
    """Within it they are torch's again: for what is to be what plain transformers find."""
    with _multiplying(wide=False):
        yield


@contextmanager
def _multiplying(wide: bool) -> Iterator[None]:
    """torch's functions are replaced while any scope is open, and do as that of their thread says.

    torch's own way to step in (a mode) costs a microsecond of each of a model's hundreds of calls.
    """
    before = _wide.set(wide)
    with _lock:
        _scopes.append(None)
        nn.functional.linear, torch.addmm = _layer, _addmm  # type: ignore[assignment]
    try:
        yield
    finally:
        with _lock:
            _scopes.pop()
            if not _scopes:
                nn.functional.linear, torch.addmm = PLAIN, PLAIN_ADDMM
        _wide.reset(before)


def _layer(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if _wide.get() and _worth(input, weight, bias):
        return _by_onednn(input, weight, bias)
    return PLAIN(input, weight, bias)


def _addmm(input: Any, mat1: Any, mat2: Any, *args: Any, **given: Any) -> Tensor:
    """GPT-2's linear layers are made of `torch.addmm`."""
    layer = _wide.get() and not args and not given and mat2.dim() == input.dim() + 1 == 2
    if layer and _worth(mat1, mat2.T, input):
        return _by_onednn(mat1, mat2.T, input)
    return PLAIN_ADDMM(input, mat1, mat2, *args, **given)


def _worth(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether oneDNN does it faster, and as torch would: it believes what it is handed."""
    return (
        all(_plain(one) for one in (x, weight, *(() if bias is None else (bias,))))
        and x.dim() > 1
        and weight.dim() == 2
        and x.shape[-1] == weight.shape[1] > 0
        and x.numel() >= ROWS * x.shape[-1]
        and x.numel() * len(weight) >= LEAST
        and (bias is None or (bias.shape == weight.shape[:1] and bias.is_contiguous()))
        and not torch.is_grad_enabled()  # oneDNN's has no gradient
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and bool(torch.backends.mkldnn.enabled)
        and library() == "oneDNN"
    )


def _plain(one: Tensor) -> bool:
    """A matrix of float32 in this machine's memory; no kind of its own, as of quantised weights."""
    return (
        one.dtype is torch.float32
        and type(one) in (Tensor, nn.Parameter)
        and one.device.type == "cpu"
        and one.layout is torch.strided
    )


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = _whole(x) if x.dim() == 2 else x.reshape(-1, x.shape[-1])
    if more := -len(rows) % ROWS:
        rows = nn.functional.pad(rows, (0, 0, 0, more))
    found = torch.ops.mkldnn._linear_pointwise(rows, _whole(weight), bias, "none", [], "")
    result: Tensor = found[: len(rows) - more].view(*x.shape[:-1], len(weight))
    return result


def _sum_by_onednn(term: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    sum_of: Any = torch.ops.mkldnn._linear_pointwise.binary
    found: Tensor = sum_of(x, term, weight, None, "add")
    return found


def _whole(matrix: Tensor) -> Tensor:
    """Without gaps in memory, and turned if it lies turned: with gaps oneDNN goes element by
    element, and torch turns a matrix in tiles only if it has none."""
    if matrix.is_contiguous() or matrix.T.is_contiguous():
        return matrix
    return matrix.T.contiguous().T if matrix.stride(0) == 1 else matrix.contiguous()
