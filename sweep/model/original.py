"""How a model that is compressed in place becomes dense again, and how it is written to disk.

One whose weights are in memory has a copy of its dense matrices in the host's memory. One that is
streamed from disk has its dense weights in their files anyway: `sweep.model.stream`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, final

from torch import Tensor

from sweep.model import anatomy


class Original(ABC):
    """The dense weights of a model, whatever has become of them in it."""

    @abstractmethod
    def keep(self) -> None:
        """The model is about to be changed; it is dense now, if this is called the first time."""

    @abstractmethod
    def restore(self) -> None:
        """The model has its dense weights again."""

    @abstractmethod
    def lent(self) -> AbstractContextManager[None]:
        """The dense weights for a while; then those that were there again."""

    @abstractmethod
    def adopt(self, folder: Path, trust_remote_code: bool) -> None:
        """The matrices of the model take the weights of one that was saved in a folder."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """The model as it is now, in Hugging Face format, safetensors."""


@final
class Copied(Original):
    """Of a model that has its weights: a second copy of the dense matrices, in the host's memory.

    Args:
        model: dense.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._dense: dict[str, Tensor] = {}

    def keep(self) -> None:
        """See `Original`."""
        if not self._dense:
            self._dense = self._weights()

    def restore(self) -> None:
        """See `Original`."""
        self._put(self._dense)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """See `Original`."""
        there = self._weights()
        self.restore()
        try:
            yield
        finally:
            self._put(there)

    def adopt(self, folder: Path, trust_remote_code: bool) -> None:
        """See `Original`."""
        from transformers import AutoModelForCausalLM

        options = {"dtype": self._model.dtype, "trust_remote_code": trust_remote_code}
        kept = AutoModelForCausalLM.from_pretrained(folder, **options)
        anatomy.tell(kept, anatomy.told(self._model))
        saved = anatomy.prunable(kept)
        for name, matrix in anatomy.prunable(self._model).items():
            matrix.put(saved[name].weight)

    def save(self, folder: Path) -> None:
        """See `Original`."""
        self._model.save_pretrained(folder)

    def _weights(self) -> dict[str, Tensor]:
        found = anatomy.prunable(self._model)
        return {name: matrix.weight.detach().to("cpu", copy=True) for name, matrix in found.items()}

    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, matrix in anatomy.prunable(self._model).items():
            matrix.put(weights[name])
