from __future__ import annotations

from itertools import combinations

import pytest

from sweep.data.row import Contents, Instruction, Row, Text, Tokens
from sweep.data.template import prompt


def test_rows_with_another_content_have_another_digest() -> None:
    rows: list[Row] = [
        Text("ab"),
        Text("a b"),
        Text(""),
        Instruction("ab", "", ""),
        Instruction("a", "b", ""),
        Instruction("a", "", "b"),
        Instruction("", "a", "b"),
        Tokens((1, 23)),
        Tokens((12, 3)),
        Tokens((1, 2, 3)),
    ]
    for one, other in combinations(rows, 2):
        assert one.digest != other.digest, (one, other)


def test_white_space_at_the_ends_makes_no_other_row() -> None:
    assert Text(" One.\n").digest == Text("One.").digest
    assert Instruction("Ask. ", "\n", " 3").digest == Instruction("Ask.", "", "3").digest


def test_what_is_known_about_a_row_is_not_its_content() -> None:
    known = Instruction("Ask.", "", "3", kind="skill", family="add")
    assert known.digest == Instruction("Ask.", "", "3").digest


# two uses of rows, held against each other


ANSWER = "The keeper of the lighthouse went down to the harbour."
ASKED = Instruction("What happened last night on the island of the lighthouse?", "", ANSWER)


def shared(one: list[Row], other: list[Row]) -> int:
    found = Contents.of(one).shared(Contents.of(other))
    assert found == Contents.of(other).shared(Contents.of(one)), "whichever is asked"
    return len(found)


@pytest.mark.parametrize(
    "row",
    [
        Text(f"{ANSWER} Nobody knows why."),
        Instruction("Add.", "1, 2", "3"),
        Instruction("Say no.", "", "no"),
        Tokens((1,)),
    ],
)
def test_a_row_on_both_sides_is_shared(row: Row) -> None:
    others: list[Row] = [Text("Something else in as many words as it takes."), ASKED, Tokens((2,))]
    assert shared([row, *others], [row]) == 1
    assert shared(others, [row]) == 0
    assert shared([], [row]) == 0


@pytest.mark.parametrize(
    "text",
    [ASKED.output, f" {ASKED.output}\n", ASKED.instruction, prompt(ASKED, "alpaca") + ANSWER],
)
def test_a_column_of_instructions_that_is_read_as_text_is_shared(text: str) -> None:
    assert shared([ASKED], [Text(text)]) == 1


@pytest.mark.parametrize(
    ("text", "telling"),
    [
        (" = = = Critical reception = = = ", False),
        ("", False),
        ("one two three four five six seven", False),
        ("one two three four five six seven eight", True),
        ("字" * 63, False),
        ("字" * 64, True),
        ("灯台守は、" * 8, True),
    ],
)
def test_a_text_that_others_have_by_chance_is_not_shared(text: str, telling: bool) -> None:
    assert shared([Text(text)], [Text(text)]) == telling
    assert shared([Instruction("Ask.", "", text)], [Text(text)]) == telling
    assert len(Contents.of([Text(text), Text(text)]).rows) == 1
    here, asked = Contents.of([Text(text)]), Contents.of([Instruction("Ask.", "", text)])
    assert here.shared(here, one_file=True) == asked.shared(here, one_file=True) == here.rows


def test_two_instructions_share_neither_their_answer_nor_their_question() -> None:
    same_answer = Instruction("Who went down to the harbour, and from where?", "", ANSWER)
    same_question = Instruction(ASKED.instruction, "", "Nobody in the village knows it by now.")
    assert shared([ASKED], [same_answer, same_question]) == 0


def test_a_question_that_others_share_is_not_the_row() -> None:
    question = "Rewrite the following sentence in the passive voice, please."
    assert shared([Instruction(question, "The fox runs.", "…")], [Text(question)]) == 0
    assert shared([Instruction(question, " ", "…")], [Text(question)]) == 1


def test_the_rows_that_another_use_meets_are_named_by_their_own_hashes() -> None:
    text, other = Text(f"{ANSWER} Nobody knows why."), Text(ASKED.output)
    short = Text("= History =")
    here = Contents.of([text, ASKED, short])
    assert here.met(Contents.of([text, short])) == {text.digest}
    assert here.met(Contents.of([other])) == {ASKED.digest}
    assert Contents.of([other]).met(here) == {other.digest}
    assert here.met(Contents.of([ASKED, text])) == {ASKED.digest, text.digest}
    assert here.met(Contents.of([Text("Nothing of it, in as many words as it may take.")])) == set()


def test_contents_can_be_put_together() -> None:
    heading = Text("= History =")
    both = Contents.of([Text(ANSWER), heading]) | Contents.of([ASKED])
    assert both == Contents.of([heading, ASKED, Text(ANSWER), heading])
    assert len(both.rows) == 3
    assert both.shared(Contents.of([heading])) == frozenset()
    assert len(both.shared(Contents.of([ASKED]))) == 2, "itself, and its answer"


def test_the_alpaca_prompt_is_that_of_stanford_alpaca() -> None:
    assert prompt(Instruction("Add the numbers.", "1, 2", "3"), "alpaca") == (
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd the numbers.\n\n### Input:\n1, 2\n\n### Response:\n"
    )
    assert prompt(Instruction("Say hello.", "", "Hello."), "alpaca") == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nSay hello.\n\n### Response:\n"
    )


def test_the_unnatural_prompt_is_that_of_the_study() -> None:
    row = Instruction("Add the numbers.", "1, 2", "3")
    assert prompt(row, "unnatural") == "Add the numbers. ###1, 2 ###Response:"


def test_no_prompt_holds_the_answer() -> None:
    row = Instruction("Ask.", "this", "THE ANSWER")
    assert "THE ANSWER" not in prompt(row, "alpaca") + prompt(row, "unnatural")
