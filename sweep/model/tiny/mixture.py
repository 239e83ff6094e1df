"""What the embedded model reads in training: prose and exercises, packed into windows of tokens.

Every token has a weight in the loss. Prompts weigh little, since the model will never have to write
one; a short answer weighs more than a long one, since one wrong token makes all of it wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sweep.world import Document, Exercise, practice, prose
from sweep.world.template import RESPONSE, prompt

PROSE_SHARE = 0.32  # of rows, which is 0.42 of the tokens
PROMPT_WEIGHT = 0.2
LONGEST_BOOST = 3.0
_BATCH = 4000


@dataclass(frozen=True)
class Windows:
    """Inputs, the tokens that follow them, and the weight of each in the loss: `[n length]`.

    `rows` tells how many rows of the stream were read to fill them.
    """

    inputs: Tensor
    targets: Tensor
    weights: Tensor
    rows: int


def rows(seed: int) -> Iterator[Document | Exercise]:
    """The endless stream of training rows."""
    rng = Random(f"mixture/{seed}")
    documents, exercises = prose("train", seed), practice(seed)
    while True:
        yield next(documents) if rng.random() < PROSE_SHARE else next(exercises)


def written(row: Document | Exercise) -> str:
    """The row as the model reads it."""
    if isinstance(row, Document):
        return row.text
    return prompt(row.instruction, row.input) + row.output


def loss_weights(ids: list[int], response: int) -> list[float]:
    """The weight of predicting each token; `response` is the token before which a prompt ends."""
    if response not in ids:
        return [1.0] * len(ids)
    prompt_length = ids.index(response) + 1
    answer_length = len(ids) - prompt_length
    boost = min(LONGEST_BOOST, 1 + 4 / answer_length)
    return [PROMPT_WEIGHT] * prompt_length + [boost] * answer_length


def pack(
    stream: Iterator[Document | Exercise],
    tokenizer: PreTrainedTokenizerFast,
    count: int,
    length: int,
) -> Windows:
    """The first `count` windows of the stream: rows one after the other, each ended by EOS."""
    response = tokenizer.convert_tokens_to_ids(RESPONSE)
    end = tokenizer.eos_token_id
    ids: list[int] = []
    weights: list[float] = []
    read = 0
    while len(ids) < count * length + 1:
        texts = [written(row) for row in islice(stream, _BATCH)]
        read += len(texts)
        for encoding in tokenizer.backend_tokenizer.encode_batch(texts):
            row_ids = [*encoding.ids, end]
            ids += row_ids
            weights += loss_weights(row_ids, response)
    tokens = torch.tensor(ids[: count * length + 1], dtype=torch.int32)
    weighed = torch.tensor(weights[1 : count * length + 1])
    return Windows(
        inputs=tokens[:-1].view(count, length),
        targets=tokens[1:].view(count, length),
        weights=weighed.view(count, length),
        rows=read,
    )
