"""What a corpus consists of: rows, each with the hash by which two uses of it are told apart."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from sweep.world import template as alpaca_template

WORDS, LETTERS = 8, 64
"""From so many on (letters: for scripts without spaces), equal texts are no coincidence.

Headings of WikiText, or answers such as "yes", are found on both sides by chance.
"""


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

    @property
    def telling(self) -> bool:
        """Whether it is so long that no other document has this text by chance."""
        words = [word.group() for word in islice(re.finditer(r"\w+", self.text), WORDS)]
        return len(words) == WORDS or sum(map(len, words)) >= LETTERS


@dataclass(frozen=True)
class Instruction:
    """An instruction with the answer that is right.

    `system` is what a conversation begins with, before anybody asks; most have none.
    `kind` and `family` are known for the embedded world only: whether the answer is recalled
    (`recall`: a closed fact that training has seen) or worked out on unseen input (`skill`).
    """

    instruction: str
    input: str
    output: str
    kind: str = ""
    family: str = ""
    system: str = ""

    @property
    def answered(self) -> bool:
        """Whether anybody has: against a blank answer a model that says nothing would be right."""
        return bool(self.output.strip())

    @property
    def digest(self) -> str:
        """Content hash of the question and its answer."""
        said = (self.system.strip(),) if self.system.strip() else ()
        return _digest(self.instruction.strip(), self.input.strip(), self.output.strip(), *said)

    @property
    def as_texts(self) -> tuple[Text, ...]:
        """The documents that other readings of the same file give: a column, or Alpaca's `text`.

        Not an instruction that has an input: many questions share it.
        """
        whole = alpaca_template.prompt(self.instruction, self.input) + self.output
        question = () if self.input.strip() else (Text(self.instruction),)
        return Text(whole), Text(self.output), *question


@dataclass(frozen=True)
class Tokens:
    """A window that is tokenised already."""

    ids: tuple[int, ...]

    @property
    def digest(self) -> str:
        """Content hash of the token ids."""
        return _digest(*map(str, self.ids))


Row = Text | Instruction | Tokens


def answered(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows without instructions that nobody has answered."""
    return (row for row in rows if not isinstance(row, Instruction) or row.answered)


@dataclass(frozen=True)
class Contents:
    """What one use of corpora consists of, to be held against another use.

    Attributes:
        rows: content hash of every row.
        short: those of documents, here or held, whose text another may have by chance.
        held: hashes of the documents that hold what an instruction among the rows holds, each with
            the hash of that row.
    """

    rows: frozenset[str]
    short: frozenset[str]
    held: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Contents:
        """Of these rows, each of which may come several times."""
        kept = set(rows)
        asked = [row for row in kept if isinstance(row, Instruction)]
        held = [(text, row) for row in asked for text in row.as_texts]
        documents = [row for row in kept if isinstance(row, Text)] + [text for text, _ in held]
        return cls(
            rows=frozenset(row.digest for row in kept),
            short=frozenset(text.digest for text in documents if not text.telling),
            held=frozenset((text.digest, row.digest) for text, row in held),
        )

    @property
    def texts(self) -> frozenset[str]:
        """Hashes of the documents that hold what an instruction among the rows holds."""
        return frozenset(text for text, _ in self.held)

    def __or__(self, other: Contents) -> Contents:
        return Contents(self.rows | other.rows, self.short | other.short, self.held | other.held)

    def shared(self, other: Contents, *, one_file: bool = False) -> frozenset[str]:
        """Hashes of what is in both: equal rows, or an instruction here and its answer there.

        Two instructions with one answer share nothing: closed facts have the same answer often.

        Args:
            other: another use.
            one_file: whether both read the same file: then nothing is equal by chance.
        """
        alike = self.rows & other.rows
        found = alike | self.rows & other.texts | self.texts & other.rows
        return found if one_file else found - self.short

    def met(self, other: Contents) -> frozenset[str]:
        """Hashes of the rows here of which the other use holds something: those in `shared`."""
        shared = self.shared(other)
        return (self.rows & shared) | frozenset(row for text, row in self.held if text in shared)
