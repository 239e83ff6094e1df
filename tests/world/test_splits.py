"""Training, calibration and evaluation share no document and no question about a skill."""

from functools import cache
from itertools import islice
from random import Random

import pytest

from sweep.world import instructions, practice, prose, reworded
from sweep.world.corpora import questions
from sweep.world.split import HELD_OUT_SHARE, belongs, position

SEEDS = (0, 1)
ROWS = 400


@cache
def rows_of(corpus, split):
    return {row for seed in SEEDS for row in islice(corpus(split, seed), ROWS)}


def asked(rows):
    return {(row.instruction, row.input) for row in rows}


def texts_of(split, count):
    return {row.text for seed in SEEDS for row in islice(prose(split, seed), count)}


def contents_of(split, kind, *, as_practised=False, count=ROWS):
    return {
        (family.name, *question.content)
        for seed in SEEDS
        for family, question in islice(questions(split, Random(seed), practice=as_practised), count)
        if family.kind == kind
    }


def test_no_document_is_in_two_splits():
    train, calibration, evaluation = (
        texts_of("train", 1000),
        texts_of("calibration", 100),
        texts_of("evaluation", 100),
    )
    assert not train & calibration
    assert not train & evaluation
    assert not calibration & evaluation


def test_no_skill_question_is_in_two_splits_in_any_wording():
    train = contents_of("train", "skill", as_practised=True, count=3000)
    calibration, evaluation = (
        contents_of("calibration", "skill"),
        contents_of("evaluation", "skill"),
    )
    assert not train & calibration
    assert not train & evaluation
    assert not calibration & evaluation


def test_no_recall_question_is_both_calibrated_with_and_evaluated():
    calibration, evaluation = (
        contents_of("calibration", "recall"),
        contents_of("evaluation", "recall"),
    )
    assert calibration
    assert evaluation
    assert not calibration & evaluation


@pytest.mark.parametrize("calibrated", [instructions, reworded])
@pytest.mark.parametrize("evaluated", [instructions, reworded])
def test_no_calibration_row_is_an_evaluation_row(calibrated, evaluated):
    calibration, evaluation = rows_of(calibrated, "calibration"), rows_of(evaluated, "evaluation")
    assert not asked(calibration) & asked(evaluation)


@pytest.mark.parametrize("corpus", [instructions, reworded])
def test_no_skill_row_for_evaluation_is_trained_on(corpus):
    trained = {row for seed in SEEDS for row in islice(practice(seed), 3000)}
    skills = {row for row in rows_of(corpus, "evaluation") if row.kind == "skill"}
    assert skills
    assert not asked(skills) & asked(trained)


def test_training_never_uses_unseen_wordings():
    assert {row.wording for row in islice(practice(0), 3000)} == {"A", "B"}
    assert {row.wording for row in islice(instructions("train", 0), 500)} == {"A"}
    assert {row.wording for row in islice(reworded("train", 0), 500)} == {"B", "C"}


def test_shares_of_splits():
    contents = [("family", str(number)) for number in range(8000)]
    for split in ("calibration", "evaluation"):
        share = sum(belongs(split, "skill", content) for content in contents) / len(contents)
        assert share == pytest.approx(HELD_OUT_SHARE, abs=0.01)
        share = sum(belongs(split, "recall", content) for content in contents) / len(contents)
        assert share == pytest.approx(0.5, abs=0.02)
    assert all(belongs("train", "recall", content) for content in contents)


def test_parts_of_a_content_are_kept_apart():
    assert position(("ab", "c")) != position(("a", "bc"))
