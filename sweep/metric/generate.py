"""Greedy answers to prompts, in batches whose size does not change them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sweep.metric.subject import Subject
from sweep.model.finite import culprit

ALIKE = 8
"""Answers whose lengths differ by fewer tokens may end together."""


class Answer(NamedTuple):
    """What a model said.

    Attributes:
        tokens: generated ids, without the EOS that ended them.
        text: decoded, cut at the first stop string, white space at the ends removed.
        full: whether it hit the length limit: neither EOS nor a stop string ended it.
    """

    tokens: list[int]
    text: str
    full: bool


@torch.inference_mode()
def generate(
    subject: Subject,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    stop: Sequence[str],
    name: str,
    options: Mapping[str, bool] | None = None,
    gold: Sequence[str] | None = None,
) -> list[Answer]:
    """Greedy continuations, prompts of like length together.

    A batch runs until the last of its answers has ended, so answers that may end together are put
    together first, as far as gold answers tell.

    Prompts are padded on the left, with attention mask and position ids (which `generate` derives
    from the mask), so that a prompt's answer does not depend on what else is in its batch.

    Args:
        subject: model and tokenizer.
        prompts: what comes before the answers.
        max_new_tokens: length limit of an answer in tokens.
        stop: strings that end an answer; they are not part of it.
        name: what the progress bar says.
        options: of the tokenizer's call.
        gold: an answer to each prompt, of which only the length is used.
    """
    tokenizer, model = subject.tokenizer, subject.model
    told = dict(options or {})
    lengths = [len(ids) for ids in tokenizer(list(prompts), **told)["input_ids"]]
    order = _order(lengths, _steps(tokenizer, gold, max_new_tokens, len(prompts)))
    batches = [order[i : i + subject.batch_size] for i in range(0, len(order), subject.batch_size)]
    answers: dict[int, Answer] = {}
    enders = _ends(model, tokenizer)
    with _greedy(model, tokenizer, max_new_tokens):
        for batch in subject.progress(batches, name, len(batches)):
            texts = [prompts[i] for i in batch]
            asked = tokenizer(texts, return_tensors="pt", padding=True, **told)
            asked = {key: asked[key].to(subject.device) for key in ("input_ids", "attention_mask")}
            start = asked["input_ids"].shape[1]
            ends = [_stopped(tokenizer, stop, start)] if stop else []
            numbers = [_numbers(model, name, start)]
            said = model.generate(**asked, stopping_criteria=ends, logits_processor=numbers)
            said = said[:, start:]
            for i, ids in zip(batch, said.tolist(), strict=True):
                answers[i] = _answer(tokenizer, ids, enders, max_new_tokens, stop)
    return [answers[i] for i in range(len(prompts))]


def _steps(tokenizer: Any, gold: Sequence[str] | None, limit: int, count: int) -> list[int]:
    """How many tokens the answers may have; all the same where nobody knows."""
    if gold is None:
        return [limit] * count
    return [min(len(ids), limit) for ids in tokenizer(list(gold))["input_ids"]]


def _order(prompts: Sequence[int], answers: Sequence[int]) -> list[int]:
    """The longest answers first, in steps of `ALIKE` tokens; among these the longest prompts."""
    return sorted(range(len(prompts)), key=lambda i: (-(answers[i] // ALIKE), -prompts[i]))


@contextmanager
def _greedy(model: Any, tokenizer: Any, max_new_tokens: int) -> Iterator[None]:
    """The model's own generation settings (penalties, suppressed tokens, …) are out of force.

    `generate` fills what it is not told from them, so they are replaced and not overridden.
    """
    from transformers import GenerationConfig

    own = model.generation_config
    model.generation_config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        eos_token_id=_ends(model, tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    try:
        yield
    finally:
        model.generation_config = own


def _stopped(
    tokenizer: Any, stop: Sequence[str], start: int
) -> Callable[..., Bool[Tensor, " batch"]]:
    """Tells which answers hold a stop string; the prompt, which ends at `start`, is not searched.

    The library's own criterion also stops at a string that begins in the prompt.
    """

    def stopped(ids: Int[Tensor, "batch time"], scores: object) -> Bool[Tensor, " batch"]:
        texts = tokenizer.batch_decode(ids[:, start:], skip_special_tokens=True)
        found = [any(string in text for string in stop) for text in texts]
        return torch.tensor(found, device=ids.device)

    return stopped


def _numbers(model: Any, name: str, start: int) -> Callable[..., Float[Tensor, "batch vocab"]]:
    """Passes logits on, if they are numbers: the highest of none would be taken for an answer.

    Raises:
        FloatingPointError: they are not; names the layer.
    """

    def numbers(
        ids: Int[Tensor, "batch time"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        if (scores.isnan() | scores.isposinf()).any():  # -inf is a word that is never said
            place = culprit(model, ids)
            token = ids.shape[1] - start
            raise FloatingPointError(f"{name}: NaN or infinity at token {token}; {place}")
        return scores

    return numbers


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """What ends an answer: the tokenizer's EOS, and what the model's own settings name beside it,
    such as the end of a turn of one that is tuned to follow instructions."""
    own = model.generation_config.eos_token_id
    more = [] if own is None else own if isinstance(own, list) else [own]
    return list(dict.fromkeys([tokenizer.eos_token_id, *more]))


def _answer(
    tokenizer: Any, ids: list[int], ends: Sequence[int], limit: int, stop: Sequence[str]
) -> Answer:
    end = next((place for place, token in enumerate(ids) if token in ends), None)
    ended = end is not None
    tokens = ids[:limit] if end is None else ids[:end]
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    cuts = [place for place in (text.find(string) for string in stop) if place >= 0]
    if cuts:
        text = text[: min(cuts)]
        while tokens[-1] == tokenizer.pad_token_id:  # filled up beside longer answers
            tokens.pop()
    return Answer(tokens, text.strip(), full=not ended and not cuts)
