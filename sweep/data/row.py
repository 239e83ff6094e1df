"""What a corpus consists of: rows, each with the hash by which two uses of it are told apart."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


def _digest(*parts: str) -> str:
    """sha256 over the parts, each closed by a byte that no UTF-8 text contains."""
    return hashlib.sha256(b"\xff".join(part.encode() for part in parts)).hexdigest()


@dataclass(frozen=True)
class Text:
    """A document."""

    text: str

    @property
    def digest(self) -> str:
        """Content hash: two documents that differ in white space at the ends only are the same."""
        return _digest(self.text.strip())


@dataclass(frozen=True)
class Instruction:
    """An instruction with the answer that is right.

    `kind` and `family` are known for the embedded world only: whether the answer is recalled
    (`recall`: a closed fact that training has seen) or worked out on unseen input (`skill`).
    """

    instruction: str
    input: str
    output: str
    kind: str = ""
    family: str = ""

    @property
    def digest(self) -> str:
        """Content hash of the question and its answer."""
        return _digest(self.instruction.strip(), self.input.strip(), self.output.strip())


@dataclass(frozen=True)
class Tokens:
    """A window that is tokenised already."""

    ids: tuple[int, ...]

    @property
    def digest(self) -> str:
        """Content hash of the token ids."""
        return _digest(*map(str, self.ids))


Row = Text | Instruction | Tokens
