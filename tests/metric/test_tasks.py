from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from sweep.cell import make
from sweep.data.row import Instruction, Text
from sweep.data.template import prompt
from sweep.metric import questions as questions_module
from sweep.metric.generate import Answer
from sweep.metric.metric import Mean, Result
from sweep.metric.tasks import Tasks
from sweep.refusal import Refusal

EXERCISES = [
    Instruction("Capital of France?", "", "Paris", kind="recall", family="capital"),
    Instruction("Capital of Japan?", "", "Tokyo", kind="recall", family="capital"),
    Instruction("Reverse.", "one two three", "three two one", kind="skill", family="reverse"),
    Instruction("Count to five.", "", "one two three four five", kind="skill", family="count"),
    Instruction("Be silent.", "", "...", kind="skill", family="silence"),
]


def answer(text: str, *tokens: int, full: bool = False) -> Answer:
    return Answer(list(tokens), text, full)


DENSE = [
    answer("Paris.", 10, 11),
    answer("Kyoto", 12, 13),
    answer("three two one", 14, 15, 16),
    answer("one two three four five", 17, 18, 19, full=True),
    answer("", full=False),
]

COMPRESSED = [
    answer("London", 20, 11),  # right to wrong, differs at 0
    answer("The Tokyo", 12, 21),  # wrong to right, differs at 1
    answer("one two three", 14, 15, 22),  # right to wrong, differs at 2
    answer("one two one two one two one", 17, 18, 19, 30, full=True),  # the longer one, at 3
    answer(""),
]


class Said:
    """Stands in for generation, and writes down how often it is asked."""

    def __init__(self, answers: dict[bool, Sequence[Answer]]) -> None:
        self.answers = answers
        self.asked: list[tuple[bool, list[str], int, tuple[str, ...]]] = []
        self.drafts: list[Sequence[Sequence[int]]] = []

    def __call__(
        self,
        subject: Any,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Any,
        name: str,
        options: Any,
        drafts: Sequence[Sequence[int]],
    ) -> list[Answer]:
        assert len(drafts) == len(prompts)
        dense = subject.memo["is", "dense"]
        assert subject.model is not None, "the weights must be there"
        self.asked.append((dense, list(prompts), max_new_tokens, stop))
        self.drafts.append(drafts)
        return list(self.answers[dense][: len(prompts)])


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    stand_in = Said({True: DENSE, False: COMPRESSED})
    monkeypatch.setattr(questions_module, "generate", stand_in)
    return stand_in


@pytest.fixture
def ask(build: Any, subject: Any, rows: Any) -> Any:
    """Measures tasks on rows: the compressed model, or the dense one itself."""

    def ask(exercises: Any = EXERCISES, *, itself: bool = False, kept: Any = None) -> Result:
        metric = Tasks({"a": rows(exercises)})
        dense = subject(build(), dense=True)
        data = metric.load(dense.tokenizer)
        metric.prepare(dense, data, kept or {})
        if itself:
            return metric.measure(dense, dense, data)
        dense.leave()
        return metric.measure(subject(build()), dense, data)

    return ask


def values(found: Result) -> dict[str, float]:
    return {name: value.value for name, value in found.values.items()}


def test_as_many_examples_are_scored_as_there_are(ask: Any, said: Said) -> None:
    found = ask()
    assert len(found.examples["a"]) == 5
    for score in ("em", "f1", "rouge1", "empty", "flips", "hit_length_limit", "repeated_4gram"):
        assert found.values[score].n == 5
        assert found.values[score].of == "examples"
    assert found.data[0]["rows"] == 5
    assert [len(prompts) for _, prompts, _, _ in said.asked] == [5, 5]


def test_scores_are_means_over_all_examples(ask: Any, said: Said) -> None:
    found = values(ask())
    assert found["em"] == pytest.approx((0 + 1 + 0 + 0 + 0) / 5)
    # the fourth: two of seven words are the gold's two of five
    assert found["f1"] == pytest.approx((0 + 1 + 1 + 2 * 2 / (7 + 5) + 0) / 5)
    assert found["rouge1"] == pytest.approx((0 + 2 / 3 + 1 + 2 * 2 / (7 + 5) + 0) / 5)


def test_the_signs_of_collapse_are_shares_of_the_compressed_models_answers(
    ask: Any, said: Said
) -> None:
    found = ask()
    assert values(found)["empty"] == 1 / 5
    assert values(found)["hit_length_limit"] == 1 / 5
    assert values(found)["repeated_4gram"] == 1 / 5
    ratios = (1 / 1, 2 / 1, 3 / 3, 7 / 5, 0 / 1)
    assert values(found)["length_ratio"] == pytest.approx(sum(ratios) / 5)
    assert found.values["length_ratio"].n == 5


def test_flips_are_right_to_wrong_plus_wrong_to_right(ask: Any, said: Said) -> None:
    found = values(ask())
    assert found["right_to_wrong"] == 3 / 5
    assert found["wrong_to_right"] == 1 / 5
    assert found["flips"] == 4 / 5


def test_the_first_difference_is_a_mean_over_the_answers_that_differ(ask: Any, said: Said) -> None:
    found = ask()
    assert values(found)["answers_that_differ"] == 4 / 5
    assert values(found)["first_difference"] == (0 + 1 + 2 + 3) / 4
    assert found.values["first_difference"].n == 4
    assert found.values["first_difference"].unit == "tokens"


def test_gold_answers_are_the_dense_models_drafts_and_its_own_the_compressed_ones(
    ask: Any, said: Said, tokenizer: Any
) -> None:
    ask()
    gold, dense = said.drafts
    assert [tokenizer.decode(ids) for ids in gold] == [f"{row.output}</s>" for row in EXERCISES]
    ends = [[] if answer.full else [tokenizer.eos_token_id] for answer in DENSE]
    assert [] in ends
    assert dense == [[*one.tokens, *end] for one, end in zip(DENSE, ends, strict=True)]


def test_the_dense_model_does_not_differ_from_itself(ask: Any, said: Said) -> None:
    found = values(ask(itself=True))
    assert found["em"] == 3 / 5  # silence is not `...`
    assert found["flips"] == found["answers_that_differ"] == found["right_to_wrong"] == 0
    assert "first_difference" not in found
    assert len(said.asked) == 1


def test_recall_and_skill_are_reported_apart(ask: Any, said: Said) -> None:
    found = ask()
    assert values(found)["em_recall"] == 1 / 2
    assert values(found)["em_skill"] == 0
    assert (found.values["em_recall"].n, found.values["em_skill"].n) == (2, 3)
    assert found.values["em_skill"].mean == Mean("a", "em", where=("kind", "skill"))
    assert found.values["em_skill"].better is None  # cells are ranked by all answers
    assert values(found)["f1_skill"] == pytest.approx((1 + 1 / 3 + 0) / 3)
    unknown = [Instruction(row.instruction, row.input, row.output) for row in EXERCISES]
    assert not {n for n in ask(unknown).values if "recall" in n or "skill" in n}


def test_every_mean_has_an_interval_over_examples(ask: Any, said: Said) -> None:
    for name, value in ask().values.items():
        assert value.low is not None, name
        assert value.low <= value.value <= value.high


def test_few_examples_show_their_width_at_the_ends_of_the_scale(ask: Any, said: Said) -> None:
    found = ask(itself=True).values
    flips, em = found["flips"], found["em"]
    assert (flips.value, flips.low) == (0, 0)
    assert flips.high == pytest.approx(1 - 0.025 ** (1 / 5))
    assert em.value == 3 / 5
    assert 0 < em.low < 0.5
    alone = ask(EXERCISES[:1]).values  # one answer departs at one token
    assert alone["first_difference"].n == 1
    assert (alone["first_difference"].low, alone["length_ratio"].high) == (None, None)
    assert alone["em"].high == pytest.approx(0.975)


def test_an_example_carries_everything(ask: Any, said: Said) -> None:
    first, *_, last = ask().examples["a"]
    assert first == {
        "prompt": prompt(EXERCISES[0], "alpaca"),
        "gold": "Paris",
        "answer": "London",
        "dense_answer": "Paris.",
        "em": 0.0,
        "f1": 0.0,
        "rouge1": 0.0,
        "dense_em": 1.0,
        "dense_f1": 1.0,
        "dense_rouge1": 1.0,
        "empty": False,
        "full": False,
        "repeats": False,
        "words": 1,
        "gold_words": 1,
        "first_difference": 0,
        "kind": "recall",
        "family": "capital",
        "settings": first["settings"],
        "tokens": [20, 11],
    }
    assert (last["empty"], last["em"], last["first_difference"]) == (True, 0.0, None)


def test_a_question_that_nobody_has_answered_is_not_asked_but_counted(ask: Any, said: Said) -> None:
    """A model that says nothing would be right."""
    unanswered = [Instruction(f"Say it, {i}.", "", " \n"[:i]) for i in range(3)]
    found = ask([unanswered[0], *EXERCISES, *unanswered[1:]])
    assert values(found) == values(ask())
    assert len(found.examples["a"]) == 5
    (record,), (usual,) = found.data, ask().data
    assert (record["rows"], record["unanswered"], usual["unanswered"]) == (5, 3, 0)
    assert record["sha256"] == usual["sha256"]
    said_of = "source=rows: has no row for evaluation: nobody has answered its 3 instructions"
    with pytest.raises(Refusal, match=said_of):
        ask(unanswered)


# the dense model's answers that were kept


def kept_after_json(found: Result) -> dict[str, Any]:
    return {name: json.loads(json.dumps(rows)) for name, rows in found.examples.items()}


def test_kept_answers_of_the_dense_model_are_not_generated_again(ask: Any, said: Said) -> None:
    kept = kept_after_json(ask(itself=True))
    plain = ask()
    said.asked.clear()
    assert ask(kept=kept).examples == plain.examples
    assert [dense for dense, *_ in said.asked] == [False]


@pytest.mark.parametrize(
    "changed",
    [
        [Instruction("Capital of Spain?", "", "Paris"), *EXERCISES[1:]],
        [Instruction("Capital of France?", "", "Lyon"), *EXERCISES[1:]],
        EXERCISES[:4],
        EXERCISES[::-1],
    ],
    ids=["another prompt", "another gold", "fewer rows", "another order"],
)
def test_kept_answers_to_other_questions_are_not_taken(
    ask: Any, said: Said, changed: list[Instruction]
) -> None:
    kept = kept_after_json(ask(itself=True))
    said.asked.clear()
    ask(changed, kept=kept)
    assert [dense for dense, *_ in said.asked] == [True, False]


@pytest.mark.parametrize("changed", [{"max_new_tokens": 7}, {"stop": ("\n",)}])
def test_kept_answers_under_other_settings_are_not_taken(
    ask: Any, said: Said, build: Any, subject: Any, rows: Any, changed: dict[str, Any]
) -> None:
    kept = kept_after_json(ask(itself=True))
    said.asked.clear()
    metric = Tasks({"a": rows(EXERCISES)}, **changed)
    dense = subject(build(), dense=True)
    metric.prepare(dense, metric.load(dense.tokenizer), kept)
    assert [dense for dense, *_ in said.asked] == [True]


def test_a_dense_model_that_left_cannot_be_asked(
    said: Said, build: Any, subject: Any, rows: Any
) -> None:
    metric = Tasks({"a": rows(EXERCISES)})
    dense = subject(build(), dense=True)
    dense.leave()
    with pytest.raises(RuntimeError, match="the dense weights are gone"):
        metric.prepare(dense, metric.load(dense.tokenizer), {})


# the questions


def test_a_prompt_that_leaves_no_room_for_an_answer_is_left_out(tokenizer: Any, rows: Any) -> None:
    long = Instruction("Capital of France? " * 9, "", "Paris")
    lengths = [
        len(tokenizer(prompt(row, "unnatural"))["input_ids"]) for row in (EXERCISES[0], long)
    ]
    held = rows([EXERCISES[0], long, EXERCISES[1]])

    def kept(seqlen: int | None) -> list[str]:
        metric = Tasks({"a": held}, seqlen=seqlen, max_new_tokens=9, template="unnatural")
        questions = metric.load(tokenizer)["a"]
        assert seqlen is None or questions.longest <= seqlen
        return [row.instruction for row in questions.rows]

    assert len(kept(None)) == len(kept(lengths[1] + 9)) == 3
    assert kept(lengths[1] + 8) == [EXERCISES[0].instruction, EXERCISES[1].instruction]
    with pytest.raises(Refusal, match="every prompt is longer than"):
        kept(lengths[0])


def test_a_result_says_how_many_prompts_were_left_out(
    tokenizer: Any, build: Any, subject: Any, rows: Any
) -> None:
    long = [Instruction("Capital of France? " * n, "", "Paris") for n in (9, 10)]
    room = len(tokenizer(prompt(long[0], "unnatural"))["input_ids"])
    for seqlen, left_out in ((room + 8, 2), (room + 9, 1), (None, 0)):
        metric = Tasks(
            {"a": rows([*EXERCISES, *long])},
            seqlen=seqlen,
            max_new_tokens=9,
            template="unnatural",
        )
        data = metric.load(tokenizer)
        assert len(data["a"].rows) == 7 - left_out
        dense = subject(build(), dense=True)
        dense.once("answers", data["a"].key, lambda data=data: [DENSE[0]] * len(data["a"].rows))
        (record,) = metric.measure(dense, dense, data).data
        assert (record["rows"], record["left_out"]) == (7 - left_out, left_out)


def test_so_many_examples_as_asked_are_taken(tokenizer: Any, rows: Any) -> None:
    questions = Tasks({"a": rows(EXERCISES)}, n_samples=2).load(tokenizer)["a"]
    assert questions.rows == tuple(EXERCISES[:2])
    assert questions.digests == {row.digest for row in EXERCISES[:2]}


def test_what_cannot_be_asked_is_refused(tokenizer: Any, rows: Any) -> None:
    with pytest.raises(Refusal, match="source=rows: must hold instructions"):
        Tasks({"a": rows([*EXERCISES, Text("Prose.")])}).load(tokenizer)
    with pytest.raises(Refusal, match="source=rows: has no row"):
        Tasks({"a": rows([])}).load(tokenizer)
    with pytest.raises(Refusal, match="max_new_tokens=64: leaves no room"):
        Tasks({"a": rows(EXERCISES)}, max_new_tokens=64, seqlen=64)
    with pytest.raises(Refusal, match="stop="):
        Tasks({"a": rows(EXERCISES)}, stop=("\n", ""))


def test_everything_that_changes_an_answer_changes_the_key(tokenizer: Any, rows: Any) -> None:
    plain = {"source": {"a": rows(EXERCISES)}}
    gold = [Instruction("Capital of France?", "", "Lyon"), *EXERCISES[1:]]
    changes: list[dict[str, Any]] = [
        {},
        {"max_new_tokens": 9},
        {"stop": ("\n",)},
        {"template": "unnatural"},
        {"n_samples": 4},
        {"source": {"a": rows(gold)}},
    ]
    keys = [Tasks(**(plain | change)).load(tokenizer)["a"].key for change in changes]
    assert len(set(keys)) == len(changes)
    assert Tasks(**plain).load(tokenizer)["a"].key == keys[0]


def test_a_result_says_how_it_was_made(
    tokenizer: Any, said: Said, build: Any, subject: Any, rows: Any
) -> None:
    metric = Tasks(
        {"a": rows(EXERCISES)}, template="unnatural", max_new_tokens=9, stop=("\n", "###")
    )
    dense = subject(build(), dense=True)
    data = metric.load(tokenizer)
    found = metric.measure(dense, dense, data)
    assert found.data == [
        {
            "corpus": "rows",
            "source": "memory",
            "location": "here",
            "revision": "5",
            "sha256": data["a"].key,
            "rows": 5,
            "left_out": 0,
            "unanswered": 0,
            "template": "unnatural",
            "max_new_tokens": 9,
            "stop": ["\n", "###"],
            "decoding": "greedy",
        }
    ]
    assert said.asked[0][2:] == (9, ("\n", "###"))
    assert said.asked[0][1] == [prompt(row, "unnatural") for row in EXERCISES]


def test_several_corpora_are_told_apart_by_name(
    said: Said, build: Any, subject: Any, rows: Any
) -> None:
    metric = Tasks({"a": rows(EXERCISES), "b": rows(EXERCISES[:2])})
    dense = subject(build(), dense=True)
    found = metric.measure(dense, dense, metric.load(dense.tokenizer))
    assert found.columns == ("em_a", "f1_a", "rouge1_a", "em_b", "f1_b", "rouge1_b")
    assert found.values["em_a"].n == 5
    assert found.values["em_b"].n == 2
    assert found.values["em_b"].value == 1 / 2
    assert [len(rows) for rows in found.examples.values()] == [5, 2]


def test_a_model_answers_for_itself(
    build: Any, subject: Any, compress: Any, rows: Any, tokenizer: Any
) -> None:
    def model() -> Any:
        return build(vocab_size=len(tokenizer), max_position_embeddings=512)

    metric = Tasks({"a": rows(EXERCISES)}, max_new_tokens=5)
    dense = subject(model(), dense=True)
    data = metric.load(tokenizer)
    one = metric.measure(subject(compress(model()), batch_size=1), dense, data)
    other = metric.measure(subject(compress(model()), batch_size=8), dense, data)
    assert one == other
    for row in one.examples["a"]:
        assert 0 < len(row["tokens"]) <= 5
        assert row["prompt"] not in row["answer"]
    itself = metric.measure(dense, dense, data)
    assert [row["dense_answer"] for row in one.examples["a"]] == [
        row["answer"] for row in itself.examples["a"]
    ]


def test_every_corpus_is_asked_by_its_own_template(tokenizer: Any, frozen: Any) -> None:
    words = ["source=[alpaca,unnatural]", "n_samples=3", "template=[alpaca,unnatural]"]
    for name in ("tasks", "judge"):
        given = [f"metric.{name}.{word}" for word in words]
        metric = make(frozen(f"metric=[{name}]", *given), str).parts.metrics[name]
        asked = questions_module.read_questions(
            metric.source,
            tokenizer,
            n_samples=metric.n_samples,
            seqlen=metric.seqlen,
            template=metric.template,
            max_new_tokens=8,
            stop=(),
        )
        assert all(text.endswith("### Response:\n") for text in asked["alpaca"].prompts)
        assert all(text.endswith(" ###Response:") for text in asked["unnatural"].prompts)
        assert [one.record()["template"] for one in asked.values()] == ["alpaca", "unnatural"]
    given = [f"metric.divergence.{word}" for word in words]
    divergence = make(frozen("metric=[divergence]", *given), str).parts.metrics["divergence"]
    found = divergence.load(tokenizer)
    first = tokenizer.decode(found["unnatural"].ids[0])
    assert "###Response:" in first
    assert "### Instruction" not in first
    assert "### Instruction" in tokenizer.decode(found["alpaca"].ids[0])
