"""Answers that somebody else has given, taken over as far as a model would say the same.

What a model says greedily is its highest logit at every step. So one pass over a prompt with a
draft of its answer tells whether it would say the draft, and where it would first depart from it;
only from there on must it be asked token by token. That is speculative decoding (Leviathan et al.
2023, arXiv 2211.17192) of greedy answers, with a draft that is there already: the dense model's
answers for a compressed one, gold answers for the dense one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sweep.metric.subject import Subject, gold_of_position, sequence_of_position
from sweep.metric.text import Sequences, sequences

LOGITS = 2**22
"""At once: a few positions of a large vocabulary."""

CLEAR = 1e-4
"""How far a token's logit leads all others, relative to its size, where rounding does not decide
which is the highest. Passes of other shapes round otherwise, in float32 a hundred times less."""

EXACT = (torch.float32, torch.float64)
"""Where no other pass comes to other tokens; in half precision that hangs on how a pass is cut."""

STEPS = 4
"""Tokens by which it is seen whether one pass says what a model says token by token."""

Say = Callable[[list[list[int]], int], tuple[Int[Tensor, "n new"], Float[Tensor, "n new vocab"]]]
"""Goes on with sequences for so many tokens; gives these, and the logits that each was taken of."""


def taken_over(
    subject: Subject,
    asked: Sequence[list[int]],
    drafts: Sequence[Sequence[int]],
    name: str,
    say: Say,
) -> list[list[int]]:
    """How the subject's greedy answers begin, as far as drafts tell.

    That is every token of the draft that it would say, and the first other one it would say in its
    place. An answer ends before a token that does not lead clearly. Nothing is taken over by models
    that do not say what one pass says: some count positions otherwise, carry a state that padding
    changes, or multiply in less than float32.

    Args:
        subject: model and tokenizer.
        asked: prompts, as tokens.
        drafts: an answer to each, as tokens, EOS included.
        name: of the answers, for the progress bar.
        say: as the subject says what drafts do not tell.
    """
    said: list[list[int]] = [[] for _ in asked]
    drafted = [i for i, draft in enumerate(drafts) if len(draft)]
    if not drafted or subject.model.dtype not in EXACT:
        return said
    steps = min(STEPS, max(map(len, drafts)))  # within the length limit
    if not subject.once("reads", "", lambda: _reads_as_it_says(subject, asked, steps, say)):
        return said
    wholes = [[*asked[i], *drafts[i]] for i in drafted]
    starts = [len(asked[i]) for i in drafted]
    text = sequences(wholes, starts, subject.tokenizer.pad_token_id, f"{name}, drafts")
    own = _leading(subject, text)
    batches = subject.batches(text)
    numbers, gold = sequence_of_position(text, batches), gold_of_position(text, batches)
    departed: set[int] = set()
    for number, token, expected in zip(numbers.tolist(), own, gold.tolist(), strict=True):
        if number not in departed:
            if token is not None:
                said[drafted[number]].append(token)
            if token != expected:
                departed.add(number)
    return said


def _reads_as_it_says(subject: Subject, asked: Sequence[list[int]], steps: int, say: Say) -> bool:
    """Whether one pass over what the subject says token by token, with the longest and the shortest
    prompt side by side, comes to the same logits, to a fraction of what `CLEAR` asks for."""
    shortest, *_, longest = sorted([*asked, *asked], key=len)
    prompts = [longest, shortest]
    tokens, logits = say(prompts, steps)
    wholes = [[*ids, *new] for ids, new in zip(prompts, tokens.tolist(), strict=True)]
    starts = [len(ids) for ids in prompts]
    text = sequences(wholes, starts, subject.tokenizer.pad_token_id, "a few tokens")
    try:
        read = torch.cat([subject.logits(states) for states in subject.hidden(text)])
    except NotImplementedError:  # a family whose logits depend on more than its last hidden states
        return False
    order = torch.cat(subject.batches(text)).to(logits.device)
    step_by_step = logits[order].flatten(0, 1)
    highest = step_by_step.amax(-1, keepdim=True).abs()
    same = step_by_step == read  # -inf too
    return bool((same | ((step_by_step - read).abs() < CLEAR / 4 * highest)).all())


def _leading(subject: Subject, text: Sequences) -> list[int | None]:
    """The subject's next token at every scored position; None where none leads clearly."""
    found: list[int | None] = []
    for states in subject.hidden(text):
        size = max(1, LOGITS // subject.logits(states[:1]).shape[-1])
        for part in torch.split(states, size):
            two = subject.logits(part).topk(2)
            first, second = two.values.unbind(-1)
            clear = _leads(first, second)
            pairs = zip(two.indices[:, 0].tolist(), clear.tolist(), strict=True)
            found += [token if sure else None for token, sure in pairs]
    return found


def _leads(first: Tensor, second: Tensor) -> Tensor:
    """Not where either is NaN."""
    return first.isfinite() & (first - second > CLEAR * first.abs())
