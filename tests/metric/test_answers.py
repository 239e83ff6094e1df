from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from sweep.metric.answers import (
    exact_match,
    f1,
    first_difference,
    normalise,
    repeats,
    rouge1,
)

WORDS = st.lists(st.sampled_from(["the", "a", "Cat", "cat,", "sat", "mat.", "on", "9"]), max_size=8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat,\n sat on A mat. ", "cat sat on mat"),
        ("theatre another a", "theatre another"),  # articles are words, not parts of words
        ("An apple", "apple"),
        ("U.S.A.", "usa"),
        ("well-known 'quote'", "wellknown quote"),
        ("the", ""),
        ("...", ""),
        ("", ""),
        ("É 3,000", "é 3000"),
    ],
)
def test_normalisation_is_that_of_squad(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("answer", "gold", "em", "expected_f1"),
    [
        ("Paris", "Paris", 1, 1.0),
        ("the paris.", "Paris", 1, 1.0),
        ("Paris, France", "Paris", 0, 2 / 3),
        ("Lyon", "Paris", 0, 0.0),
        ("France Paris", "Paris France", 0, 1.0),  # F1 is of multisets, without order
        ("no no no", "no", 0, 2 * (1 / 3) * 1 / (1 / 3 + 1)),
        ("no no maybe", "no no no yes", 0, 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4)),
        ("", "Paris", 0, 0.0),  # an empty string is part of every answer, and right for none
        ("the", "Paris", 0, 0.0),
        ("...", "Paris", 0, 0.0),
        ("Paris", "", 0, 0.0),
        ("", "", 1, 1.0),
        ("a", "The.", 0, 0.0),
        ("the", "The.", 1, 1.0),
        ("A.", "A", 1, 1.0),  # of a choice: nothing else would be left of it
        ("", "A", 0, 0.0),
        ("The", "A", 0, 0.0),
        ("...", "A", 0, 0.0),
        ("A dog", "A", 0, 2 / 3),
        ("?", "?", 1, 1.0),
        ("", "?", 0, 0.0),
        ("!", "?", 0, 0.0),
        ("Par", "Paris", 0, 0.0),
        ("It is Paris", "Paris", 0, 0.5),
    ],
)
def test_exact_match_and_f1_worked_by_hand(
    answer: str, gold: str, em: float, expected_f1: float
) -> None:
    assert exact_match(answer, gold) == em
    assert f1(answer, gold) == pytest.approx(expected_f1)


@given(WORDS, WORDS)
def test_f1_is_symmetric_bounded_and_one_for_the_same_words(one: list[str], two: list[str]) -> None:
    answer, gold = " ".join(one), " ".join(two)
    if normalise(answer) and normalise(gold):
        assert f1(answer, gold) == f1(gold, answer)
    assert 0 <= f1(answer, gold) <= 1
    assert exact_match(answer, gold) <= f1(answer, gold)
    assert f1(answer, " ".join(reversed(one))) == 1


@given(WORDS, WORDS)
def test_rouge_1_is_that_of_the_rouge_score_package(one: list[str], two: list[str]) -> None:
    answer, gold = " ".join(one), " ".join(two)
    scorer = RougeScorer(["rouge1"], use_stemmer=False)
    assert rouge1(answer, gold) == scorer.score(gold, answer)["rouge1"].fmeasure


def test_rouge_1_does_not_stem_and_counts_articles() -> None:
    assert rouge1("the cats sat", "the cat sat") == pytest.approx(2 / 3)
    assert rouge1("cat", "the cat") == pytest.approx(2 * 1 * 0.5 / 1.5)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("one two three four five one two three four", True),
        ("a a a a a", True),  # the two 4-grams may overlap
        ("a a a a", False),
        ("one two three five one two three four", False),
        ("", False),
    ],
)
def test_a_repeated_4_gram_is_noticed(answer: str, expected: bool) -> None:
    assert repeats(answer) is expected


@pytest.mark.parametrize(
    ("tokens", "others", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], None),
        ([], [], None),
        ([1, 2, 3], [1, 5, 3], 1),
        ([9, 2, 3], [1, 2, 3], 0),
        ([1, 2], [1, 2, 3], 2),
        ([1, 2, 3], [], 0),
    ],
)
def test_the_first_difference_is_an_index_or_none(
    tokens: list[int], others: list[int], expected: int | None
) -> None:
    assert first_difference(tokens, others) == expected
    assert first_difference(others, tokens) == expected
