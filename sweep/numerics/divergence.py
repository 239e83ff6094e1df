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


def compare(
    dense: Float[Tensor, "position vocab"],
    compressed: Float[Tensor, "position vocab"],
    gold: Int[Tensor, " position"],
) -> Divergence:
    """Every measure of the difference between two models' logits at the same positions.

    Equal logits give exactly 0. With `d = ln q - ln p` and `g(d) = ln(m / p) = ln((1 + e^d) / 2)`,
    the two halves of the JSD are `-p g(d)` and `-q g(-d)`, where `g(0)` is exactly 0 in floating
    point too, which `logaddexp(p, q) - ln 2` would not be.
    """
    log_p = dense.float().log_softmax(-1)
    log_q = compressed.float().log_softmax(-1)
    p, q = log_p.exp(), log_q.exp()
    d = log_q - log_p
    # g(d) = max(d, 0) + rest and g(-d) = max(-d, 0) + rest: no exponential overflows, and ln 2 is
    # not lost beside a large d
    rest = torch.log1p(torch.expm1(-d.abs()) / 2)
    jsd = -(p * (d.clamp(min=0) + rest) + q * (rest - d.clamp(max=0))).sum(-1) / 2
    position = torch.arange(len(gold), device=gold.device)
    return Divergence(
        jsd=jsd.clamp(min=0),  # rounding may leave -1e-9
        # q - p sums to 0; with it the terms of first order cancel before they are rounded
        kl_dense_compressed=(q - p - p * d).sum(-1),
        kl_compressed_dense=(p - q + q * d).sum(-1),
        agrees=log_p.argmax(-1) == log_q.argmax(-1),
        gold_change=q[position, gold] - p[position, gold],
        loss_dense=-log_p[position, gold],
        loss_compressed=-log_q[position, gold],
    )
