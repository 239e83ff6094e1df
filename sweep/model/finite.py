"""Where in a model NaN or infinity comes from: the block and the layer, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from sweep.model.offload import entrance


@torch.no_grad()
def culprit(
    model: nn.Module, ids: Int[Tensor, "n time"], mask: Bool[Tensor, "n time"] | None = None
) -> str:
    """The first layer of a forward pass that gives a number that is none, and what it was fed.

    With what helps, where the model's numbers have little room.
    """
    found: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def look(_: nn.Module, args: Any, kwargs: Any, answer: Any) -> None:
            if not found and not _finite(answer):
                fed = _finite([args, kwargs])
                found.append(f"{_placed(name)} {'makes' if fed else 'is fed'} the first of them")

        return look

    device = entrance(model)
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if name:
                hooks.enter_context(module.register_forward_hook(watch(name), with_kwargs=True))
        shown = None if mask is None else mask.long().to(device)
        model(input_ids=ids.to(device), attention_mask=shown, use_cache=False)
    place = found[0] if found else UNFOUND
    return f"{place}{remedy(next(model.parameters()).dtype)}"


UNFOUND = "run again, the same tokens give numbers"
"""What is said where a second forward pass has no number that is none."""


def remedy(dtype: torch.dtype) -> str:
    """What helps against numbers that are too large for a dtype; nothing where few are."""
    return "; try model.dtype=bfloat16 or float32" if dtype == torch.float16 else ""


def _placed(name: str) -> str:
    """`block 3, model.layers.3.mlp.up_proj`; outside of blocks, the name alone."""
    block = re.search(r"\.(\d+)(\.|$)", name)
    return f"block {block[1]}, {name}" if block else name


def _finite(value: Any) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in _hidden(value))


def _hidden(value: Any) -> Iterator[Tensor]:
    """The floating-point tensors in an answer; masks, whose -inf is meant, have four dimensions."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.dim() < 4:
            yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _hidden(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _hidden(inner)
