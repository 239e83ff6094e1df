import re
from collections.abc import Iterable
from itertools import islice
from random import Random

import pytest

from sweep.world import instructions, practice, prose, reworded
from sweep.world.corpora import questions
from sweep.world.family import FAMILIES, INPUT_MARK, family
from sweep.world.template import prompt

WORDINGS = ("A", "B", "C")


def words_of(texts: Iterable[str]) -> set[str]:
    """The words of texts or templates, without slots."""
    text = re.sub(r"<\w+>", " ", " ".join(texts).replace(INPUT_MARK, " "))
    return set(re.findall(r"[a-z]+", text.lower()))


def test_every_family_is_asked_in_several_ways():
    for each in FAMILIES.values():
        wordings = each.ask(Random(0)).wordings
        counts = [len(wordings.of(name)) for name in WORDINGS]
        assert min(counts) >= 2, each.name
        templates = [template for name in WORDINGS for template in wordings.of(name)]
        assert len(set(templates)) == len(templates), each.name


def test_unseen_wordings_use_words_that_training_knows():
    read = [document.text for document in islice(prose("train", 0), 2000)]
    read += [row.instruction for row in islice(practice(0), 5000)]
    rng = Random(0)
    asked = {
        template
        for each in FAMILIES.values()
        for _ in range(50)
        for template in each.ask(rng).wordings.c
    }
    assert words_of(asked) <= words_of(read)


def test_a_question_has_one_answer():
    answers: dict[tuple[str, str], str] = {}
    for corpus in (instructions("train", 3), reworded("train", 3), practice(3)):
        for row in islice(corpus, 6000):
            question = (row.instruction, row.input)
            assert answers.setdefault(question, row.output) == row.output, question


def test_every_family_has_an_answer_and_a_clean_instruction():
    seen = set()
    for row in islice(reworded("train", 4), 3000):
        seen.add(row.family)
        for text in (row.instruction, row.output):
            assert text == text.strip()
            assert text
        for text in (row.instruction, row.input, row.output):
            assert not re.search(r"[<>{}|]|  | [.,]", text), text
    assert seen == set(FAMILIES)


def test_some_answers_are_several_sentences():
    long = {
        row.family for row in islice(instructions("train", 5), 3000) if row.output.count(".") > 1
    }
    assert long >= {"portrait", "contrast", "notes", "rename", "sequence"}


def test_content_does_not_depend_on_the_wording():
    for _, question in islice(questions("train", Random(6)), 2000):
        for wording in WORDINGS:
            for template in question.wordings.of(wording):
                assert template not in question.content


def test_two_families_of_one_name_are_an_error():
    with pytest.raises(ValueError, match="'copy'"):

        @family("skill", asked=1.0, practised=1.0)
        def copy(rng: Random):
            raise NotImplementedError


def test_the_prompt_is_the_alpaca_template():
    assert prompt("Add.", "1, 2") == (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:\n"
    )
    assert prompt("Go.") == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nGo.\n\n### Response:\n"
    )
