"""Parts of `benchmarks.gpu` beside the walk: the solver's kernel, the Hessian, streaming."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.compress import HALF, agreement, hessian, inputs
from benchmarks.contest import Contest, turns
from benchmarks.device import NO_GPU, Result, Side, values
from benchmarks.memory import Shape, make, windows
from sweep.method.walk import walk
from sweep.method.wanda import Wanda
from sweep.model import anatomy
from sweep.model.local import Local
from sweep.model.weights import load
from sweep.numerics.moments import SecondMoment
from sweep.numerics.obs import WORTH, _by_kernel, _inverse, _kernel, factorise, prune_block
from sweep.numerics.precision import adds_up_halves
from sweep.sparsity.pattern import Pattern


def kernel(pattern: Pattern, full: Shape, device: torch.device | None, runs: int) -> Contest:
    """A block of the solver by the compiled kernel of the device and by its oracle."""
    compiler = "numba" if device is not None and device.type == "cpu" else "Triton"
    size = min(128, full.hidden)
    work = f"{compiler}'s kernel, {size} columns of {full.mlp} rows, {pattern.label}"
    row = Contest(work, "its plain form", "ms", None, note=NO_GPU)
    if device is None:
        return row
    compiled = _kernel(device, WORTH, size)
    if compiled is None:
        return replace(row, note=f"{compiler.lower()} is not installed")
    upper = _inverse(factorise(hessian(size).to(device), 0.01).root)
    weights = torch.randn(full.mlp, size, generator=torch.Generator().manual_seed(0)).to(device)

    def fast() -> Result:
        kept = weights.clone()
        if not _by_kernel(compiled, kept, upper, [pattern], [full.mlp]):
            raise RuntimeError(f"{compiler}'s kernel does not know {pattern.label}")
        return lambda: {"kept": kept}

    def plain() -> Result:
        kept = weights.clone()
        prune_block(kept, upper, [pattern], [full.mlp], pattern.width or size)
        return lambda: {"kept": kept}

    fast()  # it is compiled
    plain()
    mine, theirs = Side(fast, device), Side(plain, device)
    spent = turns(mine, theirs, runs)
    found = [[1000 * seconds for seconds in side] for side in spent]
    same = differences(mine.result["kept"], theirs.result["kept"])
    return replace(row, ours=found[0], theirs=found[1], agreement=same, note="")


def differences(one: Tensor, other: Tensor) -> str:
    """Weights of which only one result keeps any, counted; and of rows without such, how far the
    others are apart."""
    differ = (one == 0) != (other == 0)
    said = f"{int(differ.sum())} of {differ.numel()} masks differ"
    same = ~differ.any(dim=1)
    if not same.any():
        return said
    scale = other[same].square().mean().sqrt()
    off = float((one - other)[same].abs().max() / scale)
    return f"{said}, weights by at most {off:.1e} of their root mean square"


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Products of float32 matrices in another arithmetic."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def second_moment(full: Shape, device: torch.device | None, runs: int) -> Contest:
    """The Hessian in the arithmetic that the project has, and in the faster one that it has not."""
    mode = "off" if torch.get_float32_matmul_precision() == "highest" else "on"
    row = Contest(f"{_hessian(full)}, fp32, TF32 {mode}", "TF32 on", "s", None, note=NO_GPU)
    if device is None:
        return row
    batch = inputs(full.hidden, torch.Generator(device).manual_seed(0), full.seqlen)
    summed = partial(_summed, batch, full.sequences)

    def with_tf32() -> Result:
        with precision("high"):
            return summed()

    return _beside_float64(row, summed, with_tf32, batch, full.sequences, device, runs)


def of_halves(full: Shape, device: torch.device | None, runs: int) -> Contest:
    """The Hessian of inputs in bfloat16 as the project sums it there, and in float32."""
    work = f"{_hessian(full)}, bfloat16"
    row = Contest(work, "in float32", "s", None, note=NO_GPU)
    if device is None:
        return row
    batch = inputs(full.hidden, torch.Generator(device).manual_seed(0), full.seqlen).bfloat16()
    exact = adds_up_halves(batch)
    row = replace(row, work=f"{work}, {'exact products of halves' if exact else 'in float32'}")
    ours = partial(_summed, batch, full.sequences)
    theirs = partial(_summed, batch.float(), full.sequences)
    return _beside_float64(row, ours, theirs, batch, full.sequences, device, runs)


def _hessian(full: Shape) -> str:
    return f"Hessian, {full.hidden} columns, {full.sequences} × {full.seqlen} tokens"


def _summed(batch: Tensor, sequences: int) -> Result:
    moment = SecondMoment()
    for number in range(sequences):
        moment.add(_scaled(batch, number), 1)
    hessian = moment.hessian
    return lambda: {"hessian": hessian}


def _scaled(batch: Tensor, number: int) -> Tensor:
    """Another scale for each sequence, for sums of unequal terms: powers of two, without rounding
    in any arithmetic."""
    return batch * 2.0 ** (number % 4)


def _beside_float64(
    row: Contest,
    ours: Callable[[], Result],
    theirs: Callable[[], Result],
    batch: Tensor,
    sequences: int,
    device: torch.device,
    runs: int,
) -> Contest:
    """Both in turns, and how far each is from the same sum in float64."""
    ours()  # libraries are loaded
    theirs()
    sides = mine, other = Side(ours, device), Side(theirs, device)
    turns(mine, other, runs)
    exact = torch.zeros(batch.shape[1], batch.shape[1], dtype=torch.float64, device=device)
    for number in range(sequences):
        x = _scaled(batch, number).double()
        exact.addmm_(x.T, x, alpha=2 / sequences)
    exact = exact.cpu()
    off = [float((side.result["hessian"] - exact).norm() / exact.norm()) for side in sides]
    said = f"off float64 by {off[0]:.1e}, {row.against} by {off[1]:.1e} (Frobenius, relative)"
    return replace(row, **values(mine, other, "seconds"), agreement=said, note="")


def streaming(full: Shape, blocks: int, device: torch.device | None, runs: int) -> list[Contest]:
    """A model whose blocks come from disk and whose activations wait on the CPU, and a whole one.

    Args:
        full: its shape.
        blocks: how many it has instead.
        device: where it runs.
        runs: turns of both sides.
    """
    shape = replace(full, blocks=blocks)
    work = f"Wanda 50 %, streamed, activations pinned and double-buffered, {shape}"
    rows = [
        Contest(f"{work}: {what}", "whole", unit, None, note=NO_GPU)
        for what, unit in (("peak memory", "MB"), ("load and walk", "s"))
    ]
    if device is None:
        return rows
    with tempfile.TemporaryDirectory() as folder:
        make(shape, Path(folder))

        def turn(how: Any) -> Result:
            checkpoint = Local(folder, dtype="bfloat16", device=str(device), load=how)
            model = load(checkpoint, Path(folder) / "scratch")
            ids = windows(shape)
            shown = torch.ones_like(ids, dtype=torch.bool)
            walk(model, Wanda(), HALF, windows=(ids, shown))
            matrices = anatomy.prunable(model)
            return lambda: {f"{name}.weight": one.weight for name, one in matrices.items()}

        mine, theirs = (Side(partial(turn, how), device) for how in ("stream", "whole"))
        turns(mine, theirs, runs)
    return [
        replace(rows[0], **values(mine, theirs, "mb"), note=""),
        replace(
            rows[1],
            **values(mine, theirs, "seconds"),
            agreement=agreement(mine.result, theirs.result),
            note="",
        ),
    ]
