"""The interface of a corpus: rows in an order, and what identifies them in a result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from sweep.data.row import Row

Part = Literal["calibration", "evaluation"]
Packing = Literal["sample", "concat", "pad"]


@dataclass(frozen=True)
class Origin:
    """Where rows came from; part of the identity of a cell and of every result.

    Attributes:
        corpus: the name by which it was asked for: `c4`, `alpaca`, …
        source: `embedded` (a stand-in made by the micro-world), `hub`, `local` or `tokens`.
        revision: what fixes the content: a version, a commit, a sha256.
        location: repository or path, for people.
    """

    corpus: str
    source: str
    revision: str
    location: str

    @property
    def is_file(self) -> bool:
        """Whether it is a file of the user's: soon read, and where mistakes are."""
        return self.source in ("local", "tokens")


class Source(ABC):
    """A corpus. Constructing it reads nothing.

    Attributes:
        endless: whether its rows are made as long as anyone asks for more.
        in_conf: whether its settings stand in its entry below `corpora`; else they are typed beside
            the `source` that names it.
    """

    endless: ClassVar[bool] = False
    in_conf: ClassVar[bool] = False

    @property
    @abstractmethod
    def packing(self) -> Packing | None:
        """How its rows are usually made into windows; None: they are windows already."""

    @property
    @abstractmethod
    def joint(self) -> str | None:
        """What stands between two documents of a running text; None: the end-of-sequence token."""

    @property
    @abstractmethod
    def is_file(self) -> bool:
        """Whether it is a file of the user's: soon read, and where mistakes are."""

    @abstractmethod
    def origin(self) -> Origin:
        """What identifies the rows.

        Raises:
            Refusal: a file that does not exist or cannot be read.
        """

    @abstractmethod
    def rows(self, part: Part, seed: int | None) -> Iterator[Row]:
        """The rows of one part; calibration and evaluation share none, where the corpus is split.

        Args:
            part: for calibration or for evaluation.
            seed: order of the rows; None: as they stand in the corpus.

        Raises:
            Refusal: missing, empty or malformed data, naming the place.
        """
