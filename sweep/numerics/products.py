"""Products of float32 matrices on a CPU by the library in torch that has its widest arithmetic.

torch asks its BLAS. In the builds for x86 that is MKL, which takes kernels for AVX2 on processors
that are not Intel's: half of what a processor with AVX-512 can do. oneDNN, which is in the same
builds and multiplies matrices in bfloat16 there, takes kernels for AVX-512 wherever they run, and
so is asked instead. Both add up in float32; they round in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEAST = 2**20
"""Products of two numbers from which on oneDNN is worth its call, which takes longer."""

PLAIN, PLAIN_ADDMM = nn.functional.linear, torch.addmm


@cache
def library() -> str:
    """What multiplies large float32 matrices on this CPU: `oneDNN`, or torch's `BLAS`."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return "BLAS"
    try:  # what torch's compiler uses, but undocumented
        found = _by_onednn(torch.ones(2, 3), torch.ones(4, 3), None)
    except (AttributeError, RuntimeError, TypeError):
        return "BLAS"
    return "oneDNN" if found.shape == (2, 4) and bool((found == 3).all()) else "BLAS"


def linear(
    x: Float[Tensor, "*_ in"], weight: Float[Tensor, "out in"], bias: Tensor | None = None
) -> Float[Tensor, "*_ out"]:
    """`torch.nn.functional.linear`, which it is wherever oneDNN would not be faster."""
    if _worth(x, weight, bias):
        return _by_onednn(x, weight, bias)
    return PLAIN(x, weight, bias)


def addmm(bias: Tensor, x: Tensor, weight: Tensor, **given: Any) -> Tensor:
    """`torch.addmm`, of which GPT-2's linear layers are made, likewise."""
    if not given and bias.dim() == 1 and _worth(x, weight.T, bias):
        return _by_onednn(x, weight.T, bias)
    return PLAIN_ADDMM(bias, x, weight, **given)


def product(a: Float[Tensor, "n k"], b: Float[Tensor, "k m"]) -> Float[Tensor, "n m"]:
    """`a @ b`; either may lie transposed in memory."""
    return linear(a, b.T)


def add_product(
    out: Float[Tensor, "n m"], a: Float[Tensor, "n k"], b: Float[Tensor, "k m"], alpha: float = 1.0
) -> Float[Tensor, "n m"]:
    """`out += alpha * a @ b`, in place."""
    if _worth(a, b.T):
        return out.add_(_by_onednn(a, b.T, None), alpha=alpha)
    return out.addmm_(a, b, alpha=alpha)


def sum_with_product(
    term: Float[Tensor, "n m"], a: Float[Tensor, "n k"], b: Float[Tensor, "k m"]
) -> Float[Tensor, "n m"]:
    """`term + a @ b`."""
    if _worth(a, b.T):
        sum_of: Any = torch.ops.mkldnn._linear_pointwise.binary
        found: Tensor = sum_of(_whole(a), term, _whole(b.T), None, "add")
        return found
    return PLAIN_ADDMM(term, a, b)


@contextmanager
def wide_linears() -> Iterator[None]:
    """Within it the linear layers of all models, in all threads, multiply by `linear`."""
    with _multiplying(linear, addmm) if library() == "oneDNN" else nullcontext():
        yield


@contextmanager
def plain_linears() -> Iterator[None]:
    """Within it they are torch's again: for what is to be what plain transformers find."""
    with _multiplying(PLAIN, PLAIN_ADDMM):
        yield


@contextmanager
def _multiplying(*functions: Callable[..., Tensor]) -> Iterator[None]:
    before = nn.functional.linear, torch.addmm
    nn.functional.linear, torch.addmm = functions
    try:
        yield
    finally:
        nn.functional.linear, torch.addmm = before


def _worth(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    return (
        x.dtype is torch.float32
        and weight.dtype is torch.float32
        and x.numel() * len(weight) >= LEAST
        and x.device.type == weight.device.type == "cpu"
        and type(x) is Tensor
        and type(weight) in (Tensor, nn.Parameter)  # no kind of its own, as of quantised weights
        and x.dim() > 1
        and not (torch.is_grad_enabled() and _learns(x, weight, bias))  # oneDNN's has no gradient
        and bool(torch.backends.mkldnn.enabled)
        and library() == "oneDNN"
    )


def _learns(*tensors: Tensor | None) -> bool:
    return any(one is not None and one.requires_grad for one in tensors)


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    x, weight = _whole(x) if x.dim() == 2 else x, _whole(weight)
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


def _whole(matrix: Tensor) -> Tensor:
    """Without gaps in memory, and turned if it lies turned: with gaps oneDNN goes element by
    element, and torch turns a matrix in tiles only if it has none."""
    if matrix.is_contiguous() or matrix.T.is_contiguous():
        return matrix
    return matrix.T.contiguous().T if matrix.stride(0) == 1 else matrix.contiguous()
