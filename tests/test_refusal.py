"""How the project says no: what is told of many names."""

from __future__ import annotations

import pytest

from sweep.refusal import LETTERS, MOST, listed


def test_of_a_few_names_all_are_told_in_their_order() -> None:
    assert listed(["question", "answer", "question"], like="answr") == "question, answer"
    assert listed([]) == "none"


@pytest.mark.parametrize("letters", [1, 14, 200])
def test_of_many_names_those_that_are_spelt_like_it_come_first_and_the_rest_is_counted(
    letters: int,
) -> None:
    names = [f"{i:x>{letters}}" for i in range(12)]
    shown, _, more = listed([*names, "answer"], like="answr").partition(" … and ")
    told = shown.split(", ")
    assert told[0] == "answer"
    assert told[1:] == names[: len(told) - 1]
    assert len(told) + int(more.removesuffix(" more")) == 1 + len(set(names))
    assert len(told) <= MOST
    assert len("".join(told)) <= LETTERS
    assert len("".join(told)) + letters > LETTERS or len(told) == MOST
