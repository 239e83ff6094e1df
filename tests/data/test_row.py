from __future__ import annotations

from itertools import combinations

from sweep.data.row import Instruction, Row, Text, Tokens
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
