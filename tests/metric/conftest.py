"""Tokenizers, a running text, and models: under measurement, or saying what they are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sweep.files import Kept
from sweep.metric.subject import Subject

PAD, BOS, EOS = 0, 1, 2

PROSE = [
    "The keeper of the lighthouse went down to the harbour :( and came back late.",
    "Nobody in the village knew the name of the ship.",
    "A storm took the roof of the old mill, and the miller with it.",
    "In spring the river carries wood from the hills to the sea.",
    "The bell rings twice at noon ;( and once at night :(",
]


@pytest.fixture
def running(rows: Any) -> Any:
    """A corpus of documents with blank lines between them."""

    class RunningText(rows):
        joint = "\n\n"

    return RunningText


def byte_level(vocabulary: int, *, bos: bool = False) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(PROSE * 3, trainer)
    if bos:
        inner.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Byte-level BPE with a few merges."""
    return byte_level(340)


@pytest.fixture(scope="session")
def with_bos() -> Any:
    """The same, beginning every text with BOS."""
    return byte_level(340, bos=True)


@pytest.fixture(scope="session")
def letters() -> Any:
    """Every byte is a token."""
    return byte_level(259)


@pytest.fixture
def subject(tokenizer: Any, tmp_path: Path) -> Callable[..., Subject]:
    """A model under measurement; `dense=True` marks it for stand-ins that must tell the two."""

    def subject(
        model: Any, *, dense: bool = False, batch_size: int = 4, tokenizer: Any = tokenizer
    ) -> Subject:
        made = Subject(
            model,
            tokenizer,
            batch_size=batch_size,
            progress=lambda items, what, total: items,
            memory=Kept(tmp_path),
        )
        made.memo["is", "dense"] = dense
        return made

    return subject


@pytest.fixture
def compress() -> Callable[[Any], Any]:
    """Takes the smaller half of the weights of every linear inside the blocks, in place."""

    def compress(model: Any) -> Any:
        with torch.no_grad():
            for block in model.get_decoder().layers:
                for layer in block.modules():
                    if isinstance(layer, nn.Linear):
                        layer.weight[layer.weight.abs() < layer.weight.abs().median()] = 0.0
        return model

    return compress


@pytest.fixture
def chain(build: Callable[..., Any], letters: Any) -> Callable[[Mapping[str, str]], Any]:
    """A model whose next letter depends on the last one only, as it is told; "" is EOS."""

    def chain(follows: Mapping[str, str]) -> Any:
        size = len(letters)
        width = size + -size % 8
        model = build(
            vocab_size=size, hidden_size=width, num_hidden_layers=1, max_position_embeddings=512
        )
        code = letters.get_vocab()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "layers" in name and weight.dim() == 2:
                    weight.zero_()
            model.get_input_embeddings().weight.copy_(torch.eye(size, width))
            head = model.get_output_embeddings().weight.zero_()
            for letter, after in follows.items():
                (last,) = letters(letter)["input_ids"]
                following = letters(after)["input_ids"][0] if after else code["</s>"]
                head[following, last] = 1.0
        return model

    return chain


def count_passes(model: Any) -> list[int]:
    """A list that grows by one number, its width, with every pass through the decoder."""
    widths: list[int] = []
    model.get_input_embeddings().register_forward_hook(
        lambda module, given, out: widths.append(given[0].shape[1])
    )
    return widths


@pytest.fixture
def passes() -> Callable[[Any], list[int]]:
    """See `count_passes`."""
    return count_passes
