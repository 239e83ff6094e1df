"""Calibration with one corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from sweep.calib.calibration import Calibration, DenseModel, Windows, check_size, left
from sweep.calib.packing import fixed, pack
from sweep.data.source import Origin, Packing, Source
from sweep.data.template import Template
from sweep.refusal import Refusal


@final
@dataclass(frozen=True)
class Corpus(Calibration):
    """`n_samples` windows of `seqlen` tokens from one source.

    Attributes:
        source: the corpus.
        n_samples: number of windows; None: all of a source whose windows are tokenised already.
        seqlen: tokens in a window; None: as the source has them.
        packing: how rows become windows; None: windows are tokenised already.
        template: how an instruction becomes a prompt.
    """

    source: Source
    n_samples: Annotated[int, Field(ge=1)] | None = 128
    seqlen: Annotated[int, Field(ge=2)] | None = None
    packing: Packing | None = None
    template: Template = "alpaca"
    sampled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raises: Refusal: a setting that the source cannot honour, or one that it needs."""
        if self.source.packing is None:
            if self.packing is not None:
                raise Refusal("packing", self.packing, "the windows are tokenised already")
            return
        for name in ("n_samples", "seqlen", "packing"):
            if getattr(self, name) is None:
                raise Refusal(name, None, "must be set")
        check_size(self.n_samples, self.seqlen)

    def windows(
        self,
        tokenizer: Any,
        seed: int,
        dense: DenseModel | None = None,
        without: frozenset[str] = frozenset(),
    ) -> Windows:
        """See `Calibration`. A tensor's windows keep their order unless a part of them is drawn."""
        if self.packing is None or self.seqlen is None or self.n_samples is None:
            order = seed if self.draws() else None
            rows = left(self.source.rows("calibration", order), without)
            windows = fixed(rows, self.n_samples)
            width = windows.ids.shape[1]
            if self.seqlen not in (None, width):
                raise Refusal("seqlen", self.seqlen, f"the tensor's windows have {width} tokens")
            return windows
        rows = left(self.source.rows("calibration", seed), without)
        return pack(rows, tokenizer, self.packing, self.n_samples, self.seqlen, seed, self.template)

    def name(self) -> str:
        """The corpus's."""
        return self.source.origin().corpus

    def draws(self) -> bool:
        """Not if all windows of a tensor are taken as they stand."""
        return self.packing is not None or self.n_samples is not None

    def sources(self) -> Mapping[str, Source]:
        """The one corpus."""
        return {"source": self.source}

    def origins(self) -> tuple[Origin, ...]:
        """Of the one corpus."""
        return (self.source.origin(),)

    def length(self) -> int | None:
        """`seqlen`."""
        return self.seqlen
