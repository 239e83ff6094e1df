"""Where a causal language model keeps what can be pruned: its blocks and the linears in them.

Found by structure, never by the model's name, and on the meta device as well: a plan is checked
against an architecture before any weight is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

from torch import nn

from sweep.refusal import Refusal

SCOPES = {
    "all": "",
    "attention": r"(^|\.)(self_attn|attn|attention|self_attention)\.",
    "mlp": r"(^|\.)(mlp|ffn|feed_forward|block_sparse_moe|fc\d)(\.|$)",
}
"""The scopes that have a name, each as the regular expression that it stands for."""


def decoder(model: nn.Module) -> nn.Module:
    """The part from token ids to last hidden states; the model itself if it names no such part."""
    find = getattr(model, "get_decoder", None)
    return model if find is None else cast(nn.Module, find())


def blocks(model: nn.Module) -> nn.ModuleList:
    """The decoder's blocks, in the order in which they run: its longest outermost `ModuleList`.

    Raises:
        Refusal: a model without such a list.
    """
    lists: dict[str, nn.ModuleList] = {}
    for name, module in decoder(model).named_modules():
        nested = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, nn.ModuleList) and not nested:
            lists[name] = module
    if not lists:
        reason = f"{type(model).__name__}: has no torch.nn.ModuleList of blocks"
        raise Refusal("", "", reason)
    return max(lists.values(), key=len)


def prunable(model: nn.Module) -> dict[str, nn.Linear]:
    """The linears inside the blocks, in order, by names like `model.layers.0.self_attn.q_proj`.

    Raises:
        Refusal: a model whose blocks hold none.
    """
    inside = set(blocks(model).modules())
    linears = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module in inside
    }
    if not linears:
        reason = f"{type(model).__name__}: has no torch.nn.Linear in its blocks"
        raise Refusal("", "", reason)
    return linears


def weights_in_blocks(model: nn.Module) -> int:
    """How many weights the blocks' matrices hold, prunable or not; vectors do not count."""
    return sum(weight.numel() for weight in blocks(model).parameters() if weight.dim() > 1)


def select(names: Sequence[str], scope: str) -> list[str]:
    """The names that a scope (`all`, `attention`, `mlp` or a regular expression) matches, in order.

    Raises:
        Refusal: for `scope`: no regular expression, or none that matches; lists what there is.
    """
    kinds = ", ".join(dict.fromkeys(_kind(name) for name in names))
    try:
        pattern = re.compile(SCOPES.get(scope, scope))
    except re.error as error:
        reason = f"use {', '.join(SCOPES)} or an expression over {kinds}"
        raise Refusal("scope", scope, f"is no regular expression ({error}); {reason}") from error
    chosen = [name for name in names if pattern.search(name)] if scope else []
    if not chosen:
        reason = f"use {', '.join(SCOPES)} or a regular expression over {kinds}"
        raise Refusal("scope", scope, f"matches no linear; {reason}")
    return chosen


def _kind(name: str) -> str:
    """The name within its block, numbers left open: `self_attn.q_proj`, `mlp.experts.*.up_proj`."""
    inside = re.sub(r"^.*?\.\d+\.", "", name)
    return re.sub(r"(^|(?<=\.))\d+(?=\.|$)", "*", inside)
