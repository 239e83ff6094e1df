"""What a linear layer was fed, boiled down to what a method needs, one batch at a time.

Statistics are kept in fp32 whatever the model's dtype, and live on the device of their inputs. On
CUDA their products are fp32 too, or exact ones of halves (`sweep.numerics.precision`). They are
given real tokens only: whoever calls `add` has taken the padding out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sweep.numerics.obs import Factor, factorise, mirror
from sweep.numerics.precision import adds_up_halves, product_of_halves
from sweep.numerics.products import add_product

STRIPE = 256
"""Rows of a matrix of products that are summed at once, from the diagonal on: with fewer the
products get slow, with more the half that is known by symmetry is computed too."""

TOKENS = 256
"""That are summed at once, in multiples: batches of all lengths would be products of all shapes,
each of which has a program of its own on a CPU."""


class Statistic(ABC):
    """A sum over the calibration tokens of a linear layer; layers with the same input share one."""

    @abstractmethod
    def add(self, x: Float[Tensor, "tokens in"], sequences: int) -> None:
        """Takes in the tokens of `sequences` more sequences."""

    @abstractmethod
    def finite(self) -> bool:
        """Whether the sum is free of NaN and infinity."""


@runtime_checkable
class Shareable(Protocol):
    """A statistic that several cells share, and that can lie on disk in the meantime."""

    def state(self) -> dict[str, Tensor]:
        """Its sums, by names that no other kind of statistic has."""

    def fill(self, state: Mapping[str, Tensor]) -> None:
        """Take over sums of this kind; others may be among them."""


@final
class Several(Statistic):
    """Statistics of different kinds over the same tokens."""

    def __init__(self, kinds: Iterable[Statistic]) -> None:
        self._kinds = list(kinds)

    def add(self, x: Float[Tensor, "tokens in"], sequences: int) -> None:
        for one in self._kinds:
            one.add(x, sequences)

    def finite(self) -> bool:
        return all(one.finite() for one in self._kinds)

    def state(self) -> dict[str, Tensor]:
        """Of all of them that are `Shareable`."""
        shared = [one.state() for one in self._kinds if isinstance(one, Shareable)]
        return {name: sums for state in shared for name, sums in state.items()}


@final
class ColumnNorm(Statistic):
    """The 2-norm of every input over all tokens, Wanda's `||X_j||_2`.

    Wanda's code divides the squares by the number of samples, which scales all scores of a layer
    alike and so changes no mask.
    """

    def __init__(self) -> None:
        self._squares: Tensor | None = None

    def add(self, x: Float[Tensor, "tokens in"], sequences: int) -> None:
        squares = x.float().square().sum(dim=0)
        self._squares = squares if self._squares is None else self._squares + squares

    def finite(self) -> bool:
        return bool(self._sum().isfinite().all())

    def state(self) -> dict[str, Tensor]:
        """See `Shareable`."""
        return {"squares": self._sum()}

    def fill(self, state: Mapping[str, Tensor]) -> None:
        """See `Shareable`."""
        self._squares = state["squares"]

    @property
    def norm(self) -> Float[Tensor, " in"]:
        return self._sum().sqrt()

    def _sum(self) -> Float[Tensor, " in"]:
        if self._squares is None:
            raise ValueError("no calibration token was added")
        return self._squares


def _turned(x: Float[Tensor, "tokens in"]) -> Float[Tensor, "in more"]:
    """Inputs as rows; on a CPU in one piece, with zeros up to a multiple of `TOKENS`."""
    if x.device.type != "cpu":
        return x.T
    if len(x) % TOKENS == 0:
        return x.T.contiguous()
    found = x.new_zeros(x.shape[1], -(-len(x) // TOKENS) * TOKENS)
    found[:, : len(x)] = x.T
    return found


@final
class SecondMoment(Statistic):
    """`H = (2 / sequences) * sum(X^T X)`, the Hessian of the layer-wise squared error.

    It is symmetric, so what lies below the stripes on the diagonal is not summed but copied when it
    is asked for. Once it has been factorised its memory is the factor's, which layers that share it
    share too, until the sum is asked for again.
    """

    def __init__(self) -> None:
        self._products: Tensor | None = None
        self._sequences = 0
        self._factored: tuple[float, Factor] | None = None

    def add(self, x: Float[Tensor, "tokens in"], sequences: int) -> None:
        halves = adds_up_halves(x)
        inputs = x.T if halves else _turned(x.float())
        if self._products is None:
            self._products = torch.zeros(len(inputs), len(inputs), device=inputs.device)
        products = self._summed()
        for start in range(0, len(inputs), STRIPE):
            stripe = slice(start, start + STRIPE)
            sums, own, others = products[stripe, start:], inputs[stripe], inputs[start:].T
            if halves:
                sums.add_(product_of_halves(own, others))
            else:
                add_product(sums, own, others)
        self._sequences += sequences

    def finite(self) -> bool:
        # no product is larger than the larger of the squares of its factors
        return bool(self._summed().diagonal().isfinite().all())

    def state(self) -> dict[str, Tensor]:
        """See `Shareable`."""
        return {"products": self._summed(), "sequences": torch.tensor(self._sequences)}

    def fill(self, state: Mapping[str, Tensor]) -> None:
        """See `Shareable`."""
        self._products = state["products"]
        self._sequences = int(state["sequences"])
        self._factored = None

    @property
    def hessian(self) -> Float[Tensor, "in in"]:
        return mirror(self._summed()) * (2 / self._sequences)

    def factor(self, damping: float) -> Factor:
        """The factor of the inverse, computed once as long as one damping is asked for.

        It is one until something else is asked for, which takes its memory back.

        Raises:
            FloatingPointError: see `sweep.numerics.obs.factorise`.
        """
        if self._factored is None or self._factored[0] != damping:
            # of the bare sum: its scale changes nothing, and a scaled copy would take memory
            self._factored = damping, factorise(self._summed(), damping)
        return self._factored[1]

    def _summed(self) -> Float[Tensor, "in in"]:
        """Right in the stripes from the diagonal on."""
        if self._products is None:
            raise ValueError("no calibration token was added")
        if self._factored is not None:
            self._factored[1].give_back()
            self._factored = None
        return self._products
