"""Where a causal language model keeps what can be pruned: its blocks and the matrices in them.

Found by structure, never by the model's name, and on the meta device as well: a plan is checked
against an architecture before any weight is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, cast

from torch import nn

from sweep.model.matrix import Matrix, experts
from sweep.refusal import Refusal, listed

SCOPES = {
    "all": "",
    "attention": r"(^|\.)(self_attn|attn|attention|self_attention)\.",
    "mlp": r"(^|\.)(mlp|ffn|feed_forward|block_sparse_moe|moe|experts|fc\d)(\.|$)",
}
"""The scopes that have a name, each as the regular expression that it stands for."""


TOLD = "_anatomy_told"
"""The attribute of a model that holds what the user says of it: see `tell`."""


class Told(NamedTuple):
    """What the user says of a model where its structure does not say it.

    Attributes:
        blocks: path of the `ModuleList` of its blocks; None: it is found.
        dense: regular expression over names of matrices that are never pruned; None: none.
    """

    blocks: str | None
    dense: str | None


def tell(model: nn.Module, told: Told) -> None:
    """Have it read as the user says.

    Raises:
        Refusal: for `blocks` or `dense`: no such list, or no such matrix.
    """
    vars(model)[TOLD] = told
    if told.blocks is not None:
        lists = [n for n, inner in model.named_modules() if isinstance(inner, nn.ModuleList)]
        if told.blocks not in lists:
            reason = f"is no torch.nn.ModuleList of {type(model).__name__}; it has "
            raise Refusal("blocks", told.blocks, reason + listed(lists, told.blocks))
    if told.dense is not None:
        names = list(matrices(model))
        try:
            held = [name for name in names if re.search(told.dense, name)]
        except re.error as error:
            reason = (
                f"is no regular expression ({error}); give one over {_kinds(names, told.dense)}"
            )
            raise Refusal("dense", told.dense, reason) from error
        if not held or len(held) == len(names):
            what = "every matrix" if held else "no matrix"
            reason = f"matches {what}; give a regular expression over {_kinds(names, told.dense)}"
            raise Refusal("dense", told.dense, reason)


def told(model: nn.Module) -> Told:
    """What the user says of it."""
    found: Told = vars(model).get(TOLD, Told(None, None))
    return found


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

    Or that which the user names.

    Raises:
        Refusal: a model without such a list.
    """
    if (path := told(model).blocks) is not None:
        return cast(nn.ModuleList, model.get_submodule(path))
    lists: dict[str, nn.ModuleList] = {}
    for name, module in decoder(model).named_modules():
        nested = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, nn.ModuleList) and not nested:
            lists[name] = module
    if not lists:
        reason = (
            f"{type(model).__name__}: has no torch.nn.ModuleList of blocks where it is looked for; "
            "model.blocks=PATH says where"
        )
        raise Refusal("", "", reason)
    return max(lists.values(), key=len)


def prunable(model: nn.Module) -> dict[str, Matrix]:
    """Those of the model's `matrices` that the user does not keep dense."""
    dense = told(model).dense
    found = matrices(model)
    if dense is None:
        return found
    return {name: matrix for name, matrix in found.items() if not re.search(dense, name)}


def matrices(model: nn.Module) -> dict[str, Matrix]:
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
def widest(model: nn.Module) -> int:
    """Inputs or outputs of the widest matrix inside the blocks; 1 where none are known."""
    try:
        found = matrices(model)
    except Refusal:  # a model that can be measured, and not compressed
        return 1
    return max(max(matrix.in_features, matrix.out_features) for matrix in found.values())


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


def uncalled(model: nn.Module) -> set[str]:
    """Linears with whose weights their model multiplies itself: what they are fed is not seen.

    That is `dt_proj` beside `A_log` in Mamba and its kin, whose scan takes it apart.
    """
    return {
        f"{name}.dt_proj"
        for name, module in model.named_modules()
        if hasattr(module, "A_log") and isinstance(getattr(module, "dt_proj", None), nn.Linear)
    }


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
    kinds = _kinds(names, scope)
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


def _kinds(names: Sequence[str], like: str) -> str:
    return listed((_kind(name) for name in names), like)


def _kind(name: str) -> str:
    """The name within its block, numbers left open: `self_attn.q_proj`, `mlp.experts.*.up_proj`."""
    inside = re.sub(r"^.*?\.\d+\.", "", name)
    return re.sub(r"(^|(?<=\.))\d+(?=\.|$)", "*", inside)
