"""Where a causal language model keeps what can be pruned: its blocks and the matrices in them.

Found by structure, never by the model's name, and on the meta device as well: a plan is checked
against an architecture before any weight is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import cast

from torch import nn

from sweep.model.matrix import Matrix, experts
from sweep.refusal import Refusal

SCOPES = {
    "all": "",
    "attention": r"(^|\.)(self_attn|attn|attention|self_attention)\.",
    "mlp": r"(^|\.)(mlp|ffn|feed_forward|block_sparse_moe|moe|experts|fc\d)(\.|$)",
}
"""The scopes that have a name, each as the regular expression that it stands for."""


def decoder(model: nn.Module) -> nn.Module:
    """The part from token ids to last hidden states; the model itself if it names no such part."""
    find = getattr(model, "get_decoder", None)
    if find is None:
        return model
    found = cast(nn.Module, find())
    if isinstance(found, nn.Linear):  # ModernBERT calls its head so
        return cast(nn.Module, model.base_model)
    return found


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


def prunable(model: nn.Module) -> dict[str, Matrix]:
    """The matrices inside the blocks, in order, by names like `model.layers.0.self_attn.q_proj`.

    Those of experts in one tensor are `model.layers.0.mlp.experts.3.down_proj`. What sends tokens
    to experts (a router, a shared expert's gate) is none of them: it is small, decides for all, and
    no published method prunes it.

    Raises:
        Refusal: a model whose blocks hold none.
    """
    inside = set(blocks(model).modules())
    found: dict[str, Matrix] = {}
    routers = _routers(model)
    for name, module in model.named_modules():
        if module not in inside or module in routers:
            continue
        if isinstance(module, nn.Linear):
            found[name] = Matrix(module)
        elif isinstance(module, _conv1d()):
            found[name] = Matrix(module, transposed=True)
        else:
            found |= {f"{name}.{own}": matrix for own, matrix in experts(module)}
    if not found:
        reason = f"{type(model).__name__}: has no linear layer in its blocks"
        raise Refusal("", "", reason)
    return found


@cache
def _conv1d() -> type[nn.Module]:
    """GPT-2's linear layer."""
    from transformers.pytorch_utils import Conv1D

    return cast(type[nn.Module], Conv1D)


ROUTER = re.compile(r"(^|[._])(router|gate)(\.|$)")
"""What sends tokens to experts is called so beside them: `router`, `gate`, `shared_expert_gate`."""


def _routers(model: nn.Module) -> set[nn.Module]:
    """Linears that stand beside experts and give them, or one they share, a weight per token."""
    found: set[nn.Module] = set()
    for module in model.modules():
        mixture = getattr(module, "experts", None)
        if not isinstance(mixture, nn.Module):
            continue
        numbers = {int(own.split(".")[0]) for own, _ in experts(mixture)}
        many = len(mixture) if isinstance(mixture, nn.ModuleList) else len(numbers)
        found |= {
            linear
            for name, linear in module.named_modules()
            if isinstance(linear, nn.Linear)
            and linear.out_features in (1, many)
            and ROUTER.search(name)
            and not name.startswith("experts.")
        }
    return found


def is_expert(name: str, matrix: Matrix) -> bool:
    """Whether only some tokens reach the matrix: it stands in a list inside its block."""
    inside = re.sub(r"^.*?\.\d+\.", "", name)
    return matrix.expert is not None or re.search(r"\.\d+(\.|$)", inside) is not None


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
