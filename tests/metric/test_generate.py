from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from sweep.metric.generate import Answer, generate
from sweep.metric.subject import Subject

EOS = 2

PROMPTS = [
    "The sea.",
    "A storm took the roof of the old mill, and the miller with it, and nobody in the village knew "
    "the name of the ship that went down to the harbour and carried the wood from the hills.",
    "T",
    "In spring the river rings twice: ",
    "Nobody knew.",
    "The bell, the mill, the ship, the storm, the river, the keeper, the roof and the village.",
    "once once once",
    "The keeper of the lighthouse went down to the harbour :( and came back late. The bell rings.",
    "!",
    "A ship\n\nA name",
]

Chain = Callable[[Mapping[str, str]], Any]


def texts(answers: list[Answer]) -> list[str]:
    return [answer.text for answer in answers]


def ask(subject: Subject, prompts: list[str], limit: int = 6, stop: tuple[str, ...] = ()) -> Any:
    return generate(subject, prompts, max_new_tokens=limit, stop=stop, name="answers")


@torch.no_grad()
def naive(model: Any, ids: list[int], limit: int) -> list[int]:
    """Greedy, one forward pass over everything per token: no cache, no batch, no padding."""
    answer: list[int] = []
    while len(answer) < limit:
        token = int(model(torch.tensor([ids + answer])).logits[0, -1].argmax())
        if token == EOS:
            break
        answer.append(token)
    return answer


@pytest.fixture
def big(build: Callable[..., Any], tokenizer: Any) -> Callable[[str], Any]:
    """A random model of a family with room for the prompts."""

    def big(family: str) -> Any:
        return build(family, vocab_size=len(tokenizer), max_position_embeddings=256)

    return big


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text", "opt"])
def test_answers_are_the_naive_argmax_whatever_the_batch_size(
    big: Any, subject: Any, tokenizer: Any, family: str
) -> None:
    model = big(family)
    lengths = [len(ids) for ids in tokenizer(PROMPTS)["input_ids"]]
    assert max(lengths) > 20 * min(lengths)
    one, eight = (ask(subject(model, batch_size=size), PROMPTS) for size in (1, 8))
    assert [answer.tokens for answer in eight] == [answer.tokens for answer in one]
    assert eight == one
    expected = [naive(model, tokenizer(asked)["input_ids"], 6) for asked in PROMPTS]
    assert [answer.tokens for answer in eight] == expected


def test_padding_with_eos_is_masked_too(big: Any, subject: Any, tokenizer: Any) -> None:
    same = copy.deepcopy(tokenizer)
    same.pad_token = same.eos_token
    model = big("llama")
    one = ask(subject(model, batch_size=1), PROMPTS)
    assert ask(subject(model, batch_size=8, tokenizer=same), PROMPTS) == one


def test_the_models_own_generation_settings_change_nothing(
    big: Any, subject: Any, tokenizer: Any
) -> None:
    model = big("llama")
    plain = ask(subject(model), PROMPTS)
    own = model.generation_config
    own.repetition_penalty = 9.0
    own.no_repeat_ngram_size = 1
    own.suppress_tokens = [answer.tokens[0] for answer in plain]
    own.do_sample = True
    own.min_new_tokens = 6
    assert ask(subject(model), PROMPTS) == plain
    assert model.generation_config is own
    assert own.repetition_penalty == 9.0


def test_eos_ends_an_answer_and_is_no_part_of_it(chain: Chain, subject: Any, letters: Any) -> None:
    model = chain({"a": "b", "b": "c", "c": "", "x": "", "d": "d"})
    said = ask(subject(model, tokenizer=letters), ["to a", "to x", "to d", "c"], limit=5)
    assert texts(said) == ["bc", "", "ddddd", ""]
    assert [answer.tokens for answer in said] == letters(["bc", "", "ddddd", ""])["input_ids"]
    assert [answer.full for answer in said] == [False, False, True, False]


def test_what_the_model_names_beside_eos_ends_an_answer_too(
    chain: Chain, subject: Any, letters: Any
) -> None:
    model = chain({"a": "b", "b": "c", "c": "d", "d": "d"})
    turn = letters.convert_tokens_to_ids("c")
    model.generation_config.eos_token_id = [turn, letters.eos_token_id]
    (said,) = ask(subject(model), ["a"])
    assert (said.text, said.full) == ("b", False)
    assert model.generation_config.eos_token_id == [turn, letters.eos_token_id]


@pytest.mark.parametrize(("limit", "full"), [(1, True), (2, True), (3, False), (4, False)])
def test_the_length_limit_is_hit_where_nothing_else_ended_the_answer(
    chain: Chain, subject: Any, letters: Any, limit: int, full: bool
) -> None:
    model = chain({"a": "b", "b": "c", "c": ""})
    (said,) = ask(subject(model, tokenizer=letters), ["a"], limit=limit)
    assert said.text == "bc"[:limit]
    assert said.full is full


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_stop_string_cuts_and_ends_an_answer(
    chain: Chain, subject: Any, letters: Any, batch_size: int
) -> None:
    model = chain({"a": "b", "b": "#", "#": "!", "!": "c", "c": "c", "x": "y", "y": ""})
    asking = subject(model, tokenizer=letters, batch_size=batch_size)
    said = ask(asking, ["a", "see c", "x"], limit=8, stop=("#!", "never"))
    assert texts(said) == ["b", "cccccccc", "y"]
    assert [answer.full for answer in said] == [False, True, False]
    assert said[0].tokens == letters("b#!")["input_ids"]
    assert said[2].tokens == letters("y")["input_ids"]


def test_a_stop_string_that_ends_at_the_length_limit_is_no_hit_of_it(
    chain: Chain, subject: Any, letters: Any
) -> None:
    model = chain({"a": "b", "b": "c", "c": "d", "d": "d"})
    asking = subject(model, tokenizer=letters)
    for limit, expected in (
        (2, Answer([68, 69], "bc", True)),
        (3, Answer([68, 69, 70], "b", False)),
    ):
        assert ask(asking, ["a"], limit=limit, stop=("cd",)) == [expected]


def test_a_stop_string_may_be_a_special_token(chain: Chain, subject: Any, letters: Any) -> None:
    model = chain({"a": "b", "b": "<s>", "<s>": "c", "c": "c"})
    asking = subject(model, tokenizer=letters)
    (said,) = ask(asking, ["a"], limit=4)
    assert (said.text, said.full) == ("bcc", True)
    for stop in ("<s>", "<s>c"):
        (said,) = ask(asking, ["a"], limit=4, stop=(stop,))
        assert (said.text, said.full) == ("b", False)
    assert said.tokens == letters("b<s>c")["input_ids"]


def test_the_first_of_several_stop_strings_cuts(chain: Chain, subject: Any, letters: Any) -> None:
    model = chain({"a": "b", "b": "c", "c": "d", "d": "e", "e": ""})
    asking = subject(model, tokenizer=letters)
    assert texts(ask(asking, ["a"], stop=("d", "c"))) == ["b"]
    assert texts(ask(asking, ["a"], stop=("cd", "zz"))) == ["b"]
    assert texts(ask(asking, ["a"], stop=("d", "cd"))) == ["b"]
    assert texts(ask(asking, ["a"], stop=("b",))) == [""]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_stop_string_is_looked_for_in_the_answer_only(
    chain: Chain, subject: Any, letters: Any, batch_size: int
) -> None:
    model = chain({"#": "a", "a": "#", "b": "b"})
    asking = subject(model, tokenizer=letters, batch_size=batch_size)
    said = ask(asking, ["#", "b", "##"], limit=4, stop=("#a",))
    assert texts(said) == ["a", "bbbb", "a"]
    assert [answer.full for answer in said] == [False, True, False]
    # what the prompt ends with is no beginning of a stop string
    assert texts(ask(asking, ["#"], limit=1, stop=("#a",))) == ["a"]
    assert [answer.full for answer in ask(asking, ["#"], limit=1, stop=("#a",))] == [True]


def test_white_space_around_an_answer_is_no_part_of_its_text(
    chain: Chain, subject: Any, letters: Any
) -> None:
    model = chain({"a": "\n", "\n": "b", "b": " ", " ": ""})
    (said,) = ask(subject(model, tokenizer=letters), ["a"])
    assert said.text == "b"
    assert said.tokens == letters("\nb ")["input_ids"]


def test_an_answer_never_contains_its_prompt(big: Any, subject: Any) -> None:
    said = ask(subject(big("llama")), PROMPTS)
    for asked, answer in zip(PROMPTS, said, strict=True):
        assert asked not in answer.text
        assert len(answer.tokens) <= 6


def test_a_padding_token_that_is_eos_changes_nothing(
    chain: Chain, subject: Any, letters: Any
) -> None:
    same = copy.deepcopy(letters)
    same.pad_token = same.eos_token
    model = chain({"a": "b", "b": "c", "c": "", "d": "d"})
    for stop in ((), ("c",)):
        one, other = (
            ask(subject(model, tokenizer=each), ["see a", "d", "a"], stop=stop)
            for each in (letters, same)
        )
        assert one == other


def test_answers_come_in_the_order_of_the_prompts_and_progress_counts_batches(
    chain: Chain, subject: Any, letters: Any
) -> None:
    seen = []

    def progress(items: Any, what: str, total: int) -> Any:
        seen.append((what, total))
        return items

    model = chain({letter: letter for letter in "abcdefg"})
    asking = subject(model, tokenizer=letters, batch_size=3)
    asking.progress = progress
    prompts = [
        letter * length for letter, length in zip("abcdefg", (1, 7, 3, 9, 2, 8, 5), strict=True)
    ]
    assert texts(ask(asking, prompts, limit=2)) == ["aa", "bb", "cc", "dd", "ee", "ff", "gg"]
    assert seen == [("answers", 3)]


def test_prompts_of_like_length_are_asked_together(
    chain: Chain, subject: Any, letters: Any, passes: Any
) -> None:
    model = chain({"a": "a"})
    widths = passes(model)
    prompts = ["a" * length for length in (1, 7, 3, 9, 2, 8, 5)]
    ask(subject(model, tokenizer=letters, batch_size=3), prompts, limit=1)
    assert widths == [9, 5, 1]


def test_answers_that_may_end_together_are_generated_together(
    chain: Chain, subject: Any, letters: Any, passes: Any
) -> None:
    """An answer as long as its draft: three long ones in a batch, three that end at once."""
    model = chain({"a": "a", "b": ""}).bfloat16()  # in which drafts are not read
    prompts, drafts = ["bb", "aa", "b", "a", "bbb", "aaa"], ["c", "c" * 20] * 3
    asked = subject(model, tokenizer=letters, batch_size=3)
    widths = passes(model)
    said = generate(
        asked,
        prompts,
        max_new_tokens=20,
        stop=(),
        name="answers",
        drafts=letters(drafts)["input_ids"],
    )
    assert [answer.text for answer in said] == ["", "a" * 20] * 3
    assert widths == [3, *[1] * 19, 3]


def test_an_answer_that_is_made_of_no_numbers_is_no_answer(
    big: Callable[[str], Any], subject: Callable[..., Subject]
) -> None:
    model = big("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    said = r"^answers: NaN or infinity at token 0; block 1, model\.layers\.1\.mlp\.down_proj makes"
    with pytest.raises(FloatingPointError, match=said):
        ask(subject(model), PROMPTS)


def test_a_word_that_is_never_said_is_no_error(
    big: Callable[[str], Any], subject: Callable[..., Subject], tokenizer: Any
) -> None:
    model = big("llama")
    plain = ask(subject(model), PROMPTS[:2])
    said = plain[0].tokens[0]
    model.lm_head.register_forward_hook(
        lambda module, args, logits: logits.index_fill(-1, torch.tensor([said]), float("-inf"))
    )
    assert all(said not in answer.tokens for answer in ask(subject(model), PROMPTS[:2]))
