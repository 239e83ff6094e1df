"""The embedded model's tokenizer: byte-level BPE, learnt from the world that it will read.

Numbers are cut into digits, every word keeps its leading space (also the first of a text, so that a
word is the same token wherever it stands), and each fixed part of the Alpaca template is one token:
the whole template costs three.
"""

from collections.abc import Iterator
from itertools import islice

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from sweep.world import corpora, template

VOCABULARY = 2048
PAD, BOS, EOS = "<pad>", "<s>", "</s>"
MAX_LENGTH = 512

_PIECES = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+"


def training_text(seed: int, rows: int) -> Iterator[str]:
    """As many documents as exercises, whose fields come one by one."""
    exercises = corpora.practice(seed)
    for document in islice(corpora.prose("train", seed), rows):
        yield document.text
        exercise = next(exercises)
        yield exercise.instruction
        yield exercise.input
        yield exercise.output


def untrained() -> Tokenizer:
    """The pipeline without its merges. Decoding undoes the space that the normalizer puts first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.ByteLevel(),
            decoders.Strip(" ", 1, 0),
            *(decoders.Replace(part + " ", part) for part in template.FIXED_PARTS),
        ]
    )
    return tokenizer


def train(seed: int, rows: int) -> PreTrainedTokenizerFast:
    """Learn the tokenizer from `rows` documents and `rows` exercises."""
    tokenizer = untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(template.FIXED_PARTS),
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_text(seed, rows), trainer)
    tokenizer.add_tokens(
        [AddedToken(part, normalized=False, special=False) for part in template.FIXED_PARTS]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )
