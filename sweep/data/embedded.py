"""The stand-ins: three corpora that the embedded micro-world makes at run time, without a network.

They carry the names of the corpora for which they stand, and say `source: embedded` wherever they
go, so that nobody takes a number for one of C4 or Alpaca.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, final

from sweep import world
from sweep.data.row import Instruction, Row, Text
from sweep.data.source import Origin, Packing, Part, Source


def _seed(seed: int | None) -> int:
    """Rows in no seed's order are those of seed 0; the parts are disjoint whatever the seed."""
    return 0 if seed is None else seed


@final
@dataclass(frozen=True)
class Prose(Source):
    """Documents about the micro-world; `corpus` is the name for which they stand."""

    corpus: str
    packing: ClassVar[Packing | None] = "concat"
    is_file: ClassVar[bool] = False
    endless: ClassVar[bool] = True
    in_conf: ClassVar[bool] = True
    joint: ClassVar[str | None] = None

    def origin(self) -> Origin:
        """The generator's version fixes every row."""
        return Origin(self.corpus, "embedded", f"world-{world.VERSION}", "sweep.world.prose")

    def rows(self, part: Part, seed: int | None) -> Iterator[Row]:
        """Endless; no evaluation document occurs in training or calibration."""
        for document in world.prose(part, _seed(seed)):
            yield Text(document.text)


@final
@dataclass(frozen=True)
class Exercises(Source):
    """Instructions about the micro-world.

    Attributes:
        corpus: the name for which they stand.
        wording: `plain` as in training (stands in for Alpaca), `reworded` in rare and in unseen
            words (stands in for Unnatural Instructions).
    """

    corpus: str
    wording: str
    packing: ClassVar[Packing | None] = "concat"
    is_file: ClassVar[bool] = False
    endless: ClassVar[bool] = True
    in_conf: ClassVar[bool] = True
    joint: ClassVar[str | None] = None

    def origin(self) -> Origin:
        """The generator's version fixes every row."""
        return Origin(self.corpus, "embedded", f"world-{world.VERSION}", self._maker().__qualname__)

    def rows(self, part: Part, seed: int | None) -> Iterator[Row]:
        """Endless; no evaluation row occurs in calibration, no skill row of it in training."""
        for e in self._maker()(part, _seed(seed)):
            yield Instruction(e.instruction, e.input, e.output, kind=e.kind, family=e.family)

    def _maker(self) -> Callable[[Part, int], Iterator[world.Exercise]]:
        makers = {"plain": world.instructions, "reworded": world.reworded}
        return makers[self.wording]
