"""No compression: the model that every other one is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from sweep.method.method import Compressed, Layer, Method
from sweep.numerics.moments import Statistic
from sweep.sparsity.pattern import Pattern


@final
@dataclass(frozen=True)
class Dense(Method):
    """Leaves every weight as it is."""

    scope: str = "all"
    reads_data: ClassVar[bool] = False
    compresses: ClassVar[bool] = False

    def allocate(
        self, weights: Mapping[str, Float[Tensor, "_ _"]], pattern: Pattern
    ) -> Mapping[str, Pattern]:
        return {}

    def observe(self, layer: Layer) -> Statistic | None:
        return None

    def compress(
        self, weight: Float[Tensor, "out in"], seen: Statistic | None, pattern: Pattern
    ) -> Compressed:
        return Compressed(weight)
