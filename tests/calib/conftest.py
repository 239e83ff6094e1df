"""A tokenizer that can be read, and a corpus in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from sweep.data.row import Row
from sweep.data.source import Origin, Packing, Part, Source

PAD, BOS, EOS = 0, 1, 2


@dataclass(frozen=True)
class Rows(Source):
    """Rows in memory; a seed turns them round."""

    held: Sequence[Row]
    packing: ClassVar[Packing | None] = "concat"
    joint: ClassVar[str | None] = None

    def origin(self) -> Origin:
        return Origin("rows", "memory", str(len(self.held)), "here")

    def rows(self, part: Part, seed: int | None) -> Iterator[Row]:
        yield from self.held if seed is None else reversed(self.held)


@dataclass(frozen=True)
class Windows(Rows):
    """Rows that are windows already."""

    packing: ClassVar[Packing | None] = None


@pytest.fixture
def rows() -> type[Rows]:
    """A corpus of the rows it is given."""
    return Rows


@pytest.fixture
def tokenised() -> type[Windows]:
    """A corpus of the windows it is given."""
    return Windows


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The word `w17` is token 17; whatever else is token 3."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": PAD, "<s>": BOS, "</s>": EOS, "<unk>": 3}
    words |= {f"w{number}": number for number in range(4, 1000)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
