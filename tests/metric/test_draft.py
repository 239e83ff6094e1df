"""Whatever drafts say, answers are those that the model gives token by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.metric import draft
from sweep.metric.generate import Answer, generate
from sweep.metric.subject import Subject

EOS = 2
LIMIT = 12
PROMPTS = [
    "The sea.",
    "A storm took the roof of the old mill, and the miller with it.",
    "T",
    "In spring the river rings twice: ",
    "once once once",
    "Nobody knew.",
]

Chain = Callable[[Mapping[str, str]], Any]


def ask(
    subject: Subject,
    prompts: Sequence[str],
    drafts: Sequence[Sequence[int]] | None = None,
    limit: int = LIMIT,
    stop: tuple[str, ...] = (),
) -> list[Answer]:
    return generate(
        subject, prompts, max_new_tokens=limit, stop=stop, name="answers", drafts=drafts
    )


def whole(answers: Sequence[Answer]) -> list[list[int]]:
    """As drafts."""
    return [said.tokens if said.full else [*said.tokens, EOS] for said in answers]


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text", "opt"])
def test_drafts_right_or_wrong_change_no_answer(
    build: Callable[..., Any], subject: Any, tokenizer: Any, passes: Any, family: str
) -> None:
    model = build(family, vocab_size=len(tokenizer), max_position_embeddings=256)
    asked = subject(model)
    widths = passes(model)
    plain = ask(asked, PROMPTS)
    token_by_token = len(widths)
    right = whole(plain)
    drafts = [
        right[0],
        [*right[1][:3], right[1][3] + 1, *right[1][4:]],
        right[2][:2],
        [],
        [*right[4], 7, 7, 7],
        [9, 9],
    ]
    assert ask(asked, PROMPTS, drafts) == plain
    widths.clear()
    assert ask(asked, PROMPTS, right) == plain
    assert len(widths) < token_by_token  # they are read; now and then no token leads clearly


@pytest.mark.parametrize("stop", [(), ("#!",), ("#", "cc")])
def test_any_draft_leads_to_the_same_answers(
    chain: Chain, subject: Any, letters: Any, stop: tuple[str, ...]
) -> None:
    """One that begins as the answer does, and goes on as it likes."""
    model = chain({"a": "b", "b": "#", "#": "!", "!": "c", "c": "c", "x": "y", "y": ""})
    asked = subject(model, tokenizer=letters)
    prompts = ["a", "see c", "x"]
    plain = ask(asked, prompts, limit=8, stop=stop)
    tokens = st.sampled_from([*letters("ab#!cxy")["input_ids"], EOS])
    begun = [st.integers(0, 9).map(lambda n, own=own: own[:n]) for own in whole(plain)]
    drafts = [st.tuples(one, st.lists(tokens, max_size=9)) for one in begun]

    @settings(max_examples=40)
    @given(st.tuples(*drafts))
    def same(drawn: Any) -> None:
        given = [[*begins, *ends] for begins, ends in drawn]
        assert ask(asked, prompts, given, limit=8, stop=stop) == plain

    same()


def test_a_draft_that_departs_is_asked_on_from_where_it_does(
    chain: Chain, subject: Any, letters: Any, passes: Any
) -> None:
    model = chain({"a": "b", "b": "c", "c": "d", "d": "e", "e": ""})
    asked = subject(model, tokenizer=letters)
    (plain,) = ask(asked, ["a"])
    assert plain.text == "bcde"
    ask(asked, ["a"], [[EOS]])  # the first time, the head is checked too
    for drafted, widths in (
        ("bcde", [6]),  # with EOS
        ("bcd", [4, 4, 1]),  # read; the prompt with what is said; EOS
        ("bxyz", [5, 3, 1, 1]),
        ("xxxx", [5, 2, 1, 1, 1]),
    ):
        ids = letters(drafted)["input_ids"]
        seen = passes(model)
        assert ask(asked, ["a"], [[*ids, EOS] if drafted == plain.text else ids]) == [plain]
        assert seen == widths, drafted


def test_a_token_that_does_not_lead_clearly_is_not_taken_over(
    chain: Chain, subject: Any, letters: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = chain({"a": "b", "b": "c", "c": ""})
    (b, c) = letters("bc")["input_ids"]
    head = model.get_output_embeddings().weight
    asked = subject(model, tokenizer=letters)
    monkeypatch.setattr(draft, "_reads_as_it_says", lambda *_: True)

    def begun() -> list[list[int]]:
        return draft.taken_over(
            asked,
            [letters("a")["input_ids"]],
            [[b, c, EOS]],
            "answers",
            lambda *_: pytest.fail("asked"),
        )

    with torch.no_grad():
        head[letters("x")["input_ids"][0], b] = head[c, b] * (1 - draft.CLEAR / 2)
    assert begun() == [[b]]
    assert ask(asked, ["a"], [[b, c, EOS]])[0].text == "bc"
    with torch.no_grad():
        head[letters("x")["input_ids"][0], b] = head[c, b] * (1 - draft.CLEAR * 2)
    assert begun() == [[b, c, EOS]]


def test_in_half_precision_drafts_are_not_read(
    build: Callable[..., Any], subject: Any, tokenizer: Any, passes: Any
) -> None:
    """Where the next pass may come to another token, answers must not hang on who was there."""
    model = build("llama", vocab_size=len(tokenizer), max_position_embeddings=256).bfloat16()
    asked = subject(model)
    plain = ask(asked, PROMPTS[:2])
    widths = passes(model)
    assert ask(asked, PROMPTS[:2], whole(plain)) == plain
    assert widths[1:] == [1] * (len(widths) - 1)


@pytest.mark.parametrize("family", ["roberta", "nemotron_h"])
def test_a_family_that_does_not_say_what_one_pass_says_is_asked_token_by_token(
    build: Callable[..., Any], subject: Any, tokenizer: Any, passes: Any, family: str
) -> None:
    """One counts positions otherwise where it is asked token by token; of the other the two differ
    by more than rounding."""
    options = {"is_decoder": True} if family == "roberta" else {}
    model = build(family, vocab_size=len(tokenizer), max_position_embeddings=2048, **options)
    asked = subject(model)
    prompts = [prompt * 6 for prompt in PROMPTS]
    plain = ask(asked, prompts, limit=20)
    assert ask(asked, prompts, whole(plain), limit=20) == plain
    widths = passes(model)
    ask(asked, prompts, whole(plain), limit=20)
    assert widths.count(1) == 2 * 19  # every token but the first


def test_a_family_whose_logits_depend_on_more_is_asked_token_by_token(
    build: Callable[..., Any], subject: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("llama", vocab_size=len(tokenizer), max_position_embeddings=256)
    plain = ask(subject(model), PROMPTS)

    def fails(*_: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(Subject, "_check_logits", fails)
    assert ask(subject(model), PROMPTS, whole(plain)) == plain


def test_a_draft_made_of_no_numbers_is_no_answer(
    build: Callable[..., Any], subject: Any, tokenizer: Any
) -> None:
    model = build("llama", vocab_size=len(tokenizer), max_position_embeddings=256)
    asked = subject(model)
    plain = whole(ask(asked, PROMPTS))
    with torch.no_grad():
        (token,) = tokenizer("T")["input_ids"]  # of one prompt, not the first
        model.get_input_embeddings().weight[token] = float("nan")
    with pytest.raises(FloatingPointError, match="answers: NaN or infinity at token"):
        ask(asked, PROMPTS, plain)


def test_a_word_that_is_never_said_is_no_draft(
    build: Callable[..., Any], subject: Any, tokenizer: Any
) -> None:
    model = build("llama", vocab_size=len(tokenizer), max_position_embeddings=256)
    drafts = whole(ask(subject(model), PROMPTS))
    silent = torch.tensor([drafts[0][0]])
    model.lm_head.register_forward_hook(
        lambda module, args, logits: logits.index_fill(-1, silent, float("-inf"))
    )
    plain = ask(subject(model), PROMPTS)
    assert ask(subject(model), PROMPTS, drafts) == plain
    assert plain[0].tokens[0] != silent
