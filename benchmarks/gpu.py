"""`python -m benchmarks.gpu`: the walk, the solver's kernel, the Hessian and streaming on a GPU.

A Llama of the shape of LLaMA-2-7B with random weights in bfloat16, 128 windows of 2,048 tokens: the
walk beside its published form, in turns, and how alike the results are. A block takes as long
whatever their number, so a few of the 32 are run (`--blocks`). Then Triton's kernel beside its
plain form, the Hessian beside float64, and a model from disk beside the same one held whole.
Without a GPU the same rows say that they were not measured; `--quick` tries the code at a tiny
shape, on a CPU too. Writes benchmarks/gpu.json.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks import published
from benchmarks.compress import HALF, METHODS, TITLES, agreement
from benchmarks.contest import (
    Contest,
    arguments,
    machine,
    needs_accelerate,
    show,
    turns,
    write,
)
from benchmarks.device import NO_GPU, Result, Side, clocked, values
from benchmarks.gpu_parts import kernel, of_halves, second_moment, streaming
from benchmarks.memory import LLAMA_7B, Shape, llama, windows
from sweep.method.method import Method
from sweep.method.walk import Progress, silent, walk
from sweep.options import positive
from sweep.sparsity.n_of_m import NofM

FULL = replace(LLAMA_7B, sequences=128, seqlen=2048)
TINY = Shape(4, 64, 176, 4, 500, sequences=3, seqlen=32)
PLAIN = "published, plain"


def ours(model: Any, ids: Tensor, method: Method, progress: Progress = silent) -> None:
    """The walk of this project."""
    shown = torch.ones_like(ids, dtype=torch.bool)
    walk(model, method, HALF, windows=(ids, shown), progress=progress)


def walks(
    name: str, full: Shape, blocks: int, device: torch.device | None, runs: int
) -> list[Contest]:
    """A method's walk beside its published form: a block, all blocks, memory."""
    work = f"{TITLES[name]}, bfloat16, {full.sizes}"
    rows = [
        Contest(f"{work}: {what}", PLAIN, unit, None, note=NO_GPU)
        for what, unit in (
            ("a block", "s"),
            (f"in all, {full.blocks} blocks", "s"),
            ("peak memory above the weights", "MB"),
        )
    ]
    if device is None:
        return rows
    from transformers import AutoModelForCausalLM

    method, plain = METHODS[name]
    torch.manual_seed(0)
    with device:
        config = llama(replace(full, blocks=blocks))
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    dense = {key: one.to("cpu", copy=True) for key, one in model.state_dict().items()}
    ids = windows(full).to(device)
    seconds: tuple[list[list[float]], list[list[float]]] = ([], [])

    def side(walked: Callable[..., None], which: Any, into: list[list[float]]) -> Side:
        def turn() -> Result:
            into.append([])
            walked(model, ids, which, progress=clocked(device, into[-1]))
            return model.state_dict  # type: ignore[no-any-return]

        walked(model, ids[:1], which)  # libraries are loaded, kernels compiled
        return Side(turn, device)

    mine, theirs = side(ours, method, seconds[0]), side(published.walk, plain, seconds[1])
    turns(mine, theirs, runs, lambda: model.load_state_dict(dense))
    same = agreement(mine.result, theirs.result)
    a_block = [typical(one) for one in seconds]
    more = full.blocks - blocks
    whole = [in_all(one, each, more) for one, each in zip((mine, theirs), a_block, strict=True)]
    how = (
        f"extrapolated: {blocks} blocks are measured, and {more} more as long as one"
        if more
        else ""
    )
    return [
        replace(rows[0], ours=a_block[0], theirs=a_block[1], agreement=same, note=""),
        replace(rows[1], ours=whole[0], theirs=whole[1], note=how),
        replace(rows[2], **values(mine, theirs, "mb"), note=""),
    ]


def typical(turns: list[list[float]]) -> list[float]:
    """A block's seconds in each turn. The last block is left out: ours passes it once only."""
    return [statistics.median(blocks[:-1] or blocks) for blocks in turns]


def in_all(side: Side, a_block: list[float], more: int) -> list[float]:
    """Seconds of each turn's walk, and of more blocks in its middle."""
    return [turn.seconds + more * one for turn, one in zip(side.turns, a_block, strict=True)]


def contests(full: Shape, blocks: int, device: torch.device | None, runs: int) -> list[Contest]:
    """All rows; without a device they have no values, and say why.

    Args:
        full: the model's shape.
        blocks: how many of its blocks are run.
        device: where.
        runs: turns of both sides.
    """
    return [
        *(row for name in METHODS for row in walks(name, full, blocks, device, runs)),
        *(kernel(pattern, full, device, runs) for pattern in (HALF, NofM(2, 4))),
        second_moment(full, device, runs),
        of_halves(full, device, runs),
        *streaming(full, blocks, device, runs),
    ]


def main() -> None:
    """Measure, print, write."""
    parser = arguments("benchmarks.gpu", __doc__.splitlines()[0])
    parser.add_argument("--blocks", type=positive, help="of 32; 4, and 2 of 4 with --quick")
    parser.add_argument("--sequences", type=positive, help="windows; 128")
    parser.add_argument("--seqlen", type=positive, help="tokens of a window; 2048")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="of --quick; a GPU if one is here"
    )
    options = parser.parse_args()
    gpu = torch.device("cuda") if torch.cuda.is_available() else None
    if options.device == "cuda" and gpu is None:
        parser.error(f"--device cuda: {NO_GPU}")
    if options.device == "cpu" and not options.quick:
        parser.error("--device cpu: only with --quick")
    device = gpu
    if options.quick:
        device = torch.device("cpu") if gpu is None or options.device == "cpu" else gpu
    if device is not None:
        needs_accelerate(parser)
    full = TINY if options.quick else FULL
    blocks = options.blocks or (2 if options.quick else 4)
    if blocks > full.blocks:
        parser.error(f"--blocks {blocks}: the model has {full.blocks}")
    sizes = {name: getattr(options, name) for name in ("sequences", "seqlen")}
    full = replace(full, **{name: size for name, size in sizes.items() if size is not None})
    where = machine("cpu" if device is None else device.type)
    found = contests(full, blocks, device, 1 if options.quick else options.runs)
    show(found, where)
    if not options.quick:
        write("gpu", found, where)


if __name__ == "__main__":
    main()
