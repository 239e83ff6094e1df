"""`python -m benchmarks.memory`: what compressing a model takes of the memory, streamed or whole.

A Llama of the shape of LLaMA-2-7B with random weights (32 blocks, 4096 hidden, bfloat16, 13.5 GB)
is made on disk, a block at a time, and pruned to 50 % by Wanda and by SparseGPT with
`model.load=stream`: its peak stands beside a bound of 6 GB. A smaller one is pruned streamed and
whole, and the weights that come out are compared. Every run is a process of its own; its peak is
`VmHWM`, which counts mapped files as well. Writes benchmarks/memory.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.contest import (
    Contest,
    arguments,
    machine,
    needs_accelerate,
    resident,
    show,
    write,
)

BOUND_MB = 6000
METHODS = ("wanda", "sparsegpt")


@dataclass(frozen=True)
class Shape:
    """A Llama's sizes, and how many windows of how many tokens it is calibrated with."""

    blocks: int
    hidden: int
    mlp: int
    heads: int
    vocab: int
    sequences: int
    seqlen: int

    @property
    def sizes(self) -> str:
        """Those that a block has, for a table."""
        return f"{self.hidden} hidden, {self.mlp} MLP, {self.sequences} × {self.seqlen} tokens"

    def __str__(self) -> str:
        """For a table."""
        return f"{self.blocks} blocks, {self.sizes}"


LLAMA_7B = Shape(32, 4096, 11008, 32, 32000, sequences=4, seqlen=64)
SMALL = Shape(24, 1024, 2816, 16, 8000, sequences=4, seqlen=64)
QUICK = Shape(8, 256, 704, 4, 1000, sequences=4, seqlen=64)


def llama(shape: Shape) -> Any:
    """The configuration of a Llama of this shape, in bfloat16."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.blocks,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        tie_word_embeddings=False,
        dtype="bfloat16",
    )


def windows(shape: Shape) -> Tensor:
    """Token ids, always the same ones."""
    size = (shape.sequences, shape.seqlen)
    return torch.randint(shape.vocab, size, generator=torch.Generator().manual_seed(1))


def make(shape: Shape, folder: Path) -> None:
    """A model of this shape in bfloat16, in Hugging Face format: a shard for each block."""
    config = llama(shape)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    random = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.empty(*size, dtype=torch.bfloat16).normal_(std=0.02, generator=random)

    ones = torch.ones(shape.hidden, dtype=torch.bfloat16)
    square, up = (shape.hidden, shape.hidden), (shape.mlp, shape.hidden)
    kinds = {f"self_attn.{name}_proj": square for name in "qkvo"}
    kinds |= {"mlp.gate_proj": up, "mlp.up_proj": up, "mlp.down_proj": (up[1], up[0])}
    index: dict[str, str] = {}
    for number in range(-1, shape.blocks):
        if number < 0:
            around = (("model.embed_tokens.weight", 1), ("lm_head.weight", 1))
            tensors = {name: normal(shape.vocab, shape.hidden) for name, _ in around}
            tensors["model.norm.weight"] = ones
        else:
            block = f"model.layers.{number}"
            tensors = {f"{block}.{kind}.weight": normal(*size) for kind, size in kinds.items()}
            for norm in ("input_layernorm", "post_attention_layernorm"):
                tensors[f"{block}.{norm}.weight"] = ones.clone()
        file = f"model-{number + 2:05d}-of-{shape.blocks + 1:05d}.safetensors"
        save_file(tensors, folder / file, {"format": "pt"})
        index |= dict.fromkeys(tensors, file)
    told = {"metadata": {}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(told))


def prune(method: str, load: str, shape: Shape, folder: Path) -> dict[str, Any]:
    """In this process: load, compress, and say what it took and what came out.

    Returns:
        Peak in MB before loading, after it, and after compressing, the seconds of both, the share
        of zeros, and a hash of the weights that came out.
    """
    from sweep.method.sparsegpt import SparseGPT
    from sweep.method.walk import walk
    from sweep.method.wanda import Wanda
    from sweep.model import anatomy
    from sweep.model.local import Local
    from sweep.model.weights import load as load_model
    from sweep.sparsity.unstructured import Unstructured

    ids = windows(shape)
    checkpoint = Local(str(folder), dtype="bfloat16", device="cpu", load=load)  # type: ignore[arg-type]
    from transformers import LlamaForCausalLM  # noqa: F401 - loading would import it

    libraries = resident("VmHWM")
    started = time.perf_counter()
    model = load_model(checkpoint, folder / "scratch")
    loaded, before = time.perf_counter() - started, resident("VmHWM")
    started = time.perf_counter()
    records = walk(
        model,
        {"wanda": Wanda(), "sparsegpt": SparseGPT()}[method],
        Unstructured(0.5),
        windows=(ids, torch.ones_like(ids, dtype=torch.bool)),
    )
    seconds, after = time.perf_counter() - started, resident("VmHWM")
    total = hashlib.sha256()
    for matrix in anatomy.prunable(model).values():
        total.update(matrix.weight.contiguous().view(torch.uint8).numpy().data)
    zeros = sum(one.zeros for one in records) / sum(one.rows * one.cols for one in records)
    return {
        "libraries_mb": libraries,
        "loading_s": loaded,
        "loaded_mb": before,
        "peak_mb": after,
        "seconds": seconds,
        "sparsity": zeros,
        "sha256": total.hexdigest(),
    }


def apart(method: str, load: str, shape: Shape, folder: Path) -> dict[str, Any]:
    """`prune` in a process of its own."""
    told = json.dumps(asdict(shape))
    words = [sys.executable, "-m", "benchmarks.memory", "--prune", method, load, told, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{method}, {load}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def large(shape: Shape, methods: Sequence[str], below: Path, bound: float) -> list[Contest]:
    """The model that does not fit: peak and seconds beside the bound."""
    contests: list[Contest] = []
    with tempfile.TemporaryDirectory(dir=below) as folder:
        make(shape, Path(folder))
        size = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors")) / 1e6
        for method in methods:
            found = apart(method, "stream", shape, Path(folder))
            contests.append(
                Contest(
                    f"{method} 50 %, streamed, bfloat16: {shape}",
                    "the bound",
                    "MB",
                    1,
                    [found["peak_mb"]],
                    [bound],
                    f"{100 * found['sparsity']:.2f} % zeros",
                    f"{size / 1000:.2f} GB of weights on disk; {found['libraries_mb']:.0f} MB are "
                    f"Python and its libraries; loaded in {found['loading_s']:.0f} s, "
                    f"{found['loaded_mb']:.0f} MB; compressed in {found['seconds']:.0f} s",
                )
            )
    return contests


def small(shape: Shape, runs: int, below: Path) -> list[Contest]:
    """The model that fits: peak and seconds of both ways, and whether they agree."""
    contests: list[Contest] = []
    with tempfile.TemporaryDirectory(dir=below) as folder:
        make(shape, Path(folder))
        for method in ("wanda", "sparsegpt"):
            turns = [
                [apart(method, load, shape, Path(folder)) for load in ("stream", "whole")]
                for _ in range(runs)
            ]
            same = len({side["sha256"] for turn in turns for side in turn}) == 1
            agreement = "equal weights" if same else "other weights"
            work = f"{method} 50 %, streamed, bfloat16: {shape}"
            beyond = [
                [t[side]["peak_mb"] - t[side]["libraries_mb"] for t in turns] for side in (0, 1)
            ]
            seconds = [[t[side]["seconds"] for t in turns] for side in (0, 1)]
            note = "the peak beyond Python and its libraries"
            contests.append(Contest(work, "whole", "MB", None, *beyond, agreement, note))
            contests.append(Contest(work, "whole", "s", None, *seconds, agreement))
    return contests


def main() -> None:
    """Measure, print, write."""
    parser = arguments("benchmarks.memory", (__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where models are made; the system's for such")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="of the 7B")
    parser.add_argument("--prune", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prune:
        method, load, told, folder = options.prune
        print(json.dumps(prune(method, load, Shape(**json.loads(told)), Path(folder))))
        return
    needs_accelerate(parser)
    if options.folder is not None and not options.folder.is_dir():
        parser.error(f"--folder {options.folder}: must be a folder that is there")
    where = machine()  # the code as it is now, whatever is edited meanwhile
    if options.quick:
        contests = large(QUICK, options.methods, options.folder, BOUND_MB)
        contests += small(QUICK, 1, options.folder)
    else:
        contests = small(SMALL, options.runs, options.folder)
        contests += large(LLAMA_7B, options.methods, options.folder, BOUND_MB)
    show(contests, where)
    if not options.quick:
        write("memory", contests, where)


if __name__ == "__main__":
    main()
