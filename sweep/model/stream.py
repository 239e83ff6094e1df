"""A model that is larger than the memory: its blocks stay on disk, and come one at a time.

`model.load=stream`. What is not in a block (embeddings, norms, head) is on the device as ever. The
weights of a block are read from their memory-mapped safetensors when it runs, or for as long as
`sweep.model.offload.resident` says, and dropped after; a mapping is closed as soon as its tensor is
copied, since pages of a mapped file count as memory of the process. What is changed of a block is
written to files of its own below `outputs` before the block is dropped. So the memory is that of
one block, however many there are, and the dense model is always there: in its own files.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from safetensors import safe_open
from torch import Tensor, nn

from sweep.model import anatomy
from sweep.model.offload import KEEPER, Keeper, accelerates
from sweep.model.original import Original
from sweep.refusal import Refusal
from sweep.scratch import own_folder

STREAM = "_weights_stream"
"""The attribute of a streamed model that holds its `Stream`."""


class Place(NamedTuple):
    """Where a tensor lies: a safetensors file, and its name there."""

    file: Path
    name: str


@final
class Shelf:
    """Weights by name in the files of a model, and files of those that were replaced.

    Args:
        dense: where the dense weights are.
        dtype: in which they are given; None: as they lie.
        below: the folder in which a folder for replaced weights is made when there are any. It is
            removed with the shelf, and if the process was killed, by the next one.
    """

    def __init__(self, dense: Mapping[str, Place], dtype: torch.dtype | None, below: Path) -> None:
        self._dense = dict(dense)
        self._replaced: dict[str, Place] = {}
        self._dtype = dtype
        self._below = below
        self._folder: Path | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._dense

    def read(self, name: str) -> Tensor:
        """A copy of a weight, on the CPU; nothing of its file stays in memory."""
        place = self._replaced.get(name, self._dense[name])
        with torch.inference_mode(False), safe_open(place.file, framework="pt") as tensors:
            mapped: Tensor = tensors.get_tensor(place.name)
            return mapped.to(dtype=self._dtype, copy=True)

    def write(self, name: str, new: Tensor) -> None:
        """From now on this is the weight.

        Raises:
            OutOfSpace: the disk is full.
        """
        from safetensors.torch import save_file

        if self._folder is None:
            self._folder, clear = own_folder(self._below)
            weakref.finalize(self, clear)
        file = self._folder / f"{name}.safetensors"
        save_file({name: new.detach().cpu().contiguous()}, file)
        self._replaced[name] = Place(file, name)

    def replace(self, places: Mapping[str, Place]) -> None:
        """Weights that lie in files of others, which must stay as long as they are used."""
        self._replaced |= places

    def reset(self) -> None:
        """Every weight is dense again."""
        self._replaced.clear()
        if self._folder is not None:
            for file in self._folder.glob("*.safetensors"):
                file.unlink()

    @contextmanager
    def dense(self) -> Iterator[None]:
        """Every weight is dense for a while."""
        replaced, self._replaced = self._replaced, {}
        try:
            yield
        finally:
            self._replaced = replaced


@final
class Stream(Keeper, Original):
    """A model's blocks on disk; makes itself their keeper.

    Args:
        model: its blocks are on the meta device.
        shelf: holds every parameter of them.
        device: where blocks run.
    """

    def __init__(self, model: Any, shelf: Shelf, device: torch.device) -> None:
        self._model = model
        self._shelf = shelf
        self._device = device
        self._names: dict[nn.Module, str] = {}
        self._here: dict[nn.Module, list[tuple[nn.Module, str, Any]]] = {}
        self._changed: set[tuple[nn.Module, str]] = set()
        names = {module: name for name, module in model.named_modules()}
        for block in anatomy.blocks(model):
            for module in block.modules():
                self._names[module] = names[module]
                vars(module)[KEEPER] = self
            vars(block)["forward"] = self._streamed(block, block.forward)
        vars(model)[STREAM] = self

    def _streamed(self, block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The block's forward pass, for which it has its weights."""

        def streamed(*args: Any, **kwargs: Any) -> Any:
            with self.resident(block):
                return forward(*args, **kwargs)

        return streamed

    def _name(self, module: nn.Module, own: str) -> str:
        return f"{self._names[module]}.{own}"

    def read(self, module: nn.Module, name: str) -> Tensor:
        """See `Keeper`."""
        return self._shelf.read(self._name(module, name))

    def write(self, module: nn.Module, name: str, new: Tensor) -> None:
        """See `Keeper`."""
        self._shelf.write(self._name(module, name), new)

    def changed(self, module: nn.Module, name: str) -> None:
        """See `Keeper`."""
        self._changed.add((module, name))

    @contextmanager
    def resident(self, block: nn.Module) -> Iterator[None]:
        """See `Keeper`."""
        if block in self._here:
            yield
            return
        self._here[block] = []
        try:
            with torch.inference_mode(False), torch.no_grad():
                self._bring(block)
            yield
        finally:
            self._drop(block)

    def _bring(self, block: nn.Module) -> None:
        for module in block.modules():
            for own, shape in list(module._parameters.items()):
                if shape is not None and shape.is_meta:
                    self._here[block].append((module, own, shape))
                    found = self.read(module, own).to(self._device)
                    module._parameters[own] = nn.Parameter(found, requires_grad=False)

    def _drop(self, block: nn.Module) -> None:
        for module, own, shape in self._here.pop(block):
            weight = module._parameters[own]
            module._parameters[own] = shape
            if (module, own) in self._changed and weight is not None:
                self.write(module, own, weight)
                self._changed.discard((module, own))

    def keep(self) -> None:
        """See `Original`; the files are kept already."""

    def restore(self) -> None:
        """See `Original`."""
        self._shelf.reset()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """See `Original`."""
        with self._shelf.dense():
            yield

    def adopt(self, folder: Path, trust_remote_code: bool) -> None:
        """See `Original`; they are read from that folder, block by block as ever.

        Raises:
            Refusal: a matrix that does not lie there under its own name.
        """
        there: dict[str, Place] = {}
        for file in folder.glob("*.safetensors"):
            with safe_open(file, framework="pt") as tensors:
                there |= {name: Place(file, name) for name in tensors.keys()}  # noqa: SIM118
        wanted = [
            self._name(matrix.module, matrix.parameter)
            for matrix in anatomy.prunable(self._model).values()
        ]
        if absent := [name for name in wanted if name not in there]:
            raise Refusal("load", "stream", not_as_it_is(absent[0]))
        self._shelf.replace({name: there[name] for name in wanted})

    def save(self, folder: Path) -> None:
        """See `Original`: a shard for each block, and the first for what is in none."""
        model, blocks = self._model, anatomy.blocks(self._model)
        folder.mkdir(parents=True, exist_ok=True)
        tied = set(model.all_tied_weights_keys)
        around = {
            name: tensor
            for name, tensor in model.state_dict().items()
            if name not in self._shelf and name not in tied
        }
        count = 1 + len(blocks)
        index: dict[str, str] = {}
        size = _save(around, folder, 1, count, index)
        for number, block in enumerate(blocks, start=2):
            own = {
                self._name(module, name): self.read(module, name)
                for module in block.modules()
                for name, shape in module._parameters.items()
                if shape is not None
            }
            size += _save(own, folder, number, count, index)
        whole = {"metadata": {"total_size": size}, "weight_map": index}
        (folder / "model.safetensors.index.json").write_text(json.dumps(whole, indent=2) + "\n")
        model.config.architectures = [type(model).__name__]
        model.config.dtype = str(model.dtype).removeprefix("torch.")
        model.config.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)


def original(model: Any) -> Original | None:
    """The dense weights of a model that is streamed; None if it is not."""
    found: Original | None = vars(model).get(STREAM)
    return found


def placement(bones: nn.Module, device: torch.device) -> dict[str, int | str]:
    """A device map: the blocks on disk, everything beside them on a device.

    Args:
        bones: the model's skeleton.
        device: where it runs.
    """
    blocks = anatomy.blocks(bones)
    path = next(name for name, module in bones.named_modules() if module is blocks)
    found: dict[str, int | str] = {f"{path}.{number}": "disk" for number in range(len(blocks))}
    around = bones
    prefix = ""
    for step in path.split("."):
        own = [name for name, _ in around.named_children() if name != step]
        own += [name for name, _ in around.named_parameters(recurse=False)]
        own += [name for name, _ in around.named_buffers(recurse=False)]
        found |= {f"{prefix}{name}": str(device) for name in own}
        around = around.get_submodule(step)
        prefix += f"{step}."
    return found


def attach(model: Any, device: torch.device, below: Path) -> None:
    """Have a model's blocks streamed that transformers has left on disk (`placement`).

    Raises:
        Refusal: a weight that does not lie in a safetensors file under its own name.
    """
    from accelerate.hooks import remove_hook_from_module

    places: dict[str, Place] = {}
    names = {module: name for name, module in model.named_modules()}
    for block in anatomy.blocks(model):
        for module in block.modules():
            for own, _ in module.named_parameters(recurse=False):
                name = f"{names[module]}.{own}"
                place = accelerates(module).dataset.index.get(name, {})
                there = str(place.get("weight_name", ""))
                if not (there == name or name.endswith(f".{there}")):
                    raise Refusal("load", "stream", not_as_it_is(name))
                places[name] = Place(Path(place["safetensors_file"]), there)
    remove_hook_from_module(model, recurse=True)
    del model.hf_device_map
    Stream(model, Shelf(places, model.dtype, below), device)


def not_as_it_is(name: str) -> str:
    """What to say of a weight that is not in the files as it is in the model."""
    return f"its files do not hold {name} as it is in the model; use load=whole, or a device_map"


def _save(
    tensors: Mapping[str, Tensor], folder: Path, number: int, count: int, index: dict[str, str]
) -> int:
    """One shard, entered in the index; its bytes."""
    from safetensors.torch import save_file

    file = f"model-{number:05d}-of-{count:05d}.safetensors"
    own = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_file(own, folder / file, {"format": "pt"})
    index |= dict.fromkeys(own, file)
    return sum(tensor.nbytes for tensor in own.values())
