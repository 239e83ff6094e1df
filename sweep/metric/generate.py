"""Greedy answers to prompts, in batches whose size does not change them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sweep.metric.draft import taken_over
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
    drafts: Sequence[Sequence[int]] | None = None,
) -> list[Answer]:
    """Greedy continuations, prompts of like length together.

    What drafts tell of the answers is not generated (`sweep.metric.draft`). A batch runs until the
    last of its answers has ended, so answers that may end together, as far as drafts tell, are put
    together.

    Prompts are padded on the left, with attention mask and position ids (which `generate` derives
    from the mask), so that a prompt's answer does not depend on what else is in its batch.

    Args:
        subject: model and tokenizer.
        prompts: what comes before the answers.
        max_new_tokens: length limit of an answer in tokens.
        stop: strings that end an answer, special tokens among them; they are not part of it.
        name: what the progress bar says.
        options: of the tokenizer's call.
        drafts: to each prompt an answer that somebody else gave, as tokens with EOS; it changes no
            answer, only how soon it is there.
    """
    tokenizer, model = subject.tokenizer, subject.model
    asked: list[list[int]] = tokenizer(list(prompts), **dict(options or {}))["input_ids"]
    drafts = [draft[:max_new_tokens] for draft in drafts or [()] * len(prompts)]

    def gone_on(before: list[list[int]], count: int, **more: Any) -> Any:
        ids, mask = _padded(before, tokenizer.pad_token_id, subject.device)
        with _greedy(model, tokenizer, count):
            return model.generate(input_ids=ids, attention_mask=mask, **more)

    def say(before: list[list[int]], count: int) -> tuple[Any, Any]:
        told = {"output_logits": True, "return_dict_in_generate": True}
        found = gone_on(before, count, min_new_tokens=count, **told)
        return found.sequences[:, -count:], torch.stack(found.logits, 1)

    said = taken_over(subject, asked, drafts, name, say)
    enders = _ends(model, tokenizer)
    special = _special(tokenizer) if stop else []

    def answer(i: int) -> Answer:
        return _answer(tokenizer, said[i], enders, max_new_tokens, stop, special)

    left = [i for i in range(len(prompts)) if answer(i).full and len(said[i]) < max_new_tokens]
    steps = [(len(drafts[i]) or max_new_tokens) - len(said[i]) for i in left]
    order = [left[i] for i in _order([len(asked[i]) + len(said[i]) for i in left], steps)]
    size = subject.batch_size
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    for batch in subject.progress(batches, name, len(batches)):
        before = [[*asked[i], *said[i]] for i in batch]
        width = max(map(len, before))
        starts = [width - len(said[i]) for i in batch]
        found = gone_on(
            before,
            max_new_tokens - min(len(said[i]) for i in batch),
            stopping_criteria=[_stopped(tokenizer, stop, special, starts)] if stop else [],
            logits_processor=[_numbers(model, name, starts)],
        )
        for i, more in zip(batch, found[:, width:].tolist(), strict=True):
            said[i] += more
    return [answer(i) for i in range(len(prompts))]


def _padded(
    sequences: Sequence[list[int]], pad: int, device: torch.device
) -> tuple[Int[Tensor, "n time"], Int[Tensor, "n time"]]:
    """Sequences as a batch, padded on the left, and its mask."""
    width = max(map(len, sequences))
    ids = [[pad] * (width - len(one)) + one for one in sequences]
    mask = [[0] * (width - len(one)) + [1] * len(one) for one in sequences]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


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
    tokenizer: Any, stop: Sequence[str], special: Sequence[str], starts: Sequence[int]
) -> Callable[..., Bool[Tensor, " batch"]]:
    """Tells which answers hold a stop string; prompts, before the `starts`, are not searched.

    The library's own criterion also stops at a string that begins in the prompt.
    """

    def stopped(ids: Int[Tensor, "batch time"], scores: object) -> Bool[Tensor, " batch"]:
        said = (one[start:] for one, start in zip(ids.tolist(), starts, strict=True))
        found = [_before_stop(tokenizer, one, stop, special) is not None for one in said]
        return torch.tensor(found, device=ids.device)

    return stopped


def _numbers(
    model: Any, name: str, starts: Sequence[int]
) -> Callable[..., Float[Tensor, "batch vocab"]]:
    """Passes logits on, if they are numbers: the highest of none would be taken for an answer.

    Raises:
        FloatingPointError: they are not; names the layer.
    """

    def numbers(
        ids: Int[Tensor, "batch time"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        if (scores.isnan() | scores.isposinf()).any():  # -inf is a word that is never said
            place = culprit(model, ids)
            token = ids.shape[1] - max(starts)
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
    tokenizer: Any,
    ids: list[int],
    ends: Sequence[int],
    limit: int,
    stop: Sequence[str],
    special: Sequence[str],
) -> Answer:
    ids = ids[:limit]
    end = next((place for place, token in enumerate(ids) if token in ends), None)
    ended = end is not None
    tokens = ids[:end]
    text = _before_stop(tokenizer, tokens, stop, special)
    if text is None:
        said = tokenizer.decode(tokens, skip_special_tokens=True)
        return Answer(tokens, said.strip(), full=not ended)
    begun = (tokens[:n] for n in range(1, len(tokens) + 1))  # what follows, nobody asked for
    ending = next(x for x in begun if _before_stop(tokenizer, x, stop, special) is not None)
    return Answer(ending, text.strip(), full=False)


def _before_stop(
    tokenizer: Any, tokens: list[int], stop: Sequence[str], special: Sequence[str]
) -> str | None:
    """What is said before the first stop string; None: there is none.

    Special tokens are no part of a text, but may be one of a stop string: such strings are looked
    for in the text with special tokens.
    """
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    found = [text[: text.find(string)] for string in stop if string in text]
    marked = [string for string in stop if any(token in string for token in special)]
    if marked:
        text = tokenizer.decode(tokens, skip_special_tokens=False)
        for before in (text[: text.find(string)] for string in marked if string in text):
            for token in special:
                before = before.replace(token, "")
            found.append(before)
    return min(found, key=len, default=None)


def _special(tokenizer: Any) -> list[str]:
    """What its special tokens look like."""
    added = tokenizer.added_tokens_decoder.values()
    return [*{*tokenizer.all_special_tokens, *(str(one) for one in added if one.special)}]
