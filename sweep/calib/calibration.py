"""The interface of a calibration set."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Int
from torch import Tensor

from sweep.data.row import Contents, Row, answered
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
        parts: of a mixture, the windows of each corpus; empty: they are all of one.
    """

    ids: Int[Tensor, "n time"]
    mask: Bool[Tensor, "n time"]
    contents: Contents
    skipped: int = 0
    parts: tuple[Windows, ...] = ()

    @property
    def digests(self) -> frozenset[str]:
        """Content hashes of the rows used."""
        return self.contents.rows

    def record(self) -> dict[str, Any]:
        """What a result says of them: how many, the hash of the tokens, and that of the rows.

        The latter is the same for the same rows whatever the tokenizer and the order.
        """
        rows = "\n".join(sorted(self.digests))
        return {
            "sha256": hashlib.sha256(self.ids.numpy().tobytes()).hexdigest(),
            "rows_sha256": hashlib.sha256(rows.encode()).hexdigest(),
            "windows": len(self.ids),
            "tokens": int(self.mask.sum()),
            "rows": len(self.digests),
            "documents_too_short": self.skipped,
        }


@runtime_checkable
class DenseModel(Protocol):
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
    def windows(
        self,
        tokenizer: Any,
        seed: int,
        dense: DenseModel | None = None,
        without: frozenset[str] = frozenset(),
    ) -> Windows:
        """The sequences, drawn with `seed`.

        Args:
            tokenizer: the model's.
            seed: of the draw.
            dense: the model; must be there where the calibration set is `sampled`.
            without: content hashes of rows that are passed over, as if the corpus had them not.

        Raises:
            Refusal: too little data for what was asked, or data that cannot be read.
        """

    @abstractmethod
    def name(self) -> str | None:
        """What it is called in tables and the cell's name; None: as the configuration's option."""

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


def left(rows: Iterator[Row], without: frozenset[str]) -> Iterator[Row]:
    """The rows but those that nobody has answered, and those with these content hashes."""
    rows = answered(rows)
    return (row for row in rows if row.digest not in without) if without else rows


def check_size(n_samples: int | None, seqlen: int | None) -> None:
    """Raises: Refusal: for the setting `n_samples`, more tokens than can be meant."""
    if n_samples is not None and seqlen is not None and n_samples * seqlen > MOST:
        reason = f"windows of {seqlen} tokens are {n_samples * seqlen} tokens; at most {MOST}"
        raise Refusal("n_samples", n_samples, reason)
