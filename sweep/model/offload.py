"""Weights that accelerate keeps elsewhere until their module runs: read and changed where they are.

With a device map that has no room for all weights on the devices, some lie in the host's memory or
on disk, and their modules hold only shapes. What is changed of them stays in the host's memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def read(module: nn.Module, name: str) -> Tensor:
    """A parameter of a module, wherever it is; of a skeleton, which has no weights, its shape."""
    own: Tensor = getattr(module, name)
    away = _away(module) if own.is_meta else None
    return own if away is None else away[name]


def write(module: nn.Module, name: str, new: Tensor) -> None:
    """Put a whole new tensor in place of a parameter that lies elsewhere."""
    away = _away(module)
    if away is None:
        raise RuntimeError(f"{name} is on the meta device, and nobody keeps its values")
    away.dataset.state_dict[f"{away.prefix}{name}"] = new.cpu()


def entrance(model: nn.Module) -> torch.device:
    """Where token ids go: the device of the first weight that is on one."""
    devices = (weight.device for weight in model.parameters())
    return next((one for one in devices if one.type != "meta"), torch.device("cpu"))


def _away(module: Any) -> Any:
    """accelerate's mapping from names of the module's parameters to values; None if it has none."""
    hook = getattr(module, "_hf_hook", None)
    hooks = getattr(hook, "hooks", [hook])  # several hooks are one that holds them
    return next((one.weights_map for one in hooks if getattr(one, "offload", False)), None)
