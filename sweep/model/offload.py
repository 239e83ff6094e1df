"""Weights that are elsewhere until their module runs: read and changed where they are.

Two keep them there. With a device map that has no room for all weights on the devices, accelerate
has some in the host's memory or on disk; what is changed of them stays in the host's memory. And
with `model.load=stream` all blocks are on disk (`sweep.model.stream`). In both cases their modules
hold only shapes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

KEEPER = "_weights_keeper"
"""The attribute of a module that says who keeps its weights."""


class Keeper(ABC):
    """Keeps the weights of blocks while they do not run."""

    @abstractmethod
    def read(self, module: nn.Module, name: str) -> Tensor:
        """A parameter of a module that holds its shape only."""

    @abstractmethod
    def write(self, module: nn.Module, name: str, new: Tensor) -> None:
        """A whole new tensor in place of one that is elsewhere."""

    @abstractmethod
    def changed(self, module: nn.Module, name: str) -> None:
        """A parameter that is here now was changed in place, and must not be lost."""

    @abstractmethod
    def resident(self, block: nn.Module) -> AbstractContextManager[None]:
        """The block has its weights for a while."""


def read(module: nn.Module, name: str) -> Tensor:
    """A parameter of a module, wherever it is; of a skeleton, which has no weights, its shape."""
    own: Tensor = getattr(module, name)
    if not own.is_meta:
        return own
    if (keeper := _keeper(module)) is not None:
        return keeper.read(module, name)
    away = accelerates(module)
    return own if away is None else away[name]


def write(module: nn.Module, name: str, new: Tensor) -> None:
    """Put a whole new tensor in place of a parameter that lies elsewhere."""
    if (keeper := _keeper(module)) is not None:
        keeper.write(module, name, new)
        return
    away = accelerates(module)
    if away is None:
        raise RuntimeError(f"{name} is on the meta device, and nobody keeps its values")
    away.dataset.state_dict[f"{away.prefix}{name}"] = new.cpu()


def changed(module: nn.Module, name: str) -> None:
    """A parameter that is in its module was changed there: whoever takes it away must keep it."""
    if (keeper := _keeper(module)) is not None:
        keeper.changed(module, name)


def resident(block: nn.Module) -> AbstractContextManager[None]:
    """For a while a block has its weights, if they are on disk: they are read and written once,
    however often it runs and whatever is changed. A block of any other model is left as it is."""
    keeper = _keeper(block)
    return nullcontext() if keeper is None else keeper.resident(block)


def streams(block: nn.Module) -> bool:
    """Whether a block's weights are on disk but for the time when it runs."""
    return _keeper(block) is not None


def entrance(model: nn.Module) -> torch.device:
    """Where token ids go: the device of the first weight that is on one."""
    devices = (weight.device for weight in model.parameters())
    return next((one for one in devices if one.type != "meta"), torch.device("cpu"))


def _keeper(module: nn.Module) -> Keeper | None:
    return cast(Keeper | None, vars(module).get(KEEPER))


def accelerates(module: Any) -> Any:
    """accelerate's mapping from names of the module's parameters to values; None if it has none."""
    hook = getattr(module, "_hf_hook", None)
    hooks = getattr(hook, "hooks", [hook])  # several hooks are one that holds them
    return next((one.weights_map for one in hooks if getattr(one, "offload", False)), None)
