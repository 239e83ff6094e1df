"""SparseGPT and Wanda as their papers' code runs them, written plainly: the walk's measure.

One sequence at a time, statistics per linear, and for SparseGPT column by column with the factor of
the inverse. After arXiv 2301.00774 (Algorithm 1) and 2306.11695 (Algorithm 1). All is where the
weights are; for weights in half precision statistics and column loop are in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sweep.method.walk import Progress, silent


def inverse_factor(hessian: Tensor) -> Tensor:
    """`U` with `U^T U = inv(H)`: factorised, inverted, and the inverse factorised."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    return torch.linalg.cholesky(inverse, upper=True)


def damped(hessian: Tensor, weight: Tensor, damping: float = 0.01) -> None:
    """Dead inputs set to one and their weights to zero, and the diagonal raised, in place."""
    dead = hessian.diagonal() == 0
    hessian.diagonal()[dead] = 1.0
    weight[:, dead] = 0.0
    hessian.diagonal().add_(damping * hessian.diagonal().mean())


def column_loop(
    weight: Tensor, upper: Tensor, n_of_m: tuple[int, int] | None = None, block: int = 128
) -> Tensor:
    """Half of each block's weights, or `m - n` of `m`, pruned one column after the other."""
    weight = weight.clone()
    columns = weight.shape[1]
    for start in range(0, columns, block):
        stop = min(start + block, columns)
        part, own = weight[:, start:stop].clone(), upper[start:stop, start:stop]
        pruned, errors = torch.zeros_like(part), torch.zeros_like(part)
        gone = torch.zeros_like(part, dtype=torch.bool)
        if n_of_m is None:
            scores = part**2 / own.diagonal()[None] ** 2
            gone = scores <= scores.flatten().sort().values[scores.numel() // 2]
        for j in range(stop - start):
            if n_of_m is not None and j % n_of_m[1] == 0:
                group = slice(j, j + n_of_m[1])
                scores = part[:, group] ** 2 / own.diagonal()[None, group] ** 2
                lowest = scores.topk(n_of_m[1] - n_of_m[0], dim=1, largest=False).indices
                gone.scatter_(1, j + lowest, True)
            column = part[:, j]
            kept = column.clone()
            kept[gone[:, j]] = 0.0
            pruned[:, j] = kept
            error = (column - kept) / own[j, j]
            part[:, j:] -= error[:, None].matmul(own[None, j, j:])
            errors[:, j] = error
        weight[:, start:stop] = pruned
        weight[:, stop:] -= errors.matmul(upper[start:stop, stop:])
    return weight


class SparseGPT:
    """A linear's Hessian, and what is made of it."""

    def __init__(self, linear: nn.Linear) -> None:
        self.linear = linear
        columns, weight = linear.in_features, linear.weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        self.hessian = torch.zeros(columns, columns, dtype=dtype, device=weight.device)
        self.sequences = 0

    def add(self, x: Tensor) -> None:
        """One sequence."""
        self.hessian *= self.sequences / (self.sequences + 1)
        self.sequences += 1
        x = (2 / self.sequences) ** 0.5 * x.T.to(self.hessian.dtype)
        self.hessian += x.matmul(x.T)

    def prune(self) -> None:
        """Half of the weights."""
        own = self.linear.weight
        hessian = self.hessian
        del self.hessian
        weight = own.data.to(hessian.dtype, copy=True)
        damped(hessian, weight)
        upper = inverse_factor(hessian)
        own.data = column_loop(weight, upper).to(own.dtype)


class Wanda:
    """The norms of a linear's inputs, and what is made of them."""

    def __init__(self, linear: nn.Linear) -> None:
        self.linear = linear
        self.squares = torch.zeros(linear.in_features, device=linear.weight.device)
        self.sequences = 0

    def add(self, x: Tensor) -> None:
        """One sequence."""
        self.squares *= self.sequences / (self.sequences + 1)
        self.sequences += 1
        self.squares += torch.norm(x.T.float(), p=2, dim=1) ** 2 / self.sequences

    def prune(self) -> None:
        """Half of each row."""
        weight = self.linear.weight.data
        scores = weight.abs() * self.squares.reshape(1, -1).sqrt()
        order = scores.sort(dim=-1, stable=True).indices
        gone = torch.zeros_like(scores, dtype=torch.bool)
        gone.scatter_(1, order[:, : int(weight.shape[1] * 0.5)], True)
        weight[gone] = 0.0


@torch.no_grad()
def walk(
    model: Any,
    ids: Tensor,
    method: type[SparseGPT] | type[Wanda],
    progress: Progress = silent,
) -> None:
    """Prunes a Llama in place; the token ids are on its device."""
    inputs = model.model.embed_tokens(ids)
    outputs = torch.zeros_like(inputs)
    rotary = model.model.rotary_emb(inputs, torch.arange(ids.shape[1], device=ids.device)[None])
    blocks = model.model.layers
    for block in progress(blocks, "blocks", len(blocks)):
        seen = {x: method(x) for x in block.modules() if isinstance(x, nn.Linear)}
        hooks = [
            linear.register_forward_hook(lambda at, x, _, seen=seen: seen[at].add(x[0][0]))
            for linear in seen
        ]
        for j in range(len(ids)):
            outputs[j] = block(inputs[j : j + 1], position_embeddings=rotary)[0]
        for hook in hooks:
            hook.remove()
        for one in seen.values():
            one.prune()
        for j in range(len(ids)):
            outputs[j] = block(inputs[j : j + 1], position_embeddings=rotary)[0]
        inputs, outputs = outputs, inputs
