"""One pass through the dense model collects the statistics that several cells share.

With `method.propagate=dense` every block is fed by the outputs of dense blocks, so what is seen
depends neither on the method nor on its pattern: the cells of a process with the same model,
calibration, seed and scope are all served by one pass. Every kind of statistic that a method wants
is summed as that method would have it alone, so no cell's numbers depend on who shares with it.
They lie on disk, a file for each block, and one block's are in memory at a time.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from sweep.method.method import Layer, Method
from sweep.method.walk import Gathered, Kind, Progress, Seen, observe
from sweep.model import anatomy
from sweep.model.matrix import Matrix
from sweep.model.offload import resident
from sweep.model.passage import Passage
from sweep.numerics.moments import Several, Shareable, Statistic
from sweep.numerics.output_error import InputSample
from sweep.numerics.precision import full_float32
from sweep.numerics.products import wide_linears
from sweep.scratch import own_folder

TOKENS, SAMPLE = "tokens", "sample"


@final
class OnDisk(Gathered):
    """Statistics by block in a folder, which is removed with this object.

    Args:
        below: the folder in which one is made for them.
        kinds: of statistics that are there.
    """

    def __init__(self, below: Path, kinds: frozenset[type[Statistic]]) -> None:
        self._folder, clear = own_folder(below)
        self.kinds = kinds
        self.clear = weakref.finalize(self, clear)

    def keep(self, number: int, seen: Mapping[str, Seen]) -> None:
        """What was seen of a block's matrices.

        Raises:
            OSError: the disk is full.
        """
        from safetensors.torch import save_file

        owners: dict[int, str] = {}
        shared = {name: owners.setdefault(id(one), name) for name, one in seen.items()}
        tensors: dict[str, Tensor] = {}
        devices: dict[str, str] = {}
        for name in owners.values():
            one = seen[name]
            if one.tokens == 0:
                continue
            devices[name] = str(one.device)
            assert isinstance(one.statistic, Several)
            assert one.sample is not None
            own = {**one.statistic.state(), TOKENS: torch.tensor(one.tokens)}
            own[SAMPLE] = one.sample.tokens()
            tensors |= {f"{name}/{key}": value.cpu().contiguous() for key, value in own.items()}
        told = {"shared": json.dumps(shared), "devices": json.dumps(devices)}
        save_file(tensors, self._file(number), told)

    def take(self, number: int, linears: Mapping[str, Matrix], method: Method) -> dict[str, Seen]:
        """See `Gathered`; they are where the inputs were, wherever the weights are."""
        from safetensors import safe_open

        found: dict[str, Seen] = {}
        with safe_open(self._file(number), framework="pt") as saved:
            keys = list(saved.keys())
            told = saved.metadata()
            shared, devices = json.loads(told["shared"]), json.loads(told["devices"])
            owned: dict[str, Seen] = {}
            for name in linears:
                owner = shared.get(name)
                if owner is None:  # an expert to which no token was sent
                    continue
                if owner in owned:
                    found[name] = owned[owner]
                    continue
                own: dict[str, Tensor] = {}
                for key in keys:
                    if key.startswith(f"{owner}/"):
                        value = saved.get_tensor(key)
                        device = devices[owner] if value.dim() else "cpu"  # a count is the host's
                        own[key.rpartition("/")[2]] = value.to(device, copy=True)
                found[name] = owned[owner] = _seen(name, linears[name], own, method)
        return found

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:04d}.safetensors"


def _seen(name: str, matrix: Matrix, saved: Mapping[str, Tensor], method: Method) -> Seen:
    """What a matrix was fed, as the method wants to see it."""
    if not saved:  # an expert to which no token was sent
        return Seen()
    statistic: Any = method.observe(Layer(name, matrix.out_features, matrix.in_features))
    statistic.fill(saved)  # `kind_of` has seen that it can be
    sample = saved[SAMPLE]
    return Seen(statistic, InputSample.of(sample), int(saved[TOKENS]), sample.device)


def kind_of(method: Method) -> type[Statistic] | None:
    """Which kind of statistic a method wants; None if cells cannot share it."""
    found = method.observe(Layer("", 1, 1))
    return type(found) if found is not None and isinstance(found, Shareable) else None


@torch.no_grad()
@full_float32()
@wide_linears()
def gather(
    model: nn.Module,
    methods: Sequence[Method],
    *,
    windows: tuple[Int[Tensor, "n time"], Bool[Tensor, "n time"]],
    batch_size: int,
    progress: Progress,
    below: Path,
) -> OnDisk:
    """The statistics that these methods want, of a dense model.

    Args:
        model: as in `sweep.method.walk`; nothing is changed in it.
        methods: of one scope; several of a kind count once.
        windows, batch_size, progress: as in `sweep.method.walk`.
        below: the folder below which they are kept, as long as the answer lives.

    Raises:
        as `sweep.method.walk`; OSError: the disk is full.
    """
    by_kind = {kind: method for method in methods if (kind := kind_of(method)) is not None}

    def every(layer: Layer) -> Statistic:
        fresh = [method.observe(layer) for method in by_kind.values()]
        return Several(one for one in fresh if one is not None)

    linears = anatomy.prunable(model)
    chosen = {name: linears[name] for name in anatomy.select(list(linears), methods[0].scope)}
    found = OnDisk(below, frozenset(by_kind))
    blocks = anatomy.blocks(model)
    model.eval()
    passage = Passage.of_windows(model, windows, batch_size)
    left = len(chosen)
    orders: dict[Kind, list[str]] = {}
    for number, block in enumerate(progress(blocks, "blocks, dense", len(blocks))):
        inside = set(block.modules())
        here = {name: matrix for name, matrix in chosen.items() if matrix.module in inside}
        left -= len(here)
        with resident(block):
            if here or left:
                seen = observe(passage, block, here, every, orders, through=left > 0)
            if here:
                found.keep(number, seen)
    return found
