"""How far two next-token distributions are apart, position by position, over the vocabulary.

`p` is the dense model's distribution, `q` the compressed one's, `m = (p + q) / 2`:

    JSD(p, q) = KL(p || m) / 2 + KL(q || m) / 2        0 <= JSD <= ln 2, in nats

(Lin 1991, doi:10.1109/18.61115). The softmax runs over the vocabulary; a constant added to every
logit of a position changes nothing. All is computed from float32 log-probabilities.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

AT_ONCE_ON_CPU = 2**19
"""Logits of each model in one go: a few arrays of 2 MB, which stay in or near a cache."""

AT_ONCE = 2**24
"""The same on an accelerator, where more of them at a time are faster."""


class Divergence(NamedTuple):
    """One value per position; divergences and losses in nats."""

    jsd: Float[Tensor, " position"]
    kl_dense_compressed: Float[Tensor, " position"]
    kl_compressed_dense: Float[Tensor, " position"]
    agrees: Bool[Tensor, " position"]
    """Whether both rank the same token first."""
    gold_change: Float[Tensor, " position"]
    """Change of the probability of the token that follows in the text: `q(gold) - p(gold)`."""
    loss_dense: Float[Tensor, " position"]
    loss_compressed: Float[Tensor, " position"]


def negative_log_likelihood(
    logits: Float[Tensor, "position vocab"], gold: Int[Tensor, " position"]
) -> Float[Tensor, " position"]:
    """`-ln q(gold)` in nats, from float32 logits."""
    return torch.nn.functional.cross_entropy(logits.float(), gold, reduction="none")


@torch.no_grad()
def compare(
    dense: Float[Tensor, "position vocab"],
    compressed: Float[Tensor, "position vocab"],
    gold: Int[Tensor, " position"],
) -> Divergence:
    """Every measure of the difference between two models' logits at the same positions.

    A few positions at a time, so that the logits are read from memory once and all that is made of
    them stays in the processor's cache: always in the same memory, for what is freed goes back to
    the system, and to be given new pages takes longer than the arithmetic on them.
    """
    entries = AT_ONCE_ON_CPU if dense.device.type == "cpu" else AT_ONCE
    rows = min(max(1, entries // dense.shape[1]), len(dense))
    room = torch.empty(5, rows, dense.shape[1], dtype=torch.float32, device=dense.device)
    parts = [
        _compare(one, other, tokens, room[:, : len(tokens)])
        for one, other, tokens in zip(
            *(torch.split(x, rows) for x in (dense, compressed, gold)), strict=True
        )
    ]
    return Divergence(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _compare(
    dense: Float[Tensor, "position vocab"],
    compressed: Float[Tensor, "position vocab"],
    gold: Int[Tensor, " position"],
    room: Float[Tensor, "5 position vocab"],
) -> Divergence:
    """Equal logits give exactly 0.

    With `d = ln q - ln p`, `ln((p + q) / 2) = ln max(p, q) + r` and `r = ln(1 - |q - p| / (2 max(p,
    q)))`,

        JSD = -sum((p + q) r + min(p, q) |d|) / 2

    whose terms are exactly 0 where `p = q`, which those of entropies would not be. No logarithm of
    a probability is needed: `d` is the difference of the logits, but for a shift per position.
    """
    dense, compressed = dense.float(), compressed.float()
    p = torch.softmax(dense, -1, out=room[0])
    q = torch.softmax(compressed, -1, out=room[1])
    norm_p, norm_q = _log_normaliser(dense, p), _log_normaliser(compressed, q)
    d = torch.sub(compressed, dense, out=room[2]).sub_((norm_q - norm_p).float())
    gap = torch.sub(q, p, out=room[3])
    # q - p sums to 0; with it the terms of first order cancel before they are rounded
    rest = gap.sum(-1)
    kl_dense_compressed = rest - _weighted(p, d)
    kl_compressed_dense = _weighted(q, d) - rest
    at = gold[:, None]
    gold_change = gap.gather(1, at)[:, 0]
    lower = torch.minimum(p, q, out=room[4])
    both = p.add_(q)
    halves = _weighted(lower, d.abs_())
    higher = torch.sub(both, lower, out=lower).clamp_(min=torch.finfo(torch.float32).tiny)
    halves += torch.linalg.vecdot(both, gap.abs_().div_(higher).mul_(-0.5).log1p_())
    return Divergence(
        jsd=(-halves / 2).clamp(min=0),  # rounding may leave -1e-9
        kl_dense_compressed=kl_dense_compressed,
        kl_compressed_dense=kl_compressed_dense,
        agrees=dense.argmax(-1) == compressed.argmax(-1),
        gold_change=gold_change,
        loss_dense=(norm_p - dense.gather(1, at))[:, 0].float(),
        loss_compressed=(norm_q - compressed.gather(1, at))[:, 0].float(),
    )


def _weighted(
    shares: Float[Tensor, "position vocab"], values: Float[Tensor, "position vocab"]
) -> Float[Tensor, " position"]:
    """`sum(shares * values)`, in which nothing of anything is nothing: a token that neither model
    ever says (its logits are -inf) has no ratio of probabilities."""
    found: Tensor = torch.linalg.vecdot(shares, values)
    if not found.isfinite().all():
        found = (shares * values).where(shares != 0, 0).sum(-1)
    return found


def _log_normaliser(
    logits: Float[Tensor, "position vocab"], probabilities: Float[Tensor, "position vocab"]
) -> Float[Tensor, "position 1"]:
    """The logarithm of the sum of the logits' exponentials, from the likeliest token.

    In float64: an error here is one of every term of a position, and would not average out.
    """
    highest = probabilities.amax(-1, keepdim=True).double().log()
    return logits.amax(-1, keepdim=True).double() - highest
