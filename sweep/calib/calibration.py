"""The interface of a calibration set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Int
from torch import Tensor

from sweep.data.row import Contents
from sweep.data.source import Origin, Source
from sweep.refusal import Refusal

MOST = 2**28
"""Tokens for calibration. Published work takes 2**18; a few zeros too many would read for hours."""


@dataclass(frozen=True)
class Windows:
    """Sequences of one length, and the rows that went into them.

    Attributes:
        ids: token ids `[n, time]`.
        mask: True where a token is, False on padding `[n, time]`.
        contents: of the rows used.
        skipped: documents passed over because they were too short.
    """

    ids: Int[Tensor, "n time"]
    mask: Bool[Tensor, "n time"]
    contents: Contents
    skipped: int = 0

    @property
    def digests(self) -> frozenset[str]:
        """Content hashes of the rows used."""
        return self.contents.rows


@runtime_checkable
class Dense(Protocol):
    """The dense model, loaded.

    Attributes:
        model: the `transformers` model in eval mode.
        batch_size: at most so many sequences in one forward pass.
        progress: shows how far a loop is: called with the loop, its name and its length.
    """

    model: Any
    batch_size: int
    progress: Any


class Calibration(ABC):
    """What a method is calibrated with. Constructing it reads nothing."""

    @property
    @abstractmethod
    def sampled(self) -> bool:
        """Whether the dense model says it: known only when that is loaded, and not planned with."""

    @abstractmethod
    def windows(self, tokenizer: Any, seed: int, dense: Dense | None = None) -> Windows:
        """The sequences, drawn with `seed`.

        Args:
            tokenizer: the model's.
            seed: of the draw.
            dense: the model; must be there where the calibration set is `sampled`.

        Raises:
            Refusal: too little data for what was asked, or data that cannot be read.
        """

    @abstractmethod
    def draws(self) -> bool:
        """Whether the seed makes a difference."""

    @abstractmethod
    def sources(self) -> Mapping[str, Source]:
        """The corpora behind it, by their places among its settings: `source`, `parts.c4.source`.

        In the order in which they are read.
        """

    @abstractmethod
    def length(self) -> int | None:
        """Tokens in a window, as far as it is known before the data are read."""

    @abstractmethod
    def origins(self) -> tuple[Origin, ...]:
        """What identifies its rows, corpus by corpus."""


def check_size(n_samples: int | None, seqlen: int | None) -> None:
    """Raises: Refusal: for the setting `n_samples`, more tokens than can be meant."""
    if n_samples is not None and seqlen is not None and n_samples * seqlen > MOST:
        reason = f"windows of {seqlen} tokens are {n_samples * seqlen} tokens; at most {MOST}"
        raise Refusal("n_samples", n_samples, reason)
