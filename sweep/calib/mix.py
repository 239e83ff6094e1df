"""Calibration with several corpora, each by its weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any, ClassVar, final

import torch
from pydantic import Field

from sweep.calib.calibration import Calibration, DenseModel, Windows, check_size, left
from sweep.calib.packing import fixed, pack
from sweep.data.source import Origin, Packing, Source
from sweep.data.template import Template
from sweep.refusal import Refusal, under


@final
@dataclass(frozen=True)
class Share:
    """One corpus of a mixture.

    Attributes:
        source: the corpus.
        weight: its share relative to the others' weights.
        packing: how its rows become windows; None: they are windows already.
        template: how an instruction becomes a prompt.
    """

    source: Source
    weight: Annotated[float, Field(gt=0)]
    packing: Packing | None
    template: Template = "alpaca"


@final
@dataclass(frozen=True)
class Mix(Calibration):
    """`n_samples` windows in all, shared out by weight; every window is of one corpus.

    Attributes:
        parts: the corpora by name.
        n_samples: number of windows in all.
        seqlen: tokens in a window.
    """

    parts: dict[str, Share]
    n_samples: Annotated[int, Field(ge=1)] = 128
    seqlen: Annotated[int, Field(ge=2)] = 2048
    sampled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raises: Refusal: fewer than two corpora, or more than there are windows."""
        check_size(self.n_samples, self.seqlen)
        if len(self.parts) < 2:
            raise Refusal("parts", list(self.parts), "a mixture has at least two corpora")
        if min(self.counts().values()) == 0:
            empty = [name for name, count in self.counts().items() if count == 0]
            raise Refusal("n_samples", self.n_samples, f"leaves no window for {', '.join(empty)}")

    def counts(self) -> dict[str, int]:
        """Windows per corpus by weight (largest remainder), `n_samples` in all."""
        total = sum(part.weight for part in self.parts.values())
        exact = {name: self.n_samples * part.weight / total for name, part in self.parts.items()}
        counts = {name: int(value) for name, value in exact.items()}
        by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
        for name in by_remainder[: self.n_samples - sum(counts.values())]:
            counts[name] += 1
        return counts

    def windows(
        self,
        tokenizer: Any,
        seed: int,
        dense: DenseModel | None = None,
        without: frozenset[str] = frozenset(),
    ) -> Windows:
        """See `Calibration`; the corpora stand one after the other."""
        made: list[Windows] = []
        for name, count in self.counts().items():
            part = self.parts[name]
            with under(f"parts.{name}"):
                made.append(self._share(part, tokenizer, count, seed, without))
        return Windows(
            ids=torch.cat([part.ids for part in made]),
            mask=torch.cat([part.mask for part in made]),
            contents=reduce(or_, (part.contents for part in made)),
            skipped=sum(part.skipped for part in made),
            parts=tuple(made),
        )

    def _share(
        self, part: Share, tokenizer: Any, count: int, seed: int, without: frozenset[str]
    ) -> Windows:
        rows = left(part.source.rows("calibration", seed), without)
        if part.packing is not None:
            return pack(rows, tokenizer, part.packing, count, self.seqlen, seed, part.template)
        windows = fixed(rows, count)
        width = windows.ids.shape[1]
        if width != self.seqlen:
            reason = f"its windows have {width} tokens; set calib.seqlen={width} for the mixture"
            raise Refusal("source", part.source.origin().corpus, reason)
        return windows

    def name(self) -> None:
        """The option's."""

    def draws(self) -> bool:
        """Always."""
        return True

    def sources(self) -> Mapping[str, Source]:
        """The corpora, in the order of the mixture."""
        return {f"parts.{name}.source": part.source for name, part in self.parts.items()}

    def origins(self) -> tuple[Origin, ...]:
        """Of the corpora, in the order of the mixture."""
        found: list[Origin] = []
        for name, part in self.parts.items():
            with under(f"parts.{name}"):
                found.append(part.source.origin())
        return tuple(found)

    def length(self) -> int | None:
        """`seqlen`."""
        return self.seqlen
