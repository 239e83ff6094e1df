"""A tokenizer that can be read, and a corpus of windows."""

from __future__ import annotations

from typing import Any

import pytest

PAD, BOS, EOS = 0, 1, 2


@pytest.fixture
def tokenised(rows: Any) -> Any:
    """A corpus of the windows it is given."""

    class Windows(rows):
        packing = None

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
