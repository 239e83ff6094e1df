"""How precisely a GPU multiplies matrices where a Hessian or a float32 model wants it.

NVIDIA's GPUs multiply float32 matrices much faster if they may round the factors to TF32, with ten
bits. torch does not unless it is told to, and the containers of NVIDIA tell it. A Hessian of TF32
is 5e-5 off, one of float32 1e-7 (relative, in norm, of Gaussian inputs).

What a model in half precision is fed needs no rounding: the product of two halves is a float32
exactly, and only their sum rounds. The GPU's units for halves, which add up in float32, make it as
precisely as float32 does, at many times its rate. That is not believed but tried, once a process,
against float64. No GPU was at hand when this was written: it is tested with stand-ins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

TOLERANCE = 2e-6
"""Of a product to that of float64, relative, in norm: several times what float32 is off."""

HALVES = (torch.float16, torch.bfloat16)


@contextmanager
def full_float32() -> Iterator[None]:
    """Within it float32 matrices are multiplied as such on CUDA, whatever the machine has set."""
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [one.allow_tf32 for one in switches]
    for one in switches:
        one.allow_tf32 = False
    try:
        yield
    finally:
        for one, was in zip(switches, before, strict=True):
            one.allow_tf32 = was


def adds_up_halves(x: Tensor) -> bool:
    """Whether products of what is like this may be made by `product_of_halves`."""
    return x.is_cuda and x.dtype in HALVES and is_precise(str(x.device), x.dtype)


def product_of_halves(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b` of two matrices in half precision, in float32."""
    found: Tensor = torch.mm(a, b, out_dtype=torch.float32)
    return found


@cache
def is_precise(device: str, dtype: torch.dtype) -> bool:
    """Whether `product_of_halves` is there, and as near to float64 as float32 is."""
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn(*size, generator=random) for size in ((64, 4096), (4096, 64)))
    a, b = a.to(dtype), b.to(dtype)
    right = a.double() @ b.double()
    try:
        found = product_of_halves(a.to(device), b.to(device)).cpu()
    except (RuntimeError, TypeError):  # this torch or device has none; NotImplementedError is one
        return False
    return bool((found - right).norm() <= TOLERANCE * right.norm())
