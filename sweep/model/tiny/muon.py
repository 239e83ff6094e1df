"""Muon: momentum whose update is the nearest orthogonal matrix, for the weights of linears.

After Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/. `torch.optim.Muon` runs its
Newton-Schulz iteration in bfloat16, which CPUs without such instructions emulate slowly; this one
stays in fp32 and takes all matrices of one shape at once.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.775, 2.0315)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Each of `[count rows columns]` with its singular values moved near 1."""
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; weight decay is decoupled, the step's RMS is AdamW's."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
    ) -> None:
        settings = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(parameters, settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            of_one_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["average"] = torch.zeros_like(weight)
                average = state["average"].lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(average, group["momentum"])
                of_one_shape[weight.shape].append((weight, ahead))
            for shape, pairs in of_one_shape.items():
                updates = orthogonalised(torch.stack([ahead for _, ahead in pairs]))
                step_size = 0.2 * group["lr"] * max(shape) ** 0.5
                for (weight, _), update in zip(pairs, updates, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(update, alpha=-step_size)
