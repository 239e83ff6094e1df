"""Where running cells are shown: the interface, and nowhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from sweep.cell import Cell

Examples = Mapping[str, Sequence[Mapping[str, Any]]]


class Mirror(ABC):
    """Where one running cell is shown."""

    @abstractmethod
    def progress(self, what: str, done: int, total: int) -> None:
        """`done` of `total` items of the loop `what` are done."""

    @abstractmethod
    def calibrated(self, tokens: int) -> None:
        """The compression begins; so many calibration tokens go through every block."""

    @abstractmethod
    def layers(self, found: Mapping[int, Mapping[str, Any]]) -> None:
        """A block is compressed: what its linears became, by their place in the model."""

    @abstractmethod
    def compressed(self, record: Mapping[str, Any]) -> None:
        """The compression has been recorded."""

    @abstractmethod
    def result(self, metric: str, record: Mapping[str, Any], examples: Examples) -> None:
        """A metric has been recorded."""

    @abstractmethod
    def close(self, failure: str | None) -> None:
        """The cell has ended; with the reason, if it failed."""


class Tracker(ABC):
    """Makes mirrors. Constructing it connects to nothing."""

    @abstractmethod
    def open(self, cell: Cell, group: str) -> Mirror:
        """A mirror for a cell of the sweep `group`; it shows what earlier attempts have found."""

    @abstractmethod
    def conclude(self, name: str, outputs: Path) -> None:
        """A sweep below `outputs` has its table and its figures; they are shown."""


@final
@dataclass(frozen=True)
class Silent(Tracker):
    """Shows nothing: there are the files."""

    def open(self, cell: Cell, group: str) -> Mirror:
        """See `Tracker`."""
        return SilentMirror()

    def conclude(self, name: str, outputs: Path) -> None:
        """Nothing."""


@final
class SilentMirror(Mirror):
    """Nowhere."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Nothing."""

    def calibrated(self, tokens: int) -> None:
        """Nothing."""

    def layers(self, found: Mapping[int, Mapping[str, Any]]) -> None:
        """Nothing."""

    def compressed(self, record: Mapping[str, Any]) -> None:
        """Nothing."""

    def result(self, metric: str, record: Mapping[str, Any], examples: Examples) -> None:
        """Nothing."""

    def close(self, failure: str | None) -> None:
        """Nothing."""
