"""The interface of a compression method: what it wants to know of a layer, and what it makes of it.

A method sees weights and statistics. It sees no model, tokenizer, configuration, hook or device:
`sweep.method.walk` takes care of those, so a new method is one file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from sweep.numerics.moments import Statistic
from sweep.sparsity.pattern import Pattern


class Layer(NamedTuple):
    """A linear layer, as far as a method needs to know it before it has seen data."""

    name: str
    out_features: int
    in_features: int


class Compressed(NamedTuple):
    """The new weight of a layer, in any float dtype, and what should be said about it."""

    weight: Float[Tensor, "out in"]
    remarks: tuple[str, ...] = ()


@runtime_checkable
class Indifferent(Protocol):
    """A method of which some settings change nothing with some patterns."""

    def indifferent(self, pattern: Pattern) -> Mapping[str, Any]:
        """Those settings by name, with the value by which all that mean the same are known."""


Propagate = Literal["compressed", "dense"]
"""Which outputs feed the next block while statistics are collected: those of the blocks as they are
compressed, or those of the dense model."""


@runtime_checkable
class Propagates(Protocol):
    """A method whose statistics may be those of the dense model."""

    @property
    def propagate(self) -> Propagate:
        """Whose outputs feed a block while it is observed."""


def from_dense(method: Method) -> bool:
    """Whether its statistics are those of the dense model, which cells can share."""
    return isinstance(method, Propagates) and method.propagate == "dense"


@runtime_checkable
class Together(Protocol):
    """A method that does better with several layers at once, where these are fed the same."""

    def compress_together(
        self,
        weights: Sequence[Float[Tensor, "_ in"]],
        seen: Statistic | None,
        patterns: Sequence[Pattern],
    ) -> list[Compressed]:
        """What `compress` makes of each, up to rounding; the patterns have the same `width`."""


class Method(ABC):
    """A way to compress linear layers.

    Attributes:
        scope: which linears it is applied to: `all`, `attention`, `mlp` or a regular expression.
        reads_data: whether it needs statistics, and so calibration data.
        compresses: whether it changes anything; only `dense` does not.
    """

    scope: str
    reads_data: ClassVar[bool]
    compresses: ClassVar[bool]

    @abstractmethod
    def allocate(
        self, weights: Mapping[str, Float[Tensor, "_ _"]], pattern: Pattern
    ) -> Mapping[str, Pattern]:
        """The pattern of every layer that is to be compressed, chosen with all layers in view.

        A layer that is left out stays as it is.
        """

    @abstractmethod
    def observe(self, layer: Layer) -> Statistic | None:
        """An empty statistic to be filled with the layer's inputs; None if none is needed."""

    @abstractmethod
    def compress(
        self, weight: Float[Tensor, "out in"], seen: Statistic | None, pattern: Pattern
    ) -> Compressed:
        """A new weight in place of an fp32 `weight`, which itself must not be changed.

        Args:
            weight: the layer's weight in fp32.
            seen: what `observe` returned, filled; several layers may share it.
            pattern: where zeros go.

        Raises:
            FloatingPointError: the statistic cannot be worked with.
        """
